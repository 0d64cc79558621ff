//! What needs no driver: simulated GPUs and the CPU. The worker process is tested in fake.rs.

use std::sync::mpsc;
use std::time::Duration;

use domain::{DeviceKind, DeviceState, Inventory};
use gpu::{Options, Worker, detect};
use jiff::Timestamp;

const NEVER: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(20);

fn simulated(count: u32) -> Options {
    Options { mock_count: Some(count), mock_memory_gb: Some(12.0), ..Options::default() }
}

fn start(options: Options, interval: Duration) -> (Worker, mpsc::Receiver<Inventory>) {
    let (send, inventories) = mpsc::channel();
    // Nothing may be started for these: the command does not exist.
    let command = vec!["/nonexistent/gpu-worker".into()];
    let worker = Worker::start(options, command, interval, move |inventory| drop(send.send(inventory)));
    (worker.unwrap(), inventories)
}

#[test]
fn simulated_gpus_say_so_everywhere() {
    let inventory = detect(&simulated(3)).sweep(Timestamp::UNIX_EPOCH);
    assert_eq!(inventory.devices.len(), 3);
    assert_eq!(inventory.gpus().count(), 3);
    for (index, reading) in inventory.devices.iter().enumerate() {
        assert_eq!(reading.device.kind, DeviceKind::Simulated);
        assert_eq!(reading.device.id.0, format!("SIM-{index}"));
        assert!(reading.device.name.contains("Simulated"));
        assert_eq!(reading.state, DeviceState::Usable);
        let memory = reading.memory.unwrap();
        assert_eq!((memory.total, memory.free, memory.allocatable()), (12 << 30, 12 << 30, 12 << 30));
    }
    assert_eq!(inventory.findings[0].code, "simulated-gpus");
}

#[test]
fn nvml_can_be_switched_off() {
    let options = Options { disable_nvml: true, root: Some("/nonexistent".into()), ..Options::default() };
    let (_worker, inventories) = start(options, NEVER);
    let inventory = inventories.recv_timeout(DEADLINE).unwrap();
    assert_eq!(inventory.findings[0].code, "nvml-disabled");
    assert_eq!(inventory.findings.len(), 1, "no worker process was tried: {inventory:?}");
    assert_eq!(inventory.detection_error, None);
    assert_eq!(inventory.devices[0].device.kind, DeviceKind::Cpu);
}

#[test]
fn a_worker_sweeps_at_start_when_asked_and_more_often_when_told() {
    let (worker, inventories) = start(simulated(1), NEVER);
    inventories.recv_timeout(DEADLINE).expect("a first inventory without being asked");
    worker.refresh();
    inventories.recv_timeout(DEADLINE).expect("an inventory when asked");
    assert!(inventories.try_recv().is_err(), "and no other");
    worker.set_interval(Duration::from_millis(1));
    for _ in 0..5 {
        inventories.recv_timeout(DEADLINE).expect("one after the other");
    }
    drop(worker);
    while inventories.try_recv().is_ok() {}
    assert!(inventories.recv().is_err(), "its thread is gone");
}

#[test]
fn without_a_real_gpu_sweeps_are_rare() {
    let (_worker, inventories) = start(simulated(1), DEADLINE);
    inventories.recv_timeout(DEADLINE).unwrap();
    assert!(inventories.try_recv().is_err());
}

#[test]
fn wishes_during_a_sweep_are_one() {
    let (open, gate) = mpsc::channel::<()>();
    let (send, inventories) = mpsc::channel();
    let on_inventory = move |inventory| {
        drop(send.send(inventory));
        let _ = gate.recv();
    };
    let worker = Worker::start(simulated(1), Vec::new(), NEVER, on_inventory).unwrap();
    inventories.recv_timeout(DEADLINE).expect("the first sweep");
    for _ in 0..100 {
        worker.refresh();
    }
    drop(open);
    inventories.recv_timeout(DEADLINE).expect("one for all wishes");
    drop(worker);
    assert!(inventories.recv().is_err(), "a hundred wishes were one");
}
