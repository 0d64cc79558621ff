use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    thread,
    time::{Duration, Instant},
};

use client::ProcessId;
use domain::Home;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Ports, unwritable};
use crate::{
    error::{CliError, Result},
    text::text,
};

/// Who holds a home, or held it last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Holder {
    #[serde(flatten)]
    pub process: ProcessId,
    /// Set once it serves.
    pub address: Option<String>,
    pub ports: Option<Ports>,
}

impl Holder {
    pub fn read(home: &Home) -> Option<Holder> {
        serde_json::from_slice(&fs::read(home.lock()).ok()?).ok()
    }
}

/// A studio that was killed while it started a child leaves its lock with the child until that has executed its program.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Held as long as the process lives: a home has one studio.
pub struct HomeLock {
    file: File,
    process: ProcessId,
}

impl HomeLock {
    pub fn take(home: &Home) -> Result<HomeLock> {
        let path = home.lock();
        let failed = |error: io::Error| unwritable(home, &path, &error);
        fs::create_dir_all(home.root()).map_err(failed)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let deadline = Instant::now() + LAST_BREATH;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            match error {
                rustix::io::Errno::WOULDBLOCK if Instant::now() < deadline && !holder_lives(home) => {
                    thread::sleep(Duration::from_millis(5));
                }
                rustix::io::Errno::WOULDBLOCK => return Err(taken(home, &file)),
                error => return Err(failed(error.into())),
            }
        }
        let process = ProcessId::current().map_err(failed)?;
        let mut lock = HomeLock { file, process };
        // The ports of the studio before stay there until this one has its own.
        let ports = Holder::read(home).and_then(|holder| holder.ports);
        lock.write(None, ports).map_err(failed)?;
        Ok(lock)
    }

    /// Says where the holder answers.
    pub fn describe(&mut self, address: &str, ports: &Ports) -> io::Result<()> {
        self.write(Some(address.to_owned()), Some(ports.clone()))
    }

    fn write(&mut self, address: Option<String>, ports: Option<Ports>) -> io::Result<()> {
        let json = serde_json::to_vec(&Holder { process: self.process.clone(), address, ports })?;
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&json)
    }
}

/// An unreadable holder is one that is just writing itself down.
fn holder_lives(home: &Home) -> bool {
    Holder::read(home).is_none_or(|holder| holder.process.is_alive())
}

fn taken(home: &Home, mut file: &File) -> CliError {
    let mut json = Vec::new();
    let holder: Option<Holder> = file.read_to_end(&mut json).ok().and_then(|_| serde_json::from_slice(&json).ok());
    let pid = holder.as_ref().map_or_else(|| "?".into(), |holder| holder.process.pid.to_string());
    let address = holder.and_then(|holder| holder.address).unwrap_or_else(|| text("正在启动", "starting").into());
    let root = home.root().display();
    CliError::new(
        "studio-already-running",
        text(
            format!("{root} 上已有 Studio 在运行（pid {pid}，{address}）"),
            format!("a studio already runs on {root} (pid {pid}, {address})"),
        ),
    )
    .next(text(
        "使用它，或先停止：sage studio stop；另一个 Studio 需要另一个 --home",
        "use it, or stop it first: sage studio stop; another studio needs another --home",
    ))
}
