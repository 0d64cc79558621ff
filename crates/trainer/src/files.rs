//! Reading and writing files so that a crash leaves the old one or the new one, never half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Hint, TrainError};

/// Reads a JSON file; `hint` says what to do when there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path, hint: Hint) -> Result<T, TrainError> {
    read_json_if_present(path)?.ok_or_else(|| TrainError::MissingFile { path: path.into(), hint })
}

pub fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, TrainError> {
    let Some(bytes) = read_if_present(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| TrainError::bad_file(path, e))
}

pub fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, TrainError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(TrainError::read(path, e)),
    }
}

pub fn create_dir(path: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(path).map_err(|e| TrainError::write(path, e))
}

/// Writes a file in full or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let unfinished = path.with_extension("tmp");
    let result = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    });
    result.map_err(|e| TrainError::write(path, e))
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let text = serde_json::to_string_pretty(value).expect("our own types become JSON");
    write(path, text.as_bytes())
}

/// Makes renames in a folder last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    let _ = path;
    Ok(())
}
