//! Data sets: alpaca, sharegpt, chat messages and preferences, as a JSON array or one JSON object per line.
//!
//! The file is read as a stream; an example may take 4 MiB and nest 128 levels deep.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::Path;

use domain::Warning;

use elements::Elements;

mod elements;
mod preference;
mod rows;

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Turn {
    pub role: Role,
    pub content: String,
}

/// One example: the turns in order, with at least one answer of the assistant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conversation {
    pub turns: Vec<Turn>,
}

/// One example of what to prefer: two answers to the same prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Preference {
    /// Ends with a question.
    pub prompt: Vec<Turn>,
    pub chosen: String,
    pub rejected: String,
}

#[derive(Hash)]
enum Example {
    Conversation(Conversation),
    Preference(Preference),
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
    /// `prompt` (text or messages; or `instruction`, `conversations`, `messages`), `chosen` and `rejected`.
    Preference,
}

impl Format {
    /// `alpaca`, `sharegpt`, `messages` or `preference`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Alpaca => "alpaca",
            Format::Sharegpt => "sharegpt",
            Format::Messages => "messages",
            Format::Preference => "preference",
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
    pub warnings: Vec<Warning>,
}

/// Why a data set cannot be used, and what to do about it, in both languages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{en}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct DatasetError {
    /// Line of the file, from 1; `None` where the file as a whole is at fault.
    pub line: Option<u64>,
    /// Stable name of the fault.
    pub code: &'static str,
    pub zh: String,
    pub en: String,
}

impl DatasetError {
    fn new(line: impl Into<Option<u64>>, code: &'static str, zh: String, en: String) -> DatasetError {
        DatasetError { line: line.into(), code, zh, en }
    }

    /// The whole sentence in Chinese, as the error's own text is in English.
    pub fn message_zh(&self) -> String {
        self.line.map(|line| format!("第 {line} 行：")).unwrap_or_default() + &self.zh
    }
}

/// All examples of a data set.
pub fn read(path: &Path) -> Result<Vec<Conversation>, DatasetError> {
    parse(open(path)?.0)
}

/// All examples of a data set that is not a file.
pub fn parse(reader: impl BufRead) -> Result<Vec<Conversation>, DatasetError> {
    let mut conversations = Vec::new();
    for_each(reader, |line, example| match example {
        Example::Conversation(conversation) => {
            conversations.push(conversation);
            Ok(())
        }
        Example::Preference(_) => Err(DatasetError::new(
            line,
            "preference-data",
            "此样本是偏好数据（chosen 和 rejected），不能用于普通微调。请将 objective 设为 dpo，或换一个数据集".into(),
            "this is a preference (chosen and rejected), which is not for plain fine-tuning. Set objective to dpo, or \
             use another data set"
                .into(),
        )),
    })?;
    Ok(conversations)
}

/// All examples of a data set of preferences.
pub fn read_preferences(path: &Path) -> Result<Vec<Preference>, DatasetError> {
    let mut preferences = Vec::new();
    for_each(open(path)?.0, |line, example| match example {
        Example::Preference(preference) => {
            preferences.push(preference);
            Ok(())
        }
        Example::Conversation(_) => Err(DatasetError::new(
            line,
            "no-preference",
            "此样本没有 chosen 和 rejected，不能用于 dpo。请提供偏好数据，或将 objective 设为 sft".into(),
            "the example has no chosen and rejected answers to learn a preference from. Add them, or set objective to \
             sft"
            .into(),
        )),
    })?;
    Ok(preferences)
}

/// Reads a data set through without keeping it.
pub fn check(path: &Path) -> Result<DatasetReport, DatasetError> {
    let (reader, bytes) = open(path)?;
    let mut findings = Findings::default();
    let format = for_each(reader, |_, example| {
        findings.add(&example);
        Ok(())
    })?;
    let warnings = findings.warnings();
    Ok(DatasetReport { format, examples: findings.examples, bytes, preview: findings.preview, warnings })
}

fn open(path: &Path) -> Result<(BufReader<File>, u64), DatasetError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if !["json", "jsonl"].contains(&extension.as_str()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(DatasetError::new(
            None,
            "wrong-extension",
            format!("{name} 不是 .json 或 .jsonl 文件。请转换为 JSON 数组，或每行一个 JSON 对象"),
            format!("{name} is not a .json or .jsonl file. Convert it to a JSON array, or to one JSON object per line"),
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    Ok((BufReader::with_capacity(64 << 10, file), bytes))
}

fn unreadable(error: std::io::Error) -> DatasetError {
    DatasetError::new(
        None,
        "unreadable",
        format!("无法读取文件：{error}。请检查路径和权限"),
        format!("the file cannot be read: {error}. Check its path and permissions"),
    )
}

/// Hands every example on; the first fault ends it. Answers the format, which is the same for all.
fn for_each(
    reader: impl BufRead,
    mut each: impl FnMut(u64, Example) -> Result<(), DatasetError>,
) -> Result<Format, DatasetError> {
    let mut elements = Elements::start(reader)?;
    let mut format = None;
    while let Some(element) = elements.next()? {
        let line = element.line;
        let (found, example) = rows::read(element, format)?;
        format = Some(found);
        each(line, example)?;
    }
    format.ok_or_else(|| {
        DatasetError::new(
            None,
            "empty",
            "数据集为空。请至少提供一个样本".into(),
            "the data set is empty. Give at least one example".into(),
        )
    })
}

const PREVIEWS: usize = 3;
const PREVIEW_CHARACTERS: usize = 300;
const FEW: u64 = 10;
/// Beyond this many examples duplicates are no longer looked for, to bound memory.
const REMEMBERED: usize = 1 << 20;

#[derive(Default)]
struct Findings {
    examples: u64,
    preview: Vec<(String, String)>,
    seen: HashSet<u64>,
    duplicates: u64,
    begin_with_answer: u64,
}

impl Findings {
    fn add(&mut self, example: &Example) {
        self.examples += 1;
        let mut hasher = DefaultHasher::new();
        example.hash(&mut hasher);
        let hash = hasher.finish();
        if self.seen.contains(&hash) {
            self.duplicates += 1;
        } else if self.seen.len() < REMEMBERED {
            self.seen.insert(hash);
        }

        let (turns, chosen) = match example {
            Example::Conversation(conversation) => (&conversation.turns, None),
            Example::Preference(preference) => (&preference.prompt, Some(&preference.chosen)),
        };
        let of = |role| turns.iter().find(move |turn| turn.role == role).map(|turn| &turn.content);
        let (question, answer) = (of(Role::User), chosen.or_else(|| of(Role::Assistant)));
        let first = turns.iter().find(|turn| turn.role != Role::System);
        self.begin_with_answer += u64::from(first.is_some_and(|turn| turn.role == Role::Assistant));
        if self.preview.len() < PREVIEWS {
            let text = |content: Option<&String>| shorten(content.map_or("", String::as_str));
            self.preview.push((text(question), text(answer)));
        }
    }

    fn warnings(&self) -> Vec<Warning> {
        let warning = |code: &str, zh, en| Warning { code: code.into(), zh, en };
        let mut warnings = Vec::new();
        let Findings { examples, duplicates, begin_with_answer, .. } = self;
        if *examples < FEW {
            warnings.push(warning(
                "few-examples",
                format!("只有 {examples} 个样本，模型可能学不到规律。建议准备至少几十个"),
                format!("only {examples} examples; a model learns little from so few. Some dozens are a good start"),
            ));
        }
        if *duplicates > 0 {
            warnings.push(warning(
                "duplicate-examples",
                format!("{duplicates} 个样本与其他样本完全相同。建议去重"),
                format!("{duplicates} examples are exact copies of others. Remove them unless they are meant"),
            ));
        }
        if *begin_with_answer > 0 {
            warnings.push(warning(
                "begins-with-answer",
                format!("{begin_with_answer} 个样本以回答开头，前面没有提问。请检查数据是否缺少第一轮"),
                format!(
                    "{begin_with_answer} examples begin with an answer. Check whether their first question is missing"
                ),
            ));
        }
        warnings
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(PREVIEW_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
