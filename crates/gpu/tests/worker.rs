use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use domain::{DeviceKind, DeviceState, Inventory};
use gpu::{Backend, Options, Worker, detect};
use jiff::Timestamp;

const NEVER: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(20);

fn simulated(count: u32) -> Options {
    Options { mock_count: Some(count), mock_memory_gb: Some(12.0), ..Options::default() }
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
    let options = Options { disable_nvml: true, ..Options::default() };
    let inventory = detect(&options).sweep(Timestamp::UNIX_EPOCH);
    assert_eq!(inventory.findings[0].code, "nvml-disabled");
    assert_eq!(inventory.detection_error, None);
    assert_eq!(inventory.devices[0].device.kind, DeviceKind::Cpu);
}

/// Counts its sweeps, and its drop by one million.
struct Counting {
    count: Arc<AtomicUsize>,
    real: bool,
}

impl Backend for Counting {
    fn sweep(&mut self, now: Timestamp) -> Inventory {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut inventory = detect(&simulated(1)).sweep(now);
        if self.real {
            inventory.devices[0].device.kind = DeviceKind::Nvidia;
        }
        inventory
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.count.fetch_add(1_000_000, Ordering::SeqCst);
    }
}

fn counting(real: bool, interval: Duration) -> (Worker, mpsc::Receiver<Inventory>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (send, inventories) = mpsc::channel();
    let backend = Counting { count: count.clone(), real };
    let worker = Worker::start(move || Box::new(backend), interval, move |inventory| drop(send.send(inventory)));
    (worker.unwrap(), inventories, count)
}

#[test]
fn a_worker_sweeps_at_start_and_when_asked_and_ends_with_its_owner() {
    let (worker, inventories, count) = counting(true, NEVER);
    inventories.recv_timeout(DEADLINE).expect("a first inventory without being asked");
    worker.refresh();
    inventories.recv_timeout(DEADLINE).expect("an inventory when asked");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    drop(worker);
    assert_eq!(count.load(Ordering::SeqCst), 1_000_002, "the back end is gone and nothing was swept besides");
}

#[test]
fn real_gpus_are_swept_again_and_again() {
    let (_worker, inventories, _) = counting(true, Duration::from_millis(1));
    for _ in 0..5 {
        inventories.recv_timeout(DEADLINE).unwrap();
    }
}

#[test]
fn simulated_ones_are_swept_rarely() {
    let (_worker, inventories, _) = counting(false, DEADLINE);
    inventories.recv_timeout(DEADLINE).unwrap();
    assert!(inventories.try_recv().is_err());
}

#[test]
fn wishes_during_a_sweep_are_one_and_nobody_waits_for_a_driver_that_hangs() {
    struct Slow {
        gate: mpsc::Receiver<()>,
    }
    impl Backend for Slow {
        fn sweep(&mut self, now: Timestamp) -> Inventory {
            let _ = self.gate.recv();
            detect(&simulated(1)).sweep(now)
        }
    }
    let (open, gate) = mpsc::channel();
    let (send, inventories) = mpsc::channel();
    let worker = Worker::start(|| Box::new(Slow { gate }), NEVER, move |inventory| drop(send.send(inventory))).unwrap();
    for _ in 0..100 {
        worker.refresh();
    }
    open.send(()).unwrap();
    open.send(()).unwrap();
    inventories.recv_timeout(DEADLINE).expect("the first sweep");
    inventories.recv_timeout(DEADLINE).expect("one for all wishes");
    worker.refresh();
    let before = std::time::Instant::now();
    drop(worker);
    assert!(before.elapsed() < DEADLINE, "the hanging sweep is left alone");
    assert!(inventories.try_recv().is_err(), "a hundred wishes were one");
    drop(open);
}
