//! Makes an environment with uv: beside its place first, which it takes when it is complete.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::{COMPLETE, InstallProgress, PeftError, PeftOptions, Phase, Torch, sources, uv};
use crate::http;

const PYTHON: &str = ">=3.11,<3.15";
/// What the package imports; loading it takes some seconds and leaves the byte code behind.
const IMPORTS: &str = "import torch, transformers, peft, accelerate, bitsandbytes, safetensors";
const REMEMBERED_LINES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

pub fn install(
    options: &PeftOptions,
    folder: &Path,
    on_progress: &mut dyn FnMut(InstallProgress),
    stop: &AtomicBool,
) -> Result<(), PeftError> {
    let uv = uv::find(options, on_progress, stop)?;
    let staging = folder.with_extension("tmp");
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(PeftError::write(&staging))?;
    }
    let python = staging.join("bin/python");
    let mut installer = Installer { options, uv: &uv, python: &python, on_progress, stop };

    installer.phase(Phase::Python);
    let mut venv = installer.uv(&["venv", "--no-project", "--relocatable", "--python", PYTHON]);
    installer.run(venv.arg(&staging)).map_err(|failed| installer.python_error(failed))?;

    installer.phase(Phase::Packages);
    installer.packages(&staging.join("requirements.lock"))?;

    installer.phase(Phase::Check);
    let mut check = Command::new(&python);
    installer.run(check.args(["-s", "-P", "-c", IMPORTS])).map_err(|failed| installer.error(failed))?;

    let marker = staging.join(COMPLETE);
    fs::write(&marker, "").map_err(PeftError::write(&marker))?;
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(PeftError::write(folder))?;
    }
    fs::rename(&staging, folder).map_err(PeftError::write(folder))
}

struct Installer<'a> {
    options: &'a PeftOptions,
    uv: &'a Path,
    python: &'a Path,
    on_progress: &'a mut dyn FnMut(InstallProgress),
    stop: &'a AtomicBool,
}

/// How a program that was run came to nothing.
enum Failed {
    Error(PeftError),
    /// Its last lines.
    Said(Vec<String>),
}

impl Installer<'_> {
    fn phase(&mut self, phase: Phase) {
        (self.on_progress)(InstallProgress::Phase(phase));
    }

    fn uv(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.uv);
        command.args(arguments).current_dir(&self.options.home).env("UV_NO_PROGRESS", "1").env("NO_COLOR", "1");
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"] {
            command.env_remove(name);
        }
        let tools = self.options.tools();
        let defaults = [
            ("UV_CACHE_DIR", tools.join("uv-cache")),
            ("UV_PYTHON_INSTALL_DIR", tools.join("python")),
            ("UV_HTTP_TIMEOUT", "120".into()),
        ];
        for (name, value) in defaults {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command
    }

    fn packages(&mut self, lock: &Path) -> Result<(), PeftError> {
        match self.options.torch.clone() {
            Torch::Locked => self.sync(lock, sources::LOCK),
            Torch::Index(index) => {
                self.sync(lock, &sources::lock_without_torch())?;
                self.torch(&["--index-url", &index]).map_err(|failed| self.error(failed))
            }
            Torch::Fitting => {
                self.sync(lock, &sources::lock_without_torch())?;
                match self.torch(&["--index-url", &self.options.index.clone(), "--torch-backend", "auto"]) {
                    Err(Failed::Said(_)) => {
                        (self.on_progress)(InstallProgress::LockedTorch);
                        self.sync(lock, sources::LOCK)
                    }
                    result => result.map_err(|failed| self.error(failed)),
                }
            }
        }
    }

    /// Exactly the packages of the lock, each checked against its checksum, and nothing built here.
    fn sync(&mut self, path: &Path, lock: &str) -> Result<(), PeftError> {
        fs::write(path, lock).map_err(PeftError::write(path))?;
        let mut sync = self.uv(&["pip", "sync", "--require-hashes", "--only-binary", ":all:"]);
        sync.arg("--index-url").arg(&self.options.index).arg("--python").arg(self.python).arg(path);
        self.run(&mut sync).map_err(|failed| self.error(failed))
    }

    fn torch(&mut self, source: &[&str]) -> Result<(), Failed> {
        let newest = sources::locked("torch").expect("the lock has torch");
        let mut install = self.uv(&["pip", "install", "--only-binary", ":all:"]);
        install.args(source).arg("--python").arg(self.python).arg(format!("torch>=2.9,<={newest}"));
        self.run(&mut install)
    }

    /// Runs a program to its end, following what it says.
    fn run(&mut self, command: &mut Command) -> Result<(), Failed> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let program = Path::new(command.get_program()).to_owned();
        let mut child = spawn(command).map_err(|source| Failed::Error(PeftError::Uv { uv: program, source }))?;
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || stderr.split(b'\n').map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut last = VecDeque::new();
        let mut downloads = Downloads::default();
        loop {
            match said.recv_timeout(PAUSE) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if downloads.line(&line) {
                        let Downloads { bytes, total_bytes, .. } = downloads;
                        (self.on_progress)(InstallProgress::Packages { bytes, total_bytes });
                    }
                    last.push_back(line);
                    if last.len() > REMEMBERED_LINES {
                        last.pop_front();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failed::Error(PeftError::Stopped));
            }
        }
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            _ => Err(Failed::Said(last.into())),
        }
    }

    fn python_error(&self, failed: Failed) -> PeftError {
        match failed {
            Failed::Said(lines) if !lines.iter().any(|line| line.contains("No space left")) => {
                PeftError::NoPython { reason: reason(&lines) }
            }
            failed => self.error(failed),
        }
    }

    fn error(&self, failed: Failed) -> PeftError {
        let lines = match failed {
            Failed::Error(error) => return error,
            Failed::Said(lines) => lines,
        };
        let says = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
        if says(&["No space left on device", "Disk quota exceeded"]) {
            let folder = self.options.envs();
            let available = super::free(&folder).unwrap_or(0);
            return PeftError::DiskFull { folder, needed: self.options.needed_on_disk, available };
        }
        lines.iter().for_each(|line| eprintln!("{line}"));
        let network =
            ["Failed to fetch", "error sending request", "dns error", "Connection refused", "operation timed out"];
        if says(&network) {
            return PeftError::Unreachable { host: http::host(&self.options.index), reason: reason(&lines) };
        }
        if says(&["Hash mismatch"]) {
            return PeftError::Corrupt { file: reason(&lines) };
        }
        PeftError::Install { reason: reason(&lines) }
    }
}

/// A program that was just written may still be open for writing in a child that another thread is about to start.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    command.spawn()
}

/// The line that says most: the deepest cause that uv names, else its last words.
fn reason(lines: &[String]) -> String {
    let cause = lines.iter().rev().find_map(|line| {
        let line = line.trim();
        ["Caused by: ", "cause: ", "error: "].iter().find_map(|prefix| line.strip_prefix(prefix))
    });
    let last = || lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim());
    cause.or_else(last).unwrap_or("no reason given").to_owned()
}

/// How far uv is with its packages, from what it says: `Downloading torch (514.2MiB)`, then ` Downloaded torch`.
#[derive(Default)]
struct Downloads {
    /// Announced and not yet there.
    open: Vec<(String, u64)>,
    bytes: u64,
    total_bytes: u64,
}

impl Downloads {
    /// True if the line changed something.
    fn line(&mut self, line: &str) -> bool {
        let line = line.trim();
        if let Some((name, size)) = line.strip_prefix("Downloading ").and_then(|rest| rest.split_once(" (")) {
            let Some(size) = bytes(size.trim_end_matches(')')) else { return false };
            self.open.push((name.to_owned(), size));
            self.total_bytes += size;
            return true;
        }
        let done =
            line.strip_prefix("Downloaded ").and_then(|name| self.open.iter().position(|(open, _)| open == name));
        done.map(|done| self.bytes += self.open.swap_remove(done).1).is_some()
    }
}

/// `514.2MiB`
fn bytes(size: &str) -> Option<u64> {
    let (number, unit) = size.split_at(size.find(|letter: char| letter.is_ascii_alphabetic())?);
    let unit = match unit {
        "B" => 1u64,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uv_says_becomes_progress() {
        let mut downloads = Downloads::default();
        let said =
            ["Resolved 61 packages in 157ms", "Downloading a (2.0MiB)", "Downloading b-c (1.5GiB)", " Downloaded a"];
        let changed: Vec<bool> = said.iter().map(|line| downloads.line(line)).collect();
        assert_eq!(changed, [false, true, true, true]);
        assert_eq!((downloads.bytes, downloads.total_bytes), (2 << 20, (2 << 20) + (3 << 29)));
        assert!(!downloads.line(" Downloaded a"), "once");
    }

    #[test]
    fn the_reason_is_the_deepest_cause() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(reason(&lines("error: Failed to fetch\n  Caused by: a\n  Caused by: dns error\n\n")), "dns error");
        assert_eq!(reason(&lines("ImportError: no torch\n")), "ImportError: no torch");
        assert_eq!(reason(&[]), "no reason given");
    }
}
