//! The task's own process before it executes the program. It is forked while its supervisor waits, so that a launch costs
//! an exec and no fork.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, getpid, getppid, waitpid};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::{CappedLog, LaunchSpec, ProcessIdentity, RunningRecord, files, stand_in, sys};

/// In the environment of the task and all that it starts: its attempt folder. The way to find processes that left the
/// tree when there is no supervisor to ask.
pub(crate) const ATTEMPT_VARIABLE: &str = "SAGE_ATTEMPT";

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Makes the kernel prefer others when memory runs out. Returns the score that the task should have instead.
pub(crate) fn lower_oom_score() -> Option<String> {
    let inherited = fs::read_to_string(OOM_SCORE).ok()?;
    fs::write(OOM_SCORE, "-900").ok()?;
    Some(inherited)
}

/// A process that waits to become a task. It ends by itself when this is dropped or its supervisor dies.
pub(crate) struct Unborn {
    pid: Pid,
    /// Where an [`Order`] is written.
    order: File,
    /// Ends without a word once the program is executed; else the errno is in it.
    errors: File,
}

/// What it takes to become a task.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: LaunchSpec,
    pub(crate) supervisor: ProcessIdentity,
    pub(crate) started_at: Timestamp,
}

impl Unborn {
    /// In the control group if there is one; where that is impossible, `cgroup` is none any more. `oom_score` is what the task
    /// should have.
    ///
    /// # Safety
    /// The process has one thread.
    pub(crate) unsafe fn fork(cgroup: &mut Option<Cgroup>, oom_score: Option<&str>) -> io::Result<Unborn> {
        let (orders, order) = pipe_with(PipeFlags::CLOEXEC)?;
        let (errors, error) = pipe_with(PipeFlags::CLOEXEC)?;
        // Asked here: the other may be killed before this one has had its first turn.
        let supervisor = getpid();
        // SAFETY: as the caller says.
        let forked = match cgroup.as_ref().map(|group| unsafe { sys::fork_into(group) }) {
            Some(Ok(forked)) => forked,
            // There is none, the kernel is old, or the group is gone.
            _ => {
                *cgroup = None;
                // SAFETY: as the caller says.
                unsafe { sys::fork()? }
            }
        };
        if let Some(pid) = forked {
            return Ok(Unborn { pid, order: order.into(), errors: errors.into() });
        }
        // Or it would outlive its supervisor.
        drop((order, errors));
        let errno = become_task(orders.into(), supervisor, oom_score).raw_os_error().unwrap_or(libc::EIO);
        let _ = rustix::io::write(&error, &errno.to_ne_bytes());
        sys::end_without_cleanup(1)
    }

    /// Lets the process end without ever being a task; returns when it has, so that its group is empty.
    pub(crate) fn dismiss(self) {
        drop(self.order);
        let _ = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::empty()));
    }

    /// Returns when the program was executed, or with the reason why it was not. An error of kind `BrokenPipe`: the process
    /// had been killed before it knew of any program. `meanwhile` is done while the process is at it.
    pub(crate) fn execute(self, order: &Order, meanwhile: impl FnOnce()) -> io::Result<Pid> {
        let Unborn { pid, order: mut orders, mut errors } = self;
        let sent = sys::to_line(order).and_then(|line| orders.write_all(&line));
        drop(orders);
        meanwhile();
        let mut errno = [0; 4];
        let failed = match (sent, errors.read_exact(&mut errno)) {
            (Err(error), _) => error,
            (Ok(()), Ok(())) => io::Error::from_raw_os_error(i32::from_ne_bytes(errno)),
            // The program has its place.
            (Ok(()), Err(_)) => return Ok(pid),
        };
        let _ = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
        Err(failed)
    }
}

/// Does what can be done before the program is known, then waits for it. Returns only if it cannot be executed.
fn become_task(orders: File, supervisor: Pid, oom_score: Option<&str>) -> io::Error {
    let result = (|| {
        // The supervisor's own are the studio's, which would not notice that it died.
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::process::setsid()?;
        sys::reset_signals();
        if let Some(score) = oom_score {
            fs::write(OOM_SCORE, score)?;
        }
        let task = ProcessIdentity::current()?;
        let order = sys::read_line(&orders)?;
        if order.is_empty() {
            sys::end_without_cleanup(0);
        }
        let order: Order = serde_json::from_slice(&order)?;
        let mut command = command(&order.spec)?;
        let Order { spec, supervisor: its_supervisor, started_at } = order;
        let record = RunningRecord {
            supervisor: its_supervisor,
            task,
            started_at,
            grace: spec.grace,
            limit_at: spec.time_limit.and_then(|limit| stand_in::now().checked_add(limit)),
            log: Some(CappedLog { path: spec.log, cap: spec.log_cap }),
        };
        let dir = spec.attempt_dir;
        let last_steps = move || {
            files::write_spawned(&dir, &record)?;
            // A supervisor killed until now leaves a record of a task that never runs; killed from now on, of one that does.
            if getppid() != Some(supervisor) {
                // Nobody is left to report to, and this end must not pass for the program's.
                let _ = files::forget_spawned(&dir);
                sys::end_without_cleanup(1);
            }
            Ok(())
        };
        // SAFETY: this process has one thread and runs the closure itself.
        unsafe { command.pre_exec(last_steps) };
        Ok::<_, io::Error>(command.exec())
    })();
    result.unwrap_or_else(|error| error)
}

fn command(spec: &LaunchSpec) -> io::Result<Command> {
    let log = OpenOptions::new().append(true).create(true).open(&spec.log)?;
    let (program, arguments) = spec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&spec.cwd).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    for (variable, value) in &spec.env {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.env(ATTEMPT_VARIABLE, &spec.attempt_dir);
    Ok(command)
}
