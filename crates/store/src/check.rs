//! Whether the database can be trusted, and what to start from if not.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
use serde::{Deserialize, Serialize};

use crate::{
    Backup, Backups, Result, StoreError,
    backup::{Kind, at, copy, sync_folder},
};

/// How long a start waits for the check; a large database is checked to the end while the studio runs.
const PATIENCE: Duration = Duration::from_millis(150);

/// A damaged database was found and replaced. Told until the file set aside is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub at: Timestamp,
    /// In SQLite's words.
    pub damage: String,
    pub set_aside: PathBuf,
    /// `None`: there was no good copy, and the studio started with an empty database.
    pub restored: Option<Backup>,
}

impl Recovery {
    /// Which database it was.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.set_aside)
    }
}

/// Looks whether the database is damaged. If so, sets it aside and puts the newest good backup in its place.
///
/// Call it before the database is opened, as the owner of its folder.
pub fn recover(database: &Path, now: Timestamp) -> Result<Option<Recovery>> {
    let suspect = suspicion(database);
    let patience = if suspect.exists() { None } else { Some(PATIENCE) };
    let backups = Backups::of(database);
    let Some(damage) = damage(database, &backups, patience)? else {
        let _ = fs::remove_file(&suspect);
        return Ok(None);
    };
    let set_aside = set_aside(database, now)?;
    let restored = backups.newest_good();
    if let Some(backup) = &restored {
        copy(&backup.path, database)?;
    }
    let recovery = Recovery { at: now, damage, set_aside, restored };
    let story = story(&recovery.set_aside);
    fs::write(&story, serde_json::to_vec(&recovery).expect("plain data")).map_err(at(&story))?;
    let _ = fs::remove_file(&suspect);
    Ok(Some(recovery))
}

/// Checks all of a database that may be in use; however long it takes. If it is damaged, the next [`recover`] looks as
/// closely.
pub fn verify(database: &Path) -> Result<Option<String>> {
    let damage = damage(database, &Backups::of(database), None)?;
    if damage.is_some() {
        let mark = suspicion(database);
        fs::write(&mark, "").map_err(at(&mark))?;
    }
    Ok(damage)
}

/// Recoveries whose damaged file is still there, the newest first.
pub fn recoveries(database: &Path) -> Vec<Recovery> {
    let files = fs::read_dir(database.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten();
    let stories = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ending| ending == "story"));
    let read = stories.filter_map(|path| serde_json::from_slice::<Recovery>(&fs::read(path).ok()?).ok());
    let mut told: Vec<Recovery> = read.filter(|recovery| recovery.set_aside.exists()).collect();
    told.sort_by_key(|recovery| std::cmp::Reverse(recovery.at));
    told
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
    let mut name = database.as_os_str().to_owned();
    name.push(now.strftime(".damaged-%Y%m%dT%H%M%SZ").to_string());
    let aside = PathBuf::from(name);
    for (from, to) in [(wal(database), wal(&aside)), (shm(database), shm(&aside)), (database.to_owned(), aside.clone())]
    {
        if from.exists() {
            fs::rename(&from, &to).map_err(at(&from))?;
        }
    }
    sync_folder(database).map_err(at(database))?;
    Ok(aside)
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

fn wal(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

fn shm(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

/// Left by [`verify`].
fn suspicion(database: &Path) -> PathBuf {
    beside(database, ".suspect")
}

fn story(aside: &Path) -> PathBuf {
    beside(aside, ".story")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
