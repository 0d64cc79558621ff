use std::{
    fs::File,
    path::{Path, PathBuf},
};

use domain::{
    Adjustment, Attempt, Control, Demand, Dependency, Estimate, Measurement, Priority, Progress, Recipe, StateKind,
    Task, TaskId, TaskState, Terms, Warning,
};
use jiff::Timestamp;
use rusqlite::{Connection, Row, TransactionBehavior, params};

use crate::{Result, StoreError, check, migrate, rows, wal};

/// The only connection that writes.
pub struct Writer {
    connection: Connection,
}

/// One step of a batch; the batch is durable as a whole or not at all.
#[derive(Debug)]
pub enum Change {
    Create {
        task: Box<Task>,
        who: String,
        log: Vec<String>,
    },
    Transition(Box<Transition>),
    /// Written with the decision to launch, before anything is launched.
    BeginAttempt {
        task: TaskId,
        attempt: Attempt,
    },
    /// The attempt holds more or less than was promised at its start.
    Regrant {
        task: TaskId,
        attempt: Attempt,
    },
    EndAttempt {
        task: TaskId,
        number: u32,
        at: Timestamp,
    },
    /// What is known about a task's needs, and what its owner should know, has changed.
    Revise(Box<Revision>),
    /// What people have switched for the whole queue.
    Control(Box<Control>),
    /// What was expected of a task when it joined the queue.
    Forecast {
        task: TaskId,
        made_at: Timestamp,
        starts_at: Timestamp,
        ends_at: Timestamp,
    },
    Measured {
        task: TaskId,
        at: Timestamp,
        measurement: Measurement,
    },
    Remove {
        task: TaskId,
        from: StateKind,
        who: String,
        at: Timestamp,
    },
}

/// A task moves from one state to another.
#[derive(Debug)]
pub struct Transition {
    pub task: TaskId,
    pub from: StateKind,
    pub to: TaskState,
    pub at: Timestamp,
    pub who: String,
    pub why: String,
    pub progress: Progress,
    /// The last log lines as they stand now.
    pub log: Vec<String>,
}

/// What a queued task's place depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    pub task: TaskId,
    pub owner: String,
    pub created_at: Timestamp,
    pub priority: Priority,
    pub after: Vec<Dependency>,
    pub terms: Terms,
    pub demand: Demand,
    /// Of what is left of the training; `None`: unknown.
    pub expected_seconds: Option<f64>,
    /// A fine-tune, whose steps are counted.
    pub has_pace: bool,
}

impl Ticket {
    /// `progress` is what earlier attempts have done.
    pub fn of(task: &Task, progress: &Progress) -> Ticket {
        let whole = task.estimate.as_ref().and_then(|estimate| estimate.total_seconds);
        Ticket {
            task: task.id,
            owner: task.owner.clone(),
            created_at: task.created_at,
            priority: task.priority,
            after: task.after.clone(),
            terms: task.terms.clone(),
            demand: Demand::of(task),
            expected_seconds: whole.map(|seconds| rest(seconds, progress)),
            has_pace: matches!(task.recipe, Recipe::FineTune(_)),
        }
    }
}

/// What is left of a training of so many seconds. Only those have an estimate that go on from where they were.
fn rest(seconds: f64, progress: &Progress) -> f64 {
    seconds * (1.0 - progress.percent.clamp(0.0, 100.0) / 100.0)
}

/// The parts of a task that change without a transition.
#[derive(Debug)]
pub struct Revision {
    pub task: TaskId,
    pub priority: Priority,
    pub terms: Terms,
    pub warnings: Vec<Warning>,
    pub estimate: Option<Estimate>,
    pub adjustments: Vec<Adjustment>,
    pub demand: Demand,
}

impl Revision {
    pub fn of(task: &Task) -> Revision {
        Revision {
            task: task.id,
            priority: task.priority,
            terms: task.terms.clone(),
            warnings: task.warnings.clone(),
            estimate: task.estimate.clone(),
            adjustments: task.adjustments.clone(),
            demand: Demand::of(task),
        }
    }
}

/// A task with what belongs to it.
#[derive(Debug)]
pub struct TaskRecord {
    pub task: Task,
    pub progress: Progress,
    /// The last log lines.
    pub log: Vec<String>,
    /// Number of its newest attempt, 0 if it was never launched.
    pub attempts: u32,
}

/// An attempt nobody has seen the end of.
#[derive(Debug)]
pub struct LiveAttempt {
    pub record: TaskRecord,
    pub attempt: Attempt,
    /// The task was deleted in the meantime.
    pub removed: bool,
}

impl Writer {
    /// Opens or makes the database and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Writer> {
        let open = || -> std::result::Result<Connection, rusqlite::Error> {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.set_prepared_statement_cache_capacity(32);
            connection.pragma_update(None, "cache_size", -1024)?;
            Ok(connection)
        };
        let mut connection = open().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        check::durable(&connection, path)?;
        migrate::migrate(&mut connection, path)?;
        Ok(Writer { connection })
    }

    /// Makes commits faster by making the write-ahead log as long as it gets. Answers the file where that made it longer: a
    /// commit before its content is on disk waits for all of it.
    pub fn make_room(&mut self) -> Result<Option<File>> {
        let path = self.connection.path().map(PathBuf::from);
        path.map_or(Ok(None), |path| wal::make_room(&mut self.connection, &path))
    }

    /// Applies all changes in one transaction; the journal number of each change that has one, in order.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<u64>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut seqs = Vec::new();
        for change in changes {
            seqs.extend(apply(&transaction, change)?);
        }
        transaction.commit()?;
        Ok(seqs)
    }

    /// The highest task number ever used, 0 if none.
    pub fn last_number(&self) -> Result<u64> {
        let number: i64 =
            self.connection.query_row("SELECT coalesce(max(number), 0) FROM task", [], |row| row.get(0))?;
        Ok(number as u64)
    }

    pub fn last_seq(&self) -> Result<u64> {
        let seq: i64 = self.connection.query_row("SELECT coalesce(max(seq), 0) FROM journal", [], |row| row.get(0))?;
        Ok(seq as u64)
    }

    /// All queued tasks with what their place in the queue depends on, oldest first.
    pub fn queued(&self) -> Result<Vec<Ticket>> {
        let mut statement = self.connection.prepare(
            "SELECT number, unix_seconds, needed_devices, needed_bytes, shares, owner, created_at, priority, after,
                    expected_seconds, terms, progress, substr(recipe, 10, 9) = 'fine_tune'
             FROM task WHERE kind = 'queued' AND removed_at IS NULL ORDER BY number",
        )?;
        let mut found = statement.query([])?;
        let mut tickets = Vec::new();
        while let Some(row) = found.next()? {
            let memory = row.get::<_, Option<i64>>(3)?.map(|bytes| bytes as u64);
            let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
            let whole: Option<f64> = row.get(9)?;
            let expected_seconds = match text(11)? {
                // Most have not run yet, and a long queue is read at each start.
                none if none.starts_with(NO_PROGRESS) => whole,
                some => {
                    let progress = rows::from_json("a task's progress", some)?;
                    whole.map(|seconds| rest(seconds, &progress))
                }
            };
            tickets.push(Ticket {
                task: TaskId::new(row.get(1)?, row.get::<_, i64>(0)? as u64),
                demand: Demand { devices: row.get(2)?, memory, shares: row.get(4)? },
                owner: row.get(5)?,
                created_at: rows::timestamp(row.get(6)?)?,
                priority: rows::from_json("a task's priority", text(7)?)?,
                after: rows::from_json("a task's dependencies", text(8)?)?,
                expected_seconds,
                has_pace: row.get(12)?,
                terms: rows::from_json("a task's terms", text(10)?)?,
            });
        }
        Ok(tickets)
    }

    /// Number of this user's tasks that are held back.
    pub fn held(&self, owner: &str) -> Result<u32> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT count(*) FROM task WHERE kind = 'pending' AND owner = ? AND removed_at IS NULL")?;
        Ok(statement.query_row([owner], |row| row.get(0))?)
    }

    /// What people have switched for the whole queue.
    pub fn control(&self) -> Result<Control> {
        let mut statement = self.connection.prepare("SELECT value FROM setting WHERE key = 'control'")?;
        let mut found = statement.query([])?;
        found.next()?.map_or(Ok(Control::default()), |row| {
            rows::from_json("the queue's switches", row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)
        })
    }

    /// Attempts that ended since, with their tasks' owners and when they ended.
    pub fn ended_attempts(&self, since: Timestamp) -> Result<Vec<(String, Attempt, Timestamp)>> {
        let mut statement = self.connection.prepare(
            "SELECT owner, attempt, ended_at FROM attempt JOIN task ON task.number = attempt.task
             WHERE ended_at IS NOT NULL AND ended_at >= ? ORDER BY ended_at",
        )?;
        let mut found = statement.query([since.as_millisecond()])?;
        let mut attempts = Vec::new();
        while let Some(row) = found.next()? {
            let attempt = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            attempts.push((row.get(0)?, rows::from_json("an attempt", attempt)?, rows::timestamp(row.get(2)?)?));
        }
        Ok(attempts)
    }

    /// Attempts without a recorded end, for re-adoption after a restart.
    pub fn live_attempts(&self) -> Result<Vec<LiveAttempt>> {
        let sql = format!(
            "SELECT {RECORD_COLUMNS}, attempt.attempt, removed_at IS NOT NULL
             FROM attempt JOIN task ON task.number = attempt.task
             WHERE attempt.ended_at IS NULL ORDER BY attempt.task, attempt.number"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut found = statement.query([])?;
        let mut live = Vec::new();
        while let Some(row) = found.next()? {
            let attempt = rows::from_json("an attempt", &row.get::<_, String>(17)?)?;
            live.push(LiveAttempt { record: record(row)?, attempt, removed: row.get(18)? });
        }
        Ok(live)
    }

    pub fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        let sql = format!(
            "SELECT {RECORD_COLUMNS} FROM task
             WHERE task.number = ?1 AND unix_seconds = ?2 AND removed_at IS NULL"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![id.number as i64, id.unix_seconds])?;
        found.next()?.map(record).transpose()
    }
}

/// How the progress of a task begins that has made none.
const NO_PROGRESS: &str = r#"{"percent":0.0,"#;

/// The columns that [`record`] reads, in its order.
const RECORD_COLUMNS: &str =
    "task.number, unix_seconds, name, owner, created_at, time_limit, recipe, warnings,
    state, estimate, adjustments, priority, after, terms, progress, log_tail, (SELECT coalesce(max(number), 0) FROM attempt AS launched WHERE launched.task = task.number)";

fn record(row: &Row<'_>) -> Result<TaskRecord> {
    Ok(TaskRecord {
        task: rows::task(row)?,
        progress: rows::from_json("a task's progress", &row.get::<_, String>(14)?)?,
        log: rows::from_json("a task's log lines", &row.get::<_, String>(15)?)?,
        attempts: row.get(16)?,
    })
}

fn apply(connection: &Connection, change: &Change) -> Result<Option<u64>> {
    match change {
        Change::Create { task, who, log } => {
            let demand = Demand::of(task);
            connection
                .prepare_cached(
                    "INSERT INTO task (number, unix_seconds, name, owner, created_at, time_limit, recipe, warnings,
                                       kind, state, progress, log_tail, estimate, adjustments, needed_devices,
                                       needed_bytes, shares, priority, after, expected_seconds, terms,
                                       group_first)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    task.id.number as i64,
                    task.id.unix_seconds,
                    task.name,
                    task.owner,
                    task.created_at.as_millisecond(),
                    task.time_limit as i64,
                    rows::to_json(&task.recipe),
                    rows::to_json(&task.warnings),
                    task.state.kind().as_str(),
                    rows::to_json(&task.state),
                    rows::to_json(&Progress::default()),
                    rows::to_json(log),
                    task.estimate.as_ref().map(rows::to_json),
                    rows::to_json(&task.adjustments),
                    demand.devices,
                    demand.memory.map(|bytes| bytes as i64),
                    demand.shares,
                    rows::to_json(&task.priority),
                    rows::to_json(&task.after),
                    task.estimate.as_ref().and_then(|estimate| estimate.total_seconds),
                    rows::to_json(&task.terms),
                    task.terms.group.as_ref().map(|group| group.first.number as i64),
                ])?;
            journal(connection, task.created_at, task.id, who, None, task.state.kind().as_str(), "created").map(Some)
        }
        Change::Transition(transition) => {
            let Transition { task, from, to, at, who, why, progress, log } = transition.as_ref();
            let changed = connection
                .prepare_cached(
                    "UPDATE task SET kind = ?, state = ?, progress = ?, log_tail = ? WHERE number = ? AND kind = ?",
                )?
                .execute(params![
                    to.kind().as_str(),
                    rows::to_json(to),
                    rows::to_json(progress),
                    rows::to_json(log),
                    task.number as i64,
                    from.as_str(),
                ])?;
            if changed != 1 {
                let message = format!("{task} is not {from}");
                return Err(StoreError::Corrupt { what: "a transition", message });
            }
            let (from, to) = (Some(from.as_str()), to.kind().as_str());
            journal(connection, *at, *task, who, from, to, why).map(Some)
        }
        Change::BeginAttempt { task, attempt } => {
            connection
                .prepare_cached("INSERT INTO attempt (task, number, attempt) VALUES (?, ?, ?)")?
                .execute(params![task.number as i64, attempt.number, rows::to_json(attempt)])?;
            connection
                .prepare_cached("UPDATE forecast SET started_at = ? WHERE task = ? AND started_at IS NULL")?
                .execute(params![attempt.started_at.as_millisecond(), task.number as i64])?;
            Ok(None)
        }
        Change::Regrant { task, attempt } => {
            connection
                .prepare_cached("UPDATE attempt SET attempt = ? WHERE task = ? AND number = ?")?
                .execute(params![rows::to_json(attempt), task.number as i64, attempt.number])?;
            Ok(None)
        }
        Change::EndAttempt { task, number, at } => {
            connection
                .prepare_cached("UPDATE attempt SET ended_at = ? WHERE task = ? AND number = ?")?
                .execute(params![at.as_millisecond(), task.number as i64, number])?;
            connection
                .prepare_cached("UPDATE forecast SET ended_at = ? WHERE task = ?")?
                .execute(params![at.as_millisecond(), task.number as i64])?;
            Ok(None)
        }
        Change::Revise(revision) => {
            let Revision { task, priority, terms, warnings, estimate, adjustments, demand } = revision.as_ref();
            connection
                .prepare_cached(
                    "UPDATE task SET warnings = ?, estimate = ?, adjustments = ?, needed_devices = ?, needed_bytes = ?,
                                     expected_seconds = ?, shares = ?, priority = ?, terms = ?
                     WHERE number = ?",
                )?
                .execute(params![
                    rows::to_json(warnings),
                    estimate.as_ref().map(rows::to_json),
                    rows::to_json(adjustments),
                    demand.devices,
                    demand.memory.map(|bytes| bytes as i64),
                    estimate.as_ref().and_then(|estimate| estimate.total_seconds),
                    demand.shares,
                    rows::to_json(priority),
                    rows::to_json(terms),
                    task.number as i64,
                ])?;
            Ok(None)
        }
        Change::Control(control) => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO setting (key, value) VALUES ('control', ?)")?
                .execute([rows::to_json(control)])?;
            Ok(None)
        }
        Change::Forecast { task, made_at, starts_at, ends_at } => {
            let ms = [made_at, starts_at, ends_at].map(|at| at.as_millisecond());
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO forecast (task, made_at, starts_at, ends_at) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![task.number as i64, ms[0], ms[1], ms[2]])?;
            Ok(None)
        }
        Change::Measured { task, at, measurement } => {
            connection
                .prepare_cached("INSERT INTO measurement (task, at, family, measurement) VALUES (?, ?, ?, ?)")?
                .execute(params![
                task.number as i64,
                at.as_millisecond(),
                measurement.family,
                rows::to_json(measurement),
            ])?;
            Ok(None)
        }
        Change::Remove { task, from, who, at } => {
            connection
                .prepare_cached("UPDATE task SET removed_at = ?, log_tail = '[]' WHERE number = ?")?
                .execute(params![at.as_millisecond(), task.number as i64])?;
            journal(connection, *at, *task, who, Some(from.as_str()), "removed", "deleted").map(Some)
        }
    }
}

fn journal(
    connection: &Connection,
    at: Timestamp,
    task: TaskId,
    who: &str,
    from: Option<&str>,
    to: &str,
    why: &str,
) -> Result<u64> {
    connection
        .prepare_cached(
            "INSERT INTO journal (at, task, unix_seconds, who, from_state, to_state, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![at.as_millisecond(), task.number as i64, task.unix_seconds, who, from, to, why])?;
    Ok(connection.last_insert_rowid() as u64)
}
