//! Folder watches on one inotify instance for the whole process, because a user may only have some 128 instances.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::time::sleep;

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// How often somebody who cannot be told looks instead.
const LOOK: Duration = Duration::from_millis(500);

/// Tells when certain files of one folder are made, renamed or written, from the moment it exists. Where the kernel gives
/// no more watches, it says so every now and then.
pub(crate) struct FolderWatch(Option<Told>);

struct Told {
    hub: &'static Hub,
    descriptor: i32,
    listener: Arc<Listener>,
}

struct Listener {
    /// Files of the folder.
    names: Vec<OsString>,
    changed: Notify,
}

impl FolderWatch {
    pub(crate) fn new(folder: &Path, names: &[&OsStr]) -> io::Result<FolderWatch> {
        match Told::new(folder, names) {
            Ok(told) => Ok(FolderWatch(Some(told))),
            Err(error) if is_limit(&error) => Ok(FolderWatch(None)),
            Err(error) => Err(error),
        }
    }

    /// Resolves at once when something changed since the last call. It may also resolve without a change.
    pub(crate) async fn changed(&self) {
        match &self.0 {
            Some(told) => told.listener.changed.notified().await,
            None => sleep(LOOK).await,
        }
    }
}

/// What a user may have of watches, instances, descriptors or memory is used up.
fn is_limit(error: &io::Error) -> bool {
    let limits = [Errno::NOSPC, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| limits.contains(&errno))
}

impl Told {
    fn new(folder: &Path, names: &[&OsStr]) -> io::Result<Told> {
        let hub = Hub::get()?;
        let names = names.iter().map(|name| OsString::from(*name)).collect();
        let listener = Arc::new(Listener { names, changed: Notify::new() });
        let mut listeners = hub.lock();
        let descriptor = inotify::add_watch(&hub.inotify, folder, EVENTS)?;
        listeners.entry(descriptor).or_default().push(Arc::clone(&listener));
        drop(listeners);
        Ok(Told { hub, descriptor, listener })
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut listeners = self.hub.lock();
        let Some(rest) = listeners.get_mut(&self.descriptor) else { return };
        rest.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
        if rest.is_empty() {
            listeners.remove(&self.descriptor);
            // Fails when the folder was deleted, which ended the watch.
            let _ = inotify::remove_watch(&self.hub.inotify, self.descriptor);
        }
    }
}

struct Hub {
    inotify: OwnedFd,
    listeners: Mutex<HashMap<i32, Vec<Arc<Listener>>>>,
}

impl Hub {
    fn get() -> io::Result<&'static Hub> {
        static HUB: Mutex<Option<&'static Hub>> = Mutex::new(None);
        let mut place = HUB.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = *place {
            return Ok(hub);
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        let hub: &'static Hub = Box::leak(Box::new(Hub { inotify, listeners: Mutex::default() }));
        thread::Builder::new().name("file-watch".into()).spawn(|| hub.run())?;
        Ok(place.insert(hub))
    }

    fn run(&self) {
        let mut space = vec![MaybeUninit::uninit(); 64 << 10];
        let mut events = inotify::Reader::new(&self.inotify, &mut space);
        loop {
            match events.next() {
                Ok(event) => {
                    let file = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    self.tell(event.wd(), file);
                }
                Err(Errno::INTR) => {}
                // Cannot happen on a descriptor that is never closed; waiting for ever would hide it.
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }

    fn tell(&self, descriptor: i32, file: Option<&OsStr>) {
        let listeners = self.lock();
        // A negative descriptor says that events were lost, so that everybody has to look.
        let told = listeners.iter().filter(|(watched, _)| **watched == descriptor || descriptor < 0);
        for listener in told.flat_map(|(_, listeners)| listeners) {
            // Without a name it is about the folder itself.
            if file.is_none_or(|file| listener.names.iter().any(|name| name == file)) {
                listener.changed.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Vec<Arc<Listener>>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
