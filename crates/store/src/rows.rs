//! How domain types lie in columns.

use domain::{Task, TaskId};
use jiff::Timestamp;
use rusqlite::Row;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Result, StoreError};

pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("domain types have string keys and serialise")
}

pub fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt { what, message: error.to_string() })
}

pub fn timestamp(milliseconds: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|error| StoreError::Corrupt { what: "a time", message: error.to_string() })
}

/// The columns that [`task`] reads, in its order.
pub const TASK_COLUMNS: &str = "number, unix_seconds, name, owner, created_at, time_limit, recipe, warnings, state,
    estimate, adjustments, priority, after, terms";

pub fn task(row: &Row<'_>) -> Result<Task> {
    Ok(Task {
        id: TaskId::new(row.get(1)?, row.get::<_, i64>(0)? as u64),
        name: row.get(2)?,
        owner: row.get(3)?,
        created_at: timestamp(row.get(4)?)?,
        time_limit: row.get::<_, i64>(5)? as u64,
        recipe: from_json("a recipe", row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?)?,
        warnings: from_json("a task's warnings", row.get_ref(7)?.as_str().map_err(rusqlite::Error::from)?)?,
        state: from_json("a task's state", row.get_ref(8)?.as_str().map_err(rusqlite::Error::from)?)?,
        estimate: match row.get_ref(9)?.as_str_or_null().map_err(rusqlite::Error::from)? {
            Some(text) => Some(from_json("an estimate", text)?),
            None => None,
        },
        adjustments: from_json("a task's adjustments", row.get_ref(10)?.as_str().map_err(rusqlite::Error::from)?)?,
        priority: from_json("a task's priority", row.get_ref(11)?.as_str().map_err(rusqlite::Error::from)?)?,
        after: from_json("a task's dependencies", row.get_ref(12)?.as_str().map_err(rusqlite::Error::from)?)?,
        terms: from_json("a task's terms", row.get_ref(13)?.as_str().map_err(rusqlite::Error::from)?)?,
    })
}
