//! Queues and machines of all kinds.

use std::collections::BTreeMap;

use domain::{Demand, DeviceGrant, DeviceId, Grant, Inventory, Priority, ProcessUse, Reading, WaitCause};
use jiff::SignedDuration;
use proptest::prelude::*;
use scheduler::{Pace, Plan, Policy, Queue, Quota, Running, Waiting, plan_first};

use crate::build::{GIB, NOW, broken, gpu, holding, id, inventory, minutes, served, simulated, slice, waiting};

#[derive(Debug, Clone)]
pub struct Moment {
    pub policy: Policy,
    pub inventory: Option<Inventory>,
    pub waiting: Vec<Waiting>,
    pub running: Vec<Running>,
    pub usage: BTreeMap<String, f64>,
    pub closed: Option<WaitCause>,
    pub quotas: BTreeMap<String, Quota>,
}

impl Moment {
    pub fn plan(&self) -> Plan {
        self.plan_first(usize::MAX)
    }

    pub fn plan_first(&self, limit: usize) -> Plan {
        let queue = Queue {
            waiting: &self.waiting,
            running: &self.running,
            usage: &self.usage,
            closed: self.closed.as_ref(),
            quotas: &self.quotas,
        };
        plan_first(&self.policy, self.inventory.as_ref(), queue, NOW, limit)
    }

    pub fn waiting(&self, task: domain::TaskId) -> &Waiting {
        self.waiting.iter().find(|waiting| waiting.task == task).expect("it waits")
    }

    pub fn running(&self, task: domain::TaskId) -> &Running {
        self.running.iter().find(|running| running.task == task).expect("it runs")
    }

    pub fn reading(&self, device: &DeviceId) -> &Reading {
        self.inventory.as_ref().and_then(|inventory| inventory.get(device)).expect("only devices of the inventory")
    }

    /// As the running task will stand in the queue when it was stopped.
    pub fn again(&self, running: &Running) -> Waiting {
        let [granted] = &running.grant.devices[..] else { panic!("on one device") };
        let alone = waiting(running.task.number, 1, None);
        let demand = Demand { memory: granted.bytes, shares: running.shares, ..alone.demand };
        Waiting { owner: running.owner.clone(), priority: running.priority, demand, ..alone }
    }

    /// What runs when the plan was carried out.
    pub fn after(&self, plan: &Plan) -> Vec<Running> {
        let stays = |running: &&Running| !plan.preempts.iter().any(|preempt| preempt.task == running.task);
        self.running.iter().filter(stays).cloned().chain(self.begun(plan)).collect()
    }

    /// What the plan starts, as it would be seen running a moment later.
    pub fn begun(&self, plan: &Plan) -> Vec<Running> {
        let begin = |start: &scheduler::Start| Running {
            owner: self.waiting(start.task).owner.clone(),
            grant: start.grant.clone(),
            used: vec![Some(0); start.grant.devices.len()],
            shares: self.waiting(start.task).demand.shares,
            measuring: self.waiting(start.task).timed,
            ..holding(start.task.number, "", None, None)
        };
        plan.starts.iter().map(begin).collect()
    }
}

fn owners() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just("ana".to_owned()), 2 => Just("bo".to_owned()), 1 => Just("cy".to_owned())]
}

fn priorities() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High), Just(Priority::Urgent)]
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![1 => Just(Policy::one()), 1 => Just(Policy::fifo()), 1 => Just(Policy::easy()), 4 => Just(Policy::default())]
}

prop_compose! {
    fn readings()(kinds in proptest::collection::vec((0..10u8, 4..40u64, 0..30u64), 0..6)) -> Vec<Reading> {
        let reading = |((kind, total, foreign), index): ((u8, u64, u64), u32)| match kind {
            0 => broken(index),
            1 => simulated(index),
            2 => slice(index, total),
            3 | 4 => served(index, total, foreign.min(total - 1)),
            _ => gpu(index, total, foreign.min(total - 1)),
        };
        kinds.into_iter().zip(0..).map(reading).collect()
    }
}

prop_compose! {
    fn one_waiting()(
        owner in owners(),
        devices in prop_oneof![4 => Just(1u32), 1 => 2..4u32],
        gib in proptest::option::weighted(0.8, 1..50u64),
        refused in proptest::option::weighted(0.2, 0..6u32),
        blocked in proptest::bool::weighted(0.1),
        shares in proptest::bool::weighted(0.8),
        priority in priorities(),
        urgency in prop_oneof![4 => Just(0i64), 1 => -2..3i64],
        length in proptest::option::weighted(0.8, 1..600i64),
        deadline in proptest::option::weighted(0.2, -100..900i64),
        waited in 0..200i64,
    ) -> Waiting {
        let cause = WaitCause::Detecting;
        let refused = refused.map(|index| (DeviceId(format!("GPU-{index}")), cause.clone())).into_iter().collect();
        let alone = waiting(0, devices, gib);
        Waiting {
            owner,
            refused,
            demand: Demand { shares, ..alone.demand },
            priority,
            urgency,
            blocked: blocked.then(|| cause.into()),
            expected: length.map(minutes),
            deadline: deadline.map(|at| NOW + minutes(at)),
            since: NOW - SignedDuration::from_hours(waited),
            timed: shares && waited % 3 == 0,
            ..alone
        }
    }
}

prop_compose! {
    /// On one device, or on two; possibly on one that is gone from the inventory.
    fn one_running()(
        owner in owners(),
        devices in prop_oneof![5 => (0..7u32).prop_map(|one| vec![one]), 1 => Just(vec![0, 1]), 1 => Just(vec![1, 2])],
        gib in proptest::option::weighted(0.8, 1..12u64),
        used in proptest::option::weighted(0.8, 0..12u64),
        priority in priorities(),
        ran in 0..900i64,
        rest in 0..900i64,
        shares in proptest::bool::weighted(0.8),
        stopping in proptest::bool::weighted(0.1),
        pace in proptest::option::weighted(0.7, (proptest::option::weighted(0.8, 1..10u32), 1..20u32)),
    ) -> Running {
        let grant = |device: &u32| DeviceGrant { device: DeviceId(format!("GPU-{device}")), bytes: gib.map(|gib| gib * GIB) };
        Running {
            owner,
            grant: Grant { devices: devices.iter().map(grant).collect() },
            used: vec![used.map(|used| used.min(gib.unwrap_or(used)) * GIB); devices.len()],
            priority,
            started_at: NOW - minutes(ran),
            ends_at: (rest > 0).then(|| NOW + minutes(rest)),
            shares,
            loss: (ran % 3 > 0).then(|| minutes(ran % 20)),
            stopping,
            pace: pace.map(|(alone, shared)| Pace { alone: alone.map(f64::from), shared: f64::from(shared) }),
            measuring: shares && ran % 4 == 1,
            ..holding(0, "", None, None)
        }
    }
}

prop_compose! {
    fn quotas()(
        limits in proptest::collection::vec((owners(), proptest::option::of(0..4u32), proptest::option::of(0..5u32)), 0..3),
    ) -> BTreeMap<String, Quota> {
        limits.into_iter().map(|(owner, running, gpus)| (owner, Quota { running, gpus })).collect()
    }
}

prop_compose! {
    /// Waiting and running tasks in any order.
    pub fn moments()(
        policy in policies(),
        tasks_per_gpu in 1..4u32,
        exclusive in proptest::bool::weighted(0.2),
        readings in proptest::option::weighted(0.95, readings()),
        queue in proptest::collection::vec(one_waiting(), 0..8),
        holders in proptest::collection::vec(one_running(), 0..6),
        quotas in quotas(),
        used in proptest::collection::vec((owners(), 0.0..1e6f64), 0..3),
        closed in proptest::bool::weighted(0.05),
        reversed in any::<bool>(),
    ) -> Moment {
        let mut waiting: Vec<Waiting> =
            queue.into_iter().zip(100..).map(|(waiting, number)| Waiting { task: id(number), ..waiting }).collect();
        if reversed {
            waiting.reverse();
        }
        let running: Vec<Running> =
            holders.into_iter().zip(1..).map(|(running, number)| Running { task: id(number), ..running }).collect();
        Moment {
            policy: Policy { tasks_per_gpu, exclusive, ..policy },
            inventory: readings.map(|readings| inventory(used_by(readings, &running))),
            waiting,
            running,
            usage: used.into_iter().collect(),
            closed: closed.then(|| WaitCause::QueuePaused { by: "ana".into() }),
            quotas,
        }
    }
}

/// The same devices with what runs on them, as far as there is room.
fn used_by(mut readings: Vec<Reading>, running: &[Running]) -> Vec<Reading> {
    for running in running {
        for (granted, used) in running.grant.devices.iter().zip(&running.used) {
            let Some(reading) = readings.iter_mut().find(|reading| reading.device.id == granted.device) else {
                continue;
            };
            let (Some(memory), Some(used)) = (&mut reading.memory, used) else { continue };
            let used = (*used).min(memory.free);
            (memory.used, memory.free) = (memory.used + used, memory.free - used);
            let pid = running.task.number as u32;
            reading.processes.push(ProcessUse { task: Some(running.task), ..ProcessUse::new(pid, Some(used)) });
        }
    }
    readings
}
