use jiff::SignedDuration;
use scheduler::{Plan, Policy, PreemptReason, Running, Waiting};

use crate::build::{NOW, gpu, holding, id, inventory, lasting, minutes, plan_at, simulated, started, waiting};

/// Three hours after the last one came.
fn later(devices: usize, queue: &[Waiting], running: &[Running]) -> Plan {
    let devices = (0..devices as u32).map(simulated).collect();
    plan_at(&Policy::default(), Some(&inventory(devices)), queue, running, NOW + minutes(180))
}

fn hours(hours: i64) -> impl Fn(u64) -> Waiting {
    move |number| lasting(number, hours)
}

/// Whatever starts first, the day-long one ends last: unless it starts at once, the other GPUs are idle at the end.
#[test]
fn what_would_end_last_starts_first() {
    let longs_started = |longs: u64, shorts: u64| {
        let queue: Vec<Waiting> = (1..=shorts).map(hours(1)).chain((1000..1000 + longs).map(hours(24))).collect();
        later(4, &queue, &[]).starts.iter().filter(|start| start.task >= id(1000)).count()
    };
    assert_eq!(longs_started(1, 40), 1);
    assert_eq!(longs_started(2, 40), 2);
    assert_eq!(longs_started(5, 20), 3, "a quarter of the GPUs is left to the short ones");
    assert_eq!(longs_started(1, 290), 1, "it takes three tenths of the time that all take");
    assert_eq!(longs_started(1, 300), 0, "there is time");
    assert_eq!(longs_started(1, 5), 0, "too few wait to fill the others");
}

/// What wants all GPUs runs alone: beside it nothing could have been done for which there would be time now.
#[test]
fn a_gang_of_all_gpus_leaves_no_more_time_to_the_others() {
    let gang = Waiting { demand: waiting(900, 4, None).demand, ..lasting(900, 96) };
    let queue: Vec<Waiting> = (1..=250).map(hours(1)).chain([lasting(800, 24), gang]).collect();
    assert!(started(&later(4, &queue, &[])).contains(&800));
}

/// While people come, whoever wants little is not kept waiting for the sake of the end.
#[test]
fn a_queue_to_which_somebody_came_of_late_is_no_batch() {
    let devices = inventory((0..4).map(simulated).collect());
    let mut queue: Vec<Waiting> = (1..=40).map(hours(1)).chain([lasting(1000, 24)]).collect();
    let has_long = |queue: &[Waiting], policy: &Policy, after: i64| {
        started(&plan_at(policy, Some(&devices), queue, &[], NOW + minutes(after))).contains(&1000)
    };
    assert!(!has_long(&queue, &Policy::default(), 179));
    assert!(has_long(&queue, &Policy::default(), 180));
    assert!(!has_long(&queue, &Policy { shortest_first: false, ..Policy::default() }, 180), "switched off");
    queue.push(Waiting { since: NOW + minutes(60), ..lasting(41, 1) });
    assert!(!has_long(&queue, &Policy::default(), 180));
}

/// Ten tasks that may share two GPUs of 24 GB, on the first of which one has still so many hours to go since five hours ago.
fn shared(left: i64) -> (Vec<u64>, Plan) {
    let devices = inventory(vec![gpu(0, 24, 0), gpu(1, 24, 0)]);
    let at = NOW + minutes(300);
    let first =
        Running { ends_at: Some(at + SignedDuration::from_hours(left)), ..holding(1, "GPU-0", Some(4), Some(0)) };
    let first = Running { loss: Some(minutes(1)), ..first };
    let queue: Vec<Waiting> = (2..12).map(|number| Waiting { timed: false, ..lasting(number, 1) }).collect();
    let plan = plan_at(&Policy::default(), Some(&devices), &queue, &[first], at);
    let on = |index: usize| {
        let on_it = plan.starts.iter().filter(move |start| start.grant.devices[0].device.0 == format!("GPU-{index}"));
        on_it.map(|start| start.task.number).collect::<Vec<_>>()
    };
    (on(0), plan)
}

#[test]
fn nobody_joins_one_that_ends_last() {
    assert_eq!(shared(1).0.len(), 2, "three tasks to a GPU");
    assert_eq!(shared(24).0, [], "it would only take longer");
}

/// Twenty short tasks, and a day-long one on the only GPU that is taken: it is stopped for nobody, or it would end later still.
#[test]
fn one_that_ends_last_is_not_stopped_for_shorter_ones() {
    let plan = |since: SignedDuration| {
        let at = NOW + minutes(600);
        let ends_at = Some(at + SignedDuration::from_hours(23));
        let long = Running { ends_at, loss: Some(minutes(1)), ..holding(1, "GPU-0", None, None) };
        let queue: Vec<Waiting> = (2..22).map(|number| Waiting { since: at - since, ..lasting(number, 1) }).collect();
        plan_at(&Policy::default(), Some(&inventory(vec![simulated(0)])), &queue, &[long], at)
    };
    let stopped: Vec<_> = plan(minutes(0)).preempts.iter().map(|preempt| preempt.why).collect();
    assert_eq!(stopped, [PreemptReason::InFavourOf(id(2))]);
    assert_eq!(plan(minutes(180)).preempts, []);
}

/// Short tasks that join each other would keep the GPUs from ever being empty for the long one that is to start now. Where it
/// does not fit they are not in its way.
#[test]
fn while_one_that_goes_first_waits_for_a_gpu_nobody_joins_others() {
    let started_on = |long: i64| {
        let devices = inventory(vec![gpu(0, 24, 0), gpu(1, 24, 0), gpu(2, 8, 0)]);
        let at = NOW + minutes(300);
        let ends_at = Some(at + minutes(40));
        let running =
            [0, 1, 2].map(|index| Running { ends_at, ..holding(index + 1, &format!("GPU-{index}"), Some(2), Some(0)) });
        let long = Waiting { demand: waiting(30, 1, Some(10)).demand, ..lasting(30, long) };
        let queue: Vec<Waiting> = (4..20).map(hours(1)).chain([long]).collect();
        let plan = plan_at(&Policy::default(), Some(&devices), &queue, &running, at);
        let mut on: Vec<String> = plan.starts.iter().map(|start| start.grant.devices[0].device.0.clone()).collect();
        on.sort();
        on
    };
    assert_eq!(started_on(1), ["GPU-0", "GPU-0", "GPU-1", "GPU-1", "GPU-2", "GPU-2"]);
    assert_eq!(started_on(24), ["GPU-2", "GPU-2"]);
}
