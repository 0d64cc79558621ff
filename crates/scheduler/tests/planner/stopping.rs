use std::collections::BTreeSet;

use domain::{DeviceGrant, DeviceId, Priority, ProcessUse, Reading, TaskId, WaitCause};
use jiff::SignedDuration;
use proptest::prelude::*;
use scheduler::{Pace, Policy, Preempt, PreemptReason, Running, Waiting, shortfall};

use crate::{
    build::{GIB, NOW, gpu, holding, id, inventory, minutes, plan_of, served, started, waiting},
    moments::{Moment, moments},
};

fn holds(running: &Running, device: &DeviceId) -> bool {
    running.grant.devices.iter().any(|granted| granted.device == *device)
}

fn on_one_device(a: &Running, b: &Running) -> bool {
    a.grant.devices.iter().any(|granted| holds(b, &granted.device))
}

/// The sum of the speeds of all on a device, each relative to its own alone, as the policy's words have it.
fn gain(sharing: &[&Running]) -> Option<f64> {
    let speeds: Option<Vec<Option<f64>>> =
        sharing.iter().map(|running| running.pace.map(|pace| pace.alone.map(|alone| alone / pace.shared))).collect();
    let speeds = speeds?;
    let known: Vec<f64> = speeds.iter().copied().flatten().collect();
    let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)?;
    Some(speeds.into_iter().map(|speed| speed.unwrap_or(mean)).sum())
}

/// Bytes of promises that cannot be kept on the device once these have been stopped.
fn short_without(reading: &Reading, running: &[Running], stopped: &BTreeSet<TaskId>) -> u64 {
    let mut reading = reading.clone();
    let here = running.iter().filter(|running| holds(running, &reading.device.id));
    let (gone, stay): (Vec<&Running>, Vec<&Running>) = here.partition(|running| stopped.contains(&running.task));
    let freed: u64 = gone.iter().map(|running| used_on(running, &reading.device.id)).sum();
    reading.memory.as_mut().expect("measured").free += freed;
    let stay: Vec<Running> = stay.into_iter().cloned().collect();
    shortfall(&reading, &stay).map_or(0, |(bytes, _)| bytes)
}

fn used_on(running: &Running, device: &DeviceId) -> u64 {
    let grants = running.grant.devices.iter().zip(&running.used);
    grants.filter(|(granted, _)| granted.device == *device).filter_map(|(_, used)| *used).sum()
}

fn is_leaving(running: &Running) -> bool {
    running.stopping
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn only_what_may_be_stopped_is(moment in moments()) {
        let plan = moment.plan();
        let stopped: BTreeSet<TaskId> = plan.preempts.iter().map(|preempt| preempt.task).collect();
        prop_assert_eq!(stopped.len(), plan.preempts.len(), "each once");
        let leaving = moment.running.iter().filter(|running| is_leaving(running)).map(|running| running.task).collect();
        prop_assert!(plan.preempts.is_empty() || moment.policy.preemption.is_some());
        for Preempt { task, why } in &plan.preempts {
            let victim = moment.running(*task);
            prop_assert!(victim.loss.is_some() && !is_leaving(victim), "it can go on later");
            let settled = NOW.duration_since(victim.started_at) >= minutes(10);
            match why {
                PreemptReason::InFavourOf(by) => {
                    let waits = plan.waits.iter().find(|(waits, _)| waits == by);
                    prop_assert!(settled && waits.is_some());
                    prop_assert!(moment.waiting(*by).blocked.is_none());
                    let at_quota = matches!(*waits.expect("it waits").1.cause, WaitCause::Quota { .. });
                    prop_assert!(!at_quota);
                }
                PreemptReason::ToMove => {
                    // Who waits for a measurement has its place already.
                    let wants = |cause: &WaitCause| !matches!(
                        cause,
                        WaitCause::Quota { .. }
                            | WaitCause::Measuring { .. }
                            | WaitCause::TooLarge { .. }
                            | WaitCause::TooManyDevices { .. }
                            | WaitCause::DeviceUnusable { .. }
                    );
                    let is_wanted = plan.waits.iter()
                        .any(|(task, reason)| moment.waiting(*task).blocked.is_none() && wants(&reason.cause));
                    prop_assert!(settled && !is_wanted, "nobody else could have the idle device");
                    // It starts there, if it asks again.
                    let again = Waiting { expected: None, ..moment.again(victim) };
                    let alone = Moment { waiting: vec![again], running: moment.after(&plan), ..moment.clone() };
                    let target = alone.plan().starts.iter().map(|start| start.grant.devices[0].device.clone()).next();
                    let is_idle = |device| !moment.running.iter().any(|running| holds(running, &device));
                    prop_assert!(target.is_some_and(is_idle));
                }
                PreemptReason::NotPaying { with, .. } => {
                    let with = moment.running(*with);
                    prop_assert!(on_one_device(victim, with));
                    prop_assert!(!stopped.contains(&with.task), "one of them goes on");
                    let judged = victim.grant.devices.iter().any(|granted| {
                        let sharing: Vec<&Running> =
                            moment.running.iter().filter(|running| holds(running, &granted.device)).collect();
                        let youngest = sharing.iter().filter(|running| running.loss.is_some())
                            .max_by_key(|running| (running.started_at, running.task));
                        sharing.len() > 1
                            && gain(&sharing).is_some_and(|gain| gain < 1.1)
                            && youngest.is_some_and(|youngest| youngest.task == *task)
                            && !sharing.iter().any(|running| is_leaving(running))
                    });
                    prop_assert!(judged, "the youngest of those whose gain is too little");
                }
                PreemptReason::Reclaimed { pid } => {
                    let taken = victim.grant.devices.iter().any(|granted| {
                        let reading = moment.reading(&granted.device);
                        reading.processes.iter().any(|process| process.pid == *pid && process.service.is_some())
                            && short_without(reading, &moment.running, &leaving) > 0
                    });
                    prop_assert!(taken);
                }
            }
        }
    }

    /// Where sharing does not pay and somebody can go on later, it is undone.
    #[test]
    fn packing_that_does_not_pay_does_not_last(moment in moments()) {
        let plan = moment.plan();
        let Some(readings) = moment.inventory.as_ref().filter(|_| moment.policy.preemption.is_some()) else { return Ok(()) };
        prop_assume!(moment.closed.is_none());
        // Beside what comes or goes nobody is judged.
        let all: Vec<Running> = moment.running.iter().cloned().chain(moment.begun(&plan)).collect();
        let changes = |running: &Running| {
            is_leaving(running)
                || plan.starts.iter().any(|new| new.task == running.task)
                || plan.preempts.iter().any(|gone| gone.task == running.task)
        };
        let is_settled = |running: &Running| {
            !all.iter().any(|other| changes(other) && (other.task == running.task || on_one_device(other, running)))
        };
        for reading in &readings.devices {
            let sharing: Vec<&Running> = all.iter().filter(|running| holds(running, &reading.device.id)).collect();
            let stays = sharing.len() > 1
                && gain(&sharing).is_some_and(|gain| gain < 1.1)
                && sharing.iter().any(|running| running.loss.is_some())
                && sharing.iter().all(|running| is_settled(running));
            prop_assert!(!stays, "{sharing:?}");
        }
    }

    /// No fewer would do, and with them gone all other promises can be kept.
    #[test]
    fn services_get_their_memory_back_from_as_few_as_can_be(
        tasks in proptest::collection::vec((1..12u64, 0..12u64, 0..60i64, proptest::bool::weighted(0.8), proptest::bool::weighted(0.1)), 1..5),
        service in 0..64u64,
    ) {
        let running: Vec<Running> = tasks.iter().zip(1..).map(|((granted, used, ran, resumes, stopping), number)| Running {
            started_at: NOW - minutes(*ran),
            loss: resumes.then_some(SignedDuration::ZERO),
            stopping: *stopping,
            ..holding(number, "GPU-0", Some(*granted), Some(*used.min(granted)))
        }).collect();
        let used: u64 = running.iter().map(|running| used_on(running, &running.grant.devices[0].device) / GIB).sum();
        let mut reading = served(0, 64, service % (63 - used));
        let memory = reading.memory.as_mut().expect("measured");
        (memory.used, memory.free) = (memory.used + used * GIB, memory.free - used * GIB);
        let leaving: BTreeSet<TaskId> = running.iter().filter(|running| running.stopping).map(|running| running.task).collect();

        let plan = plan_of(&Policy::default(), Some(&inventory(vec![reading.clone()])), &[], &running);
        let stopped: BTreeSet<TaskId> = plan.preempts.iter()
            .filter(|preempt| matches!(preempt.why, PreemptReason::Reclaimed { .. })).map(|preempt| preempt.task).collect();
        let resumable: Vec<TaskId> =
            running.iter().filter(|running| running.loss.is_some() && !running.stopping).map(|running| running.task).collect();
        let sets = (0..1u32 << resumable.len()).map(|bits| {
            let chosen = resumable.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1);
            chosen.map(|(_, task)| *task).collect::<BTreeSet<TaskId>>()
        });
        let keeps = |set: &BTreeSet<TaskId>| short_without(&reading, &running, &(set | &leaving)) == 0;
        match sets.filter(keeps).map(|set| set.len()).min() {
            Some(fewest) => {
                prop_assert_eq!(stopped.len(), fewest);
                prop_assert!(keeps(&stopped));
            }
            None => prop_assert!(stopped.iter().all(|task| {
                let victim = running.iter().find(|running| running.task == *task).expect("it runs");
                victim.grant.devices[0].bytes > victim.used[0]
            }), "who has all that it was promised may stay"),
        }
    }
}

/// Runs on the device since so many minutes, with eight hours to go, and loses a minute if it is stopped.
fn settled(task: u64, device: &str, ran: i64) -> Running {
    Running {
        started_at: NOW - minutes(ran),
        ends_at: Some(NOW + minutes(8 * 60)),
        loss: Some(minutes(1)),
        ..holding(task, device, Some(20), Some(20))
    }
}

/// GPUs of 24 GiB on which these hold what they use.
fn full(gpus: u32, running: &[Running]) -> Vec<Reading> {
    let reading = |index| {
        let mut reading = gpu(index, 24, 0);
        let memory = reading.memory.as_mut().expect("measured");
        for running in running {
            let used = used_on(running, &reading.device.id);
            (memory.used, memory.free) = (memory.used + used, memory.free.saturating_sub(used));
            let process = ProcessUse::new(running.task.number as u32, Some(used));
            reading.processes.push(ProcessUse { task: Some(running.task), ..process });
        }
        reading
    };
    (0..gpus).map(reading).collect()
}

fn stops(gpus: u32, waiting: &[Waiting], running: &[Running]) -> Vec<(u64, PreemptReason)> {
    let plan = plan_of(&Policy::default(), Some(&inventory(full(gpus, running))), waiting, running);
    plan.preempts.iter().map(|preempt| (preempt.task.number, preempt.why)).collect()
}

#[test]
fn long_tasks_make_room_for_much_shorter_ones_and_all_for_urgent_ones() {
    let asks = |length, priority| Waiting { expected: Some(minutes(length)), priority, ..waiting(9, 1, Some(20)) };
    let running = [settled(1, "GPU-0", 90), Running { loss: Some(minutes(5)), ..settled(2, "GPU-1", 90) }];
    let room = [(1, PreemptReason::InFavourOf(id(9)))];
    assert_eq!(stops(2, &[asks(59, Priority::Normal)], &running), room, "the one that loses less");
    assert_eq!(stops(2, &[asks(61, Priority::Normal)], &running), [], "an eighth of what is left is an hour");
    assert_eq!(stops(2, &[asks(30, Priority::Low)], &running), [], "not for a lower class");
    assert_eq!(stops(2, &[asks(600, Priority::Urgent)], &running), room);
    let young = [settled(1, "GPU-0", 9), settled(2, "GPU-1", 59)];
    assert_eq!(stops(2, &[asks(10, Priority::Normal)], &young), [], "not in the first hour");
    let urgent = [(2, PreemptReason::InFavourOf(id(9)))];
    assert_eq!(stops(2, &[asks(10, Priority::Urgent)], &young), urgent, "never in the first ten minutes");
}

#[test]
fn a_guess_at_the_length_stops_nobody() {
    let running = [Running { ends_at: Some(NOW + minutes(20 * 60)), ..settled(1, "GPU-0", 90) }];
    assert_eq!(stops(1, &[waiting(9, 1, Some(20))], &running), [], "it counts as an hour, of which nobody is sure");
    let short = Waiting { expected: Some(minutes(30)), ..waiting(9, 1, Some(20)) };
    assert_eq!(stops(1, &[short], &running), [(1, PreemptReason::InFavourOf(id(9)))]);
    let urgent = Waiting { priority: Priority::Urgent, ..waiting(9, 1, Some(20)) };
    assert_eq!(stops(1, &[urgent], &running), [(1, PreemptReason::InFavourOf(id(9)))]);
}

/// A task that holds so many GiB and would lose so many minutes.
fn costing(task: u64, gib: u64, loss: i64, priority: Priority) -> Running {
    let used = vec![Some(gib * GIB)];
    let grant = holding(task, "GPU-0", Some(gib), None).grant;
    Running { grant, used, loss: Some(minutes(loss)), priority, ..settled(task, "GPU-0", 90) }
}

#[test]
fn nobody_is_stopped_whom_it_does_not_take() {
    let urgent = |gib| Waiting { priority: Priority::Urgent, ..waiting(9, 1, Some(gib)) };
    let two = [costing(1, 3, 1, Priority::Normal), costing(2, 18, 5, Priority::Normal)];
    let only = [(2, PreemptReason::InFavourOf(id(9)))];
    assert_eq!(stops(1, &[urgent(18)], &two), only, "3 GiB would not do, and are not needed beside the 18");
    let all = [1, 2].map(|task| (task, PreemptReason::InFavourOf(id(9))));
    assert_eq!(stops(1, &[urgent(23)], &two), all);
    // Nor do they count where devices are compared.
    let elsewhere = Running { grant: holding(3, "GPU-1", Some(20), None).grant, ..costing(3, 20, 6, Priority::Normal) };
    let three = [costing(1, 3, 2, Priority::Normal), costing(2, 18, 5, Priority::Normal), elsewhere];
    assert_eq!(stops(2, &[urgent(18)], &three), only, "5 minutes are lost, not 6 or 7");
    // Of two of whom one will do, the dearer goes on.
    let either = [costing(1, 5, 1, Priority::Normal), costing(2, 5, 2, Priority::Normal)];
    let three = [&either[..], &[costing(3, 10, 3, Priority::Normal)]].concat();
    let cheaper = [1, 3].map(|task| (task, PreemptReason::InFavourOf(id(9))));
    assert_eq!(stops(1, &[urgent(17)], &three), cheaper);
    // A gang makes room on both of its devices.
    let mut both = costing(1, 20, 5, Priority::Normal);
    both.grant.devices.push(DeviceGrant { device: DeviceId("GPU-1".into()), bytes: Some(20 * GIB) });
    both.used.push(Some(20 * GIB));
    let beside = Running { grant: holding(2, "GPU-1", Some(3), None).grant, ..costing(2, 3, 1, Priority::Normal) };
    let gang = |gib| Waiting { priority: Priority::Urgent, ..waiting(9, 2, Some(gib)) };
    let first = [(1, PreemptReason::InFavourOf(id(9)))];
    assert_eq!(stops(2, &[gang(20)], &[both.clone(), beside]), first);
    // It would do to stop the small one on the second device, but not on the first.
    let held = |gib, index: usize| DeviceGrant { device: DeviceId(format!("GPU-{index}")), bytes: Some(gib * GIB) };
    (both.grant.devices, both.used) = (vec![held(12, 0), held(10, 1)], vec![Some(12 * GIB), Some(10 * GIB)]);
    let beside = Running { grant: holding(2, "GPU-1", Some(10), None).grant, ..costing(2, 10, 1, Priority::Normal) };
    assert_eq!(stops(2, &[gang(13)], &[both, beside]), first);
}

#[test]
fn for_urgent_tasks_those_of_a_lower_class_are_stopped_first() {
    let room = |task| [(task, PreemptReason::InFavourOf(id(9)))];
    let urgent = Waiting { priority: Priority::Urgent, ..waiting(9, 1, Some(9)) };
    let running = [costing(1, 10, 1, Priority::High), costing(2, 10, 5, Priority::Low)];
    assert_eq!(stops(1, std::slice::from_ref(&urgent), &running), room(2));
    let elsewhere = Running { grant: holding(2, "GPU-1", Some(20), None).grant, ..costing(2, 20, 5, Priority::Normal) };
    let large = Waiting { demand: waiting(9, 1, Some(20)).demand, ..urgent };
    assert_eq!(stops(2, &[large], &[costing(1, 20, 1, Priority::High), elsewhere]), room(2), "on whichever device");
}

/// It would be paused, find the idle card refused, go on where it was, and be paused again.
#[test]
fn nobody_is_moved_where_it_may_not_go() {
    let sharing = [1, 2].map(|task| Running { used: vec![Some(8 * GIB)], ..settled(task, "GPU-0", 90 - task as i64) });
    let moved = |exclusive| {
        let mut readings = full(1, &sharing);
        readings.push(gpu(1, 80, 8));
        let policy = Policy { exclusive, ..Policy::default() };
        plan_of(&policy, Some(&inventory(readings)), &[], &sharing).preempts.len()
    };
    assert_eq!((moved(false), moved(true)), (1, 0));
}

/// While the first victim saves its work, the planner is asked again and again.
#[test]
fn nothing_more_is_stopped_while_enough_is_being_stopped() {
    let urgent = Waiting { priority: Priority::Urgent, ..waiting(9, 1, Some(22)) };
    let leaving = Running { stopping: true, ..settled(1, "GPU-0", 90) };
    let running = [leaving, settled(2, "GPU-1", 90)];
    assert_eq!(stops(2, std::slice::from_ref(&urgent), &running), []);
    let gang = Waiting { priority: Priority::Urgent, ..waiting(9, 2, Some(20)) };
    assert_eq!(stops(2, &[gang], &running), [(2, PreemptReason::InFavourOf(id(9)))], "for two it is not enough");
    // What comes free is kept for it: a small task that would fit beside the one that leaves must wait.
    let small = Waiting { expected: Some(minutes(60)), ..waiting(10, 1, Some(3)) };
    let plan = plan_of(&Policy::default(), Some(&inventory(full(1, &running[..1]))), &[urgent, small], &running[..1]);
    assert_eq!((started(&plan), plan.waits[1].1.code()), (vec![], "reserved"));
    // Nor does a second task move to the idle GPU to which another moves already.
    let small = |task, device: &str| Running { used: vec![Some(8 * GIB)], ..settled(task, device, 90 - task as i64) };
    let sharing = |stopping| {
        let two = [small(1, "GPU-0"), Running { stopping, ..small(2, "GPU-0") }];
        let more = [small(3, "GPU-1"), small(4, "GPU-1")];
        stops(3, &[], &[two, more].concat())
    };
    assert_eq!(sharing(false), [(4, PreemptReason::ToMove)]);
    assert_eq!(sharing(true), []);
}

#[test]
fn those_at_a_quota_or_blocked_keep_nobody_from_moving() {
    let sharing = [1, 2].map(|task| Running { used: vec![Some(8 * GIB)], ..settled(task, "GPU-0", 90 - task as i64) });
    let moves = [(2, PreemptReason::ToMove)];
    assert_eq!(stops(2, &[], &sharing), moves);
    let blocked = Waiting { blocked: Some(WaitCause::Dependency { task: id(1) }.into()), ..waiting(9, 1, Some(1)) };
    assert_eq!(stops(2, &[blocked], &sharing), moves);
    assert_eq!(stops(2, &[waiting(9, 1, Some(90))], &sharing), moves, "it will never run here");
}

fn paced(task: u64, device: &str, ran: i64, alone: Option<f64>, shared: f64) -> Running {
    let started_at = NOW - minutes(ran);
    let used = vec![Some(5 * GIB)];
    Running { pace: Some(Pace { alone, shared }), started_at, used, ..settled(task, device, 90) }
}

#[test]
fn the_youngest_of_those_that_do_not_pay_is_stopped() {
    // Each takes 1.9 times as long as alone: 2 ÷ 1.9.
    let poor = [paced(1, "GPU-0", 5, Some(1.0), 1.9), paced(2, "GPU-0", 3, Some(2.0), 3.8)];
    let verdict = |with, gain_percent| PreemptReason::NotPaying { with: id(with), gain_percent };
    assert_eq!(stops(1, &[], &poor), [(2, verdict(1, 105))]);
    let good = poor.clone().map(|running| Running { pace: Some(Pace { alone: Some(1.0), shared: 1.8 }), ..running });
    assert_eq!(stops(1, &[], &good), [], "111 %");
    let [first, second] = poor.clone();
    assert_eq!(stops(1, &[], &[first.clone(), Running { loss: None, ..second.clone() }]), [(1, verdict(2, 105))]);
    assert_eq!(stops(1, &[], &[first.clone(), Running { pace: None, ..second.clone() }]), [], "not measured yet");
    assert_eq!(stops(1, &[], &[first.clone(), Running { stopping: true, ..second.clone() }]), [], "it goes already");
    // One that was never measured alone counts like the mean of the others.
    let unknown = Running { pace: Some(Pace { alone: None, shared: 9.0 }), ..second.clone() };
    assert_eq!(stops(1, &[], &[first, unknown.clone()]), [(2, verdict(1, 105))]);
    let both = [1, 2].map(|task| Running { task: id(task), ..unknown.clone() });
    assert_eq!(stops(1, &[], &both), [], "no verdict");
    let policy = Policy { preemption: None, ..Policy::default() };
    assert_eq!(plan_of(&policy, Some(&inventory(full(1, &poor))), &[], &poor).preempts, []);
}

#[test]
fn gangs_are_judged_on_each_device_and_one_leaves_at_a_time() {
    let mut gang = paced(3, "GPU-0", 1, Some(1.0), 2.0);
    gang.grant.devices.push(DeviceGrant { device: DeviceId("GPU-1".into()), bytes: Some(5 * GIB) });
    gang.used.push(Some(5 * GIB));
    let running = [paced(1, "GPU-0", 9, Some(1.0), 2.0), paced(2, "GPU-1", 8, Some(1.0), 2.0), gang];
    let verdict = [(3, PreemptReason::NotPaying { with: id(1), gain_percent: 100 })];
    assert_eq!(stops(2, &[], &running), verdict, "with it gone, each of the others is alone");
    let three = [1, 2, 3].map(|task| paced(task, "GPU-0", 10 - task as i64, Some(1.0), 2.9));
    let verdict = [(3, PreemptReason::NotPaying { with: id(1), gain_percent: 103 })];
    assert_eq!(stops(1, &[], &three), verdict, "the other two are measured again");
}

/// A service holds so much of a GPU of 40 GiB on which these run; who is stopped for it.
fn reclaimed(service: u64, running: &[Running]) -> Vec<u64> {
    let used: u64 = running.iter().map(|running| used_on(running, &DeviceId("GPU-0".into()))).sum();
    let mut reading = served(0, 40, service);
    let memory = reading.memory.as_mut().expect("measured");
    (memory.used, memory.free) = (memory.used + used, memory.free - used);
    let plan = plan_of(&Policy::default(), Some(&inventory(vec![reading])), &[], running);
    let why = PreemptReason::Reclaimed { pid: 4242 };
    assert!(plan.preempts.iter().all(|preempt| preempt.why == why), "{:?}", plan.preempts);
    plan.preempts.iter().map(|preempt| preempt.task.number).collect()
}

#[test]
fn a_service_that_takes_its_memory_back_gets_it_from_the_youngest() {
    let task = |number, ran, granted, used| Running {
        started_at: NOW - minutes(ran),
        loss: Some(minutes(1)),
        ..holding(number, "GPU-0", Some(granted), Some(used))
    };
    // Of 39.5 GiB the tasks are promised 20 and use 12.
    let running = [task(1, 90, 10, 6), task(2, 2, 10, 6)];
    assert_eq!(reclaimed(19, &running), []);
    assert_eq!(reclaimed(24, &running), [2], "in its first ten minutes too: else it runs out of memory");
    assert_eq!(reclaimed(24, &[running[0].clone(), Running { loss: None, ..running[1].clone() }]), [1]);
    assert_eq!(reclaimed(24, &[running[0].clone(), Running { stopping: true, ..running[1].clone() }]), [], "it goes");
    // The youngest would not do alone, the older one does.
    assert_eq!(reclaimed(25, &[task(1, 90, 15, 6), task(2, 2, 5, 4)]), [1]);
    let three = [task(1, 90, 8, 3), task(2, 20, 8, 3), task(3, 2, 8, 3)];
    assert_eq!(reclaimed(28, &three), [3, 2], "two, the youngest");

    // Another program is to blame: nothing is stopped for it, as nobody knows whether it wants more.
    let taken = gpu(0, 40, 30);
    let plan = plan_of(&Policy::default(), Some(&inventory(vec![taken])), &[], &running);
    assert_eq!(plan.preempts, []);
}

/// A paused queue starts nothing, and stops nothing but what would run out of memory.
#[test]
fn memory_is_given_back_while_nothing_may_start() {
    let young = |task| Running { loss: Some(minutes(1)), ..holding(task, "GPU-0", Some(10), Some(2)) };
    let moment = Moment {
        policy: Policy::default(),
        inventory: Some(inventory(vec![served(0, 40, 30)])),
        waiting: vec![waiting(9, 1, None)],
        running: vec![young(1), young(2)],
        usage: Default::default(),
        closed: Some(WaitCause::QueuePaused { by: "ana".into() }),
        quotas: Default::default(),
    };
    let plan = moment.plan();
    assert_eq!(plan.preempts, [Preempt { task: id(2), why: PreemptReason::Reclaimed { pid: 4242 } }]);
    assert_eq!(plan.waits[0].1.code(), "queue_paused");
}
