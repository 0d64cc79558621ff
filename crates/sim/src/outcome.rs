//! What a replay came to.

use domain::Priority;

#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub gpus: u32,
    /// In the order of arrival.
    pub jobs: Vec<Job>,
    /// Every stay of a job on its GPUs, in the order in which they ended.
    pub schedule: Vec<Segment>,
    /// Of all jobs.
    pub figures: Figures,
    /// From the first arrival to the last end.
    pub makespan_s: f64,
    /// Share of the GPUs' time, from the first arrival to the last end, in which they had a job.
    pub utilisation: f64,
    pub preemptions: usize,
    pub forecast_error: ForecastError,
}

/// What a job was told when it came: seconds on the clock of the trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foretold {
    pub start_s: f64,
    pub end_s: f64,
}

/// How far off the times were that jobs were told when they came and had to wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForecastError {
    /// So many were told.
    pub jobs: usize,
    /// Of the first start; ratios are to the time from the arrival to it.
    pub start: Spread,
    /// Of the end; ratios are to the time from the arrival to it.
    pub end: Spread,
}

/// Of the absolute errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median_s: f64,
    /// Nine of ten are no larger.
    pub p90_s: f64,
    pub median_ratio: f64,
    pub p90_ratio: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    pub submit_s: f64,
    pub duration_s: f64,
    pub gpus: u32,
    pub priority: Priority,
    pub first_start_s: f64,
    pub end_s: f64,
    /// All the time it was in the queue: before its first start, and after each time it was stopped.
    pub wait_s: f64,
}

impl Job {
    /// Job completion time: from its arrival to its end.
    pub fn jct_s(&self) -> f64 {
        self.end_s - self.submit_s
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Its place in [`Outcome::jobs`].
    pub job: usize,
    pub gpus: Vec<u32>,
    pub start_s: f64,
    pub end_s: f64,
    /// It was stopped at a checkpoint, to go on later.
    pub preempted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub jobs: usize,
    pub mean_jct_s: f64,
    /// 95 of 100 jobs are complete within this.
    pub p95_jct_s: f64,
    pub mean_wait_s: f64,
    pub max_wait_s: f64,
}

impl Outcome {
    pub(crate) fn new(
        gpus: u32,
        jobs: Vec<Job>,
        schedule: Vec<Segment>,
        busy_s: f64,
        forecast_error: ForecastError,
    ) -> Outcome {
        let first = jobs.first().map_or(0.0, |job| job.submit_s);
        let makespan_s = jobs.iter().map(|job| job.end_s - first).fold(0.0, f64::max);
        let room = makespan_s * f64::from(gpus);
        Outcome {
            gpus,
            figures: Figures::of(jobs.iter()),
            makespan_s,
            utilisation: if room > 0.0 { busy_s / room } else { 0.0 },
            preemptions: schedule.iter().filter(|segment| segment.preempted).count(),
            jobs,
            schedule,
            forecast_error,
        }
    }

    /// Of the jobs of one class.
    pub fn of_priority(&self, priority: Priority) -> Figures {
        Figures::of(self.jobs.iter().filter(|job| job.priority == priority))
    }
}

impl Figures {
    /// All 0 for no jobs.
    pub fn of<'a>(jobs: impl Iterator<Item = &'a Job>) -> Figures {
        let (mut jct, wait): (Vec<f64>, Vec<f64>) = jobs.map(|job| (job.jct_s(), job.wait_s)).unzip();
        jct.sort_by(f64::total_cmp);
        let mean = |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value) / values.len().max(1) as f64;
        Figures {
            jobs: jct.len(),
            mean_jct_s: mean(&jct),
            p95_jct_s: percentile(&jct, 95),
            mean_wait_s: mean(&wait),
            max_wait_s: wait.iter().copied().fold(0.0, f64::max),
        }
    }
}

impl ForecastError {
    /// All 0 if nobody was told anything.
    pub(crate) fn of(jobs: &[Job], foretold: &[Option<Foretold>]) -> ForecastError {
        let told = || jobs.iter().zip(foretold).filter_map(|(job, foretold)| Some((job, foretold.as_ref()?)));
        let start = told().map(|(job, told)| (told.start_s - job.first_start_s, job.first_start_s - job.submit_s));
        let end = told().map(|(job, told)| (told.end_s - job.end_s, job.jct_s()));
        ForecastError { jobs: told().count(), start: Spread::of(start), end: Spread::of(end) }
    }
}

impl Spread {
    /// Of errors, each with what it is relative to.
    fn of(errors: impl Iterator<Item = (f64, f64)>) -> Spread {
        let (mut errors, mut ratios): (Vec<f64>, Vec<f64>) =
            errors.map(|(error, whole)| (error.abs(), error.abs() / whole.max(1.0))).unzip();
        errors.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        Spread {
            median_s: percentile(&errors, 50),
            p90_s: percentile(&errors, 90),
            median_ratio: percentile(&ratios, 50),
            p90_ratio: percentile(&ratios, 90),
        }
    }
}

/// So many of 100 are no larger; 0 of none.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0)
}
