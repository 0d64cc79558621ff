//! Processes by identity: a pid is only ever used through a pidfd whose start time was checked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::{fs, io};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::sys;

/// A process for ever: its pid may be used again, the three together are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub boot_id: String,
    pub pid: u32,
    /// Clock ticks from boot to the start of the process.
    pub start_time: u64,
}

impl ProcessIdentity {
    pub fn current() -> io::Result<ProcessIdentity> {
        let pid = std::process::id();
        let start_time = Stat::read(pid)?.ok_or(io::ErrorKind::NotFound)?.start_time;
        Ok(ProcessIdentity { boot_id: boot_id()?.to_owned(), pid, start_time })
    }

    pub fn is_of_this_boot(&self) -> io::Result<bool> {
        Ok(self.boot_id == boot_id()?)
    }

    /// A handle to this very process, or `None` when it is gone. A zombie is gone: it only waits for its parent.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        if !self.is_of_this_boot()? {
            return Ok(None);
        }
        open(self.pid, self.start_time)
    }
}

/// The start time is read after the pidfd is open: if it is right then, the pidfd cannot be of an earlier process.
fn open(pid: u32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let fd = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => fd,
        // EINVAL: the pid is now that of a thread.
        Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let same = Stat::read(pid)?.is_some_and(|stat| stat.start_time == start_time && stat.lives());
    Ok(same.then_some(fd))
}

fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id);
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| id.trim().to_owned()))
}

/// What is needed of `/proc/<pid>/stat`.
struct Stat {
    state: u8,
    parent: u32,
    start_time: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Option<Stat>> {
        match sys::read_whole(format!("/proc/{pid}/stat")) {
            Ok(text) => Ok(Stat::parse(&String::from_utf8_lossy(&text))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field is the program's name, which may hold spaces and parentheses.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        Some(Stat {
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// A process found by a walk of `/proc`, good for one signal.
pub(crate) struct Found {
    pid: u32,
    start_time: u64,
}

impl Found {
    pub(crate) fn open(&self) -> io::Result<Option<OwnedFd>> {
        open(self.pid, self.start_time)
    }

    /// Processes that are gone or belong to somebody else are passed over.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Ok(Some(pidfd)) = self.open() {
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }
}

/// All live processes below `root`, in any session or process group. `root` must be a subreaper for this to find the
/// ones whose parents have ended.
pub(crate) fn descendants(root: u32) -> io::Result<Vec<Found>> {
    let mut children: HashMap<u32, Vec<(u32, Stat)>> = HashMap::new();
    for (pid, stat) in all()? {
        children.entry(stat.parent).or_default().push((pid, stat));
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    let mut seen = HashSet::new();
    while let Some(parent) = parents.pop() {
        for (pid, stat) in children.remove(&parent).unwrap_or_default() {
            if !seen.insert(pid) {
                continue;
            }
            parents.push(pid);
            if stat.lives() {
                found.push(Found { pid, start_time: stat.start_time });
            }
        }
    }
    Ok(found)
}

/// All live processes of this user that were started with `variable=value` in their environment.
pub(crate) fn started_with(variable: &str, value: &Path) -> io::Result<Vec<Found>> {
    let wanted = [variable.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
    let mut found = Vec::new();
    for (pid, stat) in all()? {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if stat.lives() && environment.split(|byte| *byte == 0).any(|entry| entry == wanted) {
            found.push(Found { pid, start_time: stat.start_time });
        }
    }
    Ok(found)
}

/// The values that this variable has in the environments of live processes of this user, each once.
pub(crate) fn values_of(variable: &str) -> io::Result<BTreeSet<OsString>> {
    let begin = [variable.as_bytes(), b"="].concat();
    let mut values = BTreeSet::new();
    for (pid, stat) in all()? {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let value = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(&begin[..]));
        values.extend(value.filter(|_| stat.lives()).map(|value| OsStr::from_bytes(value).to_owned()));
    }
    Ok(values)
}

fn all() -> io::Result<Vec<(u32, Stat)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = Stat::read(pid)? {
            processes.push((pid, stat));
        }
    }
    Ok(processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) R (b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_time), (b'S', 7, 123_456));
    }
}
