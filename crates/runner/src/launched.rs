use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wait::{self, readable};
use crate::{AttemptEnd, Started, files};

/// Said by a supervisor once the task's program was executed; at the end it hangs up.
pub(crate) const RUNNING: &[u8] = b"running\n";

/// An attempt that was just launched. Its supervisor tells by a pipe what then stands in its records, which is quicker than to be
/// told that they have changed.
#[derive(Debug)]
pub struct Launched {
    attempt_dir: PathBuf,
    /// `None`: it was launched before.
    pipe: Option<OwnedFd>,
    /// It was told.
    runs: AtomicBool,
    hung_up: AtomicBool,
}

impl Launched {
    /// `said`: what came after the answer.
    pub(crate) fn new(attempt_dir: &Path, pipe: Option<OwnedFd>, said: &[u8]) -> Launched {
        let runs = AtomicBool::new(!said.is_empty());
        Launched { attempt_dir: attempt_dir.to_owned(), pipe, runs, hung_up: AtomicBool::new(false) }
    }

    /// As [`wait_started`](crate::wait_started).
    pub async fn started(&self) -> io::Result<Started> {
        if !self.runs.load(Ordering::Relaxed) {
            self.hear().await?;
        }
        if let Ok(Some(record)) = files::read_running(&self.attempt_dir) {
            return Ok(Started::Running(record));
        }
        wait::started(&self.attempt_dir).await
    }

    /// As [`wait_end`](crate::wait_end).
    pub async fn ended(&self) -> io::Result<AttemptEnd> {
        wait::ended(&self.attempt_dir, Some(self)).await
    }

    pub(crate) fn has_hung_up(&self) -> bool {
        self.pipe.is_none() || self.hung_up.load(Ordering::Relaxed)
    }

    /// Until the supervisor hangs up: the attempt is over, or the supervisor was killed.
    pub(crate) async fn hangs_up(&self) -> io::Result<()> {
        while !self.has_hung_up() {
            self.hear().await?;
        }
        Ok(())
    }

    async fn hear(&self) -> io::Result<()> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| !self.has_hung_up()) else { return Ok(()) };
        readable(pipe.as_fd()).await?;
        let bytes = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut [0; 64]))?;
        // Nobody else reads it, so there is something, if only its end.
        self.runs.store(true, Ordering::Relaxed);
        self.hung_up.store(bytes == 0, Ordering::Relaxed);
        Ok(())
    }
}
