//! Tasks, attempts, the journal of transitions and accounts, in one SQLite database.
//!
//! One [`Writer`] (owned by the engine's loop) commits batches of [`Change`]s; any number of [`Reader`]s look on.
//! What [`Writer::commit`] has returned from survives a crash of the process and of the machine (WAL,
//! `synchronous=FULL`).

mod accounts;
mod audit;
mod migrate;
mod read;
mod rows;
mod write;

use std::path::PathBuf;

pub use accounts::{Access, Account, Accounts, By, Opened, Role, SESSION, Token};
pub use audit::{Audit, AuditFilter, AuditRow, Chain, Entry};
pub use read::{Filter, ForecastRow, JournalRow, Reader, StoredTask};
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
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

pub type Result<T> = std::result::Result<T, StoreError>;
