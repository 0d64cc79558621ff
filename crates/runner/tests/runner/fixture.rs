use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use runner::{
    AttemptEnd, End, ExitRecord, FileFollower, LaunchSpec, Launcher, RunningRecord, Started, wait_end, wait_started,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

/// No test takes this long unless something hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A test by the name of its function, in a folder and a runtime of its own.
macro_rules! trial {
    ($test:path) => {
        libtest_mimic::Trial::test(stringify!($test), || crate::fixture::run($test))
    };
}
pub(crate) use trial;

pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Fixture) -> F) -> Result<(), libtest_mimic::Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let test = async { tokio::time::timeout(DEADLINE, test(Fixture::new())).await };
    runtime.block_on(test).map_err(|_| "it hangs".into())
}

/// One attempt to be: its folder, log and launcher.
pub struct Fixture {
    pub dir: TempDir,
    pub launcher: Launcher,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { dir: TempDir::new().expect("a temporary folder"), launcher: launcher("a-test") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn attempt(&self) -> PathBuf {
        self.path("attempt")
    }

    /// Runs a shell script.
    pub fn spec(&self, script: &str) -> LaunchSpec {
        LaunchSpec {
            attempt_dir: self.attempt(),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            cwd: self.dir.path().to_owned(),
            env: BTreeMap::new(),
            log: self.path("log"),
            log_cap: 64 << 20,
            grace: Duration::from_secs(3600),
            time_limit: None,
            limits: runner::Limits::default(),
        }
    }

    pub async fn start(&self, spec: &LaunchSpec) -> RunningRecord {
        self.launcher.launch(spec).expect("a launch");
        match wait_started(&spec.attempt_dir).await.expect("a start") {
            Started::Running(record) => record,
            Started::Over(end) => panic!("over before it started: {end:?}"),
        }
    }

    pub async fn end(&self) -> ExitRecord {
        match wait_end(&self.attempt()).await.expect("an end") {
            AttemptEnd::Ended(record) => record,
            end => panic!("no exit record: {end:?}"),
        }
    }

    pub async fn run(&self, spec: &LaunchSpec) -> End {
        self.launcher.launch(spec).expect("a launch");
        self.end().await.end
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("the log")
    }

    /// Waits for a line of the log that starts with this word; returns the rest of it.
    pub async fn line(&self, word: &str) -> String {
        let mut follower = FileFollower::open(&self.path("log"), 0).expect("a follower");
        let mut text = Vec::new();
        loop {
            text.extend(follower.next().await.expect("more of the log").bytes);
            let text = String::from_utf8_lossy(&text);
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(word)) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Something a script waits for with `read _ < NAME`.
    pub fn gate(&self, name: &str) -> Gate {
        let made = Command::new("mkfifo").arg(self.path(name)).status().expect("mkfifo");
        assert!(made.success());
        // Open for both, so that neither side waits for the other to open it.
        Gate(File::options().read(true).write(true).open(self.path(name)).expect("a pipe"))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Only a failed test leaves something to end.
        let _ = runner::kill_now(&self.attempt());
    }
}

pub struct Gate(File);

impl Gate {
    pub fn open(&mut self) {
        self.0.write_all(b"\n").expect("an open gate");
    }
}

/// A process that is watched from before the moment that matters.
pub struct Watched(OwnedFd);

impl Watched {
    pub fn new(pid: &str) -> Watched {
        let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a pid");
        Watched(pidfd_open(pid, PidfdFlags::empty()).expect("a live process"))
    }

    pub fn kill(&self) {
        rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL).expect("a kill");
    }

    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    pub fn wait(&self) {
        assert!(self.ends_within(DEADLINE), "still there");
    }

    fn ends_within(&self, longest: Duration) -> bool {
        let longest = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], Some(&longest)).expect("a poll") == 1
    }
}

pub fn watch(process: &runner::ProcessIdentity) -> Watched {
    Watched::new(&process.pid.to_string())
}

/// The pids of all processes with these bytes in a file of their `/proc` folder.
pub fn processes_with(file: &str, wanted: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read(entry.path().join(file)).unwrap_or_default();
        let is_process = name.bytes().all(|byte| byte.is_ascii_digit());
        if is_process && text.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
            found.push(name);
        }
    }
    found
}

/// `mark` is an argument that the supervisors do not read; it tells them apart in the process table.
fn launcher(mark: &str) -> Launcher {
    let program = std::env::current_exe().expect("this program");
    Launcher::new(vec![program.into(), "supervise".into(), mark.into()])
}

/// A studio of its own process, to be killed: launches the spec on its stdin, says so, and waits.
pub fn studio() -> ExitCode {
    let mark = std::env::args().nth(2).unwrap_or_default();
    let launcher = launcher(&mark);
    let mut spec = String::new();
    io::stdin().read_line(&mut spec).expect("a line");
    let spec = serde_json::from_str(&spec).expect("a spec");
    launcher.launch(&spec).expect("a launch");
    println!("launched");
    loop {
        std::thread::park();
    }
}

pub struct Studio(Child);

impl Studio {
    pub fn start(mark: &str) -> Studio {
        Studio::start_with(mark, &[])
    }

    pub fn start_with(mark: &str, environment: &[(&str, &Path)]) -> Studio {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["studio", mark]).stdin(Stdio::piped()).stdout(Stdio::piped()).envs(environment.iter().copied());
        Studio(command.spawn().expect("a studio"))
    }

    pub fn send(&mut self, spec: &LaunchSpec) {
        let line = serde_json::to_string(spec).expect("JSON") + "\n";
        self.0.stdin.as_mut().and_then(|stdin| stdin.write_all(line.as_bytes()).ok()).expect("a studio that reads");
    }

    pub fn wait_until_launched(&mut self) {
        let mut said = [0; 9];
        self.0.stdout.as_mut().expect("stdout").read_exact(&mut said).expect("launched");
        assert_eq!(&said, b"launched\n");
    }

    pub fn kill(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("a killed studio");
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        // Only a failed test leaves one that lives.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Numbers that look random and are the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

pub fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "it never came true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Busy for a moment, to hit a process at any point of what it does.
pub fn spin(moment: Duration) {
    let start = Instant::now();
    while start.elapsed() < moment {
        std::hint::spin_loop();
    }
}

pub fn write_json(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}
