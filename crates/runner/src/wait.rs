use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::files::{self, Claim};
use crate::stand_in::StandIn;
use crate::watch::FolderWatch;
use crate::{End, Exit, ExitRecord, Launched, Observed, ProcessIdentity, RunningRecord, observe, stop, sys};

/// How long an ended task may wait to be reaped by the process that took it over; longer means that it never will be.
const REAPING: Duration = Duration::from_secs(10);

/// What [`wait_started`] waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    /// The program was executed.
    Running(RunningRecord),
    /// It could not be, or the attempt ended before anybody looked.
    Over(AttemptEnd),
}

/// How an attempt is over.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptEnd {
    Ended(ExitRecord),
    /// The supervisor was killed and nobody saw how the task ended.
    SupervisorLost,
    /// The machine went down meanwhile.
    Interrupted,
}

/// Waits until the task's program was executed or never will be. The attempt has to be launched before.
pub async fn wait_started(attempt_dir: &Path) -> io::Result<Started> {
    started(attempt_dir).await
}

/// Whoever was told that it is so need not watch the folder.
pub(crate) async fn started(attempt_dir: &Path) -> io::Result<Started> {
    let mut watch = None;
    loop {
        let over = match (observe(attempt_dir)?, &watch) {
            // Watched first, or a change could be missed.
            (Observed::NotStarted | Observed::Starting, None) => {
                watch = Some(FolderWatch::new(attempt_dir, &files::LANDMARKS.map(OsStr::new))?);
                continue;
            }
            (Observed::NotStarted, Some(watch)) => {
                watch.changed().await;
                continue;
            }
            (Observed::Starting, Some(watch)) => {
                if let Some(supervisor) = open_supervisor(attempt_dir)? {
                    tokio::select! {
                        () = watch.changed() => {}
                        gone = readable(supervisor.as_fd()) => gone?,
                    }
                }
                continue;
            }
            (Observed::Running(record), _) => return Ok(Started::Running(record)),
            // The task runs, and only its record did not get its last name.
            (Observed::SupervisorLost { task: Some(_) }, _) => match files::read_spawned(attempt_dir)? {
                Some(record) => return Ok(Started::Running(record)),
                None => AttemptEnd::SupervisorLost,
            },
            (Observed::Ended(record), _) => AttemptEnd::Ended(record),
            (Observed::SupervisorLost { task: None }, _) => AttemptEnd::SupervisorLost,
            (Observed::Interrupted, _) => AttemptEnd::Interrupted,
        };
        return Ok(Started::Over(over));
    }
}

/// Waits until the attempt is over. The attempt has to be launched before.
///
/// Resolves as soon as the supervisor is gone, or says that it will be. If that was killed, waits for the task itself, asks the kernel how it
/// ended, ends what it left behind, and records all that in the supervisor's stead. Until then it keeps the time limit and
/// the log cap, too.
pub async fn wait_end(attempt_dir: &Path) -> io::Result<AttemptEnd> {
    ended(attempt_dir, None).await
}

pub(crate) async fn ended(attempt_dir: &Path, launched: Option<&Launched>) -> io::Result<AttemptEnd> {
    // The kernel tells how the task ended only to those who held it before it was reaped.
    let mut task = None;
    loop {
        match observe(attempt_dir)? {
            Observed::NotStarted | Observed::Starting => match wait_started(attempt_dir).await? {
                Started::Running(_) => {}
                Started::Over(end) => return Ok(end),
            },
            Observed::Running(record) => {
                task = record.task.open()?.or(task);
                if let Some(supervisor) = open_supervisor(attempt_dir)? {
                    match launched.filter(|launched| !launched.has_hung_up()) {
                        Some(launched) => tokio::select! {
                            told = launched.hangs_up() => {
                                told?;
                                // All is in it, if the supervisor was not killed.
                                if let Ok(Some(record)) = files::read_exit(attempt_dir) {
                                    return Ok(AttemptEnd::Ended(record));
                                }
                            }
                            gone = readable(supervisor.as_fd()) => gone?,
                        },
                        None => readable(supervisor.as_fd()).await?,
                    }
                }
            }
            Observed::Ended(record) => return Ok(AttemptEnd::Ended(record)),
            Observed::Interrupted => return Ok(AttemptEnd::Interrupted),
            Observed::SupervisorLost { task: alive } => {
                let held = alive.as_ref().map(ProcessIdentity::open).transpose()?.flatten().or(task.take());
                return end_without_supervisor(attempt_dir, held).await;
            }
        }
    }
}

async fn end_without_supervisor(attempt_dir: &Path, task: Option<OwnedFd>) -> io::Result<AttemptEnd> {
    let record = files::read_spawned(attempt_dir).ok().flatten();
    let mut stand_in = StandIn::new(record.as_ref());
    let exit = match task {
        Some(task) => {
            let mut exit = pin!(exit_of(task));
            loop {
                tokio::select! {
                    biased;
                    exit = &mut exit => break exit?,
                    () = stand_in.wait() => stand_in.act(attempt_dir),
                }
            }
        }
        None => None,
    };
    // Looked for again until there is none: they may fork while they are looked for.
    loop {
        let left = stop::left_behind(attempt_dir)?;
        if left.is_empty() {
            break;
        }
        for left in left {
            left.signal(rustix::process::Signal::KILL);
            if let Some(pidfd) = left.open()? {
                readable(pidfd.as_fd()).await?;
            }
        }
    }
    let timed_out = stand_in.timed_out;
    let lost_log_bytes = stand_in.end();
    // A process that ended before it executed the program has taken its record back: that end is not the program's.
    let record = record.filter(|_| !matches!(files::read_spawned(attempt_dir), Ok(None)));
    let Some((exit, record)) = exit.zip(record) else {
        return Ok(AttemptEnd::SupervisorLost);
    };
    let ended_at = Timestamp::now();
    let record = ExitRecord {
        end: if timed_out { End::TimedOut { exit } } else { exit.into() },
        started_at: record.started_at,
        ended_at,
        seconds: ended_at.duration_since(record.started_at).as_secs_f64().max(0.0),
        lost_log_bytes,
        supervisor_lost: true,
    };
    // Where it cannot be written, who looks later learns that nobody knows.
    let _ = files::write_exit(attempt_dir, &record);
    Ok(AttemptEnd::Ended(record))
}

fn open_supervisor(attempt_dir: &Path) -> io::Result<Option<OwnedFd>> {
    match files::read_claim(attempt_dir)? {
        Some(Claim::Supervisor(supervisor)) => supervisor.open(),
        _ => Ok(None),
    }
}

/// Resolves when there is something to read: of a pidfd, when its process has ended.
pub(crate) async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    register(fd)?.readable().await?.retain_ready();
    Ok(())
}

fn register(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: what is borrowed is open, and the same, for as long as the `AsyncFd` that holds it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Waits for the end of a process that is not our child. `None`: the kernel does not tell.
async fn exit_of(pidfd: OwnedFd) -> io::Result<Option<Exit>> {
    let pidfd = register(pidfd.as_fd())?;
    pidfd.readable().await?.retain_ready();
    // It tells only once the process was reaped, which is when the pidfd hangs up.
    let reaped = async {
        loop {
            let mut ready = pidfd.readable().await?;
            if ready.ready().is_read_closed() {
                return io::Result::Ok(());
            }
            ready.clear_ready();
        }
    };
    let _ = timeout(REAPING, reaped).await;
    Ok(sys::exit_of_stranger(pidfd.get_ref()))
}
