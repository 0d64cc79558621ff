use domain::{DeviceId, Priority, Reading, WaitCause};
use scheduler::{Policy, PreemptReason, Running, Waiting};

use crate::build::{NOW, gpu, holding, id, inventory, lasting, minutes, plan_of, simulated, started, waiting};

/// Holds the whole device, with so many hours to go.
fn until(task: u64, device: &str, hours: i64) -> Running {
    Running { ends_at: Some(NOW + minutes(60 * hours)), ..holding(task, device, Some(20), Some(0)) }
}

/// The first is kept from starting by others than us: what our tasks do cannot help it. The second is kept by ours.
fn behind_a_first_that_nothing_helps(policy: &Policy, readings: Vec<Reading>, first: Waiting) {
    let gang = Waiting { demand: waiting(2, 2, Some(20)).demand, ..lasting(2, 4) };
    let small = Waiting { demand: waiting(3, 1, Some(20)).demand, ..lasting(3, 2) };
    let running = [until(1, "GPU-0", 1)];
    let plan = plan_of(policy, Some(&inventory(readings)), &[first, gang, small], &running);
    let codes: Vec<_> = plan.waits.iter().map(|(task, reason)| (task.number, reason.code())).collect();
    assert_eq!((started(&plan), codes[2]), (vec![], (3, "reserved")), "{codes:?}");
}

#[test]
fn a_first_that_nothing_helps_leaves_the_reservation_to_the_next() {
    let easy = Policy { priority: false, ..Policy::easy() };
    // The only large card is a server's.
    let readings = vec![gpu(0, 24, 0), gpu(1, 24, 0), gpu(2, 80, 70)];
    behind_a_first_that_nothing_helps(&easy, readings, waiting(1, 1, Some(40)));
    // Where others are left alone, a card with little of theirs on it is no better.
    let readings = vec![gpu(0, 24, 0), gpu(1, 24, 0), gpu(2, 80, 10)];
    let exclusive = Policy { exclusive: true, ..easy };
    behind_a_first_that_nothing_helps(&exclusive, readings, waiting(1, 1, Some(40)));
}

#[test]
fn a_refused_first_that_no_end_helps_leaves_room_to_be_made_for_the_next() {
    let urgent = |task| Waiting { priority: Priority::Urgent, ..waiting(task, 1, Some(20)) };
    let cause = WaitCause::Detecting;
    let refused = Waiting { refused: vec![(DeviceId("GPU-1".into()), cause)], ..urgent(5) };
    let large = Waiting { demand: waiting(5, 1, Some(60)).demand, ..refused };
    let used = vec![Some(20 << 30)];
    let running = Running { started_at: NOW - minutes(90), loss: Some(minutes(1)), used, ..until(1, "GPU-0", 8) };
    let mut small = gpu(0, 24, 0);
    let memory = small.memory.as_mut().expect("measured");
    (memory.used, memory.free) = (20 << 30, memory.free - (20 << 30));
    let readings = vec![small, gpu(1, 80, 30)];
    let next = Waiting { refused: large.refused.clone(), ..urgent(6) };
    let plan = plan_of(&Policy::default(), Some(&inventory(readings)), &[large, next], &[running]);
    let stopped: Vec<_> = plan.preempts.iter().map(|preempt| (preempt.task.number, preempt.why)).collect();
    assert_eq!(stopped, [(1, PreemptReason::InFavourOf(id(6)))]);
}

/// First in, first out stays what it is: nobody goes before another, whatever the first waits for.
#[test]
fn in_the_order_of_arrival_a_first_that_nothing_helps_holds_up_the_rest() {
    let readings = vec![gpu(0, 24, 0), gpu(1, 80, 70)];
    let plan = plan_of(&Policy::fifo(), Some(&inventory(readings)), &[waiting(1, 1, Some(40)), lasting(2, 1)], &[]);
    let codes: Vec<_> = plan.waits.iter().map(|(_, reason)| reason.code()).collect();
    assert_eq!((started(&plan), codes), (vec![], vec!["device_memory", "behind"]));
}

/// Two of three are kept for a gang of two: those that are taken until then. The idle one is anybody's, for however long.
#[test]
fn what_is_idle_is_not_kept_where_what_comes_free_will_do() {
    let readings = (0..4).map(simulated).collect();
    let running = [until(1, "GPU-2", 1), until(2, "GPU-3", 2), until(3, "GPU-1", 3)];
    let gang = Waiting { demand: waiting(4, 2, None).demand, ..lasting(4, 1) };
    let plan = plan_of(&Policy::easy(), Some(&inventory(readings)), &[gang, lasting(5, 1), lasting(6, 9)], &running);
    assert_eq!(
        started(&plan),
        [5],
        "one is idle, and another comes free in an hour: both are kept, the idle one until then"
    );

    let readings = (0..4).map(simulated).collect();
    let both = [until(1, "GPU-2", 1), until(2, "GPU-3", 1), until(3, "GPU-1", 3)];
    let gang = Waiting { demand: waiting(4, 2, None).demand, ..lasting(4, 1) };
    let queue = [gang, Waiting { expected: None, ..lasting(6, 9) }];
    let plan = plan_of(&Policy::easy(), Some(&inventory(readings)), &queue, &both);
    assert_eq!(started(&plan), [6], "two come free in an hour");
    assert_eq!(plan.starts[0].grant.devices[0].device, DeviceId("GPU-0".into()));
}
