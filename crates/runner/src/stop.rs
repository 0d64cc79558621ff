use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Signal, pidfd_send_signal};

use crate::files::{self, Claim};
use crate::process::{self, Found};
use crate::supervisor::KILL_NOW;
use crate::unborn::ATTEMPT_VARIABLE;
use crate::{Observed, ProcessIdentity, observe, sys};

/// Asks for the end of an attempt and returns at once: the task gets SIGTERM, and after its grace the whole process
/// tree gets SIGKILL. An attempt that was not started never will be. One that is over stays as it is.
///
/// If the supervisor was lost, a thread of this process does its work; call again after a restart.
pub fn stop(attempt_dir: &Path) -> io::Result<()> {
    request(attempt_dir, Urgency::AfterGrace)
}

/// Like [`stop`], without the grace.
pub fn kill_now(attempt_dir: &Path) -> io::Result<()> {
    request(attempt_dir, Urgency::Now)
}

#[derive(Clone, Copy, PartialEq)]
enum Urgency {
    AfterGrace,
    Now,
}

fn request(attempt_dir: &Path, urgency: Urgency) -> io::Result<()> {
    loop {
        match observe(attempt_dir)? {
            Observed::Ended(_) | Observed::Interrupted => return Ok(()),
            Observed::NotStarted => {
                std::fs::create_dir_all(attempt_dir)?;
                if files::claim(attempt_dir, &Claim::Void { at: Timestamp::now() })? {
                    // Somebody may have removed the folder of an attempt that ran.
                    return kill_left_behind(attempt_dir);
                }
            }
            Observed::Starting | Observed::Running(_) => {
                let signal = if urgency == Urgency::Now { KILL_NOW } else { Signal::TERM };
                if let Some(Claim::Supervisor(supervisor)) = files::read_claim(attempt_dir)?
                    && send(&supervisor, signal)?
                {
                    return Ok(());
                }
            }
            Observed::SupervisorLost { task: None } => return kill_left_behind(attempt_dir),
            Observed::SupervisorLost { task: Some(task) } => return stop_directly(attempt_dir, &task, urgency),
        }
        // It changed between the look and the deed.
    }
}

/// Returns whether the process was there to get it.
fn send(process: &ProcessIdentity, signal: Signal) -> io::Result<bool> {
    let Some(pidfd) = process.open()? else { return Ok(false) };
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn stop_directly(attempt_dir: &Path, task: &ProcessIdentity, urgency: Urgency) -> io::Result<()> {
    let Some(pidfd) = task.open()? else { return kill_left_behind(attempt_dir) };
    if urgency == Urgency::Now {
        return kill_left_behind(attempt_dir);
    }
    let grace = files::read_spawned(attempt_dir)?.map_or(Duration::ZERO, |record| record.grace);
    signal_group(attempt_dir, &pidfd, Signal::TERM)?;
    signal_group(attempt_dir, &pidfd, Signal::CONT)?;
    let attempt_dir = attempt_dir.to_owned();
    let finish = move || {
        wait(&pidfd, grace);
        let _ = kill_left_behind(&attempt_dir);
    };
    thread::Builder::new().name("stop-attempt".into()).spawn(finish)?;
    Ok(())
}

/// Signals the group that this process leads. By its number that could meet a stranger, once the group is gone and the
/// number used again; where the kernel does not take the descriptor instead, each process of the attempt is signalled
/// through its own.
fn signal_group(attempt_dir: &Path, leader: &OwnedFd, signal: Signal) -> io::Result<()> {
    match sys::signal_group(leader, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(Errno::INVAL) => {
            left_behind(attempt_dir)?.iter().for_each(|process| process.signal(signal));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn wait(pidfd: &OwnedFd, longest: Duration) {
    let timeout =
        Timespec { tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: longest.subsec_nanos().into() };
    let mut ended = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let _ = retry_on_intr(|| poll(&mut ended, Some(&timeout)));
}

/// Without a supervisor nobody adopts orphans, but all processes of an attempt carry its folder in their environment.
pub(crate) fn left_behind(attempt_dir: &Path) -> io::Result<Vec<Found>> {
    process::started_with(ATTEMPT_VARIABLE, &std::path::absolute(attempt_dir)?)
}

fn kill_left_behind(attempt_dir: &Path) -> io::Result<()> {
    for process in left_behind(attempt_dir)? {
        process.signal(Signal::KILL);
    }
    Ok(())
}
