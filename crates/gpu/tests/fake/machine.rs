//! A machine with GPUs that are not there.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use domain::{DeviceState, Inventory, Reading};
use fakegpu::{Folder, State};
use gpu::{Options, Worker};
use tempfile::TempDir;

/// Nothing here takes so long unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);
pub const GIB: u64 = 1 << 30;

pub struct Machine {
    pub fake: Folder,
    _folder: TempDir,
}

impl Machine {
    /// Such as `8xH100`.
    pub fn new(gpus: &str) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let state: State = gpus.parse().unwrap();
        Machine { fake: Folder::create(folder.path(), &state).unwrap(), _folder: folder }
    }

    /// Runs a command of the helper program with these GPUs.
    pub fn command(&self, name: &str) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec!["env".into()];
        for (variable, value) in self.fake.env() {
            let mut setting = OsString::from(variable);
            setting.push("=");
            setting.push(value);
            command.push(setting);
        }
        command.push(env!("CARGO_BIN_EXE_gpu-helper").into());
        command.push(name.into());
        command
    }

    pub fn sweep(&self) -> Inventory {
        self.sweep_with(&Options::default())
    }

    pub fn sweep_with(&self, options: &Options) -> Inventory {
        gpu::sweep_once(options, &self.command("gpu-worker"), DEADLINE)
    }

    pub fn start(&self, options: Options, interval: Duration) -> (Worker, Receiver<Inventory>) {
        let (send, inventories) = mpsc::channel();
        let report = move |inventory| drop(send.send(inventory));
        (Worker::start(options, self.command("gpu-worker"), interval, report).unwrap(), inventories)
    }

    /// A process of this user with these variables, which allocates nothing by itself.
    pub fn process(&self, program: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new("sleep");
        command.arg0(program).arg("1000").stdin(Stdio::null());
        Process(command.envs(variables.iter().copied()).spawn().unwrap())
    }

    /// Pids of the worker processes of this machine.
    pub fn workers(&self) -> Vec<u32> {
        let variable = format!("FAKEGPU_DIR={}", self.fake.path().display());
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_worker = |pid: &u32| {
            let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let has = |text: Vec<u8>, part: &str| text.split(|byte| *byte == 0).any(|word| word == part.as_bytes());
            has(read("cmdline"), "gpu-worker") && has(read("environ"), &variable)
        };
        pids.filter(is_worker).collect()
    }
}

/// Killed on drop.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first inventory that satisfies the condition.
pub fn until(inventories: &Receiver<Inventory>, what: &str, mut holds: impl FnMut(&Inventory) -> bool) -> Inventory {
    let due = Instant::now() + DEADLINE;
    let mut last = None;
    while let Ok(inventory) = inventories.recv_timeout(due.saturating_duration_since(Instant::now())) {
        if holds(&inventory) {
            return inventory;
        }
        last = Some(inventory);
    }
    panic!("never {what}; the last was {last:#?}")
}

/// Polls until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let due = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < due, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Why nothing may be placed there.
pub fn code(reading: &Reading) -> Option<&str> {
    match &reading.state {
        DeviceState::Usable => None,
        DeviceState::Unusable { code, zh, en } => {
            assert!(!zh.is_empty() && !en.is_empty());
            Some(code)
        }
    }
}

pub fn codes(inventory: &Inventory) -> Vec<Option<&str>> {
    inventory.devices.iter().map(code).collect()
}

pub fn has_finding(inventory: &Inventory, code: &str) -> bool {
    inventory.findings.iter().any(|finding| finding.code == code)
}
