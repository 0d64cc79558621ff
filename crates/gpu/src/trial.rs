//! Whether a device really has the memory, by allocating it: the driver's figures promise nothing.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use domain::{DeviceId, TaskId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// What to try, and in whose name.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// Starts a program that calls [`trial_main`](crate::trial_main), which takes the arguments that are appended.
    pub command: &'a [OsString],
    pub device: &'a DeviceId,
    /// Bytes that must fit, the CUDA context included.
    pub bytes: u64,
    /// What was free by the last reading; it tells what the context takes. `None`: the context comes on top of `bytes`.
    pub free_before: Option<u64>,
    /// The task and the studio's `$SAGE_HOME`: readings then show the trial's memory as the task's.
    pub task: Option<(TaskId, &'a Path)>,
    /// About 30 s: creating a context can take seconds.
    pub deadline: Duration,
}

/// It fits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// Nothing was tried: only NVIDIA's devices are.
    pub skipped: bool,
    /// Bytes that CUDA called free, with the context there and before anything was allocated.
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// What the context took, where it can be told.
    pub context_bytes: Option<u64>,
    pub allocated_bytes: u64,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrialError {
    /// Bytes; both with the context in them.
    #[error("only {free} of {needed} bytes can be allocated on the device")]
    NotEnough { free: u64, needed: u64 },
    #[error("CUDA answers {name} ({code})")]
    Cuda { code: i32, name: String },
    #[error("the CUDA library libcuda.so.1 cannot be loaded: {0}. Install or repair the NVIDIA driver")]
    NoLibrary(String),
    #[error("the trial allocation did not end within {0:?}")]
    TimedOut(Duration),
    #[error("the trial allocation ended unexpectedly: {0}")]
    Died(String),
}

/// What the helper prints, in one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Fits(TrialReport),
    NotEnough { free: u64, needed: u64 },
    Cuda { code: i32, name: String },
    NoLibrary(String),
}

/// Allocates the bytes on the device in a helper process and gives them back. Blocks until that is done, at most for the
/// deadline.
///
/// Devices that are not NVIDIA's are skipped. A helper that hangs is asked to end and then left alone.
pub fn trial(trial: &Trial<'_>) -> Result<TrialReport, TrialError> {
    let id = &trial.device.0;
    if !id.starts_with("GPU-") && !id.starts_with("MIG-") {
        return Ok(TrialReport { skipped: true, ..TrialReport::default() });
    }
    let died = |error: &dyn std::fmt::Display| TrialError::Died(error.to_string());
    let (program, arguments) = trial.command.split_first().ok_or(TrialError::Died("no command".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--device").arg(id).arg("--bytes").arg(trial.bytes.to_string());
    if let Some(free) = trial.free_before {
        command.arg("--free-before").arg(free.to_string());
    }
    // One device only: with more, CUDA takes longer to start with every pair of them.
    command.env("CUDA_VISIBLE_DEVICES", id);
    if let Some((task, home)) = trial.task {
        command.env("SAGE_TASK_ID", task.to_string()).env("SAGE_HOME", home);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().map_err(|error| died(&error))?;
    match wait(child, trial.deadline).map_err(|error| died(&error))? {
        None => Err(TrialError::TimedOut(trial.deadline)),
        Some((status, output)) => outcome(status, &output),
    }
}

fn outcome(status: ExitStatus, output: &str) -> Result<TrialReport, TrialError> {
    let last = output.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    match last.filter(|_| status.code().is_some()) {
        Some(Outcome::Fits(report)) => Ok(report),
        Some(Outcome::NotEnough { free, needed }) => Err(TrialError::NotEnough { free, needed }),
        Some(Outcome::Cuda { code, name }) => Err(TrialError::Cuda { code, name }),
        Some(Outcome::NoLibrary(why)) => Err(TrialError::NoLibrary(why)),
        None => Err(TrialError::Died(status.to_string())),
    }
}

/// `None`: it is still running at the deadline. Whoever reads its end then is a thread that waits for it.
fn wait(mut child: Child, deadline: Duration) -> std::io::Result<Option<(ExitStatus, String)>> {
    let began = Instant::now();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let mut stdout = child.stdout.take().expect("it was piped");
    let (send, ended) = std::sync::mpsc::channel();
    thread::Builder::new().name("gpu-trial".into()).stack_size(256 << 10).spawn(move || {
        let mut output = String::new();
        let read = stdout.read_to_string(&mut output);
        let _ = send.send(read.and_then(|_| child.wait()).map(|status| (status, output)));
    })?;
    match ended.recv_timeout(deadline.saturating_sub(began.elapsed())) {
        Ok(result) => result.map(Some),
        Err(_) => {
            let _ = pidfd.and_then(|pidfd| pidfd_send_signal(pidfd, Signal::TERM));
            Ok(None)
        }
    }
}
