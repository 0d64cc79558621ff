use domain::Reading;
use scheduler::{Policy, Running, Waiting, free, shortfall};

use crate::build::{GIB, gpu, holding, inventory, lasting, plan_of, simulated, started, waiting};

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

/// A card of this model and architecture.
fn model(index: u32, gib: u64, name: &str, architecture: &str) -> Reading {
    let mut reading = gpu(index, gib, 0);
    (reading.device.name, reading.device.architecture) = (name.into(), Some(architecture.into()));
    reading
}

#[test]
fn a_gang_gets_cards_of_one_model_or_else_of_one_architecture_the_smallest_that_do() {
    let pair = |readings: Vec<Reading>| {
        let plan = plan_of(&Policy::fifo(), Some(&inventory(readings)), &[waiting(1, 2, Some(10))], &[]);
        plan.starts[0].grant.devices.iter().map(|granted| granted.device.0.clone()).collect::<Vec<_>>()
    };
    let (a100, a30) = ((80, "A100", "Ampere"), (24, "A30", "Ampere"));
    let (h100, t4) = ((80, "H100", "Hopper"), (16, "T4", "Turing"));
    let cards = |kinds: &[(u64, &str, &str)]| {
        kinds.iter().zip(0..).map(|((gib, name, of), index)| model(index, *gib, name, of)).collect::<Vec<_>>()
    };
    assert_eq!(pair(cards(&[a100, a100, t4, t4])), ["GPU-2", "GPU-3"], "the large ones are left to who needs them");
    assert_eq!(pair(cards(&[a100, t4, a30, h100])), ["GPU-0", "GPU-2"], "both Ampere");
    assert_eq!(pair(cards(&[a100, t4, h100])), ["GPU-0", "GPU-1"], "no two are alike");
}

/// Nobody knows when the running task ends, nor how long those behind the gang take: they do not go before it.
#[test]
fn a_gang_is_not_starved_by_tasks_of_unknown_length() {
    let inventory = inventory(vec![simulated(0), simulated(1)]);
    let running = [holding(1, "GPU-0", None, None)];
    let queue = [waiting(2, 2, None), waiting(3, 1, None)];
    let plan = plan_of(&Policy::default(), Some(&inventory), &queue, &running);
    assert_eq!(started(&plan), []);
    let codes: Vec<_> = plan.waits.iter().map(|(_, reason)| reason.code()).collect();
    assert_eq!(codes, ["devices_busy", "reserved"]);
    // An hour is what the running one counts as.
    let short = Waiting { demand: waiting(3, 1, None).demand, ..lasting(3, 1) };
    let plan = plan_of(&Policy::default(), Some(&inventory), &[queue[0].clone(), short], &running);
    assert_eq!(started(&plan), [3], "who is known to be over in time goes first");
}

/// In a container the driver shows our processes as nobody's, or not at all; tasks say themselves what they use.
#[test]
fn what_tasks_say_they_use_is_not_taken_for_others() {
    let mut card = gpu(0, 24, 0);
    let memory = card.memory.as_mut().expect("measured");
    (memory.used, memory.free) = (10 * GIB, memory.free - 10 * GIB);
    let exclusive = Policy { exclusive: true, ..Policy::fifo() };
    let starts = |used| {
        let running = [holding(1, "GPU-0", Some(10), Some(used))];
        started(&plan_of(&exclusive, Some(&inventory(vec![card.clone()])), &[waiting(2, 1, Some(4))], &running))
    };
    assert_eq!((starts(10), starts(2)), (vec![2], vec![]), "with 8 of somebody else's on it the card is left alone");
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

/// Or it could not be judged later whether the two get more done together.
#[test]
fn a_training_joins_another_only_when_that_was_measured_and_commands_join_at_once() {
    let policy = Policy::default();
    let machine = inventory(vec![gpu(0, 24, 8), gpu(1, 24, 8)]);
    let timed = |number| Waiting { timed: true, ..waiting(number, 1, Some(4)) };
    let measured = |task, device: &str| Running { measuring: true, ..holding(task, device, Some(4), Some(4)) };
    let held = [measured(1, "GPU-0"), measured(2, "GPU-1")];
    let plan = plan_of(&policy, Some(&machine), &[timed(3), waiting(4, 1, Some(4))], &held);
    assert_eq!(started(&plan), [4], "a command joins");
    let [(task, reason)] = &plan.waits[..] else { panic!("{plan:?}") };
    assert_eq!((task.number, reason.code()), (3, "measuring"));

    let known = held.map(|running| Running { measuring: false, ..running });
    assert_eq!(started(&plan_of(&policy, Some(&machine), &[timed(3)], &known)), [3]);
    let both = [measured(1, "GPU-0"), holding(2, "GPU-0", Some(4), Some(4))];
    let one = inventory(vec![gpu(0, 24, 0)]);
    assert_eq!(started(&plan_of(&policy, Some(&one), &[timed(3)], &both)), [3], "nothing is left to measure");

    let plan = plan_of(&policy, Some(&one), &[timed(5), timed(6)], &both[..1]);
    assert!(started(&plan).is_empty() && plan.waits.iter().all(|(_, reason)| reason.code() == "measuring"), "{plan:?}");

    // Two never start together on one, and the place of the one that waits is kept for it.
    let plan = plan_of(&policy, Some(&one), &[timed(5), timed(6), waiting(7, 1, Some(17))], &[]);
    assert_eq!(started(&plan), [5]);
    assert_eq!(plan.waits.iter().map(|(_, reason)| reason.code()).collect::<Vec<_>>(), ["measuring", "device_memory"]);
}
