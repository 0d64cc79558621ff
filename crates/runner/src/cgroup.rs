//! A control group (version 2) for each task, where the studio was given a subtree of them to manage.
//!
//! That is so when its own group is called [`LEAF`], as the systemd unit asks for (`Delegate=`, `DelegateSubgroup=`): the
//! tasks' groups are made beside it. Elsewhere, and wherever a step fails, tasks live as they do without.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

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

/// Lets groups account for memory, and removes those that killed supervisors have left; done once by what makes
/// supervisors.
pub(crate) fn set_up() {
    let Some(unit) = delegated() else { return };
    let _ = write_existing(&unit.join("cgroup.subtree_control"), "+memory");
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
    fn only_what_was_delegated_is_used() {
        let of = |own| parent_of_leaf(own).map(|unit| unit.display().to_string());
        assert_eq!(of("4:memory:/x/studio\n0::/a/sage-studio.service/studio\n"), Some("a/sage-studio.service".into()));
        assert_eq!(of("0::/a/sage-studio.service\n"), None);
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of("4:memory:/a/studio\n"), None);
    }
}
