//! A studio on fake GPUs, on a small disk of its own where that can be mounted, with a clock that can be moved.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use client::{
    Client,
    testing::{Options, Studio},
};
use fakegpu::{Folder, State};
use rustix::process::{Pid, Signal, kill_process};

use crate::root;

const CONFIG: &str = "[tasks]\ngrace = \"1s\"\nretry_after = \"1s\"\nlog_cap_mb = 8\n[disk]\nmin_free = \"32MiB\"\n[memory]\nmin_free = \"0\"\n";

pub struct World {
    /// `None` while the studio is down.
    pub up: bool,
    pub studio: Studio,
    pub gpus: Folder,
    /// What the tasks themselves write down, on a disk that never fills.
    pub notes: tempfile::TempDir,
    pub model: PathBuf,
    pub data: PathBuf,
    /// The home's own file system.
    disk: Option<Disk>,
    clock: Option<PathBuf>,
}

impl World {
    pub fn new() -> World {
        let notes = tempfile::tempdir().expect("a temporary folder can be made");
        fs::create_dir(notes.path().join("locks")).expect("a folder of ours");
        let state: State = "3xRTX3060".parse().expect("a known card");
        let gpus = Folder::create(notes.path().join("gpus"), &state).expect("fakegpu is built");
        let mut options = Options { config: CONFIG.into(), ..Options::default() }.env("SAGE_DISABLE_NVML", "0");
        options.sage = std::env::var_os("SAGE_BIN").map_or_else(|| root().join("target/release/sage"), PathBuf::from);
        options.env.extend(gpus.env().into_iter().map(|(name, value)| (name.into(), value)));
        let library = root().join("target/debug/examples/libmoved_clock.so");
        let clock = library.exists().then(|| notes.path().join("clock"));
        if let Some(clock) = &clock {
            fs::write(clock, "0").expect("a file of ours");
            options.env.push(("LD_PRELOAD".into(), library.into()));
            options.env.push(("MOVED_CLOCK".into(), clock.into()));
        }
        let disk = Disk::mount();
        let folder = match &disk {
            Some(disk) => tempfile::TempDir::new_in(disk.at.path()),
            None => tempfile::tempdir(),
        };
        let studio = Studio::start_in(folder.expect("a temporary folder can be made"), options);
        let model = studio.home().root().join("tiny");
        let made = studio.command(["model", "make-tiny", &model.display().to_string()]).output();
        assert!(made.is_ok_and(|output| output.status.success()), "a tiny model can be made");
        let data = studio.home().root().join("data.jsonl");
        let row = |n: u32| format!("{{\"instruction\": \"Double {n}\", \"output\": \"It is {}.\"}}\n", 2 * n);
        fs::write(&data, (1..=16).map(row).collect::<String>()).expect("the home can be written");
        World { up: true, studio, gpus, notes, model, data, disk, clock }
    }

    pub fn describe(&self) -> String {
        let disk = if self.disk.is_some() { "on a disk of 2 GiB" } else { "without a disk to fill (no tmpfs)" };
        let clock = if self.clock.is_some() { "with a clock to move" } else { "with the machine's clock" };
        format!("3 fake GPUs, {disk}, {clock}")
    }

    /// `None` while the studio is down.
    pub fn client(&self) -> Option<Client> {
        if self.up { Client::connect(self.studio.home()).ok() } else { None }
    }

    pub fn kill(&mut self) {
        if std::mem::take(&mut self.up) {
            self.studio.kill();
        }
    }

    pub fn stop(&mut self) {
        if std::mem::take(&mut self.up) {
            self.studio.stop();
        }
    }

    pub fn launch(&mut self) {
        if !std::mem::replace(&mut self.up, true) {
            self.studio.launch();
        }
    }

    /// Processes of this home whose command line or environment mentions this.
    pub fn processes(&self, mention: &str) -> Vec<u32> {
        let own = if self.up { Some(self.studio.pid()) } else { None };
        let others = self.studio.processes().into_iter().filter(|pid| Some(*pid) != own);
        others
            .filter(|pid| {
                mention.is_empty() || mentions(*pid, "cmdline", mention) || mentions(*pid, "environ", mention)
            })
            .collect()
    }

    pub fn fill_disk(&self) -> bool {
        self.disk.as_ref().is_some_and(Disk::fill)
    }

    pub fn free_disk(&self) {
        if let Some(disk) = &self.disk {
            disk.free();
        }
    }

    pub fn move_clock(&self, seconds: i64) -> bool {
        self.clock.as_ref().is_some_and(|clock| fs::write(clock, seconds.to_string()).is_ok())
    }
}

pub fn mentions(pid: u32, file: &str, text: &str) -> bool {
    let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    content.windows(text.len()).any(|part| part == text.as_bytes())
}

pub fn signal(pid: u32, signal: Signal) {
    // It may be gone by now.
    let _ = Pid::from_raw(pid as i32).map(|pid| kill_process(pid, signal));
}

struct Disk {
    at: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Disk> {
        let at = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2g", "tmpfs"]).arg(at.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Disk { at })
    }

    fn filler(&self) -> PathBuf {
        self.at.path().join("filler")
    }

    fn fill(&self) -> bool {
        let Ok(mut file) = fs::File::options().create(true).append(true).open(self.filler()) else { return false };
        while std::io::Write::write_all(&mut file, &[1; 64 << 10]).is_ok() {}
        while std::io::Write::write_all(&mut file, &[1; 512]).is_ok() {}
        true
    }

    fn free(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg::<&Path>(self.at.path()).status();
    }
}
