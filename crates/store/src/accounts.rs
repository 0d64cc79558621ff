use std::{collections::BTreeMap, path::Path, sync::Mutex};

use domain::Allowance;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{Result, StoreError, rows};

/// People who sign in, their sessions and tokens, and what they uploaded.
///
/// A connection of its own: signing in has nothing to do with the engine's loop, and SQLite serialises the two.
pub struct Accounts {
    connection: Mutex<Connection>,
}

/// A session ends so long after it was last renewed.
pub const SESSION: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What is in use is renewed, and marked as used, no more often than this, because each time is a write.
const RENEWED: SignedDuration = SignedDuration::from_hours(24);
const MARKED: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub id: i64,
    pub username: String,
    /// PHC string; `None`: nobody can sign in with a password.
    pub password_hash: Option<String>,
    pub role: Role,
    pub allowance: Allowance,
    pub created_at: Timestamp,
}

/// What somebody is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything, other people's tasks and accounts included.
    Owner,
    /// Tasks and data sets of their own.
    Member,
    /// Looks on.
    Viewer,
}

/// How much a secret lets somebody do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// See tasks, devices and models.
    Read,
    /// Submit and upload, and do as they like with what is their own.
    Submit,
    /// Everything that their role allows.
    Admin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: i64,
    /// Name of the account.
    pub account: String,
    pub name: String,
    pub scope: Access,
    pub created_at: Timestamp,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// Whose a secret is.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    pub account: Account,
    pub by: By,
    /// When it ends; `None`: not by itself.
    pub until: Option<Timestamp>,
}

/// What kind of secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Somebody signed in.
    Session,
    /// The command line of the machine's owner, who can read `studio.json`.
    Machine,
    Token {
        id: i64,
        scope: Access,
    },
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Owner, Role::Member, Role::Viewer];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Member => "member",
            Role::Viewer => "viewer",
        }
    }

    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// The most that somebody of this role can do.
    pub fn access(self) -> Access {
        match self {
            Role::Owner => Access::Admin,
            Role::Member => Access::Submit,
            Role::Viewer => Access::Read,
        }
    }
}

impl Access {
    pub const ALL: [Access; 3] = [Access::Read, Access::Submit, Access::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Submit => "submit",
            Access::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<Access> {
        Access::ALL.into_iter().find(|access| access.as_str() == word)
    }
}

const ACCOUNT: &str = "account.id, username, password_hash, role, allowance, account.created_at";
const TOKEN: &str = "token.id, username, name, scope, token.created_at, expires_at, last_used_at";

impl Accounts {
    /// The database must exist: open the [`Writer`](crate::Writer) first.
    pub fn open(path: &Path) -> Result<Accounts> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -128)?;
        Ok(Accounts { connection: Mutex::new(connection) })
    }

    /// The error is [`StoreError::NameTaken`] if somebody has the name already.
    pub fn create(
        &self,
        username: &str,
        password_hash: Option<&str>,
        role: Role,
        allowance: &Allowance,
        at: Timestamp,
    ) -> Result<Account> {
        let connection = self.lock();
        let inserted = connection.execute(
            "INSERT INTO account (username, password_hash, role, allowance, created_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
            params![username, password_hash, role.as_str(), rows::to_json(allowance), at.as_millisecond()],
        )?;
        if inserted == 0 {
            return Err(StoreError::NameTaken(username.to_owned()));
        }
        Ok(Account {
            id: connection.last_insert_rowid(),
            username: username.to_owned(),
            password_hash: password_hash.map(str::to_owned),
            role,
            allowance: allowance.clone(),
            created_at: at,
        })
    }

    /// By name.
    pub fn list(&self) -> Result<Vec<Account>> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT {ACCOUNT} FROM account ORDER BY username"))?;
        let mut found = statement.query([])?;
        let mut accounts = Vec::new();
        while let Some(row) = found.next()? {
            accounts.push(account(row)?);
        }
        Ok(accounts)
    }

    pub fn by_name(&self, username: &str) -> Result<Option<Account>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("SELECT {ACCOUNT} FROM account WHERE username = ?"))?;
        let mut found = statement.query(params![username])?;
        found.next()?.map(account).transpose()
    }

    /// What each account may have of the machine.
    pub fn allowances(&self) -> Result<BTreeMap<String, Allowance>> {
        Ok(self.list()?.into_iter().map(|account| (account.username, account.allowance)).collect())
    }

    pub fn set_role(&self, account: i64, role: Role) -> Result<()> {
        self.lock().execute("UPDATE account SET role = ? WHERE id = ?", params![role.as_str(), account])?;
        Ok(())
    }

    pub fn set_allowance(&self, account: i64, allowance: &Allowance) -> Result<()> {
        self.lock()
            .execute("UPDATE account SET allowance = ? WHERE id = ?", params![rows::to_json(allowance), account])?;
        Ok(())
    }

    /// Ends the account's sessions: whoever changes a password may have lost the old one to somebody.
    pub fn set_password(&self, account: i64, password_hash: &str) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE account SET password_hash = ? WHERE id = ?", params![password_hash, account])?;
        transaction.execute("DELETE FROM session WHERE account = ? AND expires_at IS NOT NULL", params![account])?;
        Ok(transaction.commit()?)
    }

    /// With its sessions and tokens.
    pub fn remove(&self, account: i64) -> Result<()> {
        self.lock().execute("DELETE FROM account WHERE id = ?", params![account])?;
        Ok(())
    }

    /// Whose session or token this is, if it is still good. Renews the one, marks the other as used.
    pub fn open_secret(&self, sha256: &[u8; 32], now: Timestamp) -> Result<Option<Opened>> {
        let connection = self.lock();
        let sql = format!(
            "SELECT {ACCOUNT}, expires_at FROM session JOIN account ON account.id = account WHERE secret_sha256 = ?"
        );
        let session = connection
            .prepare_cached(&sql)?
            .query_and_then(params![sha256], |row| Ok::<_, StoreError>((account(row)?, row.get::<_, Option<i64>>(6)?)))?
            .next()
            .transpose()?;
        if let Some((account, expires_at)) = session {
            let Some(expires_at) = expires_at.map(rows::timestamp).transpose()? else {
                return Ok(Some(Opened { account, by: By::Machine, until: None }));
            };
            if expires_at <= now {
                return Ok(None);
            }
            let mut until = expires_at;
            if expires_at.duration_since(now) < SESSION - RENEWED {
                until = now + SESSION;
                connection
                    .prepare_cached("UPDATE session SET expires_at = ? WHERE secret_sha256 = ?")?
                    .execute(params![until.as_millisecond(), sha256])?;
            }
            return Ok(Some(Opened { account, by: By::Session, until: Some(until) }));
        }

        let sql = format!(
            "SELECT {ACCOUNT}, {TOKEN} FROM token JOIN account ON account.id = account WHERE secret_sha256 = ?"
        );
        let token = connection
            .prepare_cached(&sql)?
            .query_and_then(params![sha256], |row| Ok::<_, StoreError>((account(row)?, token(row, 6)?)))?
            .next()
            .transpose()?;
        let Some((account, token)) = token else { return Ok(None) };
        if token.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Ok(None);
        }
        if token.last_used_at.is_none_or(|used| now.duration_since(used) >= MARKED) {
            connection
                .prepare_cached("UPDATE token SET last_used_at = ? WHERE id = ?")?
                .execute(params![now.as_millisecond(), token.id])?;
        }
        let by = By::Token { id: token.id, scope: token.scope };
        Ok(Some(Opened { account, by, until: token.expires_at }))
    }

    pub fn open_session(&self, account: i64, sha256: &[u8; 32], now: Timestamp) -> Result<()> {
        let connection = self.lock();
        connection.execute("DELETE FROM session WHERE expires_at <= ?", params![now.as_millisecond()])?;
        connection.execute(
            "INSERT INTO session (secret_sha256, account, created_at, expires_at) VALUES (?, ?, ?, ?)",
            params![sha256, account, now.as_millisecond(), (now + SESSION).as_millisecond()],
        )?;
        Ok(())
    }

    /// The one session of the machine's command line; those of earlier runs of the studio end.
    pub fn open_machine_session(&self, account: i64, sha256: &[u8; 32], now: Timestamp) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM session WHERE expires_at IS NULL", [])?;
        transaction.execute(
            "INSERT INTO session (secret_sha256, account, created_at) VALUES (?, ?, ?)",
            params![sha256, account, now.as_millisecond()],
        )?;
        Ok(transaction.commit()?)
    }

    pub fn close_session(&self, sha256: &[u8; 32]) -> Result<()> {
        self.lock().execute("DELETE FROM session WHERE secret_sha256 = ?", params![sha256])?;
        Ok(())
    }

    pub fn create_token(
        &self,
        account: &Account,
        name: &str,
        sha256: &[u8; 32],
        scope: Access,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Token> {
        let connection = self.lock();
        connection.execute(
            "INSERT INTO token (account, name, secret_sha256, scope, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            params![
                account.id,
                name,
                sha256,
                scope.as_str(),
                now.as_millisecond(),
                expires_at.map(Timestamp::as_millisecond),
            ],
        )?;
        Ok(Token {
            id: connection.last_insert_rowid(),
            account: account.username.clone(),
            name: name.to_owned(),
            scope,
            created_at: now,
            expires_at,
            last_used_at: None,
        })
    }

    /// Oldest first.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        let connection = self.lock();
        let sql = format!("SELECT {TOKEN} FROM token JOIN account ON account.id = account ORDER BY token.id");
        let mut statement = connection.prepare_cached(&sql)?;
        let tokens = statement.query_and_then([], |row| token(row, 0))?;
        tokens.collect()
    }

    pub fn revoke_token(&self, id: i64) -> Result<()> {
        self.lock().execute("DELETE FROM token WHERE id = ?", params![id])?;
        Ok(())
    }

    pub fn set_upload_owner(&self, filename: &str, owner: &str) -> Result<()> {
        self.lock()
            .execute("INSERT OR REPLACE INTO upload (filename, owner) VALUES (?, ?)", params![filename, owner])?;
        Ok(())
    }

    pub fn forget_upload(&self, filename: &str) -> Result<()> {
        self.lock().execute("DELETE FROM upload WHERE filename = ?", params![filename])?;
        Ok(())
    }

    /// `None`: it was uploaded before there were owners, or put there by hand.
    pub fn upload_owner(&self, filename: &str) -> Result<Option<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT owner FROM upload WHERE filename = ?")?;
        Ok(statement.query_row(params![filename], |row| row.get(0)).optional()?)
    }

    /// Owners by file name.
    pub fn uploads(&self) -> Result<BTreeMap<String, String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT filename, owner FROM upload")?;
        let uploads = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(uploads.collect::<std::result::Result<_, _>>()?)
    }

    /// Tasks and uploads that are of this name, whether there is such an account or not.
    pub fn owned_by(&self, name: &str) -> Result<(u64, u64)> {
        let connection = self.lock();
        let count = |sql: &str| -> Result<u64> {
            let count: i64 = connection.prepare_cached(sql)?.query_row(params![name], |row| row.get(0))?;
            Ok(count.unsigned_abs())
        };
        let tasks = count("SELECT count(*) FROM task WHERE owner = ? AND removed_at IS NULL")?;
        Ok((tasks, count("SELECT count(*) FROM upload WHERE owner = ?")?))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.connection.lock().expect("no account query panics")
    }
}

fn account(row: &Row<'_>) -> Result<Account> {
    let role: String = row.get(3)?;
    Ok(Account {
        id: row.get(0)?,
        username: row.get(1)?,
        password_hash: row.get(2)?,
        role: Role::parse(&role).ok_or(StoreError::Corrupt { what: "a role", message: role })?,
        allowance: rows::from_json("an allowance", row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?)?,
        created_at: rows::timestamp(row.get(5)?)?,
    })
}

/// The columns of [`TOKEN`], which begin at `first`.
fn token(row: &Row<'_>, first: usize) -> Result<Token> {
    let scope: String = row.get(first + 3)?;
    let time = |column: usize| row.get::<_, Option<i64>>(first + column)?.map(rows::timestamp).transpose();
    Ok(Token {
        id: row.get(first)?,
        account: row.get(first + 1)?,
        name: row.get(first + 2)?,
        scope: Access::parse(&scope).ok_or(StoreError::Corrupt { what: "a token's scope", message: scope })?,
        created_at: rows::timestamp(row.get(first + 4)?)?,
        expires_at: time(5)?,
        last_used_at: time(6)?,
    })
}
