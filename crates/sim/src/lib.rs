//! Replays traces of jobs through the real planner on a virtual clock.
//!
//! Pure: no IO, no clock, and no randomness but a generator with a given seed, so that equal options give equal
//! outcomes. [`Trace::parse`] reads jobs, [`replay`] runs them by a policy, [`gantt`] draws what happened.

mod gantt;
mod machine;
mod outcome;
mod random;
mod replay;
mod trace;
mod workload;

pub use gantt::gantt;
pub use outcome::{Figures, ForecastError, Foretold, Job, Outcome, Segment, Spread};
pub use random::Random;
pub use replay::replay;
pub use trace::{Expected, Submission, Trace, TraceError};

use scheduler::Policy;

/// Seconds of work that a task loses when it is stopped at a checkpoint.
pub const LOST_S: f64 = 60.0;
/// Seconds beside each other after which it is known how much two tasks on one GPU get done together.
pub const TRIAL_S: f64 = 120.0;

/// What a trace is replayed on, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Jobs that ask for more get all of them.
    pub gpus: u32,
    pub policy: Policy,
    /// Throughput of two tasks together on one GPU relative to one alone, such as 1.2, measured after [`TRIAL_S`]; with
    /// `None` each task gets its GPUs to itself.
    pub pack: Option<f64>,
    /// Stretches the arrivals by one factor so that the GPU-seconds asked for ÷ (GPUs × span of the arrivals) is this;
    /// `None`: as recorded.
    pub load: Option<f64>,
    /// The planner sees true duration × exp(N(0, σ)).
    pub estimate_sigma: f64,
    /// Longer jobs are cut to this many seconds.
    pub cap_s: f64,
    /// Share of the jobs, drawn by the seed, that have high priority.
    pub high_share: f64,
    /// Work out for the first 200 that wait when they will start, and compare it with what came.
    pub foretells: bool,
    pub seed: u64,
}

impl Options {
    /// As recorded, with the usual error of the estimates and a day at most per job.
    pub fn new(gpus: u32, policy: Policy) -> Options {
        Options {
            gpus,
            policy,
            pack: None,
            load: None,
            estimate_sigma: 0.5,
            cap_s: 24.0 * 3600.0,
            high_share: 0.0,
            foretells: true,
            seed: 1,
        }
    }
}
