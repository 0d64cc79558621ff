//! Room in the write-ahead log, made before it is needed: a commit that writes over what is there waits for the disk half
//! as long as one that makes the file longer, because the file system has nothing to write down beside it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, TransactionBehavior};

use crate::Result;

/// A little more than the 1,000 pages of 4 KiB after which SQLite begins the file anew.
const ROOM: u64 = 1100 * 4120;
/// At most this part of what is free on the disk.
const SHARE: u64 = 16;

/// Makes the log of this database at least [`ROOM`] bytes long. Answers the file: a commit before that is on disk waits for
/// all of it. `None` where there is no room to spare.
pub(crate) fn make_room(connection: &mut Connection, database: &Path) -> Result<Option<File>> {
    // While this is held nobody appends to the log.
    let held = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let grown = grow(&path(database), ROOM);
    held.rollback()?;
    Ok(grown.ok().flatten())
}

fn path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// With zeros, which SQLite never takes for a frame. All or nothing.
fn grow(wal: &Path, size: u64) -> io::Result<Option<File>> {
    let file = File::options().write(true).open(wal)?;
    let long = file.metadata()?.len();
    let disk = rustix::fs::fstatvfs(&file)?;
    if long >= size || size - long > disk.f_bavail.saturating_mul(disk.f_frsize) / SHARE {
        return Ok(None);
    }
    let zeros = vec![0; (size - long) as usize];
    if let Err(error) = file.write_all_at(&zeros, long) {
        file.set_len(long)?;
        return Err(error);
    }
    Ok(Some(file))
}
