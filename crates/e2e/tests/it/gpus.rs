//! Real GPUs by all that a program can see, driven by a state that the test changes: who gets what, and what is said.

use std::fs;

use client::testing::wait_for;
use fakegpu::{Arrival, ExternalProcess, MemoryReport, ProcessList, State};

use crate::{
    machine::{Foreign, Machine},
    support::{PATIENCE, fine_tune, tiny, wait_status, wait_until},
};

const GIB: u64 = 1 << 30;

#[test]
fn two_tasks_run_beside_a_foreign_process_and_the_third_waits_for_its_memory() {
    let machine = Machine::new("1xH100");
    let client = machine.client();
    let foreign = machine.foreign(0, 40);
    wait_for("the foreign process", PATIENCE, || (!machine.device(0).processes.is_empty()).then_some(()));
    let [first, second, third] = ["one", "two", "three"].map(|name| machine.submit(&machine.holds(15, 12, name)));

    wait_status(&client, &first, "training");
    wait_status(&client, &second, "training");
    let wait = machine.waits(&third, "device_memory");
    let reason = &wait.en;
    let (needed, free) = (wait.needed_bytes.unwrap(), wait.free_bytes.unwrap());
    assert_eq!(needed, 15 * GIB);
    assert!(free < needed, "{wait:?}");
    let missing = format!("{:.1} GiB short", (needed - free) as f64 / GIB as f64);
    assert!(reason.contains(&missing), "{reason}");
    assert!(reason.contains(&format!("fakegpu-hold, pid {}, holds 40.0 GiB", foreign.pid())), "{reason}");

    // What each holds is known apart, and the promises are kept although 3 GiB of each are not taken yet.
    let device = wait_for("all processes to show", PATIENCE, || {
        let device = machine.device(0);
        (device.processes.len() == 3).then_some(device)
    });
    let owner = |task: &str| device.processes.iter().filter(|p| p.task_id.as_deref() == Some(task)).count();
    assert_eq!((owner(&first), owner(&second)), (1, 1), "{device:#?}");
    assert_eq!(device.grants.iter().map(|grant| grant.bytes).collect::<Vec<_>>(), [Some(15 * GIB); 2]);

    let freed = std::time::Instant::now();
    drop(foreign);
    wait_status(&client, &third, "training");
    println!("started {:?} after the memory became free", freed.elapsed());
    ["one", "two", "three"].into_iter().for_each(|name| machine.release(name));
    for id in [&first, &second, &third] {
        wait_status(&client, id, "completed");
    }
}

#[test]
fn who_comes_between_check_and_start_is_named_and_the_task_waits_instead_of_dying() {
    let machine = Machine::new("1xH100");
    let client = machine.client();
    let gpu = machine.uuid(0);
    let foreign = Foreign::idle();
    let named = format!("sleep, pid {}", foreign.pid());
    machine.gpus.update(|state| {
        let process = ExternalProcess::compute(foreign.pid(), "sleep", 61 * GIB);
        state.cuda.external_on_init = Some(Arrival { gpu, process });
    });
    let task = machine.submit(&machine.holds(30, 30, "go"));
    let wait = wait_until(&client, &task, "to be back in the queue", |task| {
        task.wait.as_ref().is_some_and(|wait| wait.en.contains(&named))
    });
    let wait = wait.wait.unwrap();
    assert!(["trial_failed", "device_memory"].contains(&wait.code.as_str()), "{wait:?}");
    let log = client.task(&task).unwrap();
    assert_eq!(log.status, "queued");
    let history: Vec<_> = client.journal(&task).unwrap().into_iter().map(|entry| (entry.to, entry.why)).collect();
    assert!(history.contains(&("queued".into(), "the trial allocation failed".into())), "{history:?}");

    machine.gpus.update(|state| state.gpus[0].processes.clear());
    wait_status(&client, &task, "training");
    machine.release("go");
    wait_status(&client, &task, "completed");
}

#[test]
fn a_program_that_grows_into_a_promise_is_warned_of() {
    let machine = Machine::new("1xH100");
    let client = machine.client();
    let task = machine.submit(&machine.holds(50, 10, "go"));
    wait_status(&client, &task, "training");
    wait_for("its memory to show", PATIENCE, || {
        machine.device(0).processes.iter().any(|process| process.task_id.is_some()).then_some(())
    });
    let foreign = Foreign::idle();
    let process = ExternalProcess::compute(foreign.pid(), "sleep", 61_000_000_000);
    machine.gpus.update(|state| state.gpus[0].processes.push(process));
    let warned = wait_until(&client, &task, "to be warned", |task| !task.warnings.is_empty());
    let [warning] = &warned.warnings[..] else { panic!("{warned:#?}") };
    assert_eq!(warning.code, "foreign-use");
    assert!(warning.en.contains(&format!("sleep, pid {}, holds 56.8 GiB", foreign.pid())), "{}", warning.en);
    assert!(warning.zh.contains("sleep"), "{}", warning.zh);
    machine.release("go");
    wait_status(&client, &task, "completed");
}

#[test]
fn a_lost_gpu_ends_its_task_with_that_reason_and_serves_again_when_it_is_back() {
    let machine = Machine::new("1xRTX3060");
    let client = machine.client();
    let task = machine.submit(&machine.holds(4, 4, "never"));
    wait_status(&client, &task, "training");
    let neighbour = machine.submit(&machine.holds(4, 1, "never"));
    wait_status(&client, &neighbour, "training");
    machine.gpus.update(|state| {
        state.gpus[0].xids.push(79);
        state.gpus[0].lost = true;
    });
    let failure = wait_status(&client, &task, "failed").failure.unwrap();
    assert_eq!(failure.code, "device-lost");
    assert!(failure.en.contains("GPU 0 (NVIDIA GeForce RTX 3060)"), "{}", failure.en);
    assert!(failure.en.contains("fell off the bus"), "{}", failure.en);
    assert_eq!(wait_status(&client, &neighbour, "failed").failure.unwrap().code, "device-lost");
    let waiting = machine.submit(&machine.holds(4, 1, "next"));
    assert!(machine.waits(&waiting, "no_usable_device").en.contains("fell off the bus"));

    machine.gpus.update(|state| {
        state.gpus[0].xids.clear();
        state.gpus[0].lost = false;
    });
    wait_status(&client, &waiting, "training");
    machine.release("next");
    wait_status(&client, &waiting, "completed");
}

#[test]
fn a_hung_driver_costs_one_stale_reading_and_nothing_else() {
    let machine = Machine::new("2xA100-80");
    let client = machine.client();
    machine.gpus.update(|state| state.gpus[1].hang_seconds = 30.0);
    let sentence = machine.unusable(1, "gpu-not-answering");
    assert!(sentence.contains("has not answered for") && sentence.contains("the figures are from then"), "{sentence}");
    assert!(machine.device(1).memory.is_some(), "the last figures stay");
    let task = machine.submit(&machine.holds(60, 1, "one"));
    let other = machine.submit(&machine.holds(60, 1, "two"));
    let granted = wait_status(&client, &task, "training").attempt.unwrap().devices;
    assert_eq!(granted, [machine.uuid(0)], "the GPU that answers is used");
    machine.waits(&other, "device_memory");
    let workers =
        machine.studio.processes().into_iter().filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("gpu-worker"))
        });
    assert_eq!(workers.count(), 1, "never a second worker beside a stuck one");
    machine.gpus.update(|state| state.gpus[1].hang_seconds = 0.0);
    wait_status(&client, &other, "training");
    machine.release("one");
    machine.release("two");
    wait_status(&client, &other, "completed");
}

#[test]
fn mig_instances_are_devices_of_their_own() {
    let machine = Machine::with("1xH100", |state| assert!(state.gpus[0].split(2)));
    let client = machine.client();
    let devices = client.devices().unwrap().devices;
    assert_eq!(devices.len(), 2, "{devices:#?}");
    assert!(devices.iter().all(|device| device.id.starts_with("MIG-") && device.mig.is_some()));
    let ids = ["one", "two"].map(|name| machine.submit(&machine.holds(6, 6, name)));
    let granted = ids.each_ref().map(|id| wait_status(&client, id, "training").attempt.unwrap().devices.remove(0));
    assert_ne!(granted[0], granted[1]);
    let too_large = machine.submit(&machine.holds(20, 1, "large"));
    assert!(machine.waits(&too_large, "too_large").en.contains("no GPU here is large enough: needs 20.0 GiB"));
    for name in ["one", "two"] {
        machine.release(name);
    }
    for id in &ids {
        wait_status(&client, id, "completed");
    }
}

#[test]
fn a_fine_tune_gets_what_it_is_estimated_to_need_on_one_of_eight() {
    let machine = Machine::with("8xH100", |state| {
        for gpu in &mut state.gpus[..7] {
            gpu.processes.push(ExternalProcess::compute(4711, "vllm", 70 * GIB));
        }
    });
    let client = machine.client();
    let tiny = tiny(&machine.studio);
    let task = machine.submit(&fine_tune(&tiny, 1));
    let done = wait_status(&client, &task, "completed");
    let estimate = done.estimate.expect("the shape of the model is known");
    assert!(estimate.grant_bytes > 0 && estimate.grant_bytes < 4 * GIB, "{estimate:?}");
    // A command of unknown need wants a GPU that is mostly free.
    let mut whole = machine.holds(1, 1, "whole");
    whole.command.as_mut().unwrap().memory_bytes = None;
    let whole = machine.submit(&whole);
    let attempt = wait_status(&client, &whole, "training").attempt.unwrap();
    assert_eq!(attempt.devices, [machine.uuid(7)]);
    machine.release("whole");
    wait_status(&client, &whole, "completed");
}

#[test]
fn what_the_driver_does_not_tell_is_said_and_never_guessed() {
    // Each a machine, and the sentence that its device view or findings must contain.
    type Change = fn(&mut State);
    let machines: [(&str, Change, &str); 6] = [
        ("1xRTX3060", |state| state.init_error = Some(9), "driver is not loaded"),
        ("1xRTX3060", |state| state.init_error = Some(4), "no permission"),
        ("1xRTX3060", |state| state.init_error = Some(18), "different versions"),
        ("1xRTX3060", |state| state.gpus.clear(), "reports no GPU"),
        ("1xRTX3060", |state| state.gpus[0].memory = MemoryReport::NotSupported, "memory"),
        ("1xRTX3060", |state| state.gpus[0].memory = MemoryReport::UnknownError, "memory"),
    ];
    for (gpus, change, sentence) in machines {
        let machine = Machine::with(gpus, change);
        let devices = machine.client().devices().unwrap();
        let unusable = devices.devices.iter().filter_map(|device| device.unusable.as_ref());
        let said: Vec<_> = unusable.chain(&devices.findings).map(|message| message.en.clone()).collect();
        assert!(said.iter().any(|text| text.contains(sentence)), "{sentence}: {said:#?}");
    }

    let unified = Machine::new("1xGB10");
    let device = unified.device(0);
    assert!(device.unified_memory && device.memory.as_ref().is_some_and(|memory| memory.total > GIB), "{device:#?}");

    let hidden = Machine::with("1xRTX3060", |state| {
        state.gpus[0].process_list = ProcessList::Empty;
        state.gpus[0].unattributed = 9 * GIB;
    });
    assert_eq!(hidden.device(0).unattributed_bytes, Some(9 * GIB));
    let task = hidden.submit(&hidden.holds(6, 1, "go"));
    let reason = hidden.waits(&task, "device_memory").en;
    assert!(reason.contains("an unknown process, holds 9.0 GiB"), "{reason}");
}

/// In place of the environment that would be installed: a program that has not enough memory for more than one example
/// at a time, and says so as PyTorch does.
const SMALL_TRAINER: &str = r#"#!/bin/sh
recipe=recipe.json
batch=$(sed -n 's/.*"batch_size": *\([0-9]*\).*/\1/p' $recipe)
steps=$(sed -n 's/.*"gradient_accumulation_steps": *\([0-9]*\).*/\1/p' $recipe)
echo "batch $batch accumulation $steps grant $SAGE_GRANT_BYTES"
echo '{"event":"start","total_steps":4,"total_epochs":1,"resumed_from_step":null}' >> $SAGE_METRICS
if [ "$batch" -gt 1 ]; then
    echo "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 12 GiB"
    exit 1
fi
echo '{"event":"probe","peak_bytes":3221225472,"allocated_bytes":null,"seconds_per_step":0.5,"tokens":64}' >> $SAGE_METRICS
echo '{"event":"memory","peak_bytes":3221225472,"allocated_bytes":3000000000}' >> $SAGE_METRICS
echo made > adapter_model.safetensors
"#;

#[test]
fn out_of_memory_is_tried_again_with_less_never_with_the_same_and_remembered() {
    let machine = Machine::new("1xRTX3060");
    let client = machine.client();
    let environment = recipes::peft::PeftOptions::from_env(machine.studio.home()).folder();
    let python = environment.join("bin/python");
    fs::create_dir_all(python.parent().unwrap()).unwrap();
    fs::write(environment.join("complete"), "").unwrap();
    fs::write(&python, SMALL_TRAINER).unwrap();
    fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let mut task = fine_tune(&tiny(&machine.studio), 1);
    let recipe = task.fine_tune.as_mut().unwrap();
    (recipe.trainer, recipe.load_in_8bit) = (Some("peft".into()), Some(false));
    let id = machine.submit(&task);
    let done = wait_status(&client, &id, "completed");
    assert_eq!(done.adjustments, ["halve_micro_batch", "halve_micro_batch"]);
    let history: Vec<_> = client.journal(&id).unwrap().into_iter().map(|entry| (entry.to, entry.why)).collect();
    let launched = history.iter().skip_while(|(to, _)| to == "queued");
    let again: Vec<_> = launched.filter(|(to, _)| to == "queued").map(|(_, why)| why.as_str()).collect();
    assert_eq!(
        again,
        [
            "out of memory; next with: batch size 4 → 2, accumulation 1 → 2",
            "out of memory; next with: batch size 2 → 1, accumulation 2 → 4"
        ],
        "{history:?}"
    );
    let log = fs::read_to_string(machine.studio.home().training_log(id.parse().unwrap())).unwrap();
    let tried: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("batch ")).collect();
    assert_eq!(tried.len(), 3, "{log}");
    assert!(tried[0].starts_with("4 accumulation 1 grant ") && tried[2].starts_with("1 accumulation 4 grant "));

    // What ran here is what is expected of the same from now on.
    let estimate = done.estimate.unwrap();
    assert_eq!((estimate.basis.as_str(), estimate.footprint_bytes), ("probe", 3 << 30));
    let recipe = task.fine_tune.as_mut().unwrap();
    (recipe.batch_size, recipe.gradient_accumulation_steps) = (Some(1), Some(4));
    let next = client.submit(&task).unwrap();
    let estimate = next.estimate.clone().unwrap();
    assert_eq!((estimate.basis.as_str(), estimate.footprint_bytes), ("history", 3 << 30), "{estimate:?}");
    wait_status(&client, &next.task_id, "completed");
}
