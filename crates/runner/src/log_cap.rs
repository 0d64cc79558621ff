use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FallocateFlags, fallocate};

/// Bytes at the start of a log that are always kept: they say what was run with what.
const HEAD: u64 = 1 << 20;

/// How often a log that grows is looked at. It can outgrow its cap by what is written in this time.
const INTERVAL: Duration = Duration::from_millis(50);

/// How often without inotify.
const BLIND_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the disk use of a file that others append to below a cap, by punching a hole behind its first part. Sleeps
/// while nothing is written.
pub(crate) struct LogCap {
    file: File,
    inotify: Option<OwnedFd>,
    cap: u64,
    /// End of the hole.
    hole: u64,
    size: u64,
    next_look: Option<Instant>,
}

impl LogCap {
    pub(crate) fn open(path: &Path, cap: u64) -> io::Result<LogCap> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(LogCap { file, inotify: None, cap, hole: HEAD.min(cap / 2), size: 0, next_look: None })
    }

    /// Apart from `open`, because a launch does not wait for it.
    pub(crate) fn watch(&mut self, now: Instant) {
        self.inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        self.next_look = Some(now);
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Readable when the log was written to.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Call when [`fd`](Self::fd) is readable.
    pub(crate) fn written(&mut self, now: Instant) {
        let Some(inotify) = &self.inotify else { return };
        let mut space = [MaybeUninit::uninit(); 256];
        let mut events = inotify::Reader::new(inotify, &mut space);
        while events.next().is_ok() {}
        self.next_look.get_or_insert(now + INTERVAL);
    }

    /// Call at [`next_look`](Self::next_look). While the log grows it looks again after a moment, else it waits to be
    /// told.
    pub(crate) fn look(&mut self, now: Instant, path: &Path) {
        if self.enforce() {
            self.next_look = Some(now + INTERVAL);
            return;
        }
        let armed = self
            .inotify
            .as_ref()
            .is_some_and(|inotify| inotify::add_watch(inotify, path, WatchFlags::MODIFY | WatchFlags::ONESHOT).is_ok());
        self.next_look = if !armed {
            Some(now + BLIND_INTERVAL)
        } else if self.enforce() {
            // Written between the look and the watch.
            Some(now + INTERVAL)
        } else {
            None
        };
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
