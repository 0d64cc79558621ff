use std::path::Path;

use jiff::Timestamp;
use rusqlite::Connection;

use crate::{Backups, Result, StoreError, Why};

/// One file per schema version, applied in order, each in a transaction of its own.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_estimates.sql"),
    include_str!("migrations/0003_queue.sql"),
    include_str!("migrations/0004_terms.sql"),
    include_str!("migrations/0005_accounts.sql"),
];

/// The schema that this version writes.
pub const KNOWN: u32 = MIGRATIONS.len() as u32;

/// Brings the database to this version's schema; `PRAGMA user_version` counts the migrations applied. Before anything
/// changes there is a backup.
pub fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > KNOWN {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: KNOWN });
    }
    if (1..KNOWN).contains(&found) {
        Backups::of(path).make(Why::BeforeMigration, Timestamp::now())?;
    }
    for (version, sql) in (1u32..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
