//! The replay against what is known of queues, and its books.

use domain::Language;
use proptest::prelude::*;
use scheduler::Policy;
use sim::{LOST_S, Options, Outcome, Submission, TRIAL_S, Trace, TraceError, gantt, replay};

fn trace(jobs: &[(f64, f64, u32)]) -> Trace {
    let mut submissions: Vec<Submission> = jobs
        .iter()
        .map(|(submit_s, duration_s, gpus)| Submission { submit_s: *submit_s, duration_s: *duration_s, gpus: *gpus })
        .collect();
    submissions.sort_by(|a, b| a.submit_s.total_cmp(&b.submit_s));
    Trace { submissions, without_gpus: 0 }
}

fn exact(gpus: u32, policy: Policy) -> Options {
    Options { estimate_sigma: 0.0, ..Options::new(gpus, policy) }
}

fn jobs(widest: u32) -> impl Strategy<Value = Vec<(f64, f64, u32)>> {
    proptest::collection::vec((0..9_000u32, 1..9_000u32, 1..=widest), 1..60)
        .prop_map(|jobs| jobs.into_iter().map(|(at, long, gpus)| (f64::from(at), f64::from(long), gpus)).collect())
}

/// No GPU has two jobs at a time, but where they share it and get so much done together; every job does its work, and once
/// more what it lost.
fn check_books(outcome: &Outcome, together: Option<f64>) {
    assert!(outcome.utilisation <= 1.0 + 1e-9);
    let mut worked = vec![0.0; outcome.jobs.len()];
    for segment in &outcome.schedule {
        let job = &outcome.jobs[segment.job];
        assert_eq!(segment.gpus.len(), job.gpus as usize, "all of its GPUs or none");
        assert!(segment.start_s >= job.submit_s - 1e-6 && segment.end_s <= job.end_s + 1e-6);
        let beside: Vec<(f64, f64)> = outcome
            .schedule
            .iter()
            .filter(|other| other.job != segment.job && other.gpus.iter().any(|gpu| segment.gpus.contains(gpu)))
            .map(|other| (other.start_s.max(segment.start_s), other.end_s.min(segment.end_s)))
            .filter(|(start, end)| end > start)
            .collect();
        assert!(beside.is_empty() || (together.is_some() && segment.gpus.len() == 1), "two at once: {segment:?}");
        assert!(beside.iter().all(|a| beside.iter().all(|b| a == b || a.1 <= b.0 || b.1 <= a.0)), "three at once");
        let slowed: f64 = beside.iter().map(|(start, end)| end - start).sum();
        worked[segment.job] += segment.end_s - segment.start_s - slowed * (1.0 - together.unwrap_or(2.0) / 2.0);
        worked[segment.job] -= if segment.preempted { LOST_S } else { 0.0 };
    }
    for (job, worked) in outcome.jobs.iter().zip(worked) {
        assert!((job.duration_s - worked).abs() < 1e-3, "{worked} s of {} s were done", job.duration_s);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// First in, first out with one GPU each is the multi-server queue, whose waiting times follow from a recursion
    /// (Lindley, 1952; Kiefer and Wolfowitz, 1955).
    #[test]
    fn fifo_is_the_multi_server_queue(jobs in jobs(1), gpus in prop_oneof![Just(1u32), Just(4u32)]) {
        let trace = trace(&jobs);
        let outcome = replay(&trace, &exact(gpus, Policy::fifo()));
        let mut free_at = vec![0.0f64; gpus as usize];
        for (job, asked) in outcome.jobs.iter().zip(&trace.submissions) {
            free_at.sort_by(f64::total_cmp);
            let start = asked.submit_s.max(free_at[0]);
            free_at[0] = start + asked.duration_s;
            prop_assert_eq!(job.first_start_s, start);
        }
        check_books(&outcome, None);
    }

    #[test]
    fn every_policy_keeps_its_books(
        jobs in jobs(4),
        gpus in 1..5u32,
        seed in 0..9u64,
        pack in prop_oneof![Just(None), Just(Some(1.2)), Just(Some(1.05))],
    ) {
        let trace = trace(&jobs);
        for policy in [Policy::one(), Policy::fifo(), Policy::easy(), Policy::default()] {
            let options = Options { pack, seed, ..Options::new(gpus, policy) };
            let outcome = replay(&trace, &options);
            prop_assert_eq!(outcome.jobs.len(), jobs.len(), "all are done");
            prop_assert_eq!(&outcome, &replay(&trace, &options), "equal seeds, equal outcomes");
            check_books(&outcome, pack);
        }
    }

    /// Two that get too little done together are tried once, for as long as it takes to measure them.
    #[test]
    fn packing_that_does_not_pay_is_undone(jobs in jobs(2), gpus in 1..4u32, together in 1.0..1.09f64) {
        let outcome = replay(&trace(&jobs), &Options { pack: Some(together), ..exact(gpus, Policy::default()) });
        check_books(&outcome, Some(together));
        for (index, segment) in outcome.schedule.iter().enumerate() {
            for other in &outcome.schedule[index + 1..] {
                let shared = segment.end_s.min(other.end_s) - segment.start_s.max(other.start_s);
                let is_beside = segment.gpus.iter().any(|gpu| other.gpus.contains(gpu));
                prop_assert!(!is_beside || shared <= TRIAL_S + 1e-6, "{segment:?} {other:?}");
            }
        }
    }
}

#[test]
fn a_trace_says_where_it_is_wrong() {
    let trace = Trace::parse("gpus, note, submit_s, duration_s\n2,x,10,5\n1,y,0,7.5\n").unwrap();
    assert_eq!(trace.submissions[0], Submission { submit_s: 0.0, duration_s: 7.5, gpus: 1 }, "in the order of arrival");
    assert_eq!(Trace::parse(""), Err(TraceError::Empty));
    assert_eq!(Trace::parse("submit_s,gpus\n"), Err(TraceError::NoColumn("duration_s")));
    let error = Trace::parse("submit_s,duration_s,gpus\n0,1,1\n0,x,1\n").unwrap_err();
    assert!(error.to_string().starts_with("line 3: duration_s is \"x\""), "{error}");
    assert!(error.sentence(Language::Zh).starts_with("第 3 行：duration_s 为 \"x\"，应为"), "{error}");
    let some = Trace::parse("submit_s,duration_s,gpus\n5,1,0\n9,2,1\n7,3,0\n").unwrap();
    assert_eq!((some.submissions.len(), some.without_gpus, some.submissions[0].submit_s), (1, 2, 0.0), "CPU jobs");
    assert_eq!(Trace::parse("submit_s,duration_s,gpus\n5,1,0\n"), Err(TraceError::NoJobs));
}

#[test]
fn estimates_off_by_any_factor_are_no_more_than_a_hundred_years() {
    let jobs: Vec<(f64, f64, u32)> = (0..200).map(|job| (f64::from(job), 86_400.0, 1)).collect();
    for policy in [Policy::easy(), Policy::default()] {
        let outcome = replay(&trace(&jobs), &Options { estimate_sigma: 10.0, ..Options::new(4, policy) });
        check_books(&outcome, None);
    }
}

/// What jobs are told when they come changes nothing.
#[test]
fn forecasts_change_nothing() {
    let jobs: Vec<(f64, f64, u32)> =
        (0..400).map(|job| (f64::from(job * 40), 10.0 + f64::from(job * 7919 % 20_000), 1 + job as u32 % 3)).collect();
    for policy in [Policy::one(), Policy::fifo(), Policy::easy(), Policy::default()] {
        let options = Options { pack: Some(1.2), ..Options::new(4, policy) };
        let told = replay(&trace(&jobs), &options);
        let untold = replay(&trace(&jobs), &Options { foretells: false, ..options });
        assert!(told.forecast_error.jobs > 0 && untold.forecast_error.jobs == 0);
        assert_eq!(told.schedule, untold.schedule);
    }
}

#[test]
fn long_tasks_are_stopped_for_short_ones_and_packing_shares() {
    let jobs = trace(&[(0.0, 40_000.0, 1), (3_000.0, 600.0, 1)]);
    let alone = replay(&jobs, &exact(1, Policy::default()));
    assert_eq!(alone.preemptions, 1);
    let [long, short] = &alone.jobs[..] else { panic!("two jobs") };
    assert_eq!((short.first_start_s, short.end_s), (3_600.0, 4_200.0), "once the long one has run for an hour");
    assert_eq!((long.end_s, long.wait_s), (40_000.0 + 600.0 + LOST_S, 600.0));

    let packed = replay(&jobs, &Options { pack: Some(1.2), ..exact(1, Policy::default()) });
    assert_eq!((packed.preemptions, packed.jobs[1].end_s, packed.jobs[0].end_s), (0, 4_000.0, 40_400.0));

    let useless = replay(&jobs, &Options { pack: Some(1.0), ..exact(1, Policy::default()) });
    let stays: Vec<(usize, f64, f64)> =
        useless.schedule.iter().map(|segment| (segment.job, segment.start_s, segment.end_s)).collect();
    // Half of the trial was done; once the long one has run for an hour, it makes room. Each stop costs a minute.
    let short_s = 600.0 - TRIAL_S / 2.0 + LOST_S;
    assert_eq!(stays[..3], [(1, 3_000.0, 3_000.0 + TRIAL_S), (0, 0.0, 3_600.0), (1, 3_600.0, 3_600.0 + short_s)]);
    assert_eq!(useless.jobs[0].end_s, 40_000.0 + 600.0 + 2.0 * LOST_S, "two minutes lost, nothing won");
}

#[test]
fn forecasts_are_compared_with_what_came() {
    // The third waits for the first and is told so; the fourth, shorter, comes later and goes before it.
    let jobs = trace(&[(0.0, 3_600.0, 1), (0.0, 7_200.0, 1), (60.0, 7_200.0, 1), (120.0, 1_200.0, 1)]);
    let fifo = replay(&jobs, &exact(2, Policy::fifo())).forecast_error;
    assert_eq!((fifo.jobs, fifo.start.p90_s, fifo.end.p90_s), (2, 0.0, 0.0), "in the order of arrival nothing is off");
    let full = replay(&jobs, &exact(2, Policy::default()));
    assert_eq!(full.jobs[3].first_start_s, 3_600.0);
    let told = full.forecast_error;
    assert_eq!((told.jobs, told.start.median_s, told.start.p90_s), (2, 0.0, 1_200.0));
    assert_eq!((told.end.median_s, told.end.p90_s, told.start.p90_ratio), (0.0, 1_200.0, 1_200.0 / 4_740.0));
    let one = replay(&trace(&[(0.0, 60.0, 1)]), &exact(1, Policy::default())).forecast_error;
    assert_eq!((one.jobs, one.start.p90_s), (0, 0.0), "who does not wait is told nothing");
}

#[test]
fn the_load_is_what_was_asked_for() {
    let jobs = trace(&[(0.0, 100.0, 1), (50.0, 100.0, 8), (100.0, 1e6, 2)]);
    let options = Options { load: Some(0.5), cap_s: 200.0, ..exact(4, Policy::fifo()) };
    let outcome = replay(&jobs, &options);
    assert_eq!(outcome.jobs.iter().map(|job| job.gpus).collect::<Vec<_>>(), [1, 4, 2]);
    // 100 × 1 + 100 × 4 + 200 × 2 GPU-seconds on 4 GPUs.
    assert_eq!(outcome.jobs[2].submit_s, 900.0 / (4.0 * 0.5));
}

#[test]
fn a_chart_has_a_row_per_gpu_and_stays_small() {
    let jobs: Vec<(f64, f64, u32)> =
        (0..3000).map(|job| (f64::from(job * 40), 10.0 + f64::from(job * 7919 % 20_000), 1 + job as u32 % 3)).collect();
    let chart = gantt(&replay(&trace(&jobs), &exact(4, Policy::default())));
    assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
    assert_eq!(chart.matches(">GPU ").count(), 4);
    assert!(chart.len() < 150_000, "{} bytes", chart.len());
}
