//! A control group (version 2) for each task, where the studio was given a subtree of them to manage.
//!
//! That is so when its own group is called [`LEAF`], as the systemd unit asks for (`Delegate=`, `DelegateSubgroup=`): the
//! tasks' groups are made beside it. Elsewhere, and wherever a step fails, tasks live as they do without.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::Limits;

/// The studio's own group, below the one that was delegated: a group with members cannot pass memory's control on.
const LEAF: &str = "studio";
const PREFIX: &str = "attempt-";

/// An empty group, waiting for the task; removed when dropped, if it is empty again.
pub(crate) struct Cgroup {
    folder: PathBuf,
    file: File,
}

impl Cgroup {
    /// For the supervisor with this pid. Called ahead of a launch, which it would hold up.
    pub(crate) fn prepare(supervisor: u32) -> Option<Cgroup> {
        let folder = delegated()?.join(format!("{PREFIX}{supervisor}"));
        // Of a supervisor with the same pid that was killed.
        let _ = fs::remove_dir(&folder);
        fs::create_dir(&folder).ok()?;
        // Out of memory, a training without one of its processes would hang or lie.
        let _ = write_existing(&folder.join("memory.oom.group"), "1");
        match File::open(&folder) {
            Ok(file) => Some(Cgroup { folder, file }),
            Err(_) => {
                let _ = fs::remove_dir(&folder);
                None
            }
        }
    }

    /// Keeps its members under these limits, as far as the kernel lets it.
    pub(crate) fn limit(&self, limits: Limits) {
        let set = |file: &str, value: u64| drop(write_existing(&self.folder.join(file), &value.to_string()));
        if let Some(bytes) = limits.host_memory {
            set("memory.max", bytes);
            // A little before, it is slowed down while the kernel takes back what it can.
            set("memory.high", bytes - bytes / 20);
            // Else it would go on in the swap, at a hundredth of the speed.
            set("memory.swap.max", 0);
        }
        if let Some(processes) = limits.processes {
            set("pids.max", processes);
        }
    }

    /// Sends SIGKILL to all members at once, also while they fork. Nothing happens before Linux 5.14.
    pub(crate) fn kill(&self) {
        let _ = write_existing(&self.folder.join("cgroup.kill"), "1");
    }

    /// Members that the kernel has killed for memory; `None` where it does not count them for this group.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let events = fs::read_to_string(self.folder.join("memory.events")).ok()?;
        events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Lets groups account for memory and processes, and removes those that killed supervisors have left; done once by what makes
/// supervisors.
pub(crate) fn set_up() {
    let Some(unit) = delegated() else { return };
    // One by one: what was not delegated must not keep the other away.
    for controller in ["+memory", "+pids"] {
        let _ = write_existing(&unit.join("cgroup.subtree_control"), controller);
    }
    for entry in fs::read_dir(&unit).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // Those with members stay.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The folder of the group that was delegated.
fn delegated() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unit = parent_of_leaf(&own)?;
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    roots.map(|root| root.join(unit)).into_iter().find(|folder| folder.join(LEAF).join("cgroup.procs").exists())
}

/// `0::/user.slice/sage-studio.service/studio` → `user.slice/sage-studio.service`.
fn parent_of_leaf(own: &str) -> Option<&Path> {
    let own = Path::new(own.lines().find_map(|line| line.strip_prefix("0::/"))?);
    if own.file_name()? == LEAF { own.parent() } else { None }
}

/// Without making a file where there is none.
fn write_existing(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_set_and_the_rest_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["memory.max", "memory.high", "memory.swap.max", "pids.max"];
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let group = Cgroup { folder: folder.path().to_owned(), file: File::open(folder.path()).unwrap() };
        let read = || files.map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
        group.limit(Limits::default());
        assert_eq!(read(), ["", "", "", ""]);
        group.limit(Limits { host_memory: Some(2000), processes: None });
        assert_eq!(read(), ["2000", "1900", "0", ""]);
        group.limit(Limits { host_memory: None, processes: Some(64) });
        assert_eq!(read(), ["2000", "1900", "0", "64"]);
        fs::remove_file(folder.path().join("pids.max")).unwrap();
        group.limit(Limits { host_memory: None, processes: Some(64) });
        assert!(!folder.path().join("pids.max").exists(), "a kernel without it gets no file");
    }

    #[test]
    fn only_what_was_delegated_is_used() {
        let of = |own| parent_of_leaf(own).map(|unit| unit.display().to_string());
        assert_eq!(of("4:memory:/x/studio\n0::/a/sage-studio.service/studio\n"), Some("a/sage-studio.service".into()));
        assert_eq!(of("0::/a/sage-studio.service\n"), None);
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of("4:memory:/a/studio\n"), None);
    }
}
