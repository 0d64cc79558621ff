use domain::{Reading, WaitCause};
use scheduler::{Policy, Running, Waiting, free};

use crate::build::{broken, gpu, holding, id, inventory, plan_of, simulated, started, waiting};

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
        WaitCause::DevicesBusy { running: id(3), busy: 1, wanted: 1, free: 0 }
    );
    assert_eq!(
        cause(Some(vec![broken(0)]), &[], alone()),
        WaitCause::NoUsableDevice { zh: "Card 0：丢失".into(), en: "Card 0: lost".into() }
    );
    let sentence = |readings, running: &[Running], demand| {
        let reason = domain::WaitReason::new(1, cause(Some(readings), running, demand));
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
        "position 1; wants 2 GPUs at once, 1 can be used now; GPU 1 cannot: lost"
    );
    assert_eq!(
        sentence(vec![gpu(0, 24, 0), broken(1)], &[], waiting(9, 3, Some(4))),
        "position 1; wants 3 GPUs at once, 1 are usable"
    );
    let maintained = || {
        let unusable = broken(1);
        vec![gpu(0, 24, 0), Reading { state: unusable.state, ..gpu(1, 80, 0) }]
    };
    assert_eq!(
        sentence(maintained(), &[], waiting(9, 1, Some(40))),
        "position 1; only GPU 1 would do, and it cannot be used now: lost"
    );
    assert_eq!(
        sentence(maintained(), &[], waiting(9, 1, Some(90))),
        "position 1; no GPU here is large enough: needs 90.0 GiB, the largest, GPU 0, has 23.5 GiB. Use a smaller \
         batch, shorter sequences or quantisation"
    );
    let busy = [holding(3, "GPU-0", None, None), holding(4, "GPU-1", None, None)];
    assert_eq!(
        sentence((0..4).map(simulated).collect(), &busy, waiting(9, 4, None)),
        "position 1; wants 4 devices at once, 2 of them free now"
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
    assert_eq!(started(&plan), [2]);
    let codes: Vec<_> = plan.waits.iter().map(|(task, reason)| (*task, reason.code())).collect();
    assert_eq!(codes, [(id(1), "too_large"), (id(3), "device_memory"), (id(4), "behind")]);
}

/// Behind the first thousand, tasks that ask for nearly the same share a reason, but not their chance.
#[test]
fn a_long_queue_of_different_sizes_is_tried_to_its_end() {
    let card = gpu(0, 24, 10);
    let free = free(&card, &[]);
    let asks = |number, bytes| {
        let mut waiting = waiting(number, 1, None);
        waiting.demand.memory = Some(bytes);
        waiting
    };
    let mut queue: Vec<Waiting> = (1..=3000).map(|number| asks(number, free + number * 1000)).collect();
    queue.push(asks(3001, free));
    let plan = plan_of(&Policy::easy(), Some(&inventory(vec![card])), &queue, &[]);
    assert_eq!(started(&plan), [3001]);
    for ((task, reason), waiting) in plan.waits.iter().zip(&queue) {
        let WaitCause::DeviceMemory { needed, .. } = *reason.cause else { panic!("{reason:?}") };
        let asked = waiting.demand.memory.unwrap();
        let off = needed.abs_diff(asked);
        assert!(*task == waiting.task && (off == 0 || (task.number > 1000 && off < 100 << 20)), "{task}: {needed}");
    }
}
