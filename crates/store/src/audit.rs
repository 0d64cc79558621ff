use std::{path::Path, sync::Mutex};

use jiff::Timestamp;
use rusqlite::{Connection, Row, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::{Result, StoreError, rows};

/// Who did what, when, from which address: an append-only table in a database of its own, chained by hashes.
///
/// Each row's hash covers the row and the hash before it, so a row that is changed, removed or put in between later
/// breaks the chain. Whoever can write the file could compute a whole new chain; a head that was noted elsewhere tells.
pub struct Audit {
    connection: Mutex<Connection>,
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    /// Name of the account; `-` if nobody was signed in.
    pub who: String,
    /// Where the request came from, without the port; `local` for the command line's own work.
    pub address: String,
    /// Such as `sign-in` or `task.submit`.
    pub action: String,
    /// What it was done to: a task, an account, a token.
    pub target: Option<String>,
    /// `ok`, or the code of the error.
    pub outcome: String,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub seq: u64,
    pub entry: Entry,
    pub hash: [u8; 32],
}

/// Which rows to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only rows older than this one.
    pub before: Option<u64>,
    pub who: Option<String>,
    /// An action, or the part before its dot: `task`.
    pub action: Option<String>,
    pub limit: u32,
}

/// What a look at the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    Whole {
        rows: u64,
        head: [u8; 32],
    },
    /// The first row that does not follow from the one before.
    Broken {
        seq: u64,
    },
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL, -- milliseconds since the epoch
    who TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT,
    outcome TEXT NOT NULL,
    detail TEXT,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS audit_is_append_only_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_append_only_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
PRAGMA user_version = 1;
";

pub const KNOWN: u32 = 1;

const COLUMNS: &str = "seq, at, who, address, action, target, outcome, detail, hash";

impl Audit {
    pub fn open(path: &Path) -> Result<Audit> {
        let open = || {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.pragma_update(None, "cache_size", -256)?;
            Ok(connection)
        };
        let connection = open().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => connection.execute_batch(SCHEMA)?,
            KNOWN => {}
            found => return Err(StoreError::Newer { path: path.to_owned(), found, known: KNOWN }),
        }
        Ok(Audit { connection: Mutex::new(connection) })
    }

    /// All in one transaction; durable when it returns.
    pub fn append(&self, entries: &[Entry]) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read each time: the command line may have written as well.
        let (mut seq, mut hash) = head(&transaction)?;
        for entry in entries {
            seq += 1;
            hash = chained(&hash, seq, entry);
            let Entry { at, who, address, action, target, outcome, detail } = entry;
            transaction
                .prepare_cached(&format!("INSERT INTO audit ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"))?
                .execute(params![
                    seq as i64,
                    at.as_millisecond(),
                    who,
                    address,
                    action,
                    target,
                    outcome,
                    detail,
                    hash
                ])?;
        }
        Ok(transaction.commit()?)
    }

    pub fn list(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM audit
             WHERE seq < ?1 AND (?2 IS NULL OR who = ?2)
               AND (?3 IS NULL OR action = ?3 OR substr(action, 1, length(?3) + 1) = ?3 || '.')
             ORDER BY seq DESC LIMIT ?4"
        ))?;
        let before = filter.before.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
        let found = statement.query_and_then(params![before, filter.who, filter.action, filter.limit], row)?;
        found.collect()
    }

    /// Computes every hash again.
    pub fn verify(&self) -> Result<Chain> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM audit ORDER BY seq"))?;
        let mut found = statement.query([])?;
        let (mut rows, mut head) = (0, [0; 32]);
        while let Some(next) = found.next()? {
            // A hash of another length, or text that is none, is a break as well.
            let seq = next.get::<_, i64>(0)? as u64;
            let Ok(AuditRow { entry, hash, .. }) = row(next) else { return Ok(Chain::Broken { seq }) };
            if seq != rows + 1 || chained(&head, seq, &entry) != hash {
                return Ok(Chain::Broken { seq });
            }
            (rows, head) = (seq, hash);
        }
        Ok(Chain::Whole { rows, head })
    }

    /// Whether a row with this hash is there, such as a head that was noted some time ago.
    pub fn contains(&self, hash: &[u8; 32]) -> Result<bool> {
        let connection = self.lock();
        let count: i64 =
            connection.query_row("SELECT count(*) FROM audit WHERE hash = ?", params![hash], |row| row.get(0))?;
        Ok(count > 0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.connection.lock().expect("no audit query panics")
    }
}

/// Number and hash of the newest row.
fn head(connection: &Connection) -> Result<(u64, [u8; 32])> {
    let mut statement = connection.prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    let mut found = statement.query([])?;
    match found.next()? {
        Some(row) => Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)),
        None => Ok((0, [0; 32])),
    }
}

/// SHA-256 of the hash before, number, time and fields; each field with its length in front, so that none runs into
/// the next.
fn chained(before: &[u8; 32], seq: u64, entry: &Entry) -> [u8; 32] {
    let Entry { at, who, address, action, target, outcome, detail } = entry;
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(seq.to_le_bytes());
    hash.update(at.as_millisecond().to_le_bytes());
    for field in [Some(who), Some(address), Some(action), target.as_ref(), Some(outcome), detail.as_ref()] {
        let length = field.map_or(u64::MAX, |text| text.len() as u64);
        hash.update(length.to_le_bytes());
        hash.update(field.map_or("", String::as_str));
    }
    hash.finalize().into()
}

fn row(row: &Row<'_>) -> Result<AuditRow> {
    Ok(AuditRow {
        seq: row.get::<_, i64>(0)? as u64,
        entry: Entry {
            at: rows::timestamp(row.get(1)?)?,
            who: row.get(2)?,
            address: row.get(3)?,
            action: row.get(4)?,
            target: row.get(5)?,
            outcome: row.get(6)?,
            detail: row.get(7)?,
        },
        hash: row.get(8)?,
    })
}
