use domain::{DeviceId, ProcessUse, Reading, WaitCause, WaitReason};
use scheduler::{Plan, Policy, Running, Waiting, forecast};

use crate::build::{GIB, NOW, gpu, holding, id, inventory, lasting, minutes, plan_of, simulated, waiting};

/// Of each task that a start and an end can be told of: hours from now.
fn told(policy: &Policy, gpus: u32, queue: &[Waiting], running: &[Running]) -> Vec<(u64, i64, i64)> {
    told_on(policy, (0..gpus).map(simulated).collect(), queue, running)
}

fn told_on(policy: &Policy, readings: Vec<Reading>, queue: &[Waiting], running: &[Running]) -> Vec<(u64, i64, i64)> {
    let inventory = inventory(readings);
    let plan = plan_of(policy, Some(&inventory), queue, running);
    let hours = |at: jiff::Timestamp| at.duration_since(NOW).as_hours();
    let forecasts = forecast(policy, &plan, &inventory, queue, running, NOW, 100);
    forecasts.iter().map(|told| (told.task.number, hours(told.starts_at), hours(told.ends_at))).collect()
}

fn ends_in(task: u64, device: &str, hours: i64) -> Running {
    Running { ends_at: Some(NOW + minutes(60 * hours)), ..holding(task, device, None, None) }
}

#[test]
fn each_starts_when_enough_of_those_before_it_have_ended() {
    let running = [ends_in(1, "GPU-0", 2), ends_in(2, "GPU-1", 5)];
    let gang = Waiting { demand: waiting(4, 2, None).demand, ..lasting(4, 1) };
    let queue = [lasting(3, 4), gang, lasting(5, 1), lasting(6, 1)];
    assert_eq!(told(&Policy::fifo(), 2, &queue, &running), [(3, 2, 6), (4, 6, 7), (5, 7, 8), (6, 7, 8)]);
    let blocked = Waiting { blocked: Some(WaitCause::Dependency { task: id(1) }.into()), ..lasting(3, 4) };
    let queue =
        [blocked, lasting(4, 1), Waiting { demand: waiting(5, 3, None).demand, ..lasting(5, 1) }, lasting(6, 1)];
    assert_eq!(told(&Policy::easy(), 2, &queue, &running), [(4, 2, 3), (6, 3, 4)], "5 can never start");
    assert_eq!(told(&Policy::one(), 2, &queue[1..2], &running[1..]), [(4, 5, 6)]);
}

#[test]
fn nothing_is_guessed() {
    let running = [ends_in(1, "GPU-0", 2), holding(2, "GPU-1", None, None)];
    let unknown = waiting(4, 1, None);
    let gang = Waiting { demand: waiting(5, 2, None).demand, ..lasting(5, 1) };
    assert_eq!(told(&Policy::fifo(), 2, &[lasting(3, 4), lasting(6, 1)], &running), [(3, 2, 6), (6, 6, 7)]);
    assert_eq!(
        told(&Policy::fifo(), 2, &[lasting(3, 4), gang, lasting(6, 1)], &running),
        [(3, 2, 6)],
        "2 may never end"
    );
    assert_eq!(told(&Policy::fifo(), 2, &[unknown.clone(), lasting(6, 1)], &running), []);
    let known = [ends_in(1, "GPU-0", 2), ends_in(2, "GPU-1", 3)];
    assert_eq!(told(&Policy::fifo(), 2, &[unknown, lasting(6, 1)], &known), [(6, 3, 4)], "on the other device");
}

#[test]
fn what_will_make_room_is_foreseen() {
    let long = Running { loss: Some(minutes(1)), ..ends_in(1, "GPU-0", 20) };
    let queue = [lasting(2, 2), lasting(3, 1)];
    let full = Policy::default();
    let told_of = |running: Running| told(&full, 1, &queue, &[running]);
    assert_eq!(told_of(long.clone()), [(3, 1, 2), (2, 2, 4)], "once it has run for an hour");
    assert_eq!(told_of(Running { stopping: true, ..long.clone() }), [(3, 0, 1), (2, 1, 3)], "it goes now");
    assert_eq!(told_of(Running { loss: None, ..long.clone() }), [(3, 20, 21), (2, 21, 23)], "it could not go on later");
    assert_eq!(told(&Policy::fifo(), 1, &queue, &[long]), [(2, 20, 22), (3, 22, 23)]);
}

/// A card of 24 GiB on which these tasks hold what they were promised, with so many hours to go.
fn shared(index: u32, tasks: &[(u64, u64, i64)]) -> (Reading, Vec<Running>) {
    let mut reading = gpu(index, 24, 0);
    let running = |(task, gib, hours): &(u64, u64, i64)| {
        let memory = reading.memory.as_mut().expect("measured");
        (memory.used, memory.free) = (memory.used + gib * GIB, memory.free - gib * GIB);
        reading.processes.push(ProcessUse { task: Some(id(*task)), ..ProcessUse::new(1, Some(gib * GIB)) });
        let held = holding(*task, &format!("GPU-{index}"), Some(*gib), Some(*gib));
        Running { ends_at: Some(NOW + minutes(60 * hours)), ..held }
    };
    let running = tasks.iter().map(running).collect();
    (reading, running)
}

#[test]
fn nothing_is_said_of_what_other_programs_keep_from_starting() {
    let large = |task| Waiting { demand: waiting(task, 1, Some(20)).demand, ..lasting(task, 1) };
    let served = || gpu(0, 24, 10);
    let easy = Policy { priority: false, ..Policy::easy() };
    assert_eq!(told_on(&easy, vec![served()], &[large(1)], &[]), [], "a server has the memory");
    let (taken, running) = shared(1, &[(9, 20, 2)]);
    let readings = || vec![served(), taken.clone()];
    assert_eq!(told_on(&easy, readings(), &[large(1)], &running), [(1, 2, 3)], "on the card that a task has");
    let alone = Waiting { demand: waiting(1, 1, None).demand, ..lasting(1, 1) };
    assert_eq!(told_on(&easy, vec![served()], std::slice::from_ref(&alone), &[]), [], "it wants the card to itself");
    let refused = Waiting { refused: vec![(DeviceId("GPU-0".into()), WaitCause::Detecting)], ..lasting(1, 1) };
    assert_eq!(told_on(&easy, vec![gpu(0, 24, 0)], &[refused], &[]), [], "an allocation failed a moment ago");
    let refused = Waiting { refused: vec![(DeviceId("GPU-1".into()), WaitCause::Detecting)], ..large(1) };
    assert_eq!(told_on(&easy, readings(), &[refused], &running), [], "nor of what comes after the task on that card");
    // Whatever else is in the way of one that could start now, by this account.
    let (card, queue) = (inventory(vec![gpu(0, 24, 0)]), [lasting(1, 1)]);
    let reason = WaitReason { position: 1, cause: WaitCause::Planning.into(), paused: None };
    let plan = Plan { waits: vec![(id(1), reason)], ..Plan::default() };
    assert_eq!(forecast(&easy, &plan, &card, &queue, &[], NOW, 9), []);
    let exclusive = Policy { exclusive: true, ..easy.clone() };
    assert_eq!(told_on(&exclusive, vec![served()], &[lasting(1, 1)], &[]), [], "the card is left alone");
    // Those behind it go first, unless nobody goes before another.
    let huge = Waiting { demand: waiting(1, 2, Some(20)).demand, ..lasting(1, 1) };
    let queue = [huge, large(2)];
    assert_eq!(told_on(&easy, readings(), &queue, &running), [(2, 2, 3)]);
    assert_eq!(told_on(&Policy::fifo(), readings(), &queue, &running), []);
}

#[test]
fn devices_count_once_however_many_share_them() {
    // Three on one card, two cards idle, and a gang for which the third has to end.
    let (crowded, running) = shared(0, &[(1, 4, 1), (2, 4, 2), (3, 4, 6)]);
    let gang = Waiting { demand: waiting(4, 3, Some(20)).demand, ..lasting(4, 2) };
    let readings = vec![crowded, gpu(1, 24, 0), gpu(2, 24, 0)];
    assert_eq!(told_on(&Policy::fifo(), readings, &[gang], &running), [(4, 6, 8)]);
    // The one that three share is one device for a gang of two, which waits for another.
    let (crowded, mut running) = shared(0, &[(1, 4, 1), (2, 4, 1), (3, 4, 1)]);
    let (other, held) = shared(1, &[(5, 20, 5)]);
    running.extend(held);
    let gang = Waiting { demand: waiting(4, 2, Some(20)).demand, ..lasting(4, 2) };
    assert_eq!(told_on(&Policy::fifo(), vec![crowded, other], &[gang], &running), [(4, 5, 7)]);
    // Room beside the one that lasts: the memory counts, not the number of those that end.
    let (crowded, running) = shared(0, &[(1, 10, 1), (2, 2, 2), (3, 10, 6)]);
    let asks = |task, gib| Waiting { demand: waiting(task, 1, Some(gib)).demand, ..lasting(task, 3) };
    let told = told_on(&Policy::fifo(), vec![crowded], &[asks(4, 12), asks(5, 12)], &running);
    assert_eq!(told, [(4, 2, 5), (5, 5, 8)]);
}

#[test]
fn in_the_order_of_arrival_nobody_is_foretold_to_go_before_another() {
    let running = [ends_in(1, "GPU-0", 2), ends_in(2, "GPU-1", 5), ends_in(3, "GPU-2", 5)];
    let gang = Waiting { demand: waiting(4, 2, None).demand, ..lasting(4, 1) };
    let wide = Waiting { demand: waiting(4, 3, None).demand, ..gang.clone() };
    assert_eq!(told(&Policy::fifo(), 3, &[wide, lasting(5, 1)], &running), [(4, 5, 6), (5, 6, 7)]);
    let queue = [Waiting { demand: waiting(4, 2, None).demand, ..gang }, lasting(5, 1)];
    assert_eq!(told(&Policy::fifo(), 3, &queue, &running), [(4, 5, 6), (5, 5, 6)]);
}
