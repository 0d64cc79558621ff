//! Whether the database can be trusted.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};

use crate::{
    Backups, Result, StoreError,
    backup::{at, sync_folder},
};

/// How long a start waits for the check; a large database is checked to the end while the studio runs.
const PATIENCE: Duration = Duration::from_millis(150);

/// Checks all of a database that may be in use; however long it takes. If it is damaged, the next [`recover`](crate::recover) looks as
/// closely.
pub fn verify(database: &Path) -> Result<Option<String>> {
    let damage = damage(database, &Backups::of(database), None)?;
    if let Some(damage) = &damage {
        let mark = suspicion(database);
        fs::write(&mark, damage).map_err(at(&mark))?;
    }
    Ok(damage)
}

/// What [`verify`] found, in SQLite's words, until a [`recover`](crate::recover) has looked after it.
pub fn suspected(database: &Path) -> Option<String> {
    fs::read_to_string(suspicion(database)).ok()
}

/// What is wrong with a database before it is opened; nothing if it is too large to be checked in time, unless [`verify`]
/// found something in it.
pub fn damage_at_start(database: &Path, backups: &Backups) -> Result<Option<String>> {
    let patience = if suspicion(database).exists() { None } else { Some(PATIENCE) };
    damage(database, backups, patience)
}

/// What is wrong with the file; `None` if nothing was found in time.
fn damage(database: &Path, backups: &Backups, patience: Option<Duration>) -> Result<Option<String>> {
    let Ok(file) = fs::metadata(database) else { return Ok(None) };
    // SQLite takes an empty file for a new database.
    if file.len() == 0 && !wal(database).exists() && !backups.list().is_empty() {
        return Ok(Some("the file is empty".into()));
    }
    let check = || {
        let mut connection = Connection::open(database)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        if let Some(patience) = patience {
            let deadline = Instant::now() + patience;
            connection.progress_handler(10_000, Some(move || Instant::now() > deadline))?;
        }
        quick_check(&connection)
    };
    match check() {
        Ok(said) => Ok(said),
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        Err(source) => Err(StoreError::Open { path: database.to_owned(), source }),
    }
}

pub fn sound(connection: &Connection) -> Result<()> {
    match quick_check(connection)? {
        None => Ok(()),
        Some(message) => Err(StoreError::Corrupt { what: "its pages", message }),
    }
}

/// What is damaged, if anything. Nothing, too, where a progress handler ends it early.
fn quick_check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match said {
        Ok(said) if said == "ok" => Ok(None),
        Ok(said) => Ok(Some(said)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Gives the database and its write-ahead log another name; the database's new one.
pub fn set_aside(database: &Path, now: Timestamp) -> Result<PathBuf> {
    let aside = aside(database, now);
    // The database first: without its log it could pass for a whole one, of an earlier moment.
    for (from, to) in [(database.to_owned(), aside.clone()), (wal(database), wal(&aside)), (shm(database), shm(&aside))]
    {
        if from.exists() {
            fs::rename(&from, &to).map_err(at(&from))?;
        }
    }
    sync_folder(database).map_err(at(database))?;
    Ok(aside)
}

/// What a damaged database is called; nothing has this name yet.
pub fn aside(database: &Path, now: Timestamp) -> PathBuf {
    let name = now.strftime(".damaged-%Y%m%dT%H%M%SZ").to_string();
    let names = (1..).map(|number| match number {
        1 => beside(database, &name),
        number => beside(database, &format!("{name}-{number}")),
    });
    let taken = |path: &PathBuf| path.exists() || beside(path, ".story").exists();
    names.into_iter().find(|path| !taken(path)).expect("a folder is not that full")
}

/// SQLite leaves a setting as it was where the file system cannot do it, so it is asked again.
pub fn durable(connection: &Connection, path: &Path) -> Result<()> {
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if journal != "wal" || synchronous < FULL {
        return Err(StoreError::NotDurable { path: path.to_owned(), journal, synchronous });
    }
    Ok(())
}

/// Every commit waits until the disk has it.
const FULL: i64 = 2;

pub fn wal(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

pub fn shm(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

/// Left by [`verify`].
pub fn suspicion(database: &Path) -> PathBuf {
    beside(database, ".suspect")
}

pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
