//! Looks for what keeps GPUs from being seen or used, and says what to do about it.

mod machine;
mod nvidia;
mod usage;

use std::ffi::OsString;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::Options;

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, such as `nvidia-module`; stable, for scripts.
    pub subject: &'static str,
    pub status: Status,
    /// What was found.
    pub zh: String,
    pub en: String,
    /// What to do about it; empty where nothing need be done.
    pub next_zh: String,
    pub next_en: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// Something does not work.
    Problem,
    /// It works, but people should know.
    Note,
}

/// Checks the machine, the drivers, permissions, each device, and a small trial allocation, in the order in which they
/// depend on each other. Takes seconds, and with a driver that hangs at most about a minute.
///
/// `sweep` and `trial` start programs that call [`worker_main`](crate::worker_main) and
/// [`trial_main`](crate::trial_main).
pub fn doctor(options: &Options, sweep: &[OsString], trial: &[OsString]) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(machine::wsl(options));
    checks.extend(machine::container(options));
    checks.extend(nvidia::module(options));
    checks.extend(nvidia::library(options));
    checks.extend(nvidia::device_files(options));
    checks.extend(machine::amd_device_files(options));
    checks.extend(usage::devices(options, sweep, trial));
    checks.extend(machine::shared_memory(options));
    checks.extend(machine::visible_devices(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref()));
    checks
}

impl Check {
    fn new(subject: &'static str, status: Status, zh: impl Into<String>, en: impl Into<String>) -> Check {
        let (next_zh, next_en) = Default::default();
        Check { subject, status, zh: zh.into(), en: en.into(), next_zh, next_en }
    }

    fn ok(subject: &'static str, zh: impl Into<String>, en: impl Into<String>) -> Check {
        Check::new(subject, Status::Ok, zh, en)
    }

    fn note(subject: &'static str, zh: impl Into<String>, en: impl Into<String>) -> Check {
        Check::new(subject, Status::Note, zh, en)
    }

    fn problem(subject: &'static str, zh: impl Into<String>, en: impl Into<String>) -> Check {
        Check::new(subject, Status::Problem, zh, en)
    }

    fn next(self, zh: impl Into<String>, en: impl Into<String>) -> Check {
        Check { next_zh: zh.into(), next_en: en.into(), ..self }
    }
}

/// Whether this user may read and write the file; a problem with the group to join, if not.
fn permission(subject: &'static str, options: &Options, path: &Path) -> Result<(), Check> {
    if access(path, Access::READ_OK | Access::WRITE_OK).is_ok() {
        return Ok(());
    }
    let shown = path.display();
    let check =
        Check::problem(subject, format!("没有读写 {shown} 的权限"), format!("{shown} cannot be read and written"));
    Err(match group(options, path) {
        Some(group) => check.next(
            format!("运行 sudo usermod -aG {group} $USER，然后重新登录"),
            format!("Run sudo usermod -aG {group} $USER, then sign in again"),
        ),
        None => check.next(
            format!("检查 ls -l {shown}；在容器中请传入该设备"),
            format!("Look at ls -l {shown}; in a container, pass the device"),
        ),
    })
}

/// The group that may use the file, unless that is root's.
fn group(options: &Options, path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let id = std::fs::metadata(path).ok()?.gid();
    let groups = std::fs::read_to_string(options.path("etc/group")).ok()?;
    let mut names = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    names.next().filter(|name| name != "root")
}
