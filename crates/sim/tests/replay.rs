//! The replay against what is known of queues, and its books.

use proptest::prelude::*;
use scheduler::Policy;
use sim::{Options, Outcome, Submission, Trace, TraceError, replay};

fn trace(jobs: &[(f64, f64, u32)]) -> Trace {
    let mut submissions: Vec<Submission> = jobs
        .iter()
        .map(|(submit_s, duration_s, gpus)| Submission { submit_s: *submit_s, duration_s: *duration_s, gpus: *gpus })
        .collect();
    submissions.sort_by(|a, b| a.submit_s.total_cmp(&b.submit_s));
    Trace { submissions }
}

fn exact(gpus: u32, policy: Policy) -> Options {
    Options { estimate_sigma: 0.0, ..Options::new(gpus, policy) }
}

fn jobs(widest: u32) -> impl Strategy<Value = Vec<(f64, f64, u32)>> {
    proptest::collection::vec((0..5_000u32, 1..4_000u32, 1..=widest), 1..60)
        .prop_map(|jobs| jobs.into_iter().map(|(at, long, gpus)| (f64::from(at), f64::from(long), gpus)).collect())
}

/// Work that the segments did, and that no GPU had two jobs at a time.
fn check_books(outcome: &Outcome, shared: bool) {
    assert!(outcome.utilisation <= 1.0 + 1e-9);
    let mut by_gpu: Vec<Vec<(f64, f64)>> = vec![Vec::new(); outcome.gpus as usize];
    for segment in &outcome.schedule {
        let job = &outcome.jobs[segment.job];
        assert_eq!(segment.gpus.len(), job.gpus as usize, "all of its GPUs or none");
        assert!(segment.start_s >= job.submit_s - 1e-6 && segment.end_s <= job.end_s + 1e-6);
        segment.gpus.iter().for_each(|gpu| by_gpu[*gpu as usize].push((segment.start_s, segment.end_s)));
    }
    for segments in &mut by_gpu {
        segments.sort_by(|a, b| a.0.total_cmp(&b.0));
        let overlaps = segments.windows(2).any(|pair| pair[1].0 < pair[0].1 - 1e-6);
        assert!(shared || !overlaps, "two at once: {segments:?}");
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
            prop_assert!((job.first_start_s - start).abs() < 1e-3, "{} instead of {start}", job.first_start_s);
        }
        check_books(&outcome, false);
    }

    #[test]
    fn every_policy_keeps_its_books(jobs in jobs(4), gpus in 1..5u32, seed in 0..9u64, pack in any::<bool>()) {
        let trace = trace(&jobs);
        for policy in [Policy::one(), Policy::fifo(), Policy::easy(), Policy::default()] {
            let options = Options { pack: pack.then_some(1.2), seed, ..Options::new(gpus, policy) };
            let outcome = replay(&trace, &options);
            prop_assert_eq!(outcome.jobs.len(), jobs.len(), "all are done");
            prop_assert_eq!(&outcome, &replay(&trace, &options), "equal seeds, equal outcomes");
            check_books(&outcome, pack);
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
}
