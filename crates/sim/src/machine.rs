//! The simulated GPUs, what runs on them, and how fast.

use domain::{Demand, Device, DeviceId, DeviceKind, DeviceMemory, Grant, Inventory, ProcessUse, Reading, TaskId};
use jiff::{SignedDuration, Timestamp};
use scheduler::{Pace, Running};

use crate::{
    LOST_S, TRIAL_S,
    workload::{Micros, Work, micros},
};

/// Bytes of each simulated GPU.
const MEMORY: u64 = 24 << 30;
/// Of these a task that shares asks for so many, so that two fit beside each other.
const SHARED: u64 = MEMORY / 100 * 45;
/// A job that outlives its estimate is expected to take at least this much longer.
const LEAST_EXTENSION: Micros = 60_000_000;

pub fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX)
}

/// Jobs that want one GPU share it where packing is on, unless that did not pay; all others get theirs to themselves.
pub fn demand(work: &Work, packs: bool, progress: &Progress) -> Demand {
    let shares = packs && work.gpus == 1 && !progress.alone;
    Demand { devices: work.gpus, memory: shares.then_some(SHARED), shares }
}

/// How far a job has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub done: Micros,
    /// Work still to be done.
    pub left: Micros,
    /// The same, as the planner is told.
    pub expected_left: Micros,
    /// Sharing a GPU did not pay: from now on it gets one to itself.
    pub alone: bool,
}

impl Progress {
    pub fn new(work: &Work) -> Progress {
        Progress { done: 0, left: work.duration, expected_left: work.expected, alone: false }
    }

    fn advance(&mut self, work: Micros) {
        self.done += work;
        self.left -= work;
        self.expected_left -= work;
    }

    fn lose(&mut self, work: Micros) {
        self.left += work;
        self.expected_left += work;
    }

    /// One that has outlived its estimate is expected to take as long again.
    fn extend(&mut self) {
        if self.expected_left <= 0 {
            self.expected_left = self.done.max(LEAST_EXTENSION);
        }
    }
}

/// One stay of a job on its GPUs.
pub struct Stay {
    pub job: usize,
    pub gpus: Vec<usize>,
    pub start: Micros,
    pub progress: Progress,
    rate: f64,
    /// Since then it has the same neighbours.
    mixed: Micros,
    /// The progress is as of then.
    settled: Micros,
    pub end: Micros,
    pub expected_end: Micros,
}

impl Stay {
    fn settle(&mut self, now: Micros) {
        let work = ((now - self.settled) as f64 * self.rate).round() as Micros;
        self.progress.advance(work.min(self.progress.left));
        self.progress.extend();
        self.settled = now;
    }

    /// When it is known how fast it goes beside others.
    pub fn judged(&self) -> Option<Micros> {
        (self.rate < 1.0).then_some(self.mixed + micros(TRIAL_S))
    }

    /// A step is as long as a second of a job that has its GPUs to itself.
    fn pace(&self, now: Micros) -> Option<Pace> {
        self.judged().filter(|at| *at <= now).map(|_| Pace { alone: Some(1.0), shared: 1.0 / self.rate })
    }

    fn look_ahead(&mut self) {
        let after = |work: Micros| self.settled + (work as f64 / self.rate).ceil() as Micros;
        (self.end, self.expected_end) = (after(self.progress.left), after(self.progress.expected_left));
    }
}

pub struct Machine {
    pub inventory: Inventory,
    pub stays: Vec<Stay>,
    /// The same stays as the planner sees them.
    pub running: Vec<Running>,
    /// Throughput of two tasks on one GPU relative to one alone.
    together: f64,
    /// GPU-time in which a GPU had a job.
    pub busy: i128,
    /// The clock, as of the last event.
    pub now: Micros,
}

impl Machine {
    pub fn new(gpus: u32, together: f64) -> Machine {
        let reading = |index| {
            let device = Device::new(format!("GPU-{index}"), DeviceKind::Nvidia, index, "Simulated GPU");
            let memory = DeviceMemory { total: MEMORY, reserved: None, used: 0, free: MEMORY };
            Reading::usable(device, memory, Timestamp::UNIX_EPOCH)
        };
        let inventory = Inventory {
            taken_at: Timestamp::UNIX_EPOCH,
            devices: (0..gpus).map(reading).collect(),
            findings: Vec::new(),
            detection_error: None,
        };
        Machine { inventory, stays: Vec::new(), running: Vec::new(), together, busy: 0, now: 0 }
    }

    /// Some GPU has room for a task that shares it, or for any.
    pub fn has_room(&self) -> bool {
        self.inventory.devices.iter().any(|reading| reading.memory.is_some_and(|memory| memory.free >= SHARED))
    }

    /// Counts the busy GPUs' time up to now; to be called before anything starts or ends.
    pub fn advance(&mut self, now: Micros) {
        let busy = self.inventory.devices.iter().filter(|reading| !reading.processes.is_empty()).count();
        self.busy += busy as i128 * i128::from(now - self.now);
        self.now = now;
        for (stay, running) in self.stays.iter_mut().zip(&mut self.running) {
            if stay.expected_end <= now && stay.end > now {
                stay.settle(now);
                stay.look_ahead();
                running.ends_at = Some(timestamp(stay.expected_end));
            }
            running.pace = stay.pace(now);
        }
    }

    pub fn start(&mut self, job: usize, work: &Work, progress: Progress, task: TaskId, grant: Grant, now: Micros) {
        let gpus: Vec<usize> = grant.devices.iter().map(|granted| self.index(&granted.device)).collect();
        let used: Vec<u64> = grant.devices.iter().map(|granted| granted.bytes.unwrap_or(MEMORY)).collect();
        for (gpu, used) in gpus.iter().zip(&used) {
            let process = ProcessUse { task: Some(task), ..ProcessUse::new(job as u32 + 1, Some(*used)) };
            self.inventory.devices[*gpu].processes.push(process);
        }
        self.running.push(Running {
            task,
            owner: String::new(),
            pace: None,
            used: used.into_iter().map(Some).collect(),
            priority: work.priority,
            started_at: timestamp(now),
            ends_at: None,
            shares: grant.devices.iter().all(|granted| granted.bytes.is_some()),
            loss: Some(SignedDuration::from_secs_f64(LOST_S)),
            measuring: false,
            stopping: false,
            grant,
        });
        let stay = Stay {
            job,
            gpus: gpus.clone(),
            start: now,
            progress,
            rate: 0.0,
            mixed: now,
            settled: now,
            end: now,
            expected_end: now,
        };
        self.stays.push(stay);
        self.changed(&gpus, now);
    }

    /// Takes a job off its GPUs: it has ended, or is stopped at a checkpoint and loses a little.
    pub fn stop(&mut self, index: usize, now: Micros) -> Stay {
        let mut stay = self.stays.swap_remove(index);
        let running = self.running.swap_remove(index);
        stay.settle(now);
        if stay.end > now {
            stay.progress.lose(micros(LOST_S));
        }
        for gpu in &stay.gpus {
            self.inventory.devices[*gpu].processes.retain(|process| process.task != Some(running.task));
        }
        self.changed(&stay.gpus, now);
        stay
    }

    /// Measures these GPUs again and lets the jobs on them go on at the pace that they now have.
    fn changed(&mut self, gpus: &[usize], now: Micros) {
        for gpu in gpus {
            let reading = &mut self.inventory.devices[*gpu];
            let used = reading.processes.iter().filter_map(|process| process.bytes).sum();
            reading.memory = Some(DeviceMemory { total: MEMORY, reserved: None, used, free: MEMORY - used });
        }
        for (stay, running) in self.stays.iter_mut().zip(&mut self.running) {
            if stay.gpus.iter().any(|gpu| gpus.contains(gpu)) {
                (stay.mixed, running.pace) = (now, None);
            }
            let most = stay.gpus.iter().map(|gpu| self.inventory.devices[*gpu].processes.len()).max().unwrap_or(1);
            let rate = if most > 1 { self.together / most as f64 } else { 1.0 };
            if rate != stay.rate {
                stay.settle(now);
                stay.rate = rate;
                stay.look_ahead();
                running.ends_at = Some(timestamp(stay.expected_end));
            }
        }
    }

    fn index(&self, device: &DeviceId) -> usize {
        let found = self.inventory.devices.iter().position(|reading| reading.device.id == *device);
        found.expect("the planner grants devices of the inventory")
    }
}
