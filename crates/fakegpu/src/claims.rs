//! Memory that live processes hold: `claims/<pid>-<start time>-<n>` with `<device UUID> <bytes>` in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Memory of one process on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub pid: u32,
    /// UUID of a GPU or a MIG instance.
    pub device: String,
    pub bytes: u64,
}

/// What is held now; several claims of one process on one device are one. Claims of ended processes are removed.
pub fn live(folder: &Path) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some((pid, start)) = owner(&entry.file_name().to_string_lossy()) else { continue };
        if start_time(pid) != Some(start) {
            // Somebody else may have removed it.
            let _ = fs::remove_file(entry.path());
            continue;
        }
        // A claim that was given back meanwhile is none.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let Some((device, bytes)) = text.split_once(' ') else { continue };
        let Ok(bytes) = bytes.parse::<u64>() else { continue };
        match claims.iter_mut().find(|claim| claim.pid == pid && claim.device == device) {
            Some(claim) => claim.bytes += bytes,
            None => claims.push(Claim { pid, device: device.to_owned(), bytes }),
        }
    }
    claims.sort_by_key(|claim| claim.pid);
    claims
}

/// Writes a claim down and answers its file, whose removal gives the memory back.
pub fn make(folder: &Path, claim: &Claim) -> io::Result<PathBuf> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let start = start_time(claim.pid)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no process {}", claim.pid)))?;
    // One process may claim for another, so the number names its writer too.
    let number = format!("{}.{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(format!("{}-{start}-{number}", claim.pid));
    replace(&path, format!("{} {}", claim.device, claim.bytes).as_bytes())?;
    Ok(path)
}

/// Readers see the old contents or the new, never a part.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().expect("it names a file").to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", process::id()));
    fs::write(&new, contents)?;
    fs::rename(&new, path)
}

fn owner(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// In clock ticks after boot. `None`: the process has ended; the memory of a zombie is free already.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}
