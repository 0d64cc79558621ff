//! The Python environment of trainer `peft`: installed on first use, shared by all tasks, used offline afterwards.
//!
//! Everything lies under `$SAGE_HOME`: `envs/peft-<hash>` is one environment, named by what is installed in it, and
//! `tools` holds uv, its cache and a Python where the machine has none that will do.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::Home;
use sha2::{Digest, Sha256};

mod error;
mod examples;
mod install;
mod sources;
mod uv;
mod wheel;

pub use error::PeftError;
pub use examples::{ExamplesError, write_examples};

/// Free bytes that an installation needs: what is unpacked, and the archives while they are.
pub const NEEDED_ON_DISK: u64 = 9 << 30;
/// The first driver that runs the locked PyTorch's CUDA 13.
const CUDA_13_DRIVER: u32 = 580;
const COMPLETE: &str = "complete";

/// Where PyTorch comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Torch {
    /// The locked one of the package index, for CUDA 13.
    Locked,
    /// The one that uv finds to fit the machine: an older CUDA, ROCm, or the CPU only.
    Fitting,
    /// Of an index of PyTorch builds, such as `https://download.pytorch.org/whl/cu126`.
    Index(String),
}

/// Where to install, and from where.
#[derive(Debug, Clone)]
pub struct PeftOptions {
    pub home: PathBuf,
    /// Simple index of Python packages.
    pub index: String,
    pub torch: Torch,
    /// The uv to use; `None`: the one on `search_path`, else one is fetched.
    pub uv: Option<PathBuf>,
    /// `PATH`
    pub search_path: OsString,
    /// Never use the network.
    pub offline: bool,
    /// Free bytes without which nothing is begun.
    pub needed_on_disk: u64,
}

impl PeftOptions {
    /// By `SAGE_PYPI_INDEX` (or `UV_DEFAULT_INDEX`, `UV_INDEX_URL`, `PIP_INDEX_URL`), `SAGE_TORCH_INDEX`, `SAGE_UV`
    /// and `UV_OFFLINE`.
    pub fn from_env(home: &Home) -> PeftOptions {
        let driver = fs::read_to_string("/sys/module/nvidia/version").ok();
        let path = std::env::var_os("PATH").unwrap_or_default();
        PeftOptions::from_variables(home, path, driver.as_deref(), |name| std::env::var(name).ok())
    }

    fn from_variables(
        home: &Home,
        search_path: OsString,
        driver: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> PeftOptions {
        let read = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let index = ["SAGE_PYPI_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"].into_iter().find_map(read);
        let driver = driver.and_then(|version| version.trim().split('.').next()?.parse::<u32>().ok());
        let torch = match read("SAGE_TORCH_INDEX") {
            Some(index) => Torch::Index(index),
            None if driver.is_some_and(|major| major >= CUDA_13_DRIVER) => Torch::Locked,
            None => Torch::Fitting,
        };
        PeftOptions {
            home: home.root().to_owned(),
            index: index.unwrap_or_else(|| "https://pypi.org/simple".into()).trim_end_matches('/').to_owned(),
            torch,
            uv: read("SAGE_UV").map(PathBuf::from),
            search_path,
            offline: read("UV_OFFLINE").is_some_and(|value| !["0", "false"].contains(&value.as_str())),
            needed_on_disk: NEEDED_ON_DISK,
        }
    }

    /// The environment that these options mean, whether it is installed or not.
    pub fn folder(&self) -> PathBuf {
        let mut hash = Sha256::new_with_prefix(sources::LOCK);
        hash.update(match &self.torch {
            Torch::Locked => "locked",
            Torch::Fitting => "fitting",
            Torch::Index(index) => index,
        });
        self.envs().join(format!("peft-{}", short_hex(&hash.finalize())))
    }

    fn envs(&self) -> PathBuf {
        self.home.join("envs")
    }

    fn tools(&self) -> PathBuf {
        self.home.join("tools")
    }
}

/// How an installation goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallProgress {
    /// Another attempt is installing; this one waits for it.
    Waiting,
    Phase(Phase),
    /// Packages fetched so far, of those known.
    Packages {
        bytes: u64,
        total_bytes: u64,
    },
    /// The index of fitting PyTorch builds cannot be reached, so the locked one is taken.
    LockedTorch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Fetching uv.
    Uv,
    /// Finding or fetching a Python.
    Python,
    /// Fetching and unpacking the packages.
    Packages,
    /// Trying whether the packages load.
    Check,
}

impl Phase {
    /// `uv`, `python`, `packages` or `check`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Uv => "uv",
            Phase::Python => "python",
            Phase::Packages => "packages",
            Phase::Check => "check",
        }
    }
}

/// A complete environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub folder: PathBuf,
}

impl Environment {
    pub fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// The folder that has our package in it, written there first if it is not the one of this program.
    pub fn sources(&self) -> Result<PathBuf, PeftError> {
        sources::write(&self.folder)
    }
}

/// The environment, installed first if it is missing. Waits while another attempt installs it. Blocks; ends soon after
/// `stop` becomes true.
pub fn ensure(
    options: &PeftOptions,
    on_progress: &mut dyn FnMut(InstallProgress),
    stop: &AtomicBool,
) -> Result<Environment, PeftError> {
    let folder = options.folder();
    if let Some(environment) = complete(&folder) {
        return Ok(environment);
    }
    let _lock = lock(options, on_progress, stop)?;
    // Whoever had the lock before may have installed it.
    if let Some(environment) = complete(&folder) {
        return Ok(environment);
    }
    if options.offline {
        return Err(PeftError::Offline);
    }
    check_space(options)?;
    install::install(options, &folder, on_progress, stop)?;
    Ok(Environment { folder })
}

/// An environment on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub path: PathBuf,
    /// Of all its files, those shared with uv's cache included.
    pub bytes: u64,
    /// It is the one that would be used now.
    pub current: bool,
}

/// The complete environments, the one in use first.
pub fn installed(options: &PeftOptions) -> Vec<Installed> {
    let entries = fs::read_dir(options.envs()).into_iter().flatten().flatten().map(|entry| entry.path());
    let current = options.folder();
    let mut found: Vec<Installed> = entries
        .filter_map(complete_owned)
        .map(|path| Installed { bytes: size(&path), current: path == current, path })
        .collect();
    found.sort_by_key(|environment| (!environment.current, environment.path.clone()));
    found
}

/// Deletes all environments, finished or not, with uv's cache; answers the bytes on disk that this freed.
pub fn remove(options: &PeftOptions, stop: &AtomicBool) -> Result<u64, PeftError> {
    let before = free(&options.home);
    let _lock = lock(options, &mut |_| (), stop)?;
    let entries = fs::read_dir(options.envs()).into_iter().flatten().flatten();
    let ours =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("peft-")).map(|entry| entry.path());
    for path in ours.chain([options.tools().join("uv-cache")]) {
        // Nobody takes a half-deleted one for complete.
        let _ = fs::remove_file(path.join(COMPLETE));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(PeftError::write(&path)(error)),
            _ => {}
        }
    }
    Ok(free(&options.home).unwrap_or(0).saturating_sub(before.unwrap_or(0)))
}

/// A process that trains in one of the environments.
pub fn in_use(options: &PeftOptions) -> Option<u32> {
    let envs = options.envs();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let program = command.split(|byte| *byte == 0).next()?;
        Path::new(std::str::from_utf8(program).ok()?).starts_with(&envs).then_some(pid)
    })
}

fn complete(folder: &Path) -> Option<Environment> {
    folder.join(COMPLETE).is_file().then(|| Environment { folder: folder.to_owned() })
}

fn complete_owned(folder: PathBuf) -> Option<PathBuf> {
    complete(&folder).map(|environment| environment.folder)
}

/// One installation at a time.
fn lock(
    options: &PeftOptions,
    on_progress: &mut dyn FnMut(InstallProgress),
    stop: &AtomicBool,
) -> Result<File, PeftError> {
    let envs = options.envs();
    fs::create_dir_all(&envs).map_err(PeftError::write(&envs))?;
    let path = envs.join("install.lock");
    let lock = File::create(&path).map_err(PeftError::write(&path))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(PeftError::write(&path)(error)),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    on_progress(InstallProgress::Waiting);
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(PeftError::Stopped);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

fn check_space(options: &PeftOptions) -> Result<(), PeftError> {
    match free(&options.envs()) {
        Some(available) if available < options.needed_on_disk => {
            Err(PeftError::DiskFull { folder: options.envs(), needed: options.needed_on_disk, available })
        }
        _ => Ok(()),
    }
}

/// Free bytes of the disk that a folder is on.
fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { size(&entry.path()) } else { metadata.len() })
    });
    bytes.sum()
}

/// Enough of a hash for a name.
fn short_hex(hash: &[u8]) -> String {
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(driver: Option<&str>, variables: &[(&str, &str)]) -> PeftOptions {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        PeftOptions::from_variables(&Home::new("/h"), OsString::new(), driver, find)
    }

    #[test]
    fn driver_and_environment_choose_what_is_installed() {
        assert_eq!(from(Some("580.65.06\n"), &[]).torch, Torch::Locked);
        assert_eq!(from(Some("550.54.15"), &[]).torch, Torch::Fitting, "too old for CUDA 13");
        assert_eq!(from(None, &[]).torch, Torch::Fitting);
        let options = from(Some("580.65.06"), &[("SAGE_TORCH_INDEX", "https://t/cpu"), ("UV_OFFLINE", "1")]);
        assert_eq!((options.torch.clone(), options.offline), (Torch::Index("https://t/cpu".into()), true));
        assert_ne!(options.folder(), from(Some("580.65.06"), &[]).folder(), "they can be installed side by side");

        assert_eq!(from(None, &[]).index, "https://pypi.org/simple");
        let mirrors = [("PIP_INDEX_URL", "https://pip/simple/"), ("SAGE_PYPI_INDEX", "https://ours/simple")];
        assert_eq!(from(None, &mirrors).index, "https://ours/simple");
        assert_eq!(from(None, &mirrors[..1]).index, "https://pip/simple");
        assert_eq!(from(None, &[("SAGE_UV", "/opt/uv")]).uv, Some(PathBuf::from("/opt/uv")));
    }
}
