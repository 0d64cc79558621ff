//! The jobs of a trace as one replay runs them.

use domain::Priority;

use crate::{Options, Random, Trace};

/// Microseconds, of the virtual clock or of work: whole ones, so that the planner's clock and this one agree.
pub type Micros = i64;

pub fn micros(seconds: f64) -> Micros {
    (seconds * 1e6).round() as Micros
}

pub fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

/// The planner's clock has no less, and expected lengths that are off by a large factor no more than a hundred years.
const LEAST_S: f64 = 1e-6;
const MOST_S: f64 = 100.0 * 365.0 * 24.0 * 3600.0;

#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub submit: Micros,
    pub duration: Micros,
    pub expected: Micros,
    pub gpus: u32,
    pub priority: Priority,
}

/// The jobs in the order of arrival, with the same draws for the same seed whatever the policy.
pub fn of(trace: &Trace, options: &Options) -> Vec<Work> {
    let gpus = options.gpus.max(1);
    let asked = trace.gpu_seconds(gpus, options.cap_s);
    let room = f64::from(gpus) * trace.span_s();
    let stretch = match options.load {
        Some(load) if load > 0.0 && room > 0.0 => asked / (load * room),
        _ => 1.0,
    };
    let mut random = Random::new(options.seed);
    let work = trace.submissions.iter().map(|job| {
        let duration_s = job.duration_s.min(options.cap_s);
        let (error, draw) = (random.normal(), random.uniform());
        Work {
            submit: micros(job.submit_s * stretch),
            duration: micros(duration_s),
            expected: micros((duration_s * (options.estimate_sigma * error).exp()).clamp(LEAST_S, MOST_S)),
            gpus: job.gpus.min(gpus),
            priority: if draw < options.high_share { Priority::High } else { Priority::Normal },
        }
    });
    work.collect()
}
