//! The audit log's writing end: one thread that takes what has come meanwhile as one batch.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use store::{Audit, AuditFilter, AuditRow, Entry};
use tokio::sync::oneshot;

pub struct AuditLog {
    audit: Arc<Audit>,
    /// `None` only while this is dropped, as is the thread.
    sender: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

/// An entry, and whoever waits until it is durable.
type Message = (Entry, Option<oneshot::Sender<()>>);

/// Entries written in one transaction at most.
const BATCH: usize = 512;
/// So long an entry that nobody waits for waits for others: each write to the disk delays those of the queue.
const GATHER: Duration = Duration::from_millis(20);

/// What a handler adds to the entry about its request.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Instead of the session's, where the request itself says who.
    pub who: Option<String>,
    /// Instead of what the path says.
    pub target: Option<String>,
    pub detail: Option<String>,
}

impl About {
    pub fn target(target: impl Into<String>) -> About {
        About { target: Some(target.into()), ..About::default() }
    }
}

/// What the studio does itself.
pub fn by_studio(action: &str, detail: Option<String>) -> Entry {
    Entry {
        at: Timestamp::now(),
        who: "-".into(),
        address: "local".into(),
        action: action.into(),
        target: None,
        outcome: "ok".into(),
        detail,
    }
}

impl AuditLog {
    pub fn start(audit: Audit) -> AuditLog {
        let (sender, inbox) = mpsc::channel::<Message>();
        let audit = Arc::new(audit);
        let writing = audit.clone();
        let write = move || {
            while let Some(batch) = gather(&inbox) {
                let (entries, waiting): (Vec<Entry>, Vec<_>) = batch.into_iter().unzip();
                if let Err(error) = writing.append(&entries) {
                    tracing::error!("the audit log could not be written: {error}");
                }
                // Whoever has stopped waiting has got an answer from elsewhere.
                for waits in waiting.into_iter().flatten() {
                    let _ = waits.send(());
                }
            }
        };
        let thread = thread::Builder::new().name("audit".into()).spawn(write).expect("a thread can be spawned");
        AuditLog { audit, sender: Some(sender), thread: Some(thread) }
    }

    /// Newest first. May block.
    pub fn rows(&self, filter: &AuditFilter) -> store::Result<Vec<AuditRow>> {
        self.audit.list(filter)
    }

    /// Written soon; nobody waits for it.
    pub fn note(&self, entry: Entry) {
        self.send(entry, None);
    }

    /// Durable when it returns; where that failed, the studio's log says so.
    pub async fn record(&self, entry: Entry) {
        let (written, wait) = oneshot::channel();
        self.send(entry, Some(written));
        let _ = wait.await;
    }

    fn send(&self, entry: Entry, written: Option<oneshot::Sender<()>>) {
        // The thread goes only when this does.
        if let Some(sender) = &self.sender {
            let _ = sender.send((entry, written));
        }
    }
}

impl Drop for AuditLog {
    /// Returns when all is written.
    fn drop(&mut self) {
        drop(self.sender.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What has come, and what comes within [`GATHER`] unless somebody waits. `None` when nobody can send any more.
fn gather(inbox: &mpsc::Receiver<Message>) -> Option<Vec<Message>> {
    let mut batch = vec![inbox.recv().ok()?];
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        let waits = batch.iter().any(|(_, written)| written.is_some());
        let left = if waits { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        match inbox.recv_timeout(left) {
            Ok(message) => batch.push(message),
            Err(_) => break,
        }
    }
    Some(batch)
}
