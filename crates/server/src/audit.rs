//! The audit log's writing end: one thread that takes what has come meanwhile as one batch.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use jiff::Timestamp;
use store::{Audit, AuditFilter, AuditRow, Entry};
use tokio::sync::oneshot;

pub struct AuditLog {
    audit: Arc<Audit>,
    sender: mpsc::Sender<Message>,
}

/// An entry, and whoever waits until it is durable.
type Message = (Entry, Option<oneshot::Sender<()>>);

/// Entries written in one transaction at most.
const BATCH: usize = 512;

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
            while let Ok(first) = inbox.recv() {
                let more = std::iter::from_fn(|| inbox.try_recv().ok()).take(BATCH - 1);
                let (entries, waiting): (Vec<Entry>, Vec<_>) = std::iter::once(first).chain(more).unzip();
                if let Err(error) = writing.append(&entries) {
                    tracing::error!("the audit log could not be written: {error}");
                }
                // Whoever has stopped waiting has got an answer from elsewhere.
                for waits in waiting.into_iter().flatten() {
                    let _ = waits.send(());
                }
            }
        };
        thread::Builder::new().name("audit".into()).spawn(write).expect("a thread can be spawned");
        AuditLog { audit, sender }
    }

    /// Newest first. May block.
    pub fn rows(&self, filter: &AuditFilter) -> store::Result<Vec<AuditRow>> {
        self.audit.list(filter)
    }

    /// Written soon; nobody waits for it.
    pub fn note(&self, entry: Entry) {
        // The thread goes only when this does.
        let _ = self.sender.send((entry, None));
    }

    /// Durable when it returns; where that failed, the studio's log says so.
    pub async fn record(&self, entry: Entry) {
        let (written, wait) = oneshot::channel();
        let _ = self.sender.send((entry, Some(written)));
        let _ = wait.await;
    }
}
