//! Live events, rendered once for all who listen, and handed to them without keeping anybody else waiting.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use api_types::{ProgressEvent, RemovedEvent};
use axum::body::Bytes;
use domain::TaskId;
use engine::{Event, Handle};
use tokio::sync::{
    broadcast::{
        Receiver, Sender,
        error::{RecvError, TryRecvError},
    },
    watch,
};

use crate::{app::App, auth::Who, devices, sse, view};

/// Listeners that are served at once; the next ones after a pause in which others get their turn.
const LANE: usize = 64;
/// Waking a listener and writing to its socket takes about a quarter of this; the rest is left to other work.
const PER_LISTENER: Duration = Duration::from_micros(50);
const PER_BYTE: Duration = Duration::from_nanos(2);
/// A listener that is told to fetch again soon asks for the lists, and all of them must not ask at once.
const PER_FETCH: Duration = Duration::from_micros(500);
/// Bytes of moves. After more at a time a client does better to fetch the lists again.
const LONGEST_BATCH: usize = 128 << 10;
/// Events taken at once.
const MOST: usize = 1024;
/// Batches kept for a listener that is behind.
const BACKLOG: usize = 16;

/// Whoever listens to everything that happens.
pub struct Live(Arc<Mutex<Vec<Sender<Batch>>>>);

/// What happened since the batch before.
#[derive(Debug, Clone)]
pub enum Batch {
    Events(Arc<Events>),
    /// It was too much to be told one by one, up to about this journal row.
    Flood(u64),
}

impl Batch {
    /// How long to wait per listener before more are served.
    fn pause(&self) -> Duration {
        match self {
            Batch::Events(events) => {
                PER_LISTENER + PER_BYTE * u32::try_from(events.whole.len()).expect("a batch is short")
            }
            Batch::Flood(_) => PER_FETCH,
        }
    }
}

/// Server-sent events, as they go over the wire.
#[derive(Debug, Default)]
pub struct Events {
    whole: Bytes,
    /// The same for whoever may read no task's output.
    to_others: Bytes,
    ends: Vec<End>,
}

/// Where an event ends.
#[derive(Debug)]
struct End {
    whole: usize,
    to_others: usize,
    /// The number of its journal row.
    seq: Option<u64>,
    /// Whose task it is, if others are shown less of it.
    owner: Option<Box<str>>,
}

impl Live {
    /// Needs a runtime; ends with `closing`. `people`: some may see less than others.
    pub fn start(engine: Handle, people: bool, closing: watch::Receiver<bool>) -> Live {
        let lanes: Arc<Mutex<Vec<Sender<Batch>>>> = Arc::default();
        let live = Live(lanes.clone());
        let events = engine.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = broadcast(engine, people, events, &lanes) => {}
                () = App::closed(closing) => {}
            }
            lanes.lock().expect("nobody panics with it").clear();
        });
        live
    }

    /// Everything that becomes known from now on.
    pub fn subscribe(&self) -> Receiver<Batch> {
        let mut lanes = self.0.lock().expect("nobody panics with it");
        if let Some(lane) = lanes.iter().find(|lane| lane.receiver_count() < LANE) {
            return lane.subscribe();
        }
        let (lane, receiver) = tokio::sync::broadcast::channel(BACKLOG);
        lanes.push(lane);
        receiver
    }
}

async fn broadcast(engine: Handle, people: bool, mut events: Receiver<Event>, lanes: &Mutex<Vec<Sender<Batch>>>) {
    // Too low a number only makes that some events are told that were fetched already.
    let mut newest = 0;
    loop {
        let Some(Happened { events: happened, lost }) = next(&mut events).await else { return };
        newest = happened.iter().filter_map(seq).fold(newest, u64::max);
        let lanes: Vec<Sender<Batch>> = {
            let mut lanes = lanes.lock().expect("nobody panics with it");
            lanes.retain(|lane| lane.receiver_count() > 0);
            lanes.clone()
        };
        if lanes.is_empty() {
            continue;
        }
        let events = if lost { None } else { Events::render(&happened, &engine, people) };
        let batch = events.map_or(Batch::Flood(newest), |events| Batch::Events(Arc::new(events)));
        for lane in lanes {
            let listeners = lane.send(batch.clone()).unwrap_or(0);
            let pause = batch.pause() * u32::try_from(listeners).unwrap_or(u32::MAX);
            // Timers are no finer.
            if pause >= Duration::from_millis(1) {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

struct Happened {
    events: Vec<Event>,
    /// More happened before the first of them, or between them.
    lost: bool,
}

/// Waits for an event and takes those behind it; `None` after the last.
async fn next(events: &mut Receiver<Event>) -> Option<Happened> {
    let mut happened = Happened { events: Vec::new(), lost: false };
    match events.recv().await {
        Ok(event) => happened.events.push(event),
        Err(RecvError::Lagged(_)) => happened.lost = true,
        Err(RecvError::Closed) => return None,
    }
    while happened.events.len() < MOST {
        match events.try_recv() {
            Ok(event) => happened.events.push(event),
            Err(TryRecvError::Lagged(_)) => happened.lost = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Some(happened)
}

/// The journal row of what is in the journal.
fn seq(event: &Event) -> Option<u64> {
    match event {
        Event::Task { seq, .. } | Event::Removed { seq, .. } => Some(*seq),
        Event::Progress { .. } | Event::Queue(_) | Event::Devices(_) => None,
    }
}

impl Events {
    /// `None` if that is more than a client should be sent.
    fn render(happened: &[Event], engine: &Handle, people: bool) -> Option<Events> {
        let (mut bytes, mut to_others) = (Vec::new(), Vec::new());
        let mut ends = Vec::new();
        let mut moves = 0;
        for event in latest(happened) {
            let (seq, start, mut owner) = (seq(event), bytes.len(), None);
            match event {
                Event::Task { snapshot, .. } => {
                    let (task, whole) = (&snapshot.task, view::task(snapshot, engine));
                    sse::write_event(&mut bytes, "task", seq, &whole);
                    if people && view::hides(task) {
                        owner = Some(task.owner.as_str().into());
                        sse::write_event(&mut to_others, "task", seq, &view::to_others(whole, task));
                    }
                }
                Event::Removed { task, .. } => {
                    sse::write_event(&mut bytes, "removed", seq, &RemovedEvent { task_id: task.to_string() });
                }
                Event::Progress { task, progress } => {
                    let event = ProgressEvent { task_id: task.to_string(), progress: view::progress(progress) };
                    sse::write_event(&mut bytes, "progress", seq, &event);
                }
                Event::Queue(waits) => sse::write_event(&mut bytes, "queue", seq, &view::queue(waits, engine)),
                Event::Devices(status) => {
                    sse::write_event(&mut bytes, "devices", seq, &devices::view(Some(status)));
                }
            }
            if seq.is_some() {
                moves += bytes.len() - start;
            }
            if moves > LONGEST_BATCH {
                return None;
            }
            if owner.is_none() {
                to_others.extend_from_slice(&bytes[start..]);
            }
            ends.push(End { whole: bytes.len(), to_others: to_others.len(), seq, owner });
        }
        let whole = Bytes::from(bytes);
        let same = ends.iter().all(|end| end.owner.is_none());
        Some(Events { to_others: if same { whole.clone() } else { to_others.into() }, whole, ends })
    }

    /// What is new to a listener who knows the journal up to row `known`, which is moved on.
    pub fn after(&self, known: &mut u64, reader: &Who) -> Bytes {
        let before = mem::replace(known, self.ends.iter().filter_map(|end| end.seq).fold(*known, u64::max));
        let is_new = |end: &End| end.seq.is_none_or(|seq| seq > before);
        let sees = |end: &End| end.owner.as_ref().map(|owner| reader.sees(owner));
        if self.ends.iter().all(is_new) {
            if self.ends.iter().all(|end| sees(end) != Some(false)) {
                return self.whole.clone();
            }
            if self.ends.iter().all(|end| sees(end) != Some(true)) {
                return self.to_others.clone();
            }
        }
        let starts = [(0, 0)].into_iter().chain(self.ends.iter().map(|end| (end.whole, end.to_others)));
        let new = starts.zip(&self.ends).filter(|(_, end)| is_new(end));
        let parts = new.flat_map(|((whole, to_others), end)| match sees(end) {
            Some(false) => &self.to_others[to_others..end.to_others],
            _ => &self.whole[whole..end.whole],
        });
        parts.copied().collect()
    }
}

/// Without what a later event of the same batch replaces. Moves of tasks are told one by one.
fn latest(happened: &[Event]) -> Vec<&Event> {
    let (mut queue, mut devices, mut progress) = (false, false, HashSet::<TaskId>::new());
    let mut latest: Vec<&Event> = happened
        .iter()
        .rev()
        .filter(|event| match event {
            Event::Task { .. } | Event::Removed { .. } => true,
            Event::Progress { task, .. } => progress.insert(*task),
            Event::Queue(_) => !mem::replace(&mut queue, true),
            Event::Devices(_) => !mem::replace(&mut devices, true),
        })
        .collect();
    latest.reverse();
    latest
}
