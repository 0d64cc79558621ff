//! What one plan costs, by the number of waiting tasks.

use std::{collections::BTreeMap, hint::black_box};

use domain::{
    Demand, Device, DeviceGrant, DeviceId, DeviceKind, DeviceMemory, Grant, Inventory, Priority, ProcessUse, Reading,
    TaskId,
};
use jiff::{SignedDuration, Timestamp};
use scheduler::{Policy, Queue, Quota, Running, Waiting, forecast, plan};

use super::Figure;

const GIB: u64 = 1 << 30;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const GPUS: u32 = 8;
/// As many as the daemon works out.
const FORECASTS: usize = 200;

/// Eight GPUs, and tasks of all sizes, classes and users.
struct Moment {
    policy: Policy,
    inventory: Inventory,
    running: Vec<Running>,
    waiting: Vec<Waiting>,
    quotas: BTreeMap<String, Quota>,
}

/// A name, and what it looks like with so many waiting.
type Scene = (&'static str, fn(u64) -> Moment);

pub fn measure() -> Vec<Figure> {
    let scenes: [Scene; 6] = [
        ("one GPU free", |queued| Moment::new(1, queued)),
        ("nothing free", |queued| Moment::new(0, queued)),
        ("no two of the same size", sizes),
        ("reserved for one that wants 8", reserved),
        ("most users at their quota", quotas),
        ("FIFO", |queued| Moment { policy: Policy::fifo(), ..Moment::new(1, queued) }),
    ];
    scenes.into_iter().flat_map(|(name, scene)| costs(name, scene)).collect()
}

fn costs(name: &str, scene: fn(u64) -> Moment) -> Vec<Figure> {
    let mut before: Option<f64> = None;
    let cost = |(queued, goal): (u64, Option<f64>)| {
        let moment = scene(queued);
        let (cost, foretelling) = moment.cost_ms();
        let growth = before.replace(cost).map_or(String::new(), |less| format!("×{:.1} for ×10; ", cost / less));
        let note = format!("{growth}and {foretelling:.2} ms to forecast the first {FORECASTS}");
        let figure = Figure::new(format!("one plan, {queued} queued, {GPUS} GPUs, {name}"), cost, "ms").note(note);
        match goal {
            Some(goal) => figure.at_most(goal),
            None => figure,
        }
    };
    [(1_000, None), (10_000, Some(5.0)), (100_000, Some(50.0))].into_iter().map(cost).collect()
}

fn sizes(queued: u64) -> Moment {
    let mut moment = Moment::new(1, queued);
    for waiting in &mut moment.waiting {
        waiting.demand.memory = waiting.demand.memory.map(|bytes| bytes + waiting.task.number * 1000);
    }
    moment
}

/// Seven GPUs are free and kept for the first; all others would take too long.
fn reserved(queued: u64) -> Moment {
    let mut moment = Moment::new(GPUS - 1, queued);
    for waiting in &mut moment.waiting {
        waiting.expected = waiting.expected.map(|length| length + SignedDuration::from_hours(6));
    }
    moment.waiting[0].priority = Priority::Urgent;
    moment.waiting[0].demand = Demand { devices: GPUS, memory: None, shares: false };
    moment
}

/// Six of seven may have nothing more.
fn quotas(queued: u64) -> Moment {
    let quota = |user| (format!("user{user}"), Quota { running: Some(1), gpus: Some(4) });
    Moment { quotas: (0..6).map(quota).collect(), ..Moment::new(1, queued) }
}

impl Moment {
    fn new(free: u32, queued: u64) -> Moment {
        Moment {
            policy: Policy::default(),
            inventory: Inventory {
                taken_at: NOW,
                devices: (0..GPUS).map(|index| reading(index, index < free)).collect(),
                findings: Vec::new(),
                detection_error: None,
            },
            running: (free..GPUS).map(running).collect(),
            waiting: (1..=queued).map(waiting).collect(),
            quotas: BTreeMap::new(),
        }
    }

    /// Of a plan and of forecasts from it, in milliseconds of the processor: the best of several, as others use this machine
    /// and its caches too.
    fn cost_ms(&self) -> (f64, f64) {
        let usage: BTreeMap<String, f64> = (0..7).map(|user| (format!("user{user}"), 5e3 * f64::from(user))).collect();
        let queue =
            Queue { waiting: &self.waiting, running: &self.running, usage: &usage, closed: None, quotas: &self.quotas };
        let (mut planning, mut foretelling) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..9 {
            let began = processor_seconds();
            let plan = black_box(plan(&self.policy, Some(&self.inventory), queue, NOW));
            planning = (processor_seconds() - began).min(planning);
            let began = processor_seconds();
            let (waiting, running) = (&self.waiting, &self.running);
            black_box(forecast(&self.policy, &plan, &self.inventory, waiting, running, NOW, FORECASTS));
            foretelling = (processor_seconds() - began).min(foretelling);
        }
        (planning * 1e3, foretelling * 1e3)
    }
}

/// That this thread has used.
fn processor_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn task(number: u64) -> TaskId {
    TaskId::new(0, number)
}

fn reading(index: u32, free: bool) -> Reading {
    let used = if free { 0 } else { 79 };
    let memory = DeviceMemory { total: 80 * GIB, reserved: Some(GIB), used: used * GIB, free: (79 - used) * GIB };
    let device = Device::new(format!("GPU-{index}"), DeviceKind::Nvidia, index, "Card");
    let mut reading = Reading::usable(device, memory, NOW);
    if !free {
        let process = ProcessUse::new(index, Some(used * GIB));
        reading.processes.push(ProcessUse { task: Some(task(index.into())), ..process });
    }
    reading
}

fn running(index: u32) -> Running {
    let grant = DeviceGrant { device: DeviceId(format!("GPU-{index}")), bytes: Some(79 * GIB) };
    Running {
        task: task(index.into()),
        owner: format!("user{}", index % 7),
        grant: Grant { devices: vec![grant] },
        used: vec![Some(79 * GIB)],
        priority: Priority::Normal,
        started_at: NOW - SignedDuration::from_hours(2),
        ends_at: Some(NOW + SignedDuration::from_mins(10 * i64::from(index) + 5)),
        shares: true,
        loss: Some(SignedDuration::from_mins(1)),
        stopping: false,
        pace: None,
        measuring: false,
    }
}

fn waiting(number: u64) -> Waiting {
    Waiting {
        task: task(number + u64::from(GPUS)),
        owner: format!("user{}", number % 7),
        priority: if number.is_multiple_of(10) { Priority::High } else { Priority::Normal },
        urgency: 0,
        since: NOW - SignedDuration::from_secs((number * 7919 % 50_000) as i64),
        expected: Some(SignedDuration::from_secs((number * 3701 % 20_000) as i64 + 60)),
        deadline: number.is_multiple_of(30).then(|| NOW + SignedDuration::from_mins((number % 900) as i64)),
        demand: Demand {
            devices: 1 + 3 * u32::from(number.is_multiple_of(50)),
            memory: (!number.is_multiple_of(20)).then_some((2 + number % 70) * GIB),
            shares: !number.is_multiple_of(5),
        },
        blocked: None,
        refused: Vec::new(),
        timed: false,
    }
}
