use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use domain::{DeviceKind, Inventory};
use jiff::Timestamp;

use crate::Backend;

/// How much rarer a machine without a real GPU is measured.
const RARER: u32 = 30;
/// How long a drop waits for a sweep under way. A driver call can hang for ever; then its thread is left alone, and no
/// second one is ever started.
const PATIENCE: Duration = Duration::from_secs(2);

/// One thread that measures the devices and hands every inventory on.
pub struct Worker {
    /// Room for one wish: two refreshes asked for during a sweep are one.
    wishes: Option<SyncSender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Worker {
    /// Sweeps at once, then every `interval` while a real GPU is there and 30 times as rarely without one.
    ///
    /// `detect` runs on the worker's thread, because loading a driver takes its time. `on_inventory` runs there too.
    pub fn start(
        detect: impl FnOnce() -> Box<dyn Backend> + Send + 'static,
        interval: Duration,
        mut on_inventory: impl FnMut(Inventory) + Send + 'static,
    ) -> io::Result<Worker> {
        let (wishes, wished) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel::<()>();
        thread::Builder::new().name("gpu".into()).stack_size(512 << 10).spawn(move || {
            let _end = end;
            let mut backend = detect();
            loop {
                let inventory = backend.sweep(Timestamp::now());
                let real = inventory.gpus().any(|reading| reading.device.kind == DeviceKind::Nvidia);
                on_inventory(inventory);
                let pause = if real { interval } else { interval * RARER };
                match wished.recv_timeout(pause) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Worker { wishes: Some(wishes), ended })
    }

    /// Asks for a sweep now; returns at once.
    pub fn refresh(&self) {
        match self.wishes.as_ref().map(|wishes| wishes.try_send(())) {
            Some(Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) | None => {}
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.wishes = None;
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}
