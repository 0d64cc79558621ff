use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use domain::{DeviceKind, DeviceState, Inventory};
use gpu::Options;
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{DEADLINE, GIB, Machine, Process, code, codes, eventually, has_finding, until};

const OFTEN: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);
/// Long enough for a machine under load, far shorter than the hang.
const PATIENCE: Duration = Duration::from_secs(1);
const HANG_SECONDS: f64 = 30.0;

fn patient() -> Options {
    Options { deadline: Some(PATIENCE), ..Options::default() }
}

#[test]
fn a_gpu_that_hangs_costs_its_own_reading_only() {
    let machine = Machine::new("8xH100");
    machine.fake.update(|state| assert!(state.gpus[6].split(2)));
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    let before = until(&inventories, "all read", |inventory| codes(inventory) == vec![None; 9]);

    let began = Instant::now();
    machine.fake.update(|state| {
        state.gpus[2].hang_seconds = HANG_SECONDS;
        state.gpus[5].unattributed = 7 * GIB;
    });
    let only_the_third = |inventory: &Inventory| {
        let expected = (0..9).map(|position| (position == 2).then_some("gpu-not-answering"));
        codes(inventory) == expected.collect::<Vec<_>>()
    };
    let stale = until(&inventories, "stuck", only_the_third);
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(stale.devices[2].memory, before.devices[2].memory, "the last figures");
    assert!(stale.devices[2].taken_at < stale.devices[1].taken_at, "with their age");

    let first = stale.devices[2].taken_at;
    let later = until(&inventories, "others are still read", |inventory| {
        inventory.devices[8].taken_at > stale.devices[8].taken_at && inventory.devices[5].unattributed == Some(7 * GIB)
    });
    assert_eq!((code(&later.devices[2]), later.devices[2].taken_at), (Some("gpu-not-answering"), first));
    assert_eq!(machine.workers().len(), 1, "never a second one beside it");

    machine.fake.update(|state| state.gpus[2].hang_seconds = 0.0);
    let well = until(&inventories, "well again", |inventory| codes(inventory) == vec![None; 9]);
    assert!(well.devices[2].taken_at > first);
    assert_eq!(machine.workers().len(), 1);
}

#[test]
fn the_sentence_tells_the_age() {
    let machine = Machine::new("1xH100");
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    until(&inventories, "read", |inventory| code(&inventory.devices[0]).is_none());
    machine.fake.update(|state| state.gpus[0].hang_seconds = HANG_SECONDS);
    let says = |inventory: &Inventory, part: &str| match &inventory.devices[0].state {
        DeviceState::Unusable { en, .. } => en.contains(part),
        DeviceState::Usable => false,
    };
    until(&inventories, "a second old", |inventory| says(inventory, "for 1 s;"));
    until(&inventories, "older", |inventory| says(inventory, "for 2 s;"));
    machine.fake.update(|state| state.gpus[0].hang_seconds = 0.0);
    until(&inventories, "well again", |inventory| code(&inventory.devices[0]).is_none());
}

#[test]
fn a_driver_that_hangs_from_the_start_is_not_a_machine_without_gpus() {
    let machine = Machine::new("2xH100");
    machine.fake.update(|state| state.init_seconds = HANG_SECONDS);
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    let silent = inventories.recv_timeout(DEADLINE).unwrap();
    assert!(has_finding(&silent, "gpu-not-answering"));
    assert_eq!(silent.devices[0].device.kind, DeviceKind::Cpu);
    assert_eq!(code(&silent.devices[0]), Some("gpu-not-answering"), "tasks wait instead of going to the CPU");
    machine.fake.update(|state| state.init_seconds = 0.0);
    let well = until(&inventories, "found", |inventory| codes(inventory) == vec![None; 2]);
    assert!(well.findings.is_empty() && well.detection_error.is_none(), "{well:#?}");
    assert_eq!(machine.workers().len(), 1);
}

#[test]
fn an_answer_that_comes_late_is_told_at_once() {
    let machine = Machine::new("2xH100");
    let (worker, inventories) = machine.start(patient(), NEVER);
    until(&inventories, "read", |inventory| codes(inventory) == [None, None]);
    machine.fake.update(|state| state.gpus[0].hang_seconds = HANG_SECONDS);
    worker.refresh();
    until(&inventories, "stuck", |inventory| codes(inventory) == [Some("gpu-not-answering"), None]);
    machine.fake.update(|state| state.gpus[0].hang_seconds = 0.0);
    until(&inventories, "told without being asked", |inventory| codes(inventory) == [None, None]);
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_out_until_it_is_back() {
    let machine = Machine::new("2xH100");
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    let before = until(&inventories, "read", |inventory| codes(inventory) == [None, None]);
    machine.fake.update(|state| {
        state.gpus[1].xids.push(79);
        state.gpus[1].lost = true;
    });
    let lost = until(&inventories, "lost", |inventory| codes(inventory) == [None, Some("gpu-lost")]);
    assert_eq!(lost.devices[1].device.id, before.devices[1].device.id, "it keeps its name");
    assert_eq!(lost.devices[1].memory, None);
    let xid = until(&inventories, "an event", |inventory| inventory.devices[1].health.last_xid.is_some());
    assert_eq!(xid.devices[1].health.last_xid.unwrap().code, 79);
    assert_eq!(xid.devices[0].health.last_xid, None);
}

#[test]
fn an_error_event_alone_says_that_a_gpu_is_lost_and_others_only_are_told() {
    let machine = Machine::new("2xH100");
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    until(&inventories, "read", |inventory| codes(inventory) == [None, None]);
    machine.fake.update(|state| {
        state.gpus[0].xids.push(63);
        state.gpus[1].xids.push(79);
    });
    let inventory = until(&inventories, "lost", |inventory| code(&inventory.devices[1]) == Some("gpu-lost"));
    let told = until(&inventories, "told", |inventory| inventory.devices[0].health.last_xid.is_some());
    assert_eq!(told.devices[0].health.last_xid.unwrap().code, 63);
    assert!(told.devices[0].is_usable() && inventory.devices[0].is_usable());
    // The event does not say when it is over: the library is loaded again and asked.
    let well = until(&inventories, "found again", |inventory| codes(inventory) == [None, None]);
    assert_eq!(well.devices[1].health.last_xid.unwrap().code, 79, "what happened stays known");
    assert_eq!(machine.workers().len(), 1);
}

#[test]
fn a_lost_gpu_keeps_its_instances_names_however_often_it_is_looked_for() {
    let machine = Machine::new("1xH100");
    machine.fake.update(|state| assert!(state.gpus[0].split(2)));
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    let before = until(&inventories, "read", |inventory| codes(inventory) == [None, None]);
    machine.fake.update(|state| state.gpus[0].lost = true);
    let began = Instant::now();
    let names =
        |inventory: &Inventory| inventory.devices.iter().map(|reading| reading.device.id.clone()).collect::<Vec<_>>();
    // The library is loaded anew meanwhile.
    until(&inventories, "looked for", |inventory| {
        assert_eq!(names(inventory), names(&before), "after {:?}", began.elapsed());
        began.elapsed() > Duration::from_secs(6) && codes(inventory) == [Some("gpu-lost"); 2]
    });
    machine.fake.update(|state| state.gpus[0].lost = false);
    until(&inventories, "back", |inventory| codes(inventory) == [None, None]);
}

#[test]
fn a_change_of_the_mig_mode_is_seen() {
    let machine = Machine::new("1xA100-80");
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    until(&inventories, "whole", |inventory| inventory.devices.iter().all(|reading| reading.device.mig.is_none()));
    machine.fake.update(|state| assert!(state.gpus[0].split(3)));
    until(&inventories, "three instances", |inventory| {
        inventory.devices.len() == 3 && inventory.devices.iter().all(|reading| reading.device.mig.is_some())
    });
    machine.fake.update(|state| state.gpus[0].mig = fakegpu::Mig::Disabled);
    until(&inventories, "whole again", |inventory| inventory.devices.len() == 1);
}

#[test]
fn a_worker_that_dies_is_replaced_and_a_finding_says_so() {
    let machine = Machine::new("2xH100");
    let (_worker, inventories) = machine.start(patient(), OFTEN);
    until(&inventories, "read", |inventory| codes(inventory) == [None, None]);
    let [pid] = machine.workers()[..] else { panic!("one worker") };
    // As if the driver's library had crashed.
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::ABORT).unwrap();
    let dead = until(&inventories, "dead", |inventory| has_finding(inventory, "gpu-worker-died"));
    assert_eq!(codes(&dead), [Some("gpu-worker-died"); 2]);
    assert!(dead.devices.iter().all(|reading| reading.memory.is_some()), "the last figures stay");
    let well = until(&inventories, "well again", |inventory| codes(inventory) == [None, None]);
    assert!(well.findings.is_empty());
    assert!(machine.workers() != [pid] && machine.workers().len() == 1);
}

#[test]
fn a_command_that_does_not_exist_is_told() {
    let command = ["/nonexistent/sage".into()];
    let inventory = gpu::sweep_once(&Options::default(), &command, DEADLINE);
    assert!(has_finding(&inventory, "gpu-worker-died"));
    assert_eq!(code(&inventory.devices[0]), Some("gpu-worker-died"));
}

#[test]
fn the_worker_process_ends_with_its_studio_however_that_ends() {
    let machine = Machine::new("2xH100");
    // Stuck in the driver, too.
    machine.fake.update(|state| state.gpus[1].hang_seconds = HANG_SECONDS);
    let command = machine.command("studio");
    let mut studio = Process(Command::new(&command[0]).args(&command[1..]).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(studio.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "2");
    assert_eq!(machine.workers().len(), 1);
    studio.0.kill().unwrap();
    eventually("ended", || machine.workers().is_empty());

    let (worker, inventories) = machine.start(patient(), NEVER);
    inventories.recv_timeout(DEADLINE).unwrap();
    assert_eq!(machine.workers().len(), 1);
    drop(worker);
    eventually("ended", || machine.workers().is_empty());
}
