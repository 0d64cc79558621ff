//! The supervisor: one small process with one thread that owns an attempt's process tree.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::cgroup::{self, Cgroup};
use crate::files::{self, Claim, PreparedExit};
use crate::launched::RUNNING;
use crate::log_cap::LogCap;
use crate::unborn::{self, Order, Unborn};
use crate::{Answer, End, Exit, ExitRecord, LaunchSpec, ProcessIdentity};
use crate::{nursery, process, sys};

/// Tells a supervisor to skip the grace.
pub(crate) const KILL_NOW: Signal = Signal::USR1;

/// The most that processes left behind by the task's main process get to end after SIGTERM.
const STRAGGLER_GRACE: Duration = Duration::from_secs(5);

/// Time between two rounds of SIGKILL, doubled up to a second: a process may fork while the tree is walked, and one
/// that hangs in a driver cannot be killed at all.
const KILL_INTERVAL: Duration = Duration::from_millis(10);

/// Body of the hidden `sage supervise`. Call it first thing in `main`, before there is a second thread or an open file.
///
/// It makes supervisors as long as the studio lives. Each reads one [`LaunchSpec`] as JSON from stdin, answers on stdout
/// with one line whether it took the attempt, and runs it to the end. Without a spec (the studio ended before it needed
/// this one) it ends quietly.
pub fn supervise() -> ExitCode {
    // SAFETY: nothing was opened or started yet.
    if unsafe { sys::detach() }.is_err() {
        return ExitCode::FAILURE;
    }
    let oom_score = unborn::lower_oom_score();
    // Found out once for all.
    let _ = ProcessIdentity::current();
    cgroup::set_up();
    // SAFETY: no thread was started.
    match unsafe { nursery::run() } {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    match run(oom_score.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Answer::Refused(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// `oom_score` is what the task should have.
fn run(oom_score: Option<&str>) -> io::Result<()> {
    let identity = ProcessIdentity::current()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

    let mut cgroup = Cgroup::prepare(identity.pid);
    // SAFETY: this process has one thread.
    let unborn = unsafe { Unborn::fork(&mut cgroup, oom_score)? };
    let spec = sys::read_line(rustix::stdio::stdin())?;
    if spec.is_empty() {
        unborn.dismiss();
        return Ok(());
    }
    let spec: LaunchSpec = serde_json::from_slice(&spec)?;
    if let Some(cgroup) = &cgroup {
        cgroup.limit(spec.limits);
    }
    // From here on a stop is kept until the task runs.
    let signals = sys::signals_as_file()?;
    let log = open_log(&spec)?;
    let Some(exit_record) = claim(&spec.attempt_dir, &identity)? else {
        say(&Answer::AlreadyClaimed);
        unborn.dismiss();
        return Ok(());
    };
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;

    let started = Instant::now();
    let started_at = Timestamp::now();
    // Once, and after the task's process has its order: who hears it has work to do, which is not to keep that from a processor.
    let mut is_told = false;
    let mut tell = || {
        if !std::mem::replace(&mut is_told, true) {
            say(&Answer::Claimed);
        }
    };
    let launched = spawn(unborn, spec.clone(), identity, started_at, oom_score, &mut cgroup, &mut tell);
    tell();
    let lost_log_bytes = log.lost();
    let (end, ended_at, seconds, lost_log_bytes) = match launched {
        Ok(task) => Attempt::new(&spec, signals, log, task, cgroup.as_ref(), started).run_to_end()?,
        Err(message) => {
            (End::ExecFailed { message }, Timestamp::now(), started.elapsed().as_secs_f64(), lost_log_bytes)
        }
    };
    let record = ExitRecord { end, started_at, ended_at, seconds, lost_log_bytes, supervisor_lost: false };
    files::publish_exit(&spec.attempt_dir, &exit_record, &record)?;
    drop(cgroup);
    // Hangs up, long before this process has given back all its memory.
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

fn say(answer: &Answer) {
    // Nobody may be listening any more; the claim counts, not the answer.
    let _ = sys::to_line(answer).map(|line| rustix::io::write(rustix::stdio::stdout(), &line));
}

fn open_log(spec: &LaunchSpec) -> io::Result<LogCap> {
    let said = |error: io::Error| io::Error::new(error.kind(), format!("log {}: {error}", spec.log.display()));
    if let Some(parent) = spec.log.parent() {
        fs::create_dir_all(parent).map_err(said)?;
    }
    LogCap::open(&spec.log, spec.log_cap).map_err(said)
}

/// `None`: the attempt is somebody else's.
fn claim(dir: &Path, identity: &ProcessIdentity) -> io::Result<Option<File>> {
    let said = |error: io::Error| io::Error::new(error.kind(), format!("attempt folder {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(said)?;
    let exit_record = PreparedExit::take(dir).map_err(said)?;
    match files::claim(dir, &Claim::Supervisor(identity.clone())) {
        Ok(true) => Ok(Some(exit_record.keep(dir)?)),
        Ok(false) => {
            exit_record.discard();
            Ok(None)
        }
        Err(error) => {
            exit_record.discard();
            Err(said(error))
        }
    }
}

/// Returns when the task's program was executed, or with the reason why it was not. `meanwhile` is called when its process has the
/// order.
fn spawn(
    mut unborn: Unborn,
    spec: LaunchSpec,
    supervisor: ProcessIdentity,
    started_at: Timestamp,
    oom_score: Option<&str>,
    cgroup: &mut Option<Cgroup>,
    meanwhile: &mut impl FnMut(),
) -> Result<Pid, String> {
    let program = spec.argv.first().cloned().ok_or("the command is empty")?;
    let variables = spec.env.iter().flat_map(|(name, value)| [Some(name), value.as_ref()]).flatten();
    if spec.argv.iter().chain(variables).any(|text| text.contains('\0')) {
        return Err("the command or its environment holds a NUL".into());
    }
    let order = Order { spec, supervisor, started_at };
    loop {
        match unborn.execute(&order, &mut *meanwhile) {
            Ok(task) => {
                // Readers find the record under its first name too, so a failure here loses nothing.
                let _ = files::publish_running(&order.spec.attempt_dir);
                let _ = rustix::io::write(rustix::stdio::stdout(), RUNNING);
                return Ok(task);
            }
            // Killed while it waited.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                // SAFETY: this process has one thread.
                unborn = unsafe { Unborn::fork(cgroup, oom_score) }.map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(launch_problem(&order.spec, &program, &error)),
        }
    }
}

/// Says which step failed; all of them report nothing but an errno.
fn launch_problem(spec: &LaunchSpec, program: &str, error: &io::Error) -> String {
    let problem = if files::was_spawned(&spec.attempt_dir) {
        format!("{program}: {error}")
    } else if let Err(error) = rustix::process::chdir(&spec.cwd) {
        format!("the working folder {} cannot be entered: {error}", spec.cwd.display())
    } else {
        format!("the attempt folder {} cannot be written: {error}", spec.attempt_dir.display())
    };
    let _ = rustix::process::chdir("/");
    // The record has a fixed size.
    problem.chars().take(500).collect()
}

/// Why the supervisor ends the task.
#[derive(Clone, Copy, PartialEq)]
enum Cause {
    Cancel,
    TimeLimit,
}

/// The attempt while it runs.
struct Attempt<'a> {
    spec: &'a LaunchSpec,
    signals: OwnedFd,
    log: LogCap,
    task: Pid,
    cgroup: Option<&'a Cgroup>,
    started: Instant,
    time_limit: Option<Instant>,
    oom_kills: Option<u64>,
    cause: Option<Cause>,
    kill_at: Option<Instant>,
    kill_interval: Duration,
    /// Of the task's main process; the attempt goes on while any of its descendants lives.
    ended: Option<Ended>,
    stragglers_told: bool,
}

struct Ended {
    exit: Exit,
    at: Timestamp,
    seconds: f64,
}

impl<'a> Attempt<'a> {
    fn new(
        spec: &'a LaunchSpec,
        signals: OwnedFd,
        log: LogCap,
        task: Pid,
        cgroup: Option<&'a Cgroup>,
        started: Instant,
    ) -> Attempt<'a> {
        Attempt {
            spec,
            signals,
            log,
            task,
            cgroup,
            started,
            time_limit: spec.time_limit.and_then(|limit| started.checked_add(limit)),
            oom_kills: oom_kills(),
            cause: None,
            kill_at: None,
            kill_interval: KILL_INTERVAL,
            ended: None,
            stragglers_told: false,
        }
    }

    fn run_to_end(mut self) -> io::Result<(End, Timestamp, f64, u64)> {
        let mut requests = Vec::new();
        loop {
            // Reaped first: a task that ended before the request was handled was not ended by it.
            if let Some(ended) = self.reap()? {
                self.log.enforce();
                return Ok((self.end(ended.exit), ended.at, ended.seconds, self.log.lost()));
            }
            let now = Instant::now();
            for signal in requests.drain(..) {
                self.handle(signal, now);
            }
            self.keep_times(now);
            requests = self.sleep()?;
        }
    }

    /// Returns how the main process ended once no descendant is left.
    fn reap(&mut self) -> io::Result<Option<Ended>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.task => {
                    let seconds = self.started.elapsed().as_secs_f64();
                    self.ended = Exit::from_status(status).map(|exit| Ended { exit, at: Timestamp::now(), seconds });
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                // Orphans of the tree become children of the subreaper, so no children means no tree.
                Err(Errno::CHILD) => return Ok(self.ended.take()),
                Ok(None) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.ended.is_some() && !self.stragglers_told {
            self.stragglers_told = true;
            self.signal_tree(Signal::TERM);
            let latest = Instant::now() + self.spec.grace.min(STRAGGLER_GRACE);
            self.kill_at = Some(self.kill_at.map_or(latest, |at| at.min(latest)));
        }
        Ok(None)
    }

    fn handle(&mut self, signal: i32, now: Instant) {
        if signal == KILL_NOW.as_raw() {
            self.stop(Cause::Cancel, now);
            self.kill_at = Some(now);
        } else if signal == Signal::TERM.as_raw() {
            self.stop(Cause::Cancel, now);
        }
    }

    /// The first cause counts.
    fn stop(&mut self, cause: Cause, now: Instant) {
        if self.ended.is_some() || self.cause.is_some() {
            return;
        }
        self.cause = Some(cause);
        self.kill_at = now.checked_add(self.spec.grace);
        let _ = rustix::process::kill_process_group(self.task, Signal::TERM);
        // A stopped process would only see it when continued.
        let _ = rustix::process::kill_process_group(self.task, Signal::CONT);
    }

    fn keep_times(&mut self, now: Instant) {
        if self.time_limit.is_some_and(|limit| now >= limit) {
            self.time_limit = None;
            self.stop(Cause::TimeLimit, now);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.signal_tree(Signal::KILL);
            self.kill_at = Some(now + self.kill_interval);
            self.kill_interval = (self.kill_interval * 2).min(Duration::from_secs(1));
        }
        if now >= self.log.next_look() {
            self.log.look(now);
        }
    }

    /// Until a signal comes or something is due. Returns the signals.
    fn sleep(&mut self) -> io::Result<Vec<i32>> {
        let due = [self.time_limit, self.kill_at].into_iter().flatten().fold(self.log.next_look(), Instant::min);
        let left = due.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(sys::read_signals(&self.signals))
    }

    fn signal_tree(&self, signal: Signal) {
        // Its number stays taken until it is reaped, so this cannot meet a stranger.
        if self.ended.is_none() {
            let _ = rustix::process::kill_process_group(self.task, signal);
        }
        if let (Some(cgroup), Signal::KILL) = (self.cgroup, signal) {
            cgroup.kill();
        }
        for process in process::descendants(std::process::id()).unwrap_or_default() {
            process.signal(signal);
        }
    }

    fn end(&self, exit: Exit) -> End {
        match self.cause {
            Some(Cause::Cancel) => End::Cancelled { exit: Some(exit) },
            Some(Cause::TimeLimit) => End::TimedOut { exit },
            None if self.ran_out_of_memory(exit) => End::OutOfHostMemory,
            None => exit.into(),
        }
    }

    /// Its group's own count is exact; without one, a kill while any process was killed for memory has to do.
    fn ran_out_of_memory(&self, exit: Exit) -> bool {
        match self.cgroup.and_then(Cgroup::oom_kills) {
            Some(kills) => kills > 0 && exit != Exit::Code(0),
            None => was_killed(exit) && self.oom_kills < oom_kills(),
        }
    }
}

/// By SIGKILL, directly or below a shell.
fn was_killed(exit: Exit) -> bool {
    matches!(exit, Exit::Signal(libc::SIGKILL)) || matches!(exit, Exit::Code(code) if code == 128 + libc::SIGKILL)
}

/// Processes the kernel has killed for memory since boot, in any cgroup.
fn oom_kills() -> Option<u64> {
    let counters = sys::read_whole("/proc/vmstat").ok()?;
    let counters = std::str::from_utf8(&counters).ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
}

impl Exit {
    pub(crate) fn from_status(status: WaitStatus) -> Option<Exit> {
        status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
    }
}
