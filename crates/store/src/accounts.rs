use std::{path::Path, sync::Mutex};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{Result, StoreError, rows};

/// People who sign in, and their sessions.
///
/// A connection of its own: signing in has nothing to do with the engine's loop, and SQLite serialises the two.
pub struct Accounts {
    connection: Mutex<Connection>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: i64,
    pub username: String,
    /// PHC string; `None` for the guest.
    pub password_hash: Option<String>,
    pub created_at: Timestamp,
}

const COLUMNS: &str = "account.id, username, password_hash, account.created_at";

impl Accounts {
    /// The database must exist: open the [`Writer`](crate::Writer) first.
    pub fn open(path: &Path) -> Result<Accounts> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(Accounts { connection: Mutex::new(connection) })
    }

    /// The error is [`StoreError::NameTaken`] if somebody has the name already.
    pub fn create(&self, username: &str, password_hash: Option<&str>, at: Timestamp) -> Result<Account> {
        let connection = self.lock();
        let inserted = connection.execute(
            "INSERT INTO account (username, password_hash, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            params![username, password_hash, at.as_millisecond()],
        )?;
        if inserted == 0 {
            return Err(StoreError::NameTaken(username.to_owned()));
        }
        Ok(Account {
            id: connection.last_insert_rowid(),
            username: username.to_owned(),
            password_hash: password_hash.map(str::to_owned),
            created_at: at,
        })
    }

    pub fn by_name(&self, username: &str) -> Result<Option<Account>> {
        self.one(&format!("SELECT {COLUMNS} FROM account WHERE username = ?"), params![username])
    }

    pub fn by_session(&self, token_sha256: &[u8; 32]) -> Result<Option<Account>> {
        let sql = format!("SELECT {COLUMNS} FROM session JOIN account ON account.id = account WHERE token_sha256 = ?");
        self.one(&sql, params![token_sha256])
    }

    pub fn open_session(&self, account: i64, token_sha256: &[u8; 32], at: Timestamp) -> Result<()> {
        self.lock().execute(
            "INSERT INTO session (token_sha256, account, created_at) VALUES (?, ?, ?)",
            params![token_sha256, account, at.as_millisecond()],
        )?;
        Ok(())
    }

    pub fn close_session(&self, token_sha256: &[u8; 32]) -> Result<()> {
        self.lock().execute("DELETE FROM session WHERE token_sha256 = ?", params![token_sha256])?;
        Ok(())
    }

    fn one(&self, sql: &str, arguments: impl rusqlite::Params) -> Result<Option<Account>> {
        let account = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?));
        let found = self.lock().prepare_cached(sql)?.query_row(arguments, account).optional()?;
        found
            .map(|(id, username, password_hash, created_at)| {
                Ok(Account { id, username, password_hash, created_at: rows::timestamp(created_at)? })
            })
            .transpose()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.connection.lock().expect("no account query panics")
    }
}
