//! What must hold for every queue and every machine.

use std::collections::{BTreeMap, BTreeSet};

use domain::{DeviceId, DeviceKind, Priority, TaskId, WaitCause};
use jiff::SignedDuration;
use proptest::prelude::*;
use scheduler::{Plan, Policy, PreemptReason, Queue, Running, Waiting, plan};

use crate::{
    build::{NOW, gpu, holding, inventory, minutes, plan_of, started, waiting},
    moments::{Moment, moments},
};

/// Bytes granted on the device and not yet in use, and the number of grants.
fn promised<'a>(device: &DeviceId, running: impl Iterator<Item = &'a Running>) -> (u64, usize) {
    let grants = running.flat_map(|running| running.grant.devices.iter().zip(&running.used));
    grants.filter(|(grant, _)| grant.device == *device).fold((0, 0), |(bytes, count), (grant, used)| {
        (bytes + grant.bytes.map_or(0, |granted| granted.saturating_sub(used.unwrap_or(0))), count + 1)
    })
}

fn holds(running: &Running, device: &DeviceId) -> bool {
    running.grant.devices.iter().any(|granted| granted.device == *device)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_device_is_over_granted(moment in moments()) {
        let plan = moment.plan();
        let begun = moment.begun(&plan);
        for grant in plan.starts.iter().flat_map(|start| &start.grant.devices) {
            let reading = moment.reading(&grant.device);
            let memory = reading.memory.expect("usable here means measured");
            let all = || moment.running.iter().chain(&begun);
            let (bytes, count) = promised(&grant.device, all());
            if reading.device.kind == DeviceKind::Simulated {
                prop_assert_eq!(count, 1, "one task at a time");
            } else if grant.bytes.is_none() {
                prop_assert_eq!(count, 1, "a task of unknown need gets the device to itself");
                prop_assert!(memory.free * 4 >= memory.allocatable() * 3, "and most of it free");
            } else {
                prop_assert!(bytes <= memory.free, "all promises together are free memory");
                prop_assert!(count <= moment.policy.tasks_per_gpu as usize);
                let shared = all().filter(|running| holds(running, &grant.device));
                prop_assert!(count == 1 || shared.into_iter().all(|running| running.shares), "who shares was asked");
            }
        }
    }

    #[test]
    fn nothing_is_granted_on_a_device_that_must_not_be_used(moment in moments()) {
        for start in moment.plan().starts {
            let asked = moment.waiting(start.task);
            prop_assert_eq!(&asked.blocked, &None);
            for grant in &start.grant.devices {
                let reading = moment.reading(&grant.device);
                prop_assert!(reading.is_usable());
                prop_assert!(!asked.refused.iter().any(|(device, _)| *device == grant.device), "refused a moment ago");
                prop_assert!(asked.demand.devices == 1 || reading.device.mig.is_none(), "a program sees one slice");
                if moment.policy.exclusive && reading.device.kind == DeviceKind::Nvidia {
                    let foreign = reading.processes.iter().filter(|process| process.task.is_none());
                    let foreign: u64 = foreign.filter_map(|process| process.bytes).sum();
                    prop_assert!(foreign * 20 <= reading.memory.expect("measured").allocatable(), "left alone");
                }
            }
        }
    }

    #[test]
    fn a_gang_gets_all_its_devices_or_none(moment in moments()) {
        for start in moment.plan().starts {
            let asked = moment.waiting(start.task);
            let devices: BTreeSet<&DeviceId> = start.grant.devices.iter().map(|grant| &grant.device).collect();
            prop_assert_eq!(devices.len(), start.grant.devices.len(), "each once");
            prop_assert_eq!(devices.len(), asked.demand.devices as usize, "all or none");
            for grant in &start.grant.devices {
                let whole = moment.reading(&grant.device).device.kind == DeviceKind::Simulated;
                prop_assert_eq!(grant.bytes, asked.demand.memory.filter(|_| !whole), "with all that it asked for");
            }
        }
    }

    #[test]
    fn equal_inputs_give_equal_plans(moment in moments()) {
        let plan = moment.plan();
        prop_assert_eq!(&plan, &moment.plan());
        let mut shuffled = moment.clone();
        shuffled.waiting.reverse();
        prop_assert_eq!(&plan, &shuffled.plan(), "in whatever order the tasks are told");
    }

    #[test]
    fn every_queued_task_starts_or_has_a_reason(moment in moments()) {
        let plan = moment.plan();
        let planned: BTreeSet<TaskId> =
            plan.starts.iter().map(|start| start.task).chain(plan.waits.iter().map(|(task, _)| *task)).collect();
        prop_assert_eq!(planned.len(), plan.starts.len() + plan.waits.len(), "no task is planned twice");
        prop_assert_eq!(planned, moment.waiting.iter().map(|waiting| waiting.task).collect());
        for ((task, reason), position) in plan.waits.iter().zip(1..) {
            prop_assert_eq!(reason.position, position);
            match (&moment.closed, &moment.inventory, &moment.waiting(*task).blocked) {
                (_, None, _) => prop_assert_eq!(&*reason.cause, &WaitCause::Detecting),
                (Some(closed), ..) => prop_assert_eq!(&*reason.cause, closed),
                (.., Some(blocked)) => prop_assert_eq!(&reason.cause, blocked, "its own reason"),
                _ => {}
            }
        }
        prop_assert!(moment.closed.is_none() || plan.starts.is_empty());
    }

    /// Who reads no reasons, or few, pays for no more, and sees the same start and stop.
    #[test]
    fn a_plan_for_the_first_differs_in_nothing_but_what_is_told(moment in moments(), limit in 0..6usize) {
        let (plan, short) = (moment.plan(), moment.plan_first(limit));
        prop_assert_eq!((&short.starts, &short.preempts), (&plan.starts, &plan.preempts));
        prop_assert!(short.waits.len() >= limit.min(plan.waits.len()));
        prop_assert!(plan.waits.starts_with(&short.waits));
    }

    #[test]
    fn nobody_joins_a_training_that_is_measured_alone(moment in moments()) {
        let plan = moment.plan();
        let begun = moment.begun(&plan);
        for start in plan.starts.iter().filter(|start| moment.policy.preemption.is_some() && moment.waiting(start.task).timed) {
            for granted in &start.grant.devices {
                let others = || moment.running.iter().chain(&begun).filter(|other| other.task != start.task);
                let here: Vec<&Running> = others().filter(|other| holds(other, &granted.device)).collect();
                prop_assert!(here.len() != 1 || !here[0].measuring, "{} beside {}", start.task, here[0].task);
            }
        }
    }

    #[test]
    fn nobody_waits_for_what_is_free(mut moment in moments()) {
        // In a batch some wait for a device of their own, and nobody may join others meanwhile.
        moment.waiting.iter_mut().take(1).for_each(|waiting| waiting.since = NOW);
        let plan = moment.plan();
        if moment.policy.one_at_a_time {
            prop_assert!(plan.starts.len() + moment.running.len() <= 1.max(moment.running.len()));
            return Ok(());
        }
        // The first that waits for devices would wait as well if it were alone.
        let first = plan.waits.iter().find(|(task, reason)| {
            moment.waiting(*task).blocked.is_none() && !matches!(*reason.cause, WaitCause::Quota { .. })
        });
        // Who waits for a measurement may join once somebody else has.
        let first = first.filter(|(_, reason)| !matches!(*reason.cause, WaitCause::Measuring { .. }));
        if let Some((task, _)) = first {
            let waiting = vec![moment.waiting(*task).clone()];
            let running = moment.running.iter().cloned().chain(moment.begun(&plan)).collect();
            let later = Moment { waiting, running, ..moment.clone() };
            prop_assert!(later.plan().starts.is_empty());
        }
    }

    #[test]
    fn quotas_are_never_exceeded(moment in moments()) {
        let plan = moment.plan();
        let begun = moment.begun(&plan);
        let of = |running: &[Running], owner: &str| {
            let theirs = running.iter().filter(|running| running.owner == owner);
            theirs.fold((0, 0), |(tasks, gpus), running| (tasks + 1, gpus + running.grant.devices.len() as u32))
        };
        for (owner, quota) in &moment.quotas {
            let (before, new) = (of(&moment.running, owner), of(&begun, owner));
            let (tasks, gpus) = (before.0 + new.0, before.1 + new.1);
            prop_assert!(new.0 == 0 || quota.running.is_none_or(|limit| tasks <= limit), "{tasks} tasks of {owner}");
            prop_assert!(new.0 == 0 || quota.gpus.is_none_or(|limit| gpus <= limit), "{gpus} GPUs of {owner}");
        }
        // Who is told of a quota has one, and has as much as it lets them have.
        for (task, reason) in &plan.waits {
            let WaitCause::Quota { used, limit, .. } = &*reason.cause else { continue };
            let waiting = moment.waiting(*task);
            prop_assert!(moment.quotas.contains_key(&waiting.owner));
            prop_assert!(used + u64::from(waiting.demand.devices) > *limit);
            let stopped = plan.preempts.iter().any(|preempt| preempt.why == PreemptReason::InFavourOf(*task));
            prop_assert!(!stopped, "nothing is stopped for it");
        }
    }

    /// Those at their quota change nothing for the others.
    #[test]
    fn quotas_hold_up_nobody_else(mut moment in moments()) {
        // That order looks at all the work there is.
        moment.policy.shortest_first = false;
        let plan = moment.plan();
        let held: BTreeSet<TaskId> = plan
            .waits
            .iter()
            .filter(|(_, reason)| matches!(*reason.cause, WaitCause::Quota { .. }))
            .map(|(task, _)| *task)
            .collect();
        let waiting = moment.waiting.iter().filter(|waiting| !held.contains(&waiting.task)).cloned().collect();
        let without = Moment { waiting, ..moment.clone() }.plan();
        prop_assert_eq!(plan.starts, without.starts);
        prop_assert_eq!(plan.preempts, without.preempts);
    }
}

/// Plays a queue to its end, with every length as expected; when each task started, in minutes.
fn play(policy: &Policy, gpus: u32, mut waiting: Vec<Waiting>) -> BTreeMap<TaskId, i64> {
    let inventory = inventory((0..gpus).map(|index| gpu(index, 24, 0)).collect());
    let mut running: Vec<Running> = Vec::new();
    let mut now = NOW;
    let mut started = BTreeMap::new();
    loop {
        let (usage, quotas) = (BTreeMap::new(), BTreeMap::new());
        let queue = Queue { waiting: &waiting, running: &running, usage: &usage, closed: None, quotas: &quotas };
        let Plan { starts, .. } = plan(policy, Some(&inventory), queue, now);
        for start in starts {
            let index = waiting.iter().position(|waiting| waiting.task == start.task).expect("it waited");
            let task = waiting.remove(index);
            started.insert(start.task, now.duration_since(NOW).as_mins());
            let used = vec![Some(0); start.grant.devices.len()];
            let ends_at = Some(now + task.expected.expect("all lengths are known"));
            let blank = holding(start.task.number, "", None, None);
            let shares = task.demand.shares;
            running.push(Running { grant: start.grant, used, ends_at, started_at: now, shares, ..blank });
        }
        let Some(next) = running.iter().filter_map(|running| running.ends_at).min() else { return started };
        now = next;
        running.retain(|running| running.ends_at != Some(next));
    }
}

prop_compose! {
    fn queues()(
        tasks in proptest::collection::vec(
            (1..4u32, proptest::option::weighted(0.8, 1..24u64), 1..300i64, proptest::bool::weighted(0.8)),
            2..10,
        ),
        gpus in 1..4u32,
    ) -> (u32, Vec<Waiting>) {
        let task = |((devices, gib, length, shares), number): ((u32, Option<u64>, i64, bool), u64)| {
            let mut task = waiting(number, devices.min(gpus), gib.map(|gib| gib.min(23)));
            task.demand.shares = shares;
            Waiting { expected: Some(minutes(length)), ..task }
        };
        (gpus, tasks.into_iter().zip(1..).map(task).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whoever goes before the first that waits does not delay it: it starts when it would if nobody went before it.
    #[test]
    fn backfilling_delays_nobody_who_has_a_reservation((gpus, queue) in queues(), tasks_per_gpu in 1..5u32) {
        let easy = Policy { priority: false, tasks_per_gpu, ..Policy::easy() };
        let inventory = inventory((0..gpus).map(|index| gpu(index, 24, 0)).collect());
        let first = plan_of(&easy, Some(&inventory), &queue, &[]);
        let Some((head, _)) = first.waits.first() else { return Ok(()) };
        let upto: Vec<Waiting> = queue.iter().filter(|waiting| waiting.task <= *head).cloned().collect();
        let alone = play(&easy, gpus, upto);
        let together = play(&easy, gpus, queue.clone());
        prop_assert!(together[head] <= alone[head], "{} instead of {}", together[head], alone[head]);
        prop_assert_eq!(together.len(), queue.len(), "and all get their turn");
    }

    /// When a task has waited in proportion to its length, it goes before all that come from then on, however short they are
    /// and however many.
    #[test]
    fn no_task_starves_behind_shorter_ones(
        length in 1..24 * 60i64,
        newcomers in proptest::collection::vec(1..24 * 60i64, 1..12),
        gpus in 1..4u32,
    ) {
        let policy = Policy::default();
        let ageing_periods = (length as f64 / 10.0 - 1.0).max(0.0);
        let waited = policy.ageing.as_secs_f64() * ageing_periods + 1.0;
        let since = NOW - SignedDuration::from_secs_f64(waited);
        let old = Waiting { expected: Some(minutes(length)), since, ..waiting(1, 1, None) };
        let new = |(length, number): (&i64, u64)| Waiting { expected: Some(minutes(*length)), ..waiting(number, 1, None) };
        let queue: Vec<Waiting> = [old].into_iter().chain(newcomers.iter().zip(2..).map(new)).collect();
        let inventory = inventory((0..gpus).map(|index| gpu(index, 24, 0)).collect());
        let plan = plan_of(&policy, Some(&inventory), &queue, &[]);
        prop_assert!(started(&plan).contains(&1), "{plan:?}");
    }

    /// When it has waited twice that, and four weeks at least, it goes before all of its class that come from then on, whoever
    /// they belong to and whatever they ask, and before those of the next class that nothing hurries; and the same again for
    /// each class above.
    #[test]
    fn no_task_starves_behind_others_tasks(
        length in 1..24 * 60i64,
        classes in 0..3usize,
        newcomers in proptest::collection::vec(
            (1..24 * 60i64, any::<bool>(), 0..9i64, proptest::option::of(1..900i64)),
            1..12,
        ),
    ) {
        let policy = Policy::default();
        let patience = (2.0 * policy.ageing.as_secs_f64() * length.max(10) as f64 / 10.0).max(28.0 * 86400.0);
        let since = NOW - SignedDuration::from_secs_f64(patience * (classes + 1) as f64 + 1.0);
        let owner = "bo".to_owned();
        let expected = Some(minutes(length));
        let old = Waiting { owner, expected, since, priority: Priority::Low, ..waiting(1, 1, None) };
        let priorities = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
        type Newcomer = (i64, bool, i64, Option<i64>);
        let new = |((length, is_above, urgency, deadline), number): (&Newcomer, u64)| Waiting {
            expected: Some(minutes(*length)),
            urgency: if *is_above { 0 } else { *urgency },
            deadline: deadline.filter(|_| !is_above).map(|at| NOW + minutes(at)),
            priority: priorities[classes + usize::from(*is_above)],
            ..waiting(number, 1, None)
        };
        let waiting: Vec<Waiting> = [old].into_iter().chain(newcomers.iter().zip(2..).map(new)).collect();
        let usage = BTreeMap::from([("bo".to_owned(), 1e9)]);
        let quotas = BTreeMap::new();
        let queue = Queue { waiting: &waiting, running: &[], usage: &usage, closed: None, quotas: &quotas };
        let plan = plan(&policy, Some(&inventory(vec![gpu(0, 24, 0)])), queue, NOW);
        prop_assert_eq!(started(&plan), [1]);
    }
}
