use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::nursery::{Nursery, Spare};
use crate::{LaunchSpec, Launched, sys};

/// How long a supervisor may take to claim an attempt: far more than any disk needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps one supervisor waiting, so that a launch costs a pipe write and an exec.
///
/// The waiting one ends by itself when the launcher is dropped or its process dies.
pub struct Launcher {
    supervise_argv: Arc<[OsString]>,
    ready: Arc<Mutex<Ready>>,
}

/// Either is missing until it was started, and when it could not be.
#[derive(Default)]
struct Ready {
    nursery: Option<Nursery>,
    spare: Option<Spare>,
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

/// The first line that a supervisor says about a spec.
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
        let launcher = Launcher { supervise_argv: supervise_argv.into(), ready: Arc::default() };
        let (argv, ready) = (Arc::clone(&launcher.supervise_argv), Arc::clone(&launcher.ready));
        // Off the studio's way to its first answer. If it fails, the next launch tries again and reports why.
        let work = move || drop(lock(&ready).refill(&argv));
        let _ = thread::Builder::new().name("nursery".into()).spawn(work);
        launcher
    }

    /// Returns when a supervisor has claimed the attempt: normally within a millisecond, so it may be called from
    /// async code. How the start went on is told by what it returns.
    ///
    /// Harmless when repeated: an attempt is claimed once, ever, and a second launch of it succeeds without effect.
    pub fn launch(&self, spec: &LaunchSpec) -> Result<Launched, LaunchError> {
        let spec = absolute(spec).map_err(LaunchError::Spec)?;
        let text = sys::to_line(&spec).map_err(LaunchError::Spec)?;
        // Somebody may have killed it while it waited, or what makes them.
        let answer = match hand_over(self.take()?, &text) {
            Err(LaunchError::Died) => {
                lock(&self.ready).nursery = None;
                hand_over(self.take()?, &text)
            }
            answer => answer,
        };
        // If this fails, the next launch tries again and reports why.
        let _ = lock(&self.ready).refill(&self.supervise_argv);
        match answer? {
            (Answer::Claimed, pipe, said) => Ok(Launched::new(&spec.attempt_dir, Some(pipe), &said)),
            (Answer::AlreadyClaimed, ..) => Ok(Launched::new(&spec.attempt_dir, None, &[])),
            (Answer::Refused(reason), ..) => Err(LaunchError::Refused(reason)),
        }
    }

    fn take(&self) -> Result<Spare, LaunchError> {
        let mut ready = lock(&self.ready);
        ready.refill(&self.supervise_argv).map_err(LaunchError::Spawn)?;
        ready.spare.take().ok_or(LaunchError::Died)
    }
}

impl Ready {
    fn refill(&mut self, argv: &[OsString]) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = match self.nursery.as_ref().map(Nursery::spare) {
                Some(Ok(spare)) => Some(spare),
                _ => Some(self.nursery.insert(Nursery::start(argv)?).spare()?),
            };
        }
        Ok(())
    }
}

fn lock(ready: &Mutex<Ready>) -> MutexGuard<'_, Ready> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer, the pipe that it came by, and what came behind it.
fn hand_over(mut spare: Spare, spec: &[u8]) -> Result<(Answer, OwnedFd, Vec<u8>), LaunchError> {
    if let Err(error) = spare.spec.write_all(spec) {
        let died = error.kind() == io::ErrorKind::BrokenPipe;
        return Err(if died { LaunchError::Died } else { LaunchError::Spec(error) });
    }
    drop(spare.spec);
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let mut answered = [PollFd::new(&spare.answer, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut answered, Some(&patience))) == Ok(0) {
        return Err(LaunchError::Silent);
    }
    let mut answer = BufReader::new(spare.answer);
    let mut line = String::new();
    let read = answer.read_line(&mut line);
    let said = answer.buffer().to_vec();
    let answered = read.ok().and_then(|_| serde_json::from_str(&line).ok()).ok_or(LaunchError::Died)?;
    Ok((answered, answer.into_inner().into(), said))
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
