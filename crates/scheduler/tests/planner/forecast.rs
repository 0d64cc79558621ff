use domain::WaitCause;
use scheduler::{Policy, Running, Waiting, forecast};

use crate::build::{NOW, holding, id, inventory, lasting, minutes, plan_of, simulated, waiting};

/// Of each task that a start and an end can be told of: hours from now.
fn told(policy: &Policy, gpus: u32, queue: &[Waiting], running: &[Running]) -> Vec<(u64, i64, i64)> {
    let plan = plan_of(policy, Some(&inventory((0..gpus).map(simulated).collect())), queue, running);
    let hours = |at: jiff::Timestamp| at.duration_since(NOW).as_hours();
    let forecasts = forecast(policy, &plan, queue, running, gpus as usize, NOW, 100);
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
    let blocked = Waiting { blocked: Some(WaitCause::Dependency { task: id(1) }), ..lasting(3, 4) };
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
