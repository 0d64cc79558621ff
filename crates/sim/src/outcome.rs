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
    pub(crate) fn new(gpus: u32, jobs: Vec<Job>, schedule: Vec<Segment>, busy_s: f64) -> Outcome {
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
            p95_jct_s: jct.get((jct.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0),
            mean_wait_s: mean(&wait),
            max_wait_s: wait.iter().copied().fold(0.0, f64::max),
        }
    }
}
