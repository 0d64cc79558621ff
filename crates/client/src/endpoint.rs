use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
};

use domain::Home;
use serde::{Deserialize, Serialize};

use crate::{ClientError, Result};

/// How to reach the running studio of a home: the content of `studio.json`, which only its owner can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    #[serde(flatten)]
    pub process: ProcessId,
    /// Without a slash at the end, such as `http://127.0.0.1:8080`.
    pub address: String,
    /// Where people open the page, if that is another address: with TLS, by a name that the certificate has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Bearer token of the owner of the machine, where the studio asks for a sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A process for ever: its pid may be used again, the three together are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub boot_id: String,
    pub pid: u32,
    /// Clock ticks from boot to the start of the process.
    pub start_time: u64,
}

impl ProcessId {
    pub fn current() -> io::Result<ProcessId> {
        let pid = std::process::id();
        Ok(ProcessId { boot_id: boot_id()?, pid, start_time: start_time(pid)? })
    }

    pub fn is_alive(&self) -> bool {
        let same_boot = boot_id().is_ok_and(|boot| boot == self.boot_id);
        same_boot && start_time(self.pid).is_ok_and(|started| started == self.start_time)
    }
}

impl Endpoint {
    /// Replaces the file in one step, so that nobody reads half of it.
    pub fn write(&self, home: &Home) -> io::Result<()> {
        let path = home.endpoint();
        let draft = path.with_extension("json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(draft, path)
    }

    /// Removes the file, if it still speaks of this process.
    pub fn remove(&self, home: &Home) {
        let current = fs::read(home.endpoint()).ok().and_then(|json| serde_json::from_slice::<Endpoint>(&json).ok());
        if current.is_some_and(|current| current.process == self.process) {
            // A file left behind is recognised as stale by its process.
            let _ = fs::remove_file(home.endpoint());
        }
    }

    /// The running studio of this home.
    pub fn find(home: &Home) -> Result<Endpoint> {
        let path = home.endpoint();
        let not_running = || ClientError::NotRunning { home: home.root().to_owned() };
        let unreadable = |source| ClientError::Endpoint { path: path.clone(), source };
        let untrusted = |reason: String| ClientError::Untrusted { path: path.clone(), reason };

        let mut file = match OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_running()),
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = file.metadata().map_err(unreadable)?;
        let me = rustix::process::geteuid().as_raw();
        if metadata.uid() != me {
            return Err(untrusted(format!("it belongs to user {}, not to you ({me})", metadata.uid())));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(untrusted(format!("others may use it (mode {:03o}); it must be 600", metadata.mode() & 0o777)));
        }
        let mut json = Vec::new();
        file.read_to_end(&mut json).map_err(unreadable)?;
        let endpoint: Endpoint =
            serde_json::from_slice(&json).map_err(|error| untrusted(format!("it is damaged: {error}")))?;
        if endpoint.process.is_alive() { Ok(endpoint) } else { Err(not_running()) }
    }
}

const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// Fails for a process that has ended, also while nobody has waited for it yet.
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, so count from its end: state is field 3, start time field 22.
    let fields = || Some(stat.rsplit_once(')')?.1.split_ascii_whitespace());
    let state = fields().and_then(|mut fields| fields.next());
    let started = fields().and_then(|mut fields| fields.nth(19)).and_then(|ticks| ticks.parse().ok());
    match (state, started) {
        (Some(state), Some(started)) if !matches!(state, "Z" | "X") => Ok(started),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        (folder, home)
    }

    fn endpoint(process: ProcessId) -> Endpoint {
        Endpoint { process, address: "http://127.0.0.1:1".into(), page: None, token: None }
    }

    #[test]
    fn only_a_living_studio_is_found() {
        let (_folder, home) = home();
        assert!(matches!(Endpoint::find(&home), Err(ClientError::NotRunning { .. })));

        let mine = endpoint(ProcessId::current().unwrap());
        mine.write(&home).unwrap();
        assert_eq!(Endpoint::find(&home).unwrap(), mine);

        let mut reused = mine.clone();
        reused.process.start_time += 1;
        reused.write(&home).unwrap();
        assert!(matches!(Endpoint::find(&home), Err(ClientError::NotRunning { .. })), "the pid was used again");
        mine.remove(&home);
        assert!(home.endpoint().exists(), "another studio's file stays");

        mine.write(&home).unwrap();
        mine.remove(&home);
        assert!(!home.endpoint().exists());
    }

    #[test]
    fn a_process_that_nobody_waited_for_is_not_alive() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process =
            ProcessId { boot_id: boot_id().unwrap(), pid: child.id(), start_time: start_time(child.id()).unwrap() };
        assert!(process.is_alive());
        drop(child.stdin.take());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while process.is_alive() {
            assert!(std::time::Instant::now() < deadline, "the zombie counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_file_that_others_can_use_is_not_trusted() {
        let (_folder, home) = home();
        endpoint(ProcessId::current().unwrap()).write(&home).unwrap();
        fs::set_permissions(home.endpoint(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Endpoint::find(&home), Err(ClientError::Untrusted { .. })));
    }
}
