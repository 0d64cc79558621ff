use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::Inventory;

/// How often real GPUs are measured, and how often while a task waits for memory of one.
const EVERY: Duration = Duration::from_secs(1);
const IN_A_HURRY: Duration = Duration::from_millis(200);

/// The one worker that measures, for all who want it to.
#[derive(Clone)]
pub struct Detection {
    worker: Arc<Mutex<gpu::Worker>>,
    hurried: Arc<AtomicBool>,
}

impl Detection {
    pub fn start(
        sage: &Path,
        options: gpu::Options,
        report: impl FnMut(Inventory) + Send + 'static,
    ) -> io::Result<Detection> {
        let command = vec![sage.into(), "gpu-worker".into()];
        let worker = gpu::Worker::start(options, command, EVERY, report)?;
        Ok(Detection { worker: Arc::new(Mutex::new(worker)), hurried: Arc::default() })
    }

    /// Takes new readings soon instead of at the next interval.
    pub fn refresh(&self) {
        self.worker.lock().expect("asking does not panic").refresh();
    }

    /// Measures more often while somebody waits for what a measurement would show.
    pub fn hurry(&self, hurry: bool) {
        if self.hurried.swap(hurry, Ordering::Relaxed) != hurry {
            let interval = if hurry { IN_A_HURRY } else { EVERY };
            self.worker.lock().expect("asking does not panic").set_interval(interval);
        }
    }
}
