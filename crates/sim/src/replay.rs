//! The virtual clock: arrivals and ends, and the planner's answer to each.

use std::collections::BTreeMap;

use domain::{TaskId, WaitReason};
use jiff::{SignedDuration, Timestamp};
use scheduler::{Plan, Preempt, PreemptReason, Queue, Start, Waiting, forecast, plan};

use crate::{
    ForecastError, Foretold, Job, Options, Outcome, Segment, Trace,
    machine::{Machine, Progress, Stay, demand, timestamp},
    workload::{self, Micros, Work, seconds},
};

/// Runs all jobs of the trace to their end.
pub fn replay(trace: &Trace, options: &Options) -> Outcome {
    Replay::new(trace, options).run()
}

struct Replay<'a> {
    options: &'a Options,
    work: Vec<Work>,
    progress: Vec<Progress>,
    jobs: Vec<Job>,
    /// When each job came into the queue last.
    queued: Vec<Micros>,
    /// By task, so that one is found quickly among thousands.
    waiting: Vec<Waiting>,
    machine: Machine,
    schedule: Vec<Segment>,
    /// What each job was told when it came, if it had to wait.
    foretold: Vec<Option<Foretold>>,
    usage: BTreeMap<String, f64>,
}

fn task(job: usize) -> TaskId {
    TaskId::new(0, job as u64 + 1)
}

fn job(task: TaskId) -> usize {
    task.number as usize - 1
}

impl<'a> Replay<'a> {
    fn new(trace: &Trace, options: &'a Options) -> Replay<'a> {
        let work = workload::of(trace, options);
        let blank = |work: &Work| Job {
            submit_s: seconds(work.submit),
            duration_s: seconds(work.duration),
            gpus: work.gpus,
            priority: work.priority,
            first_start_s: f64::NAN,
            end_s: f64::NAN,
            wait_s: 0.0,
        };
        Replay {
            options,
            progress: work.iter().map(Progress::new).collect(),
            jobs: work.iter().map(blank).collect(),
            queued: work.iter().map(|work| work.submit).collect(),
            waiting: Vec::new(),
            foretold: vec![None; work.len()],
            machine: Machine::new(options.gpus.max(1), options.pack.unwrap_or(1.0)),
            schedule: Vec::new(),
            usage: BTreeMap::new(),
            work,
        }
    }

    fn run(mut self) -> Outcome {
        let mut arrived = 0;
        loop {
            let arrival = self.work.get(arrived).map(|work| work.submit);
            let Some(now) = arrival.into_iter().chain(self.next_moment()).min() else { break };
            self.machine.advance(now);
            while let Some(index) = self.machine.stays.iter().position(|stay| stay.end <= now) {
                let stay = self.machine.stop(index, now);
                self.jobs[stay.job].end_s = seconds(now);
                self.leave(&stay, now, false);
            }
            let new = arrived;
            while self.work.get(arrived).is_some_and(|work| work.submit <= now) {
                self.enqueue(arrived, now);
                arrived += 1;
            }
            let waits = self.decide(now);
            if arrived > new {
                self.foretell(waits, task(new), now);
            }
        }
        assert!(self.waiting.is_empty(), "the planner never started {:?}", self.waiting[0].task);
        let forecast_error = ForecastError::of(&self.jobs, &self.foretold);
        let busy_s = self.machine.busy as f64 / 1e6;
        Outcome::new(self.options.gpus.max(1), self.jobs, self.schedule, busy_s, forecast_error)
    }

    /// When something that runs ends, or when the planner may see it in another light: it outlives its estimate, has run
    /// long enough to make room, or was measured beside others.
    fn next_moment(&self) -> Option<Micros> {
        let is_idle = self.waiting.is_empty() && self.options.pack.is_none();
        let rules = self.options.policy.preemption.as_ref().filter(|_| !is_idle);
        let now = self.machine.now;
        let stays = self.machine.stays.iter().flat_map(|stay| {
            let ripe = rules.map(|rules| [rules.after, rules.long].map(|ran| stay.start + ran.as_micros() as Micros));
            let ripe = ripe.into_iter().flatten().chain(stay.judged()).filter(move |at| *at > now);
            [stay.end, stay.expected_end].into_iter().chain(ripe)
        });
        stays.min()
    }

    /// Starts and stops what the planner says; why the rest waits.
    fn decide(&mut self, now: Micros) -> Vec<(TaskId, WaitReason)> {
        loop {
            let queue = Queue {
                waiting: &self.waiting,
                running: &self.machine.running,
                usage: &self.usage,
                closed: None,
                quotas: &BTreeMap::new(),
            };
            let plan = plan(&self.options.policy, Some(&self.machine.inventory), queue, timestamp(now));
            for start in plan.starts {
                self.start(start, now);
            }
            if plan.preempts.is_empty() {
                return plan.waits;
            }
            for preempt in plan.preempts {
                self.preempt(preempt, now);
            }
        }
    }

    /// Keeps what the jobs from this one on are told when they come.
    fn foretell(&mut self, waits: Vec<(TaskId, WaitReason)>, first: TaskId, now: Micros) {
        let plan = Plan { waits, ..Plan::default() };
        let (policy, inventory) = (&self.options.policy, &self.machine.inventory);
        let limit = plan.waits.len();
        for told in forecast(policy, &plan, inventory, &self.waiting, &self.machine.running, timestamp(now), limit) {
            if told.task >= first {
                let seconds = |at: Timestamp| at.as_microsecond() as f64 / 1e6;
                let (start_s, end_s) = (seconds(told.starts_at), seconds(told.ends_at));
                self.foretold[job(told.task)] = Some(Foretold { start_s, end_s });
            }
        }
    }

    fn enqueue(&mut self, index: usize, now: Micros) {
        let (work, progress) = (&self.work[index], &self.progress[index]);
        let waiting = Waiting {
            task: task(index),
            owner: String::new(),
            priority: work.priority,
            urgency: 0,
            since: timestamp(work.submit),
            expected: Some(SignedDuration::from_micros(progress.expected_left)),
            deadline: None,
            demand: demand(work, self.options.pack.is_some(), progress),
            blocked: None,
            refused: Vec::new(),
        };
        let at = self.waiting.partition_point(|other| other.task < waiting.task);
        self.waiting.insert(at, waiting);
        self.queued[index] = now;
    }

    fn start(&mut self, Start { task, grant }: Start, now: Micros) {
        let at = self.waiting.binary_search_by_key(&task, |waiting| waiting.task);
        self.waiting.remove(at.expect("the planner starts what waits"));
        let index = job(task);
        let job = &mut self.jobs[index];
        if job.first_start_s.is_nan() {
            job.first_start_s = seconds(now);
        }
        job.wait_s += seconds(now - self.queued[index]);
        self.machine.start(index, &self.work[index], self.progress[index], task, grant, now);
    }

    fn preempt(&mut self, Preempt { task, why }: Preempt, now: Micros) {
        let index = self.machine.running.iter().position(|running| running.task == task);
        let stay = self.machine.stop(index.expect("the planner stops what runs"), now);
        let did_not_pay = matches!(why, PreemptReason::NotPaying { .. });
        self.progress[stay.job] = Progress { alone: stay.progress.alone || did_not_pay, ..stay.progress };
        self.enqueue(stay.job, now);
        self.leave(&stay, now, true);
    }

    fn leave(&mut self, stay: &Stay, now: Micros, preempted: bool) {
        let gpus = stay.gpus.iter().map(|gpu| *gpu as u32).collect();
        let (start_s, end_s) = (seconds(stay.start), seconds(now));
        self.schedule.push(Segment { job: stay.job, gpus, start_s, end_s, preempted });
    }
}
