//! A studio with fake GPUs beside it.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use api_types::{DeviceView, SubmitTask, WaitView};
use client::{
    Client,
    testing::{Options, Studio, sage, wait_for},
};
use fakegpu::{Folder, State};

use crate::support::{PATIENCE, script, wait_reason};

const GIB: u64 = 1 << 30;

/// A studio that sees these GPUs.
pub struct Machine {
    pub gpus: Folder,
    _folder: tempfile::TempDir,
    pub studio: Studio,
}

impl Machine {
    pub fn new(gpus: &str) -> Machine {
        Machine::with(gpus, |_| {})
    }

    pub fn with(gpus: &str, change: impl FnOnce(&mut State)) -> Machine {
        Machine::configured(gpus, "", change)
    }

    /// With this config.toml.
    pub fn configured(gpus: &str, config: &str, change: impl FnOnce(&mut State)) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let mut state: State = gpus.parse().unwrap();
        change(&mut state);
        let gpus = Folder::create(folder.path().join("gpus"), &state).unwrap();
        let mut options = Options { config: config.into(), ..Options::default() }.env("SAGE_DISABLE_NVML", "0");
        options.env.extend(gpus.env().into_iter().map(|(name, value)| (name.into(), value)));
        let machine = Machine { gpus, _folder: folder, studio: Studio::start_with(options) };
        wait_for("the first readings", PATIENCE, || (!machine.client().devices().ok()?.detecting).then_some(()));
        machine
    }

    pub fn client(&self) -> Client {
        self.studio.client()
    }

    pub fn device(&self, index: u32) -> DeviceView {
        self.client().devices().unwrap().devices.into_iter().find(|device| device.index == index).unwrap()
    }

    pub fn uuid(&self, index: usize) -> String {
        self.gpus.state().unwrap().gpus[index].uuid.clone()
    }

    /// Another program, with so much memory.
    pub fn foreign(&self, index: usize, gib: u64) -> Foreign {
        let mut command = Command::new(beside_sage("fakegpu-hold"));
        command.args(["--device", &self.uuid(index), "--bytes", &format!("{gib}GiB")]).envs(self.gpus.env());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        assert_eq!(line, "holding\n");
        Foreign(child)
    }

    /// A task that is granted so much, takes it on its GPU and holds it until its file appears.
    pub fn holds(&self, granted_gib: u64, taken_gib: u64, release: &str) -> SubmitTask {
        let hold = beside_sage("fakegpu-hold").display().to_string();
        let text = format!(
            "while [ ! -e {release} ]; do sleep 0.02; done | {hold} --device $CUDA_VISIBLE_DEVICES --bytes {taken_gib}GiB"
        );
        let mut task = script(&self.studio, &text);
        let command = task.command.as_mut().unwrap();
        (command.memory_bytes, command.share) = (Some(granted_gib * GIB), true);
        task
    }

    pub fn submit(&self, task: &SubmitTask) -> String {
        self.client().submit(task).unwrap().task_id
    }

    pub fn release(&self, name: &str) {
        fs::write(self.studio.home().root().join(name), "").unwrap();
    }

    pub fn waits(&self, id: &str, code: &str) -> WaitView {
        wait_reason(&self.client(), id, &format!("to wait with {code}"), |wait| wait.code == code)
    }

    /// The sentence with which GPU `index` is not usable, once it is so with this code.
    pub fn unusable(&self, index: u32, code: &str) -> String {
        wait_for(code, PATIENCE, || {
            let reason = self.device(index).unusable?;
            (reason.code == code).then_some(reason.en)
        })
    }
}

/// A process that lives as long as this.
pub struct Foreign(Child);

impl Foreign {
    /// Holds nothing; the state says what it does on a GPU.
    pub fn idle() -> Foreign {
        Foreign(Command::new("sleep").arg("1000").spawn().unwrap())
    }
}

impl Foreign {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub fn beside_sage(name: &str) -> std::path::PathBuf {
    let program = sage().with_file_name(name);
    assert!(program.exists(), "{} is missing: build it with `cargo build -p fakegpu`", program.display());
    program
}
