//! The virtual clock: arrivals and ends, and the planner's answer to each.

use std::collections::BTreeMap;

use domain::TaskId;
use jiff::{SignedDuration, Timestamp};
use scheduler::{Plan, Preempt, PreemptReason, Queue, Quota, Start, Waiting, forecast, plan_first};

use crate::{
    ForecastError, Foretold, Job, Options, Outcome, Segment, Trace,
    machine::{Machine, Progress, Stay, demand, timestamp},
    workload::{self, Micros, Work, seconds},
};

/// Runs all jobs of the trace to their end.
pub fn replay(trace: &Trace, options: &Options) -> Outcome {
    Replay::new(trace, options).run()
}

/// As many as the daemon works out.
const FORETOLD: usize = 200;
/// The place of a job that does not wait.
const NOWHERE: usize = usize::MAX;

struct Replay<'a> {
    options: &'a Options,
    work: Vec<Work>,
    progress: Vec<Progress>,
    jobs: Vec<Job>,
    /// When each job came into the queue last.
    queued: Vec<Micros>,
    /// In no order: the planner finds its own.
    waiting: Vec<Waiting>,
    /// Where in it each job is.
    places: Vec<usize>,
    machine: Machine,
    schedule: Vec<Segment>,
    /// What each job was told when it came, if it had to wait.
    foretold: Vec<Option<Foretold>>,
    /// In the order of arrival nobody goes before another, and nothing is stopped.
    in_order: bool,
    /// So many at the front of those that waited have started, where they start in that order.
    gone: usize,
}

static NOBODY: BTreeMap<String, f64> = BTreeMap::new();
static NO_QUOTAS: BTreeMap<String, Quota> = BTreeMap::new();

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
            places: vec![NOWHERE; work.len()],
            foretold: vec![None; work.len()],
            machine: Machine::new(options.gpus.max(1), options.pack.unwrap_or(1.0)),
            schedule: Vec::new(),
            in_order: options.policy.is_in_order(),
            gone: 0,
            work,
        }
    }

    fn run(mut self) -> Outcome {
        let mut arrived = 0;
        loop {
            let arrival = self.work.get(arrived).map(|work| work.submit);
            let Some(now) = arrival.into_iter().chain(self.next_moment()).min() else { break };
            let is_overdue = |stay: &Stay| stay.expected_end <= now && stay.end > now;
            let overdue = self.machine.stays.iter().any(|stay| is_overdue(stay) && self.is_long(stay, now));
            let ripe = self.ripe(now);
            self.machine.advance(now);
            let mut ended = false;
            while let Some(index) = self.machine.stays.iter().position(|stay| stay.end <= now) {
                let stay = self.machine.stop(index, now);
                self.jobs[stay.job].end_s = seconds(now);
                self.leave(&stay, now, false);
                ended = true;
            }
            let new = arrived;
            while self.work.get(arrived).is_some_and(|work| work.submit <= now) {
                self.enqueue(arrived, now);
                arrived += 1;
            }
            let came = arrived > new;
            // While no GPU has room, somebody may still be stopped for a newcomer.
            let stops = came && self.options.policy.preemption.is_some();
            if ended || overdue || ripe || stops || self.machine.has_room() {
                self.decide(now);
            }
            if came && self.options.foretells {
                self.foretell(task(new), now);
            }
        }
        let left = &self.waiting[self.gone..];
        assert!(left.is_empty(), "the planner never started {:?}", left[0].task);
        let forecast_error = ForecastError::of(&self.jobs, &self.foretold);
        let busy_s = self.machine.busy as f64 / 1e6;
        Outcome::new(self.options.gpus.max(1), self.jobs, self.schedule, busy_s, forecast_error)
    }

    /// When something that runs ends, or when the planner may see it in another light: it outlives its estimate, has run
    /// long enough to make room, or was measured beside others.
    fn next_moment(&self) -> Option<Micros> {
        let now = self.machine.now;
        let stays = self.machine.stays.iter().flat_map(|stay| {
            let ripe = self.ripens(stay).filter(move |at| *at > now);
            [stay.end, stay.expected_end].into_iter().chain(ripe)
        });
        stays.min()
    }

    /// When it has run long enough to make room for a shorter one, to move if nobody waits, or to be judged beside others.
    fn ripens(&self, stay: &Stay) -> impl Iterator<Item = Micros> + use<> {
        let waits = self.waiting.len() > self.gone;
        let ran = self.options.policy.preemption.as_ref().and_then(|rules| match waits {
            true => Some(rules.long),
            false => self.options.pack.map(|_| rules.after),
        });
        let start = stay.start;
        ran.map(|ran| start + ran.as_micros() as Micros).into_iter().chain(stay.judged())
    }

    fn ripe(&self, now: Micros) -> bool {
        self.machine.stays.iter().any(|stay| self.ripens(stay).any(|at| at == now))
    }

    /// It has run long enough to make room for others.
    fn is_long(&self, stay: &Stay, now: Micros) -> bool {
        let rules = self.options.policy.preemption.as_ref();
        rules.is_some_and(|rules| stay.start + rules.long.as_micros() as Micros <= now)
    }

    /// Of those that wait, the planner is told of all, or where nobody goes before another, of more than can start.
    fn queue(&self, told: usize) -> Queue<'_> {
        let most = self.machine.inventory.devices.len() * self.options.policy.tasks_per_gpu.max(1) as usize;
        let waiting = &self.waiting[self.gone..];
        let waiting = if self.in_order { &waiting[..waiting.len().min(most.max(told) + 1)] } else { waiting };
        Queue { waiting, running: &self.machine.running, usage: &NOBODY, closed: None, quotas: &NO_QUOTAS }
    }

    /// The planner's answer, with the reasons of so many that wait.
    fn plan(&self, now: Micros, told: usize) -> Plan {
        plan_first(&self.options.policy, Some(&self.machine.inventory), self.queue(told), timestamp(now), told)
    }

    /// Starts and stops what the planner says.
    fn decide(&mut self, now: Micros) {
        loop {
            let plan = self.plan(now, 0);
            for start in plan.starts {
                self.start(start, now);
            }
            if plan.preempts.is_empty() {
                return;
            }
            for preempt in plan.preempts {
                self.preempt(preempt, now);
            }
        }
    }

    /// Keeps what the jobs from this one on are told when they come.
    fn foretell(&mut self, first: TaskId, now: Micros) {
        let plan = Plan { waits: self.plan(now, FORETOLD).waits, ..Plan::default() };
        if plan.waits.iter().take(FORETOLD).all(|(task, _)| *task < first) {
            return;
        }
        let (policy, inventory) = (&self.options.policy, &self.machine.inventory);
        for told in forecast(
            policy,
            &plan,
            inventory,
            self.queue(FORETOLD).waiting,
            &self.machine.running,
            timestamp(now),
            FORETOLD,
        ) {
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
            timed: false,
        };
        self.places[index] = self.waiting.len();
        self.waiting.push(waiting);
        self.queued[index] = now;
    }

    fn start(&mut self, Start { task, grant }: Start, now: Micros) {
        let index = job(task);
        let place = std::mem::replace(&mut self.places[index], NOWHERE);
        if self.in_order {
            self.gone = place + 1;
        } else {
            self.waiting.swap_remove(place);
            if let Some(moved) = self.waiting.get(place) {
                self.places[job(moved.task)] = place;
            }
        }
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
