//! Copies of the database, made while it is in use: once a day, in each hour in which it changed, and before its schema
//! does.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use rusqlite::{Connection, OpenFlags, backup};
use serde::{Deserialize, Serialize};

use crate::{Result, StoreError, check, migrate};

/// Of each kind, the newest so many are kept.
const KEPT: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Bytes that a copy leaves free on the disk.
const LEFT_FREE: u64 = 1 << 30;

/// The folder `backups` beside a database.
#[derive(Debug, Clone)]
pub struct Backups {
    database: PathBuf,
    folder: PathBuf,
    kind: Kind,
}

/// What a database holds, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `studio.db`: tasks, accounts and the journal.
    Studio,
    /// `audit.db`.
    Audit,
}

impl Kind {
    pub fn of(database: &Path) -> Kind {
        let name = database.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("audit") { Kind::Audit } else { Kind::Studio }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Studio => "studio",
            Kind::Audit => "audit",
        }
    }

    /// A table that is in each version of it, and the newest version known.
    fn mark(self) -> (&'static str, u32) {
        match self {
            Kind::Studio => ("journal", migrate::KNOWN),
            Kind::Audit => ("audit", crate::audit::KNOWN),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub path: PathBuf,
    pub at: Timestamp,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Of a database that has changed since the last.
    Hourly,
    Daily,
    BeforeMigration,
    BeforeRestore,
    ByHand,
}

impl Why {
    const ALL: [Why; 5] = [Why::Hourly, Why::Daily, Why::BeforeMigration, Why::BeforeRestore, Why::ByHand];

    fn word(self) -> &'static str {
        match self {
            Why::Hourly => "hourly",
            Why::Daily => "daily",
            Why::BeforeMigration => "before-migration",
            Why::BeforeRestore => "before-restore",
            Why::ByHand => "by-hand",
        }
    }
}

/// When the next backup is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Now(Why),
    In(Duration),
}

impl Backups {
    pub fn of(database: &Path) -> Backups {
        Backups { database: database.to_owned(), folder: database.with_file_name("backups"), kind: Kind::of(database) }
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Backup> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut backups: Vec<Backup> = files.filter_map(|file| parse(&file.path(), self.kind)).collect();
        backups.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.path.cmp(&a.path)));
        backups
    }

    /// A clock that was set back keeps no backup away for longer than its interval.
    pub fn due(&self, now: Timestamp) -> Due {
        let made = self.list();
        let age = |newest: Option<&Backup>| newest.map_or(Duration::MAX, |backup| since(backup.at, now));
        let daily = age(made.iter().find(|backup| backup.why == Why::Daily));
        if daily >= DAY {
            return Due::Now(Why::Daily);
        }
        let newest = made.first();
        match age(newest) {
            hourly if hourly < HOUR => Due::In(HOUR - hourly),
            _ if self.changed_since(newest) => Due::Now(Why::Hourly),
            _ => Due::In(HOUR.min(DAY - daily)),
        }
    }

    fn changed_since(&self, backup: Option<&Backup>) -> bool {
        let Some(backup) = backup else { return true };
        let written = [self.database.clone(), check::wal(&self.database)].into_iter();
        let written = written.filter_map(|path| Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok());
        written.max().is_none_or(|at| at > backup.at)
    }

    /// Copies the database and drops copies of the same kind that are too many.
    pub fn make(&self, why: Why, now: Timestamp) -> Result<Backup> {
        let size = fs::metadata(&self.database).map_or(0, |file| file.len());
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        let free = rustix::fs::statvfs(&self.folder).map(|disk| disk.f_bavail * disk.f_frsize);
        if free.is_ok_and(|free| free < size.saturating_add(LEFT_FREE)) {
            return Err(StoreError::File { path: self.folder.clone(), source: io::ErrorKind::StorageFull.into() });
        }
        let time = now.strftime("%Y%m%dT%H%M%S%.3fZ");
        let path = self.folder.join(format!("{}-{time}-{}.db", self.kind.as_str(), why.word()));
        copy(&self.database, &path)?;
        for old in self.list().into_iter().filter(|backup| backup.why == why).skip(KEPT) {
            fs::remove_file(&old.path).map_err(at(&old.path))?;
        }
        Ok(Backup { path, at: now, why })
    }

    /// The newest copy that is whole and of a schema that this version knows.
    pub fn newest_good(&self) -> Option<Backup> {
        self.list().into_iter().find(|backup| examine(&backup.path, self.kind).is_ok())
    }
}

fn since(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

/// `studio-20261124T023238.125Z-daily.db`
fn parse(path: &Path, kind: Kind) -> Option<Backup> {
    let name = path.file_name()?.to_str()?.strip_prefix(kind.as_str())?.strip_prefix('-')?;
    let (time, why) = name.strip_suffix(".db")?.split_once("Z-")?;
    let time = DateTime::strptime("%Y%m%dT%H%M%S%.f", time).ok()?;
    let at = TimeZone::UTC.to_timestamp(time).ok()?;
    let why = Why::ALL.into_iter().find(|known| known.word() == why)?;
    Some(Backup { path: path.to_owned(), at, why })
}

/// Copies a database that may be in use. The copy is checked, on disk and complete before it has its name.
pub fn copy(database: &Path, to: &Path) -> Result<()> {
    let open = |source| StoreError::Open { path: database.to_owned(), source };
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(open)?;
    source.busy_timeout(Duration::from_secs(30))?;
    let draft = draft(to);
    let copied = copy_into(&source, &draft).and_then(|()| {
        // It holds what the database holds. Where modes mean nothing it is as safe as the folder.
        let _ = fs::set_permissions(&draft, fs::Permissions::from_mode(0o600));
        let file = File::open(&draft).and_then(|file| file.sync_all());
        file.and_then(|()| fs::rename(&draft, to)).and_then(|()| sync_folder(to)).map_err(at(to))
    });
    let _ = fs::remove_file(&draft);
    copied
}

fn copy_into(source: &Connection, draft: &Path) -> Result<()> {
    let _ = fs::remove_file(draft);
    let mut target = Connection::open(draft).map_err(|source| StoreError::Open { path: draft.to_owned(), source })?;
    // In one step, so that it is one moment of the database; whoever writes meanwhile writes behind it.
    backup::Backup::new(source, &mut target)?.step(-1)?;
    // The copy needs no second file.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    check::sound(&target)
}

/// Puts a copy in the place of the database, which no studio may be using. What was there becomes a backup itself, or is
/// set aside if it is damaged.
pub fn restore(from: &Path, database: &Path, now: Timestamp) -> Result<()> {
    examine(from, Kind::of(database))?;
    let incoming = database.with_extension("db.incoming");
    copy(from, &incoming)?;
    if database.exists() {
        let kept = Backups::of(database).make(Why::BeforeRestore, now).map(drop).and_then(|()| settle(database));
        if kept.is_err() {
            check::set_aside(database, now)?;
        }
    }
    fs::rename(&incoming, database).and_then(|()| sync_folder(database)).map_err(at(database))
}

/// Empties the write-ahead log into the database: it must not be taken for the next one's.
fn settle(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy != 0 {
        return Err(StoreError::InUse { path: database.to_owned() });
    }
    Ok(())
}

/// Whether this is a whole database of ours that this version can read.
fn examine(path: &Path, kind: Kind) -> Result<()> {
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(open)?;
    check::sound(&connection).map_err(|error| match error {
        StoreError::Sqlite(source) => open(source),
        error => error,
    })?;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (table, known) = kind.mark();
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    if found == 0 || !connection.table_exists(None, table)? {
        return Err(StoreError::NotOurs { path: path.to_owned() });
    }
    Ok(())
}

fn draft(of: &Path) -> PathBuf {
    let mut name = of.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

pub fn sync_folder(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(Path::new("/")))?.sync_all()
}

pub fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { path, source }
}
