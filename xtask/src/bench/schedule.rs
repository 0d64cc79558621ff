//! What each policy makes of a recorded queue, by the real planner on a virtual clock. Equal on every machine.

use domain::Priority;
use scheduler::Policy;
use sim::{ForecastError, Options, Outcome, Spread, Trace, replay};

use super::Figure;

const TRACE: &str = include_str!("../../../crates/sim/data/philly_lab_3000.csv");
const SEEDS: [u64; 3] = [1, 2, 3];
/// Two tasks on one GPU get so much done together, relative to one alone.
const PAIR: f64 = 1.2;
/// The longest wait is no more than so many times the mean one.
const LONGEST_WAIT: f64 = 60.0;
/// Two of the three samples hold tasks of all GPUs for a day, which is not the rule: the same over so many.
const SAMPLES: u64 = 1001;
/// The load at which comparisons are made.
const BUSY: f64 = 0.8;

pub fn measure() -> Vec<Figure> {
    let trace = Trace::parse(TRACE).expect("the trace is well-formed");
    let mut figures = Vec::new();
    let one_gpu = Load { trace: &trace, gpus: 1, load: Some(BUSY), high_share: 0.0 };
    let (one, full) = (one_gpu.mean(Policy::one(), None), one_gpu.mean(Policy::default(), Some(PAIR)));
    figures
        .push(ratio("1 GPU at 0.8: mean, one at a time ÷ full", one.mean, full.mean).at_least(4.0).note(full.told()));

    for (gpus, goal) in [(4, 20.0), (8, 38.0)] {
        // One at a time is then busy this share of the time.
        let load = trace.load_of_one_at_a_time(BUSY, gpus, 24.0 * 3600.0);
        let light = Load { trace: &trace, gpus, load: Some(load), high_share: 0.0 };
        let (one, full) = (light.mean(Policy::one(), None), light.mean(Policy::default(), Some(PAIR)));
        let alone = light.mean(Policy::default(), None);
        figures.extend(rows(&format!("{gpus} GPUs, a load that one at a time can carry"), &light));
        let note = format!("without packing {:.1}", one.mean / alone.mean);
        let name = format!("{gpus} GPUs, a load that one at a time can carry: mean, one ÷ full");
        figures.push(ratio(&name, one.mean, full.mean).at_least(goal).note(note));
    }
    for gpus in [4, 8] {
        let busy = Load { trace: &trace, gpus, load: Some(BUSY), high_share: 0.0 };
        let fifo = busy.mean(Policy::fifo(), None);
        let full = busy.mean(Policy::default(), Some(PAIR));
        let name = |what: &str| format!("{gpus} GPUs at 0.8: {what}, FIFO ÷ full");
        figures.extend(rows(&format!("{gpus} GPUs at 0.8"), &busy));
        figures.push(ratio(&name("mean"), fifo.mean, full.mean).at_least(4.5));
        figures.push(ratio(&name("p95"), fifo.p95, full.p95).at_least(3.0));
        figures.push(ratio(&name("makespan"), fifo.makespan, full.makespan).at_least(1.0));
        let classes = Load { high_share: 0.1, ..busy };
        let (fifo, full) = (classes.mean(Policy::fifo(), None), classes.mean(Policy::default(), Some(PAIR)));
        figures.push(ratio(&name("mean of high priority"), fifo.high, full.high).at_least(12.0));
        let waits = ratio(&format!("{gpus} GPUs at 0.8: longest ÷ mean wait, full"), full.longest_wait, full.mean_wait);
        figures.push(waits.at_most(LONGEST_WAIT));
    }
    for (gpus, exact) in [(4, false), (8, false), (4, true)] {
        figures.extend(forecasts(&trace, gpus, exact));
    }
    for (gpus, goal) in [(4, 3.6), (8, 6.0)] {
        let makespan =
            |policy: fn() -> Policy, pack: Option<f64>| SEEDS.map(|seed| burst(&trace, gpus, policy(), pack, seed));
        let sum = |makespans: [f64; 3]| makespans.iter().sum::<f64>();
        let told = |makespans: [f64; 3]| makespans.map(|seconds| format!("{:.0} h", seconds / 3600.0)).join(", ");
        let (one, full) = (makespan(Policy::one, None), makespan(Policy::default, Some(PAIR)));
        let fifo = makespan(Policy::fifo, None);
        let least = SEEDS.map(|seed| shortest(&trace.burst(200, seed), gpus));
        let name = format!("{gpus} GPUs, 200 tasks at once: makespan, one ÷ full");
        let (one_h, fifo_h, full_h, least_h) = (told(one), told(fifo), told(full), told(least));
        let most = sum(one) / sum(least);
        let note = format!(
            "one {one_h}; FIFO {fifo_h}; full {full_h}; no schedule is shorter than {least_h}, which makes {most:.2}"
        );
        figures.push(ratio(&name, sum(one), sum(full)).at_least(goal).note(note));
        // Sums are ruled by the few samples that hold a day of all GPUs; the median tells what is usual.
        let one = |seed| burst(&trace, gpus, Policy::one(), None, seed);
        let full = |seed| burst(&trace, gpus, Policy::default(), Some(PAIR), seed);
        let gains = sorted((1..=SAMPLES).map(|seed| one(seed) / full(seed)));
        let possible = sorted((1..=SAMPLES).map(|seed| one(seed) / shortest(&trace.burst(200, seed), gpus)));
        let note = format!(
            "{:.2} to {:.2}; no schedule makes more than {:.2} (median), {:.2} to {:.2}",
            gains[0],
            gains[gains.len() - 1],
            median(&possible),
            possible[0],
            possible[possible.len() - 1]
        );
        let name = format!("{name}, median of {SAMPLES} samples");
        figures.push(Figure::new(name, median(&gains), "×").at_least(goal).note(note));
    }
    figures.extend(super::planning::measure());
    figures
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values.
fn median(values: &[f64]) -> f64 {
    values[values.len() / 2]
}

/// The makespan of 200 of the trace's jobs that come at once, in seconds.
fn burst(trace: &Trace, gpus: u32, policy: Policy, pack: Option<f64>, seed: u64) -> f64 {
    let options = Options { pack, seed, foretells: false, ..Options::new(gpus, policy) };
    replay(&trace.burst(200, seed), &options).makespan_s
}

/// A row for each policy: mean completion, and the rest as its note.
fn rows(name: &str, load: &Load<'_>) -> Vec<Figure> {
    let policies = [
        ("one at a time", Policy::one(), None),
        ("FIFO", Policy::fifo(), None),
        ("EASY with priority classes", Policy::easy(), None),
        ("full without packing", Policy::default(), None),
        ("full with packing", Policy::default(), Some(PAIR)),
    ];
    let row = |(policy_name, policy, pack): (&str, Policy, Option<f64>)| {
        let means = load.mean(policy, pack);
        Figure::new(format!("{name}: mean completion, {policy_name}"), means.mean / 3600.0, "h").note(means.told())
    };
    policies.into_iter().map(row).collect()
}

/// How far off it was what tasks were told when they came: absolute errors, medians over all seeds' tasks by their own.
fn forecasts(trace: &Trace, gpus: u32, exact: bool) -> Vec<Figure> {
    let errors = SEEDS.map(|seed| {
        let estimate_sigma = if exact { 0.0 } else { 0.5 };
        let options = Options {
            load: Some(BUSY),
            pack: Some(PAIR),
            seed,
            estimate_sigma,
            ..Options::new(gpus, Policy::default())
        };
        replay(trace, &options).forecast_error
    });
    let told: usize = errors.iter().map(|error| error.jobs).sum();
    let figure = |what: &str, whole: &str, of: fn(&ForecastError) -> Spread| {
        let mean = |figure: fn(&Spread) -> f64| {
            errors.iter().map(|error| figure(&of(error))).sum::<f64>() / errors.len() as f64
        };
        let estimates = if exact { ", exact estimates" } else { "" };
        let name = format!("{gpus} GPUs at 0.8{estimates}: forecast {what} off by, median");
        let note = format!(
            "p90 {:.1} h; {:.0} % of {whole}, p90 {:.0} %; {told} tasks that had to wait",
            mean(|spread| spread.p90_s) / 3600.0,
            mean(|spread| spread.median_ratio) * 100.0,
            mean(|spread| spread.p90_ratio) * 100.0,
        );
        Figure::new(name, mean(|spread| spread.median_s) / 3600.0, "h").note(note)
    };
    vec![figure("start", "the wait", |error| error.start), figure("end", "the time to the end", |error| error.end)]
}

/// No schedule of these jobs, all there at once, is shorter (seconds): the work of all GPUs, with pairs wherever jobs want one
/// GPU, and the longest job.
fn shortest(burst: &Trace, gpus: u32) -> f64 {
    let cap_s = Options::new(gpus, Policy::default()).cap_s;
    let jobs = || burst.submissions.iter().map(|job| (job.duration_s.min(cap_s), f64::from(job.gpus.min(gpus))));
    let work: f64 = jobs().map(|(seconds, wide)| seconds * wide / if wide > 1.0 { 1.0 } else { PAIR }).sum();
    jobs().map(|(seconds, _)| seconds).fold(work / f64::from(gpus), f64::max)
}

fn ratio(name: &str, of: f64, to: f64) -> Figure {
    Figure::new(name, of / to, "×")
}

#[derive(Clone, Copy)]
struct Load<'a> {
    trace: &'a Trace,
    gpus: u32,
    load: Option<f64>,
    high_share: f64,
}

/// Over the seeds, in seconds.
struct Means {
    mean: f64,
    p95: f64,
    makespan: f64,
    utilisation: f64,
    high: f64,
    mean_wait: f64,
    longest_wait: f64,
}

impl Load<'_> {
    fn mean(&self, policy: Policy, pack: Option<f64>) -> Means {
        let outcome = |seed| {
            let Load { trace, gpus, load, high_share } = *self;
            replay(trace, &Options { pack, load, high_share, seed, ..Options::new(gpus, policy.clone()) })
        };
        let outcomes: Vec<Outcome> = SEEDS.into_iter().map(outcome).collect();
        let mean = |figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).sum::<f64>() / outcomes.len() as f64;
        Means {
            mean: mean(|outcome| outcome.figures.mean_jct_s),
            p95: mean(|outcome| outcome.figures.p95_jct_s),
            makespan: mean(|outcome| outcome.makespan_s),
            utilisation: mean(|outcome| outcome.utilisation),
            high: mean(|outcome| outcome.of_priority(Priority::High).mean_jct_s),
            mean_wait: mean(|outcome| outcome.figures.mean_wait_s),
            longest_wait: mean(|outcome| outcome.figures.max_wait_s),
        }
    }
}

impl Means {
    fn told(&self) -> String {
        let hours = |seconds: f64| seconds / 3600.0;
        let (mean, p95, makespan) = (hours(self.mean), hours(self.p95), hours(self.makespan));
        format!("mean {mean:.2} h, p95 {p95:.1} h, makespan {makespan:.0} h, busy {:.0} %", self.utilisation * 100.0)
    }
}
