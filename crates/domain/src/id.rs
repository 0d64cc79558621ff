use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Public id of a task: `finetune_<unix seconds>_<n>`, where `n` counts all tasks ever made in this home.
///
/// Ordered by `n`, that is by creation, also when the clock jumps.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// Counts up by one for each task of a home; unique in it.
    pub number: u64,
    /// Seconds since the epoch at creation.
    pub unix_seconds: i64,
}

impl TaskId {
    pub fn new(unix_seconds: i64, number: u64) -> TaskId {
        TaskId { number, unix_seconds }
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &TaskId) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TaskId {
    fn cmp(&self, other: &TaskId) -> std::cmp::Ordering {
        (self.number, self.unix_seconds).cmp(&(other.number, other.unix_seconds))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "finetune_{}_{}", self.unix_seconds, self.number)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a task id: {0:?} (expected finetune_<unix seconds>_<number>)")]
pub struct InvalidTaskId(pub String);

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<TaskId, InvalidTaskId> {
        let parse = || {
            let (seconds, number) = text.strip_prefix("finetune_")?.split_once('_')?;
            let id = TaskId::new(seconds.parse().ok()?, number.parse().ok()?);
            // One spelling per id, because ids name folders: no "+1", no leading zeros.
            (id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| InvalidTaskId(text.chars().take(80).collect()))
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TaskId, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling_and_order_by_creation() {
        let id: TaskId = "finetune_1760000000_12".parse().unwrap();
        assert_eq!(id, TaskId::new(1_760_000_000, 12));
        assert_eq!(id.to_string(), "finetune_1760000000_12");
        for bad in ["", "finetune_1_+1", "finetune_1_01", "finetune_1", "task_1_1", "finetune_1_1/..", "finetune__1"] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad:?}");
        }
        assert!(TaskId::new(9, 1) < TaskId::new(5, 2), "a clock set back does not reorder tasks");
    }
}
