//! Data sets: alpaca, sharegpt and chat messages, as a JSON array or one JSON object per line.

use std::io::BufRead;
use std::path::Path;

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub role: Role,
    pub content: String,
}

/// One example: the turns in order, with at least one answer of the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub turns: Vec<Turn>,
}

/// How the examples are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `instruction`, `input` (may be left out), `output`.
    Alpaca,
    /// `conversations` of `from` and `value`.
    Sharegpt,
    /// `messages` of `role` and `content`.
    Messages,
}

impl Format {
    /// `alpaca`, `sharegpt` or `messages`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Alpaca => "alpaca",
            Format::Sharegpt => "sharegpt",
            Format::Messages => "messages",
        }
    }
}

/// What a check found in a valid data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetReport {
    pub format: Format,
    pub examples: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Question and answer of the first examples, cut to a readable length.
    pub preview: Vec<(String, String)>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<domain::Warning>,
}

/// Why a data set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}. {hint}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct DatasetError {
    /// Line of the file, from 1; `None` where the file as a whole is at fault.
    pub line: Option<u64>,
    /// Stable name of the fault.
    pub code: &'static str,
    pub reason: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// All examples of a data set.
pub fn read(path: &Path) -> Result<Vec<Conversation>, DatasetError> {
    let _ = path;
    todo!()
}

/// All examples of a data set that is not a file.
pub fn parse(reader: impl BufRead) -> Result<Vec<Conversation>, DatasetError> {
    let _ = reader;
    todo!()
}

/// Reads a data set through without keeping it.
pub fn check(path: &Path) -> Result<DatasetReport, DatasetError> {
    let _ = path;
    todo!()
}
