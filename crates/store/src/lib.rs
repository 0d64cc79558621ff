//! Tasks, attempts, the journal of transitions and accounts, in one SQLite database.
//!
//! One [`Writer`] (owned by the engine's loop) commits batches of [`Change`]s; any number of [`Reader`]s look on.
//! What [`Writer::commit`] has returned from survives a crash of the process and of the machine (WAL,
//! `synchronous=FULL`).

mod accounts;
mod audit;
mod backup;
mod check;
mod migrate;
mod read;
mod recover;
mod rows;
mod wal;
mod write;

use std::path::PathBuf;

pub use accounts::{Access, Account, Accounts, By, Opened, Role, SESSION, Token};
pub use audit::{Audit, AuditFilter, AuditRow, Chain, Entry};
pub use backup::{Backup, Backups, Due, Kind, Why, copy as back_up, restore};
pub use check::{suspected, verify};
pub use read::{Filter, ForecastRow, JournalRow, Reader, StoredTask};
pub use recover::{Recovery, recover, recoveries};
pub use write::{Change, LiveAttempt, Revision, TaskRecord, Ticket, Transition, Writer};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the database {path}: {source}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the database {path} was written by a newer version (schema {found}, this version knows {known}); install the newer version again"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("the database holds something unreadable in {what}: {message}")]
    Corrupt { what: &'static str, message: String },
    #[error("{path} is not a database of SAGE Studio")]
    NotOurs { path: PathBuf },
    #[error("{path} is in use")]
    InUse { path: PathBuf },
    #[error(
        "the file system of {path} cannot keep what was saved through a crash (journal mode {journal}, synchronous {synchronous}); move the home to a local disk"
    )]
    NotDurable { path: PathBuf, journal: String, synchronous: i64 },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

pub type Result<T> = std::result::Result<T, StoreError>;
