use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::watch::FolderWatch;

/// The most that one [`Chunk`] holds.
const CHUNK: usize = 64 << 10;

/// How long a follower that had to leave something out rests before it reads on.
const REST: Duration = Duration::from_millis(50);

/// Reads a growing file that may not exist yet, told by inotify when there is more.
///
/// Holes, which the log cap leaves, are passed over: the next chunk's offset then jumps.
pub struct FileFollower {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    /// Bytes; see [`keep_up`](FileFollower::keep_up).
    most_behind: Option<u64>,
    pace: Pace,
    watch: FolderWatch,
}

/// What [`FileFollower::next`] owes to others before it reads again.
enum Pace {
    Ready,
    /// The last chunk was there at once, so there may always be more.
    LetOthersRun,
    /// More is written than anybody wants to read.
    Rest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Of the first byte, in the file.
    pub offset: u64,
    /// At least one, at most 64 KiB.
    pub bytes: Vec<u8>,
}

impl FileFollower {
    /// The folder has to exist, the file not. A file shorter than `offset` is read from its start.
    pub fn open(path: &Path, offset: u64) -> io::Result<FileFollower> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let path = std::path::absolute(path)?;
        let watch = FolderWatch::new(path.parent().unwrap_or(Path::new("/")), &[name])?;
        Ok(FileFollower { path, file: None, offset, most_behind: None, pace: Pace::Ready, watch })
    }

    /// Leaves out what is further than so many bytes before the end of the file, and reads such a file slowly: its
    /// writer must not be able to keep its reader busy. Offsets stay valid.
    pub fn keep_up(mut self, most_behind: u64) -> FileFollower {
        self.most_behind = Some(most_behind);
        self
    }

    /// Waits for more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<Chunk> {
        loop {
            match self.pace {
                Pace::Ready => {}
                Pace::LetOthersRun => let_others_run().await,
                Pace::Rest => tokio::time::sleep(REST).await,
            }
            self.pace = Pace::Ready;
            let from = self.offset;
            if let Some(chunk) = self.read_now()? {
                self.pace = if chunk.offset > from { Pace::Rest } else { Pace::LetOthersRun };
                return Ok(chunk);
            }
            self.watch.changed().await;
        }
    }

    /// `None`: that was all for now.
    pub fn read_now(&mut self) -> io::Result<Option<Chunk>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &self.file else { return Ok(None) };
        if let Some(most) = self.most_behind {
            self.offset = self.offset.max(file.metadata()?.len().saturating_sub(most));
        }
        let mut bytes = vec![0; CHUNK];
        loop {
            let count = file.read_at(&mut bytes, self.offset)?;
            if count == 0 {
                if file.metadata()?.len() >= self.offset {
                    return Ok(None);
                }
                self.offset = 0;
                continue;
            }
            // Looked for after the reading, because a hole may have been made meanwhile.
            let kept = data_in(file, self.offset, count)?;
            if kept.start > self.offset {
                self.offset = kept.start;
                continue;
            }
            bytes.truncate((kept.end - kept.start) as usize);
            bytes.shrink_to_fit();
            self.offset = kept.end;
            return Ok(Some(Chunk { offset: kept.start, bytes }));
        }
    }
}

/// Without it a file that grows faster than it is read would keep a thread of the runtime for itself.
async fn let_others_run() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The first part of `count` bytes at `offset` that is no hole; where all of it is, the place of the next byte that
/// is none.
fn data_in(file: &File, offset: u64, count: usize) -> io::Result<std::ops::Range<u64>> {
    let end = offset + count as u64;
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        // Nothing but hole up to the end of the file.
        Err(Errno::NXIO) => end,
        // No holes on this file system.
        Err(Errno::INVAL) => return Ok(offset..end),
        Err(error) => return Err(error.into()),
    };
    if start > offset {
        return Ok(start..start);
    }
    Ok(offset..seek(file, SeekFrom::Hole(offset))?.min(end))
}
