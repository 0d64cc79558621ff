use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use runner::{Chunk, FileFollower};
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Follows a growing file for as long as anybody asks. What cannot be watched or read now is tried again later: how an
/// attempt stands never depends on it.
pub struct Tail {
    path: PathBuf,
    /// Of the next byte.
    offset: u64,
    most_behind: Option<u64>,
    follower: Option<FileFollower>,
    backoff: Backoff,
    again_at: Option<Instant>,
}

impl Tail {
    pub fn new(path: &Path, offset: u64) -> Tail {
        let path = path.to_owned();
        Tail { path, offset, most_behind: None, follower: None, backoff: Backoff::default(), again_at: None }
    }

    /// As [`FileFollower::keep_up`].
    pub fn keep_up(mut self, most_behind: u64) -> Tail {
        self.most_behind = Some(most_behind);
        self
    }

    /// Waits for more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Chunk {
        loop {
            if let Some(at) = self.again_at {
                tokio::time::sleep_until(at).await;
                self.again_at = None;
            }
            let next = match self.follower() {
                Ok(follower) => follower.next().await,
                Err(error) => Err(error),
            };
            match next {
                Ok(chunk) => {
                    self.backoff = Backoff::default();
                    self.offset = chunk.offset + chunk.bytes.len() as u64;
                    return chunk;
                }
                Err(error) => self.put_off(&error),
            }
        }
    }

    /// More of what is there and was not read yet; `None` at its end, or where it cannot be read.
    pub fn read_now(&mut self) -> Option<Chunk> {
        let chunk = self.follower().and_then(FileFollower::read_now);
        chunk.unwrap_or_else(|error| {
            tracing::warn!("the end of {} cannot be read: {error}", self.path.display());
            None
        })
    }

    fn follower(&mut self) -> io::Result<&mut FileFollower> {
        match &mut self.follower {
            Some(follower) => Ok(follower),
            none => {
                let follower = FileFollower::open(&self.path, self.offset)?;
                Ok(none.insert(match self.most_behind {
                    Some(bytes) => follower.keep_up(bytes),
                    None => follower,
                }))
            }
        }
    }

    fn put_off(&mut self, error: &io::Error) {
        let pause: Duration = self.backoff.next();
        tracing::warn!("{} cannot be followed, tried again in {pause:?}: {error}", self.path.display());
        self.follower = None;
        self.again_at = Some(Instant::now() + pause);
    }
}
