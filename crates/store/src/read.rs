use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Mutex};

use domain::{Measurement, Progress, StateKind, Task, TaskId};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, params};

use crate::{Result, StoreError, rows};

/// One for each thread that answers requests, and two.
const KEPT: usize = 4;

/// Reads beside the writer; each call sees everything committed before it began.
pub struct Reader {
    path: PathBuf,
    /// Idle connections, [`KEPT`] at most; a burst of readers opens more.
    idle: Mutex<Vec<Connection>>,
}

/// A task as it lies in the database.
#[derive(Debug, Clone)]
pub struct StoredTask {
    pub task: Task,
    pub progress: Progress,
    /// JSON array of the last log lines, passed on as it is.
    pub log_tail: String,
}

/// Which tasks to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub kind: Option<StateKind>,
    pub owner: Option<String>,
    /// Only tasks of the group that begins with this one.
    pub group: Option<TaskId>,
    /// Only tasks older than this one.
    pub before: Option<TaskId>,
    pub limit: Option<u32>,
}

/// What was expected of a task when it joined the queue, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastRow {
    pub made_at: Timestamp,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    pub seq: u64,
    pub at: Timestamp,
    pub task: TaskId,
    pub who: String,
    pub from: Option<String>,
    pub to: String,
    pub why: String,
}

impl Reader {
    /// The database must exist: open the [`Writer`](crate::Writer) first.
    pub fn open(path: &Path) -> Result<Reader> {
        let reader = Reader { path: path.to_owned(), idle: Mutex::new(Vec::new()) };
        reader.with(|_| Ok(()))?;
        Ok(reader)
    }

    pub fn task(&self, id: TaskId) -> Result<Option<StoredTask>> {
        let sql = select_tasks("number = ?1 AND unix_seconds = ?2");
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query(params![id.number as i64, id.unix_seconds])?;
            found.next()?.map(stored_task).transpose()
        })
    }

    pub fn tasks(&self, filter: Filter) -> Result<Vec<StoredTask>> {
        let mut condition = String::from("number < ?1");
        if let Some(kind) = filter.kind {
            condition += &format!(" AND kind = '{kind}'");
        }
        if let Some(first) = filter.group {
            condition += &format!(" AND group_first = {}", first.number);
        }
        // Without an owner it is bound all the same, and means nothing.
        condition += if filter.owner.is_some() { " AND owner = ?3" } else { " AND ?3 IS NULL" };
        let sql = select_tasks(&condition) + " ORDER BY number DESC LIMIT ?2";
        let before = filter.before.map_or(i64::MAX, |id| id.number as i64);
        let limit = filter.limit.map_or(-1, i64::from);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query(params![before, limit, filter.owner])?;
            let mut tasks = Vec::new();
            while let Some(row) = found.next()? {
                tasks.push(stored_task(row)?);
            }
            Ok(tasks)
        })
    }

    /// All tasks of one owner that were not removed, oldest first.
    pub fn tasks_of(&self, owner: &str) -> Result<Vec<TaskId>> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT unix_seconds, number FROM task WHERE owner = ?1 AND removed_at IS NULL ORDER BY number",
            )?;
            let found =
                statement.query_map([owner], |row| Ok(TaskId::new(row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
            Ok(found.collect::<std::result::Result<_, _>>()?)
        })
    }

    /// Number of tasks in each state that has any.
    pub fn counts(&self) -> Result<BTreeMap<StateKind, u64>> {
        self.counts_of(None)
    }

    /// The same of one owner, or of everybody.
    pub fn counts_of(&self, owner: Option<&str>) -> Result<BTreeMap<StateKind, u64>> {
        self.with(|connection| {
            let whose = if owner.is_some() { "owner = ?1" } else { "?1 IS NULL" };
            let sql = format!("SELECT kind, count(*) FROM task WHERE removed_at IS NULL AND {whose} GROUP BY kind");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query([owner])?;
            let mut counts = BTreeMap::new();
            while let Some(row) = found.next()? {
                if let Some(kind) = StateKind::parse(&row.get::<_, String>(0)?) {
                    counts.insert(kind, row.get::<_, i64>(1)? as u64);
                }
            }
            Ok(counts)
        })
    }

    /// The tasks of a group that are still there, in its order.
    pub fn group(&self, first: TaskId) -> Result<Vec<StoredTask>> {
        let sql = select_tasks("group_first = ?1 ORDER BY number");
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query([first.number as i64])?;
            let mut tasks = Vec::new();
            while let Some(row) = found.next()? {
                tasks.push(stored_task(row)?);
            }
            Ok(tasks)
        })
    }

    /// How forecasts made since `since` compare with what came of them, the newest first.
    pub fn forecasts(&self, since: Timestamp, limit: u32) -> Result<Vec<ForecastRow>> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT made_at, starts_at, ends_at, started_at, ended_at FROM forecast
                 WHERE started_at IS NOT NULL AND made_at >= ?1 ORDER BY task DESC LIMIT ?2",
            )?;
            let mut found = statement.query(params![since.as_millisecond(), limit])?;
            let mut forecasts = Vec::new();
            while let Some(row) = found.next()? {
                forecasts.push(ForecastRow {
                    made_at: rows::timestamp(row.get(0)?)?,
                    starts_at: rows::timestamp(row.get(1)?)?,
                    ends_at: rows::timestamp(row.get(2)?)?,
                    started_at: rows::timestamp(row.get(3)?)?,
                    ended_at: row.get::<_, Option<i64>>(4)?.map(rows::timestamp).transpose()?,
                });
            }
            Ok(forecasts)
        })
    }

    /// The history of one task, oldest first.
    pub fn journal(&self, id: TaskId) -> Result<Vec<JournalRow>> {
        self.journal_where("task = ?1 AND unix_seconds = ?2", [id.number as i64, id.unix_seconds], -1)
    }

    /// What happened after `seq`, oldest first, at most `limit` rows.
    pub fn journal_after(&self, seq: u64, limit: u32) -> Result<Vec<JournalRow>> {
        self.journal_where("seq > ?1 AND ?2 = 0", [seq as i64, 0], i64::from(limit))
    }

    /// What the newest runs of all kinds were measured to need, the newest first.
    pub fn measurements(&self, limit: u32) -> Result<Vec<Measurement>> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT measurement FROM measurement ORDER BY id DESC LIMIT ?1")?;
            let mut found = statement.query([limit])?;
            let mut measurements = Vec::new();
            while let Some(row) = found.next()? {
                let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                measurements.push(rows::from_json("a measurement", text)?);
            }
            Ok(measurements)
        })
    }

    /// Number of the newest journal row, 0 if there is none.
    pub fn last_seq(&self) -> Result<u64> {
        self.with(|connection| {
            let seq: i64 = connection
                .prepare_cached("SELECT coalesce(max(seq), 0) FROM journal")?
                .query_row([], |row| row.get(0))?;
            Ok(seq as u64)
        })
    }

    fn journal_where(&self, condition: &str, arguments: [i64; 2], limit: i64) -> Result<Vec<JournalRow>> {
        let sql = format!(
            "SELECT seq, at, task, unix_seconds, who, from_state, to_state, why
             FROM journal WHERE {condition} ORDER BY seq LIMIT ?3"
        );
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query(params![arguments[0], arguments[1], limit])?;
            let mut entries = Vec::new();
            while let Some(row) = found.next()? {
                entries.push(JournalRow {
                    seq: row.get::<_, i64>(0)? as u64,
                    at: rows::timestamp(row.get(1)?)?,
                    task: TaskId::new(row.get(3)?, row.get::<_, i64>(2)? as u64),
                    who: row.get(4)?,
                    from: row.get(5)?,
                    to: row.get(6)?,
                    why: row.get(7)?,
                });
            }
            Ok(entries)
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().expect("no reader panics while it holds the pool").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().map_err(|source| StoreError::Open { path: self.path.clone(), source })?,
        };
        let answer = read(&connection);
        let mut idle = self.idle.lock().expect("no reader panics while it holds the pool");
        if idle.len() < KEPT {
            idle.push(connection);
        }
        answer
    }

    fn connect(&self) -> std::result::Result<Connection, rusqlite::Error> {
        // Not read-only: a reader may have to set up the WAL's shared memory when it comes first.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // The pages are in the system's cache anyway.
        connection.pragma_update(None, "cache_size", -256)?;
        Ok(connection)
    }
}

fn select_tasks(condition: &str) -> String {
    format!("SELECT {}, progress, log_tail FROM task WHERE removed_at IS NULL AND {condition}", rows::TASK_COLUMNS)
}

fn stored_task(row: &Row<'_>) -> Result<StoredTask> {
    Ok(StoredTask {
        task: rows::task(row)?,
        progress: rows::from_json("a task's progress", row.get_ref(14)?.as_str().map_err(rusqlite::Error::from)?)?,
        log_tail: row.get(15)?,
    })
}
