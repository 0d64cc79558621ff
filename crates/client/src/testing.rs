//! A real studio in a home of its own, for tests and benches.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use domain::Home;
use rustix::process::{Pid, Signal, kill_process};

use crate::Client;

/// How to start a studio.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `sage` binary; from `SAGE_BIN`, else beside the running program.
    pub sage: PathBuf,
    /// Content of config.toml.
    pub config: String,
    /// Added to the environment. The machine's GPUs are left alone unless this says otherwise.
    pub env: Vec<(OsString, OsString)>,
    /// 0: any free one, which a restart then keeps.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Options {
        Options { sage: sage(), config: "[tasks]\ngrace = \"2s\"\n".into(), env: Vec::new(), port: 0 }
    }
}

impl Options {
    pub fn env(mut self, name: &str, value: &str) -> Options {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Runs in a temporary home; dropping it ends it and everything it has started.
pub struct Studio {
    options: Options,
    /// Whoever made it asked for no port of its own.
    any_port: bool,
    home: Home,
    folder: Option<tempfile::TempDir>,
    child: Option<Child>,
}

impl Studio {
    pub fn start() -> Studio {
        Studio::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Studio {
        let folder = tempfile::Builder::new().prefix("sage-").tempdir().expect("a temporary folder can be made");
        Studio::start_in(folder, options)
    }

    /// Starts on a home that has been filled beforehand.
    pub fn start_in(folder: tempfile::TempDir, options: Options) -> Studio {
        let home = Home::new(folder.path());
        // What room the machine of the tests has is not what they are about.
        let spare = |table: &str| match options.config.contains(table) {
            true => String::new(),
            false => format!("\n{table}\nmin_free = \"0\"\n"),
        };
        let config = format!("{}{}{}", options.config, spare("[disk]"), spare("[memory]"));
        fs::write(home.config(), config).expect("the home can be written");
        let any_port = options.port == 0;
        let mut studio = Studio { options, any_port, home, folder: Some(folder), child: None };
        studio.launch();
        studio
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its first line on stdout says that it serves; this returns then.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the studio runs already");
        let port = self.options.port.to_string();
        let mut child = self
            .command(["studio", "start", "--foreground", "--port", &port, "--second-port", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.options.sage.display()));
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("its output is text");
        let Some(address) = line.trim_end().strip_prefix("SAGE Studio listening on ") else {
            let mut errors = String::new();
            let _ = child.stderr.take().expect("it is piped").read_to_string(&mut errors);
            let _ = child.wait();
            // While it was down, a connection or another studio may have got its port.
            if self.any_port && self.options.port != 0 && errors.contains("[port-in-use]") {
                self.options.port = 0;
                return self.launch();
            }
            panic!("the studio did not start: {line}{errors}");
        };
        self.options.port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port at the end");
        self.child = Some(child);
    }

    /// A `sage` command on this home, with this studio's environment, in English.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.options.sage);
        command.args(arguments).env("SAGE_HOME", self.home.root()).env("SAGE_LANG", "en");
        command.env("SAGE_DISABLE_NVML", "1").env_remove("SAGE_GPU_MOCK_COUNT").env_remove("SAGE_GPU_MOCK_MEMORY_GB");
        command.envs(self.options.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.home).expect("the studio runs")
    }

    /// Such as `http://127.0.0.1:40123`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the studio runs").id()
    }

    /// Asks it to end with SIGTERM and waits until it is gone. Trainings go on.
    pub fn stop(&mut self) {
        self.end(Signal::TERM, Duration::from_secs(30));
    }

    /// Kills it without notice and waits until it is gone. Trainings go on.
    pub fn kill(&mut self) {
        self.end(Signal::KILL, Duration::from_secs(30));
    }

    fn end(&mut self, signal: Signal, patience: Duration) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(Pid::from_child(&child), signal);
        let deadline = Instant::now() + patience;
        while child.try_wait().expect("our own child can be waited for").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the studio did not end within {patience:?} of {signal:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Processes that belong to this home, the studio's own included: its name is in their arguments or environment.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let mentions = |file: &str| {
                let home = self.home.root().as_os_str().as_encoded_bytes();
                fs::read(entry.path().join(file)).is_ok_and(|text| text.windows(home.len()).any(|part| part == home))
            };
            if pid != std::process::id() && (mentions("cmdline") || mentions("environ")) {
                found.push(pid);
            }
        }
        found
    }

    /// Removes what is left of the studio and gives its folder to whoever wants to look at it.
    pub fn into_folder(mut self) -> tempfile::TempDir {
        self.stop();
        self.clear();
        self.folder.take().expect("it is taken only here")
    }

    fn clear(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in left.into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.folder.is_some() {
            self.clear();
        }
    }
}

/// Polls until `ready` answers; panics with `what` after the deadline.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The `sage` binary under test.
pub fn sage() -> PathBuf {
    if let Some(path) = std::env::var_os("SAGE_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().expect("this program has a path");
    let folder = this.parent().expect("it lies in a folder");
    // Tests lie in target/debug/deps, binaries one above.
    let folder = if folder.ends_with("deps") { folder.parent().expect("target/<profile>") } else { folder };
    let sage = folder.join("sage");
    assert!(Path::exists(&sage), "{} is missing: build it with `cargo build -p studio`", sage.display());
    sage
}
