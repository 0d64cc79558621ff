//! The one loop: observe → plan → commit → execute. Owns every change of a task's state.
//!
//! [`start`] spawns a thread that takes messages in batches, lets [`scheduler::plan`] decide, commits the batch to the
//! [`store`] and only then acts on it: answers callers, launches and stops attempts, publishes events. Nothing polls:
//! the thread sleeps until a message comes. One watcher per attempt (a tokio task) turns what happens to the
//! training, told by pidfd and inotify, into messages.

mod backoff;
mod clock;
mod detection;
mod devices;
pub mod disk;
mod event;
mod execute;
mod handle;
pub mod host_memory;
mod hours;
mod lines;
mod machine;
mod message;
mod needs;
mod options;
mod pace;
mod refusals;
mod strays;
mod tail;
mod turn;
mod usage;
mod view;
mod watch;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use event::Event;
pub use handle::{Handle, Submission, Submitted};
pub use hours::StartHours;
pub use message::Switch;
pub use options::{Options, Settings};
pub use runner::Limits;
pub use scheduler::{Forecast, Policy, Refusal, Verdict, label};
pub use view::{DeviceStatus, TaskSnapshot, View, Waits};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("there is no task {0}")]
    NotFound(domain::TaskId),
    #[error("task {0} is not running or waiting, so it cannot be cancelled")]
    NotRunning(domain::TaskId),
    #[error("task {0} is running or waiting; cancel it before deleting it")]
    StillActive(domain::TaskId),
    #[error("task {0} is not held")]
    NotHeld(domain::TaskId),
    #[error("task {0} is not waiting in the queue")]
    NotQueued(domain::TaskId),
    #[error("{0} and {1} are not of the same priority, which comes first")]
    OtherPriority(domain::TaskId, domain::TaskId),
    #[error("no new tasks are accepted: {0} has set the queue to drain")]
    Draining(String),
    #[error("{waiting} of your tasks wait already, and {limit} may")]
    TooManyQueued { waiting: u32, limit: u32 },
    #[error("it wants {wanted} GPUs at once, and you may have {limit}")]
    TooManyGpus { wanted: u32, limit: u32 },
    #[error("there is no device {0}")]
    NoDevice(domain::DeviceId),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error("could not be saved: {0}")]
    NotSaved(String),
    #[error("the studio is shutting down")]
    ShuttingDown,
}

/// Opens the store, adopts what still runs and starts the loop. Must be called inside a tokio runtime, which then
/// carries the watchers.
pub fn start(options: Options) -> Result<Handle, EngineError> {
    let database = options.home.database();
    let mut writer = store::Writer::open(&database)?;
    let runtime = tokio::runtime::Handle::current();
    match writer.make_room() {
        Ok(Some(log)) => drop(runtime.spawn_blocking(move || log.sync_data())),
        Ok(None) => {}
        Err(error) => tracing::warn!("commits will be slower than they could be: {error}"),
    }
    let reader = Arc::new(store::Reader::open(&database)?);
    let view = Arc::new(View::default());
    let (events, _) = broadcast::channel(1024);
    let (sender, inbox) = std::sync::mpsc::channel();

    let outbox = message::Outbox { messages: sender, view: view.clone(), events: events.clone() };
    let detection = {
        let outbox = outbox.clone();
        let report = move |inventory| outbox.send(message::Message::Inventory(Arc::new(inventory)));
        // Processes of this home's tasks are ours, all others foreign.
        let gpus = gpu::Options { home: Some(options.home.root().to_owned()), ..options.gpu.clone() };
        detection::Detection::start(&options.sage, gpus, report).expect("a thread can be spawned")
    };
    let machine = machine::Machine::load(&options, writer, reader.clone(), outbox.clone(), detection.clone(), runtime)?;
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || machine.run(inbox))
        .expect("a thread can be spawned");
    Ok(Handle::new(outbox, reader, options, detection))
}
