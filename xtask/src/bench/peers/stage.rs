//! Where one peer runs: a folder of its own, an environment that knows only that, and perhaps GPUs.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fakegpu::{Folder, State};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    Result,
    job::{Log, Run},
};
use crate::root;

pub struct Stage {
    folder: tempfile::TempDir,
    gpus: Option<Gpus>,
}

struct Gpus {
    folder: Folder,
    count: usize,
}

impl Stage {
    pub fn new() -> Stage {
        let folder = tempfile::Builder::new().prefix("peer-").tempdir().expect("a temporary folder can be made");
        for name in ["run", "tmp", "config", "data"] {
            fs::create_dir(folder.path().join(name)).expect("the folder can be written");
        }
        Stage { folder, gpus: None }
    }

    /// So many cards of 24 GB.
    pub fn with_gpus(count: usize) -> Stage {
        let mut stage = Stage::new();
        let state: State = format!("{count}xRTX4090").parse().expect("the card is known");
        let folder = Folder::create(stage.path().join("gpus"), &state).expect("the fake driver is built");
        stage.gpus = Some(Gpus { folder, count });
        stage
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn log(&self) -> Log {
        Log(self.file("jobs.log"))
    }

    /// 0: jobs need no GPU.
    pub fn gpus(&self) -> usize {
        self.gpus.as_ref().map_or(0, |gpus| gpus.count)
    }

    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = [
            ("HOME", ""),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("TMUX_TMPDIR", "run"),
        ]
        .map(|(name, folder)| (name.into(), self.file(folder).into_os_string()))
        .into();
        environment.push(("USER".into(), user().into()));
        environment.push(("SHELL".into(), "/bin/sh".into()));
        if let Some(gpus) = &self.gpus {
            environment.extend(gpus.folder.env().into_iter().map(|(name, value)| (name.into(), value)));
        }
        environment
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment()).env_remove("TMUX").env_remove("CUDA_VISIBLE_DEVICES");
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// A process that stays, in a group of its own; what it says goes to a file.
    pub fn daemon(&self, command: &mut Command) -> Result<Child> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = || {
            let path = self.file(&format!("{name}.out"));
            File::options().create(true).append(true).open(path).map_err(|error| error.to_string())
        };
        command.stdout(log()?).stderr(log()?).process_group(0);
        command.spawn().map_err(|error| format!("{name}: {error}"))
    }

    /// A process outside the queue that holds memory of one GPU until this is dropped.
    pub fn outsider(&self, gpu: usize, bytes: u64) -> Result<Outsider> {
        let gpus = self.gpus.as_ref().expect("the stage has GPUs");
        let state = gpus.folder.state().map_err(|error| error.to_string())?;
        let mut command = Command::new(root().join("target/release/fakegpu-hold"));
        command.args(["--device", &state.gpus[gpu].uuid, "--bytes", &bytes.to_string()]).envs(gpus.folder.env());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
        let outsider = Outsider(child);
        match read {
            Ok(bytes) if bytes > 0 => Ok(outsider),
            _ => Err("the process outside the queue got no memory".into()),
        }
    }

    /// Index of the card on which a job ran; queues tell jobs indices or UUIDs.
    pub fn gpu_of(&self, run: &Run) -> usize {
        let state = self.gpus.as_ref().and_then(|gpus| gpus.folder.state().ok());
        let by_uuid = state.and_then(|state| state.gpus.iter().position(|gpu| gpu.uuid == run.gpus));
        by_uuid.or_else(|| run.gpus.parse().ok()).unwrap_or(0)
    }

    /// Processes that were started here, the oldest first.
    pub fn processes(&self) -> Vec<u32> {
        let here = self.path().as_os_str().as_encoded_bytes();
        let mentions = |pid: u32, file: &str| {
            fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.windows(here.len()).any(|part| part == here))
        };
        let mut found: Vec<u32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id() && (mentions(*pid, "environ") || mentions(*pid, "cmdline")))
            .collect();
        found.sort_unstable();
        found
    }

    /// Those of one program.
    pub fn processes_of(&self, program: &Path) -> Vec<u32> {
        let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
        let runs = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == program);
        self.processes().into_iter().filter(runs).collect()
    }
}

impl Drop for Stage {
    /// Ends whatever is left.
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

pub struct Outsider(Child);

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Output of a program that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = [text(&output.stderr), text(&output.stdout)].join(" ");
    let tail: String = said.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
    Err(format!("{name}: {}: {tail}", output.status))
}

/// Asks a child to end; kills it when it does not within some seconds.
pub fn end(child: &mut Child) {
    signal(child.id(), Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(5);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended already.
        let _ = kill_process(pid, signal);
    }
}

pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub fn user() -> String {
    output(Command::new("id").arg("-un")).unwrap_or_else(|_| "root".into())
}
