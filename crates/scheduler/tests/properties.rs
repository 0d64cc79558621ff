//! What must hold for every queue and every machine.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    Demand, Device, DeviceGrant, DeviceId, DeviceKind, DeviceMemory, Finding, Grant, Inventory, Priority, ProcessUse,
    Reading, TaskId, WaitCause,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use scheduler::{Plan, Policy, PreemptReason, Queue, Running, Waiting, free, plan, shortfall};

const GIB: u64 = 1 << 30;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn id(number: u64) -> TaskId {
    TaskId::new(0, number)
}

fn device(index: u32, kind: DeviceKind) -> Device {
    Device::new(format!("GPU-{index}"), kind, index, format!("Card {index}"))
}

fn lost() -> Finding {
    Finding { code: "lost".into(), zh: "丢失".into(), en: "lost".into() }
}

/// A GPU of `total` GiB of which others hold `foreign`, in one process that the driver names.
fn gpu(index: u32, total: u64, foreign: u64) -> Reading {
    let memory = DeviceMemory {
        total: total * GIB,
        reserved: Some(GIB / 2),
        used: foreign * GIB,
        free: (total - foreign) * GIB - GIB / 2,
    };
    let mut reading = Reading::usable(device(index, DeviceKind::Nvidia), memory, NOW);
    if foreign > 0 {
        let process = ProcessUse { name: Some("vllm".into()), ..ProcessUse::new(4242, Some(foreign * GIB)) };
        reading.processes.push(process);
    }
    reading
}

fn simulated(index: u32) -> Reading {
    let memory = DeviceMemory { total: 24 * GIB, reserved: None, used: 0, free: 24 * GIB };
    Reading::usable(device(index, DeviceKind::Simulated), memory, NOW)
}

fn broken(index: u32) -> Reading {
    Reading::unusable(device(index, DeviceKind::Nvidia), lost(), NOW)
}

fn inventory(devices: Vec<Reading>) -> Inventory {
    Inventory { taken_at: NOW, devices, findings: vec![], detection_error: None }
}

fn holding(task: u64, device: &str, gib: Option<u64>, used: Option<u64>) -> Running {
    let grant = DeviceGrant { device: DeviceId(device.into()), bytes: gib.map(|gib| gib * GIB) };
    Running {
        task: id(task),
        owner: "ana".into(),
        pace: None,
        grant: Grant { devices: vec![grant] },
        used: vec![used.map(|gib| gib * GIB)],
        priority: Priority::Normal,
        started_at: NOW,
        ends_at: None,
        shares: true,
        loss: None,
    }
}

fn waiting(task: u64, devices: u32, gib: Option<u64>) -> Waiting {
    Waiting {
        task: id(task),
        owner: "ana".into(),
        priority: Priority::Normal,
        urgency: 0,
        since: NOW,
        expected: None,
        deadline: None,
        demand: Demand { devices, memory: gib.map(|gib| gib * GIB), shares: true },
        blocked: None,
        refused: vec![],
    }
}

#[derive(Debug, Clone)]
struct Moment {
    policy: Policy,
    inventory: Option<Inventory>,
    waiting: Vec<Waiting>,
    running: Vec<Running>,
}

fn plan_of(policy: &Policy, inventory: Option<&Inventory>, waiting: &[Waiting], running: &[Running]) -> Plan {
    plan(
        policy,
        inventory,
        Queue { waiting, running, usage: &BTreeMap::new(), closed: None, quotas: &BTreeMap::new() },
        NOW,
    )
}

impl Moment {
    fn plan(&self) -> Plan {
        plan_of(&self.policy, self.inventory.as_ref(), &self.waiting, &self.running)
    }
}

prop_compose! {
    fn readings()(kinds in proptest::collection::vec((0..8u8, 4..40u64, 0..30u64), 0..6)) -> Vec<Reading> {
        let reading = |((kind, total, foreign), index): ((u8, u64, u64), u32)| match kind {
            0 => broken(index),
            1 => simulated(index),
            _ => gpu(index, total, foreign.min(total - 1)),
        };
        kinds.into_iter().zip(0..).map(reading).collect()
    }
}

fn priorities() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High), Just(Priority::Urgent)]
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![1 => Just(Policy::one()), 1 => Just(Policy::fifo()), 1 => Just(Policy::easy()), 3 => Just(Policy::default())]
}

prop_compose! {
    fn one_waiting()(
        devices in prop_oneof![4 => Just(1u32), 1 => 2..4u32],
        gib in proptest::option::weighted(0.8, 1..50u64),
        refused in proptest::option::weighted(0.2, 0..6u32),
        blocked in proptest::bool::weighted(0.1),
        shares in proptest::bool::weighted(0.8),
        priority in priorities(),
        minutes in proptest::option::weighted(0.8, 1..600i64),
        waited in 0..200i64,
    ) -> Waiting {
        let cause = WaitCause::Detecting;
        let refused = refused.map(|index| (DeviceId(format!("GPU-{index}")), cause.clone())).into_iter().collect();
        let alone = waiting(0, devices, gib);
        Waiting {
            refused,
            demand: Demand { shares, ..alone.demand },
            priority,
            blocked: blocked.then_some(cause),
            expected: minutes.map(SignedDuration::from_mins),
            since: NOW - SignedDuration::from_hours(waited),
            ..alone
        }
    }
}

prop_compose! {
    /// Waiting tasks in any order; running tasks on some of the devices, one of them possibly gone from the inventory.
    fn moments()(
        policy in policies(),
        tasks_per_gpu in 1..4u32,
        exclusive in proptest::bool::weighted(0.2),
        readings in proptest::option::weighted(0.95, readings()),
        queue in proptest::collection::vec(one_waiting(), 0..8),
        holders in proptest::collection::vec(
            (0..7u32, proptest::option::of(1..12u64), proptest::option::of(0..12u64), priorities(), 0..900i64, 0..900i64),
            0..5,
        ),
        reversed in any::<bool>(),
    ) -> Moment {
        let mut waiting: Vec<Waiting> =
            queue.into_iter().zip(100..).map(|(waiting, number)| Waiting { task: id(number), ..waiting }).collect();
        if reversed {
            waiting.reverse();
        }
        let holder = |((device, gib, used, priority, ran, rest), task)| Running {
            priority,
            started_at: NOW - SignedDuration::from_mins(ran),
            ends_at: (rest > 0).then(|| NOW + SignedDuration::from_mins(rest)),
            loss: (ran % 3 > 0).then(|| SignedDuration::from_mins(ran % 20)),
            ..holding(task, &format!("GPU-{device}"), gib, used)
        };
        let running = holders.into_iter().zip(1..).map(holder).collect();
        Moment { policy: Policy { tasks_per_gpu, exclusive, ..policy }, inventory: readings.map(inventory), waiting, running }
    }
}

/// Bytes granted on the device and not yet in use, and the number of grants.
fn promised<'a>(device: &DeviceId, running: impl Iterator<Item = &'a Running>) -> (u64, usize) {
    let grants = running.flat_map(|running| running.grant.devices.iter().zip(&running.used));
    grants.filter(|(grant, _)| grant.device == *device).fold((0, 0), |(bytes, count), (grant, used)| {
        (bytes + grant.bytes.map_or(0, |granted| granted.saturating_sub(used.unwrap_or(0))), count + 1)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn holds_for_every_moment(moment in moments()) {
        let plan = moment.plan();
        prop_assert_eq!(&plan, &moment.plan(), "equal inputs, equal plans");

        let planned: BTreeSet<TaskId> =
            plan.starts.iter().map(|start| start.task).chain(plan.waits.iter().map(|(task, _)| *task)).collect();
        prop_assert_eq!(planned.len(), plan.starts.len() + plan.waits.len(), "no task is planned twice");
        prop_assert_eq!(
            planned,
            moment.waiting.iter().map(|waiting| waiting.task).collect(),
            "every queued task starts or has a reason"
        );
        for ((_, reason), position) in plan.waits.iter().zip(1..) {
            prop_assert_eq!(reason.position, position);
        }

        let started: Vec<Running> = plan
            .starts
            .iter()
            .map(|start| Running {
                grant: start.grant.clone(),
                used: vec![Some(0); start.grant.devices.len()],
                shares: moment.waiting.iter().any(|waiting| waiting.task == start.task && waiting.demand.shares),
                ..holding(start.task.number, "", None, None)
            })
            .collect();
        for start in &plan.starts {
            let asked = moment.waiting.iter().find(|waiting| waiting.task == start.task).expect("it was waiting");
            prop_assert_eq!(&asked.blocked, &None);
            let devices: BTreeSet<&DeviceId> = start.grant.devices.iter().map(|grant| &grant.device).collect();
            prop_assert_eq!(devices.len(), asked.demand.devices as usize, "all devices or none, each once");
            for grant in &start.grant.devices {
                let reading = moment.inventory.as_ref().and_then(|inventory| inventory.get(&grant.device));
                let reading = reading.expect("only devices of the inventory");
                prop_assert!(reading.is_usable());
                prop_assert!(!asked.refused.iter().any(|(device, _)| *device == grant.device));
                let memory = reading.memory.expect("usable here means measured");
                let (bytes, count) = promised(&grant.device, moment.running.iter().chain(&started));
                if reading.device.kind == DeviceKind::Simulated {
                    prop_assert_eq!(count, 1, "one task at a time");
                } else if grant.bytes.is_none() {
                    prop_assert_eq!(count, 1, "a task of unknown need gets the device to itself");
                    prop_assert!(memory.free * 4 >= memory.allocatable() * 3, "and most of it free");
                } else {
                    prop_assert_eq!(grant.bytes, asked.demand.memory);
                    prop_assert!(bytes <= memory.free, "all promises together are free memory");
                    prop_assert!(count <= moment.policy.tasks_per_gpu as usize);
                    let alone = |task: TaskId| moment.waiting.iter().any(|other| other.task == task && !other.demand.shares);
                    let beside = started.iter().filter(|other| {
                        other.grant.devices.iter().any(|granted| granted.device == grant.device)
                    });
                    prop_assert!(count == 1 || !beside.into_iter().any(|other| alone(other.task)), "who shares was asked");
                }
            }
        }

        // Only what may be interrupted is, and for somebody who waits.
        for preempt in &plan.preempts {
            let victim = moment.running.iter().find(|running| running.task == preempt.task).expect("it runs");
            prop_assert!(victim.loss.is_some());
            prop_assert!(NOW.duration_since(victim.started_at) >= SignedDuration::from_mins(10));
            let is_sound = match preempt.why {
                PreemptReason::InFavourOf(task) => plan.waits.iter().any(|(waits, _)| *waits == task),
                PreemptReason::ToMove => plan.waits.is_empty(),
                PreemptReason::NotPaying { .. } | PreemptReason::Reclaimed { .. } => true,
            };
            prop_assert!(is_sound);
        }

        // Nobody waits for what is free: the first that waits would wait as well if it were alone.
        let first = plan.waits.iter().map(|(task, _)| *task).find(|task| {
            let waiting = moment.waiting.iter().find(|waiting| waiting.task == *task).expect("it waits");
            waiting.blocked.is_none()
        });
        if let (Some(task), false) = (first, moment.policy.one_at_a_time) {
            let alone = moment.waiting.iter().filter(|waiting| waiting.task == task).cloned().collect();
            let running = moment.running.iter().chain(&started).cloned().collect();
            let later = Moment { waiting: alone, running, ..moment.clone() };
            prop_assert!(later.plan().starts.is_empty(), "nobody waits for what is free");
        }
        if moment.policy.one_at_a_time {
            prop_assert!(plan.starts.len() + moment.running.len() <= 1.max(moment.running.len()));
        }
    }
}

/// Plays a queue to its end, with every length as expected; when each task started, in minutes.
fn play(
    policy: &Policy,
    readings: Vec<Reading>,
    mut waiting: Vec<Waiting>,
    mut running: Vec<Running>,
) -> BTreeMap<TaskId, i64> {
    let inventory = inventory(readings);
    let mut now = NOW;
    let mut started = BTreeMap::new();
    loop {
        let plan = plan(
            policy,
            Some(&inventory),
            Queue {
                waiting: &waiting,
                running: &running,
                usage: &BTreeMap::new(),
                closed: None,
                quotas: &BTreeMap::new(),
            },
            now,
        );
        for start in plan.starts {
            let index = waiting.iter().position(|waiting| waiting.task == start.task).expect("it waited");
            let length = waiting.remove(index).expected.expect("all lengths are known");
            started.insert(start.task, now.duration_since(NOW).as_mins());
            let used = vec![Some(0); start.grant.devices.len()];
            let ends_at = Some(now + length);
            let running_now = holding(start.task.number, "", None, None);
            running.push(Running { grant: start.grant, used, ends_at, started_at: now, ..running_now });
        }
        let Some(next) = running.iter().filter_map(|running| running.ends_at).min() else { return started };
        now = next;
        running.retain(|running| running.ends_at != Some(next));
    }
}

prop_compose! {
    fn queues()(
        tasks in proptest::collection::vec((1..4u32, 1..24u64, 1..300i64), 2..10),
        gpus in 1..4u32,
    ) -> (Vec<Reading>, Vec<Waiting>) {
        let task = |((devices, gib, minutes), number): ((u32, u64, i64), u64)| {
            let expected = Some(SignedDuration::from_mins(minutes));
            Waiting { expected, ..waiting(number, devices.min(gpus), Some(gib.min(23))) }
        };
        ((0..gpus).map(|index| gpu(index, 24, 0)).collect(), tasks.into_iter().zip(1..).map(task).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whoever goes before the first that waits does not delay it: it starts when it would if nobody went before it.
    #[test]
    fn backfilling_delays_nobody_who_has_a_reservation((readings, queue) in queues()) {
        let easy = Policy { priority: false, tasks_per_gpu: 2, ..Policy::easy() };
        let inventory = inventory(readings.clone());
        let first = plan_of(&easy, Some(&inventory), &queue, &[]);
        let Some((head, _)) = first.waits.first() else { return Ok(()) };
        let upto: Vec<Waiting> = queue.iter().filter(|waiting| waiting.task <= *head).cloned().collect();
        let alone = play(&easy, readings.clone(), upto, vec![]);
        let together = play(&easy, readings, queue.clone(), vec![]);
        prop_assert!(together[head] <= alone[head], "{} instead of {}", together[head], alone[head]);
        prop_assert_eq!(together.len(), queue.len(), "and all get their turn");
    }
}

/// A stream of short tasks that never ends, and one of a day: it gets its turn, after a time in proportion to its length.
#[test]
fn nobody_starves_behind_shorter_tasks() {
    let policy = Policy::default();
    let inventory = inventory(vec![simulated(0)]);
    let short = |number: u64, since: Timestamp| Waiting {
        expected: Some(SignedDuration::from_mins(1)),
        since,
        ..waiting(number, 1, Some(1))
    };
    for (priority, days) in [(Priority::Normal, 26), (Priority::Low, 49)] {
        let expected = Some(SignedDuration::from_hours(24));
        let mut queue = vec![Waiting { expected, priority, ..waiting(1, 1, Some(1)) }, short(2, NOW), short(3, NOW)];
        let mut now = NOW;
        for number in 4.. {
            let plan = plan(
                &policy,
                Some(&inventory),
                Queue {
                    waiting: &queue,
                    running: &[],
                    usage: &BTreeMap::new(),
                    closed: None,
                    quotas: &BTreeMap::new(),
                },
                now,
            );
            let start = plan.starts[0].task;
            if start == id(1) {
                break;
            }
            queue.retain(|waiting| waiting.task != start);
            now += SignedDuration::from_mins(10);
            queue.push(short(number, now));
            assert!(now.duration_since(NOW) <= SignedDuration::from_hours(24 * days), "{days} days and no turn");
        }
    }
}

/// Whatever starts first, the day-long one ends last: unless it starts at once, the other GPUs are idle at the end.
#[test]
fn what_would_end_last_starts_first() {
    let inventory = inventory(vec![simulated(0), simulated(1), simulated(2), simulated(3)]);
    let lasting =
        |number, hours| Waiting { expected: Some(SignedDuration::from_hours(hours)), ..waiting(number, 1, Some(1)) };
    let started = |longs: u64, shorts: u64| {
        let longs = (100..100 + longs).map(|number| lasting(number, 24));
        let queue: Vec<Waiting> = (1..=shorts).map(|number| lasting(number, 1)).chain(longs).collect();
        let plan = plan_of(&Policy::default(), Some(&inventory), &queue, &[]);
        plan.starts.iter().filter(|start| start.task >= id(100)).count()
    };
    assert_eq!(started(1, 40), 1);
    assert_eq!(started(2, 40), 2);
    assert_eq!(started(3, 20), 2, "half of the GPUs are left to the short ones");
    assert_eq!(started(1, 100), 0, "there is time");
    assert_eq!(started(1, 5), 0, "too few wait to fill the others");
}

fn cause(readings: Option<Vec<Reading>>, running: &[Running], demand: Waiting) -> WaitCause {
    let inventory = readings.map(inventory);
    let waiting = [demand];
    let plan = plan_of(&Policy::fifo(), inventory.as_ref(), &waiting, running);
    assert_eq!(plan.starts, [], "it has to wait");
    (*plan.waits[0].1.cause).clone()
}

#[test]
fn the_reason_names_what_is_waited_for() {
    let alone = || waiting(9, 1, None);
    assert_eq!(cause(None, &[], alone()), WaitCause::Detecting);
    assert_eq!(
        cause(Some(vec![simulated(0)]), &[holding(3, "GPU-0", None, None)], alone()),
        WaitCause::DevicesBusy { running: id(3), busy: 1 }
    );
    assert_eq!(
        cause(Some(vec![broken(0)]), &[], alone()),
        WaitCause::NoUsableDevice { zh: "Card 0：丢失".into(), en: "Card 0: lost".into() }
    );
    let sentence = |readings, running: &[Running], demand| {
        let reason = domain::WaitReason { position: 1, cause: cause(Some(readings), running, demand).into() };
        reason.sentence(domain::Language::En)
    };
    assert_eq!(
        sentence(vec![gpu(0, 24, 17)], &[], waiting(9, 1, Some(9))),
        "position 1; waiting for GPU memory: needs 9.0 GiB, GPU 0 has 6.5 GiB free, 2.5 GiB short (vllm, pid 4242, \
         holds 17.0 GiB)"
    );
    assert_eq!(
        sentence(vec![gpu(0, 24, 12)], &[holding(3, "GPU-0", Some(8), Some(1))], waiting(9, 1, Some(9))),
        "position 1; waiting for GPU memory: needs 9.0 GiB, GPU 0 has 4.5 GiB free, 4.5 GiB short (vllm, pid 4242, \
         holds 12.0 GiB; finetune_0_3, holds 8.0 GiB)"
    );
    assert_eq!(
        sentence(vec![gpu(0, 12, 0), gpu(1, 24, 0)], &[], waiting(9, 1, Some(40))),
        "position 1; no GPU here is large enough: needs 40.0 GiB, the largest, GPU 1, has 23.5 GiB. Use a smaller \
         batch, shorter sequences or quantisation"
    );
    assert_eq!(
        sentence(vec![gpu(0, 24, 0), broken(1)], &[], waiting(9, 2, Some(4))),
        "position 1; wants 2 GPUs at once, 1 are usable"
    );
    assert_eq!(
        sentence(vec![gpu(0, 24, 17)], &[], alone()),
        "position 1; waiting for a GPU to itself: GPU 0 has 6.5 GiB of 23.5 GiB free (vllm, pid 4242, holds 17.0 GiB). \
         Say with --memory what it needs and it can start sooner"
    );
}

#[test]
fn what_the_machine_can_never_run_holds_up_nobody() {
    let queue = [waiting(1, 1, Some(90)), waiting(2, 1, Some(20)), waiting(3, 1, Some(20)), waiting(4, 1, Some(1))];
    let inventory = inventory(vec![gpu(0, 24, 0)]);
    let plan = plan_of(&Policy::fifo(), Some(&inventory), &queue, &[]);
    assert_eq!(plan.starts.iter().map(|start| start.task).collect::<Vec<_>>(), [id(2)]);
    let codes: Vec<_> = plan.waits.iter().map(|(task, reason)| (*task, reason.code())).collect();
    assert_eq!(codes, [(id(1), "too_large"), (id(3), "device_memory"), (id(4), "behind")]);
}

#[test]
fn tasks_share_a_gpu_only_when_none_is_empty_and_the_smallest_that_fits_is_taken() {
    let inventory = inventory(vec![gpu(0, 80, 0), gpu(1, 24, 0), gpu(2, 24, 10)]);
    let queue = [10, 11, 12, 13].map(|number| waiting(number, 1, Some(10)));
    let plan = plan_of(&Policy::fifo(), Some(&inventory), &queue, &[]);
    let devices: Vec<_> = plan.starts.iter().map(|start| start.grant.devices[0].device.0.as_str()).collect();
    assert_eq!(devices, ["GPU-2", "GPU-1", "GPU-0", "GPU-1"]);
}

#[test]
fn a_gpu_that_others_use_is_left_alone_if_the_owner_wants_it_so() {
    let exclusive = Policy { exclusive: true, ..Policy::fifo() };
    let starts = |foreign| {
        let inventory = inventory(vec![gpu(0, 80, foreign)]);
        let queue = [waiting(1, 1, Some(10))];
        plan_of(&exclusive, Some(&inventory), &queue, &[])
    };
    assert_eq!(starts(2).starts.len(), 1, "a desktop is no use");
    assert_eq!(starts(10).waits[0].1.code(), "foreign_use");
}

#[test]
fn a_shortfall_is_what_others_took_of_the_promises() {
    let running = [holding(1, "GPU-0", Some(20), Some(5))];
    assert_eq!(shortfall(&gpu(0, 40, 20), &running), None, "15 more are wanted, 19.5 are free");
    let (bytes, holders) = shortfall(&gpu(0, 40, 30), &running).expect("9.5 are free");
    assert_eq!(bytes, 15 * GIB - (10 * GIB - GIB / 2));
    assert_eq!(holders[0].pid, Some(4242));
    assert_eq!(shortfall(&gpu(0, 40, 30), &[holding(1, "GPU-0", Some(20), None)]), None, "nothing is known of its use");
}

#[test]
fn free_is_what_was_measured_less_what_was_promised() {
    let card = gpu(0, 40, 20);
    let measured = 20 * GIB - GIB / 2;
    assert_eq!(free(&card, &[]), measured);
    assert_eq!(free(&card, &[holding(1, "GPU-1", Some(20), None)]), measured, "of another card");
    assert_eq!(free(&card, &[holding(1, "GPU-0", Some(12), Some(8))]), measured - 4 * GIB);
    assert_eq!(free(&card, &[holding(1, "GPU-0", Some(30), Some(0))]), 0);
    assert_eq!(free(&card, &[holding(1, "GPU-0", None, Some(8))]), 0, "the whole card");
    assert_eq!(free(&simulated(0), &[holding(1, "GPU-0", Some(1), None)]), 0, "one task at a time");
}
