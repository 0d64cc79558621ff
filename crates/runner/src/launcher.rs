use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::LaunchSpec;

/// How long a supervisor may take to claim an attempt: far more than any disk needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps one warm supervisor waiting, so that a launch costs a pipe write and an exec.
///
/// The waiting one ends by itself when the launcher is dropped or its process dies.
pub struct Launcher {
    supervise_argv: Arc<[OsString]>,
    spare: Arc<Mutex<Option<Spare>>>,
}

/// After any of these it is unknown whether the attempt was claimed: launch it again, or
/// [`stop`](crate::stop) it, which makes sure that it never starts.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("the supervisor could not be started: {0}")]
    Spawn(#[source] io::Error),
    #[error("the supervisor could not take the attempt: {0}")]
    Refused(String),
    #[error("the supervisor ended before it took the attempt")]
    Died,
    #[error("the supervisor did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the launch specification cannot be sent: {0}")]
    Spec(#[source] io::Error),
}

/// The one line a supervisor says about a spec.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Claimed,
    AlreadyClaimed,
    Refused(String),
}

impl Launcher {
    /// `supervise_argv` is a command whose `main` calls [`supervise`](crate::supervise).
    pub fn new(supervise_argv: Vec<OsString>) -> Launcher {
        let launcher = Launcher { supervise_argv: supervise_argv.into(), spare: Arc::default() };
        launcher.refill();
        launcher
    }

    /// Returns when a supervisor has claimed the attempt: normally within a millisecond, so it may be called from
    /// async code. How the start went on is told by [`wait_started`](crate::wait_started).
    ///
    /// Harmless when repeated: an attempt is claimed once, ever, and a second launch of it succeeds without effect.
    pub fn launch(&self, spec: &LaunchSpec) -> Result<(), LaunchError> {
        let spec = absolute(spec).and_then(|spec| Ok(serde_json::to_vec(&spec)?)).map_err(LaunchError::Spec)?;
        let warm = self.lock().take();
        let answer = match warm.map(|spare| spare.hand_over(&spec)) {
            // Somebody may have killed it while it waited.
            None | Some(Err(LaunchError::Died)) => {
                Spare::start(&self.supervise_argv).map_err(LaunchError::Spawn)?.hand_over(&spec)
            }
            Some(answer) => answer,
        };
        self.refill();
        match answer? {
            Answer::Claimed | Answer::AlreadyClaimed => Ok(()),
            Answer::Refused(reason) => Err(LaunchError::Refused(reason)),
        }
    }

    /// Starts the next spare on a thread of its own. A launch that comes meanwhile waits for it.
    fn refill(&self) {
        let (argv, place) = (Arc::clone(&self.supervise_argv), Arc::clone(&self.spare));
        let work = move || {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if place.is_none() {
                // If this fails, the next launch tries again and reports why.
                *place = Spare::start(&argv).ok();
            }
        };
        let _ = thread::Builder::new().name("spare-supervisor".into()).spawn(work);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A supervisor that has no attempt yet.
struct Spare {
    spec: ChildStdin,
    answer: ChildStdout,
}

impl Spare {
    fn start(argv: &[OsString]) -> io::Result<Spare> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        // It detaches at once, which ends the process that was started here.
        child.wait()?;
        let (spec, answer) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Spare { spec, answer })
    }

    fn hand_over(mut self, spec: &[u8]) -> Result<Answer, LaunchError> {
        if let Err(error) = self.spec.write_all(spec) {
            let died = error.kind() == io::ErrorKind::BrokenPipe;
            return Err(if died { LaunchError::Died } else { LaunchError::Spec(error) });
        }
        drop(self.spec);
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut answered = [PollFd::new(&self.answer, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut answered, Some(&patience))) == Ok(0) {
            return Err(LaunchError::Silent);
        }
        let mut line = String::new();
        let read = BufReader::new(self.answer).read_line(&mut line);
        read.ok().and_then(|_| serde_json::from_str(&line).ok()).ok_or(LaunchError::Died)
    }
}

/// A supervisor works from `/`, so it cannot resolve the studio's relative paths.
fn absolute(spec: &LaunchSpec) -> io::Result<LaunchSpec> {
    Ok(LaunchSpec {
        attempt_dir: std::path::absolute(&spec.attempt_dir)?,
        cwd: std::path::absolute(&spec.cwd)?,
        log: std::path::absolute(&spec.log)?,
        ..spec.clone()
    })
}
