use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

/// Bytes at the start of a log that are always kept: they say what was run with what.
const HEAD: u64 = 1 << 20;

/// How soon a log that grows is looked at again. It can outgrow its cap by what is written in this time.
const SHORTEST: Duration = Duration::from_millis(50);

/// How soon a log that rests is looked at again: twice the last pause, up to this.
const LONGEST: Duration = Duration::from_secs(1);

/// Keeps the disk use of a file that others append to below a cap, by punching a hole behind its first part.
///
/// It looks instead of being told: closing an inotify instance waits for the kernel for some 10 ms, and an attempt ends
/// only when its supervisor has.
pub(crate) struct LogCap {
    file: File,
    cap: u64,
    /// End of the hole.
    hole: u64,
    size: u64,
    pause: Duration,
    next_look: Instant,
}

impl LogCap {
    pub(crate) fn open(path: &Path, cap: u64) -> io::Result<LogCap> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let next_look = Instant::now() + SHORTEST;
        Ok(LogCap { file, cap, hole: HEAD.min(cap / 2), size: 0, pause: SHORTEST, next_look })
    }

    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Call at [`next_look`](Self::next_look).
    pub(crate) fn look(&mut self, now: Instant) {
        self.pause = if self.enforce() { SHORTEST } else { LONGEST.min(self.pause * 2) };
        self.next_look = now + self.pause;
    }

    /// Returns whether the log has grown since last time.
    pub(crate) fn enforce(&mut self) -> bool {
        let size = self.file.metadata().map_or(self.size, |metadata| metadata.len());
        let grown = size > self.size;
        self.size = size;
        let head = HEAD.min(self.cap / 2);
        let tail = self.cap - head;
        if size.saturating_sub(self.hole) > tail {
            // A quarter more than needed, so that not every line costs a hole.
            let end = (size - tail / 4 * 3) & !4095;
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system without holes keeps the whole log.
            if end > self.hole && fallocate(&self.file, flags, head, end - head).is_ok() {
                self.hole = end;
            }
        }
        grown
    }

    /// Bytes given up so far, by earlier attempts too.
    pub(crate) fn lost(&self) -> u64 {
        self.hole - HEAD.min(self.cap / 2)
    }
}
