//! One example in any of the formats, as a conversation.

use serde_json::{Map, Value};

use super::elements::Element;
use super::{Conversation, DatasetError, Example, Format, Role, Turn, preference};

pub(super) type Row = Map<String, Value>;

/// Parses one example. `expected` is the format of the examples before it.
pub(super) fn read(element: Element<'_>, expected: Option<Format>) -> Result<(Format, Example), DatasetError> {
    let line = element.line;
    let row = match json(&element)? {
        Value::Object(row) => row,
        other => return Err(wrong_type(line, "", &other, "an object", "对象")),
    };
    let format = format_of(&row, expected, line)?;
    if let Some(expected) = expected.filter(|expected| *expected != format) {
        let (found, before) = (format.as_str(), expected.as_str());
        return Err(DatasetError::new(
            line,
            "mixed-formats",
            format!("此样本是 {found} 格式，而前面的样本是 {before} 格式。请统一为一种格式"),
            format!("this example is {found}, those before it are {before}. Use one format for all"),
        ));
    }
    let turns = match format {
        Format::Alpaca => alpaca(&row, line)?,
        Format::Sharegpt => chat(&row, line, "conversations", "from", "value")?,
        Format::Messages => chat(&row, line, "messages", "role", "content")?,
        Format::Preference => return Ok((format, Example::Preference(preference::read(&row, line)?))),
    };
    if !turns.iter().any(|turn| turn.role == Role::Assistant) {
        return Err(DatasetError::new(
            line,
            "no-answer",
            "对话中没有助手的回答，没有可学习的内容。请补充回答或删除此样本".into(),
            "there is no answer of the assistant, so nothing to learn. Add one or remove the example".into(),
        ));
    }
    Ok((format, Example::Conversation(Conversation { turns })))
}

/// Parses the element, which may be broken in the middle of several lines.
pub(super) fn json(element: &Element<'_>) -> Result<Value, DatasetError> {
    let source = element.text.trim_end();
    serde_json::from_str(source).map_err(|error| {
        // A fault at a line's end is reported at column 0 of the line after it.
        let (mut inner, mut column) = (error.line().saturating_sub(1), error.column());
        if column == 0 && inner > 0 {
            inner -= 1;
            column = source.lines().nth(inner).map_or(0, |line| line.len() + 1);
        }
        let line = element.line + inner as u64;
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        if text.contains("recursion limit") {
            return DatasetError::new(
                line,
                "too-deep",
                "JSON 嵌套超过 128 层。请简化此样本".into(),
                "the JSON nests more than 128 levels deep. Simplify the example".into(),
            );
        }
        let code = if error.is_eof() { "cut-off" } else { "syntax" };
        DatasetError::new(
            line,
            code,
            format!("第 {column} 列不是有效的 JSON（{text}）。请修正，或使用每行一个 JSON 对象的格式"),
            format!(
                "not valid JSON at column {column}: {text}. Correct it; outside an array an example takes one line"
            ),
        )
    })
}

fn format_of(row: &Row, expected: Option<Format>, line: u64) -> Result<Format, DatasetError> {
    let is = |format: Format| match format {
        Format::Messages => row.contains_key("messages"),
        Format::Sharegpt => row.contains_key("conversations"),
        Format::Alpaca => row.contains_key("instruction") || row.contains_key("output"),
        Format::Preference => row.contains_key("chosen") && row.contains_key("rejected"),
    };
    let formats = expected.into_iter().chain([Format::Preference, Format::Messages, Format::Sharegpt, Format::Alpaca]);
    formats.into_iter().find(|format| is(*format)).ok_or_else(|| {
        let names: Vec<&str> = row.keys().map(String::as_str).take(8).collect();
        let (zh, en) = match &names[..] {
            [] => ("此样本没有字段".to_owned(), "the example has no fields".to_owned()),
            names => (format!("无法识别的字段 {}", names.join("、")), format!("unknown fields {}", names.join(", "))),
        };
        DatasetError::new(
            line,
            "unknown-format",
            format!("{zh}。请使用 instruction/input/output、conversations、messages 或 prompt/chosen/rejected"),
            format!("{en}. Use instruction/input/output, conversations, messages, or prompt/chosen/rejected"),
        )
    })
}

/// `instruction` and `input` are the question; `system` and earlier rounds in `history` may come before it.
fn alpaca(row: &Row, line: u64) -> Result<Vec<Turn>, DatasetError> {
    let mut turns = system(row, line)?;
    if let Some(history) = row.get("history").filter(|history| !history.is_null()) {
        for round in array(history, "history", line)? {
            let [question, answer] = &array(round, "history", line)?[..] else {
                return Err(wrong_type(line, "history", round, "pairs of question and answer", "问答对"));
            };
            turns.push(turn(Role::User, text(question, "history", line)?, "history", line)?);
            turns.push(turn(Role::Assistant, text(answer, "history", line)?, "history", line)?);
        }
    }
    turns.push(turn(Role::User, &question(row, line)?, "instruction", line)?);
    let output = text(field(row, "output", line)?, "output", line)?;
    turns.push(turn(Role::Assistant, output, "output", line)?);
    Ok(turns)
}

/// `instruction` with `input` below it.
pub(super) fn question(row: &Row, line: u64) -> Result<String, DatasetError> {
    let instruction = text(field(row, "instruction", line)?, "instruction", line)?;
    let input = optional_text(row, "input", line)?.filter(|input| !input.trim().is_empty());
    Ok(match input {
        Some(input) if instruction.trim().is_empty() => input.to_owned(),
        Some(input) => format!("{instruction}\n{input}"),
        None => instruction.to_owned(),
    })
}

pub(super) fn chat(row: &Row, line: u64, list: &str, who: &str, what: &str) -> Result<Vec<Turn>, DatasetError> {
    let mut turns = system(row, line)?;
    for message in array(&row[list], list, line)? {
        let Value::Object(message) = message else {
            return Err(wrong_type(line, list, message, "a list of objects", "对象的列表"));
        };
        let name = text(field(message, who, line)?, who, line)?;
        let role = role(name, line)?;
        let parts;
        let content = match field(message, what, line)? {
            Value::Array(list) => {
                parts = joined_parts(list, what, line)?;
                parts.as_str()
            }
            content => text(content, what, line)?,
        };
        if role == Role::System {
            if !turns.is_empty() {
                return Err(DatasetError::new(
                    line,
                    "system-not-first",
                    "system 消息不在对话开头。请移到最前面".into(),
                    "a system message comes after the start. Move it to the front".into(),
                ));
            }
            if content.trim().is_empty() {
                continue;
            }
        }
        turns.push(turn(role, content, what, line)?);
    }
    Ok(turns)
}

/// The text of `[{"type": "text", "text": "…"}]`.
fn joined_parts(parts: &[Value], name: &str, line: u64) -> Result<String, DatasetError> {
    let texts = parts.iter().map(|part| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text") | None, Some(text)) => Ok(text),
        _ => Err(wrong_type(line, name, part, "text only", "纯文本")),
    });
    texts.collect()
}

/// The row's own system prompt, if it has one with text in it.
pub(super) fn system(row: &Row, line: u64) -> Result<Vec<Turn>, DatasetError> {
    let system = optional_text(row, "system", line)?.filter(|text| !text.trim().is_empty());
    Ok(system.map(|text| Turn { role: Role::System, content: text.to_owned() }).into_iter().collect())
}

fn role(name: &str, line: u64) -> Result<Role, DatasetError> {
    match name.to_ascii_lowercase().as_str() {
        "system" | "developer" => Ok(Role::System),
        "user" | "human" => Ok(Role::User),
        "assistant" | "gpt" | "chatgpt" | "model" | "bot" => Ok(Role::Assistant),
        _ => {
            let name: String = name.chars().take(40).collect();
            Err(DatasetError::new(
                line,
                "unknown-role",
                format!("不支持的角色 {name:?}。请使用 system、user（human）或 assistant（gpt）"),
                format!("the role {name:?} is not supported. Use system, user (human) or assistant (gpt)"),
            ))
        }
    }
}

pub(super) fn turn(role: Role, content: &str, name: &str, line: u64) -> Result<Turn, DatasetError> {
    if !content.trim().is_empty() {
        return Ok(Turn { role, content: content.to_owned() });
    }
    let (code, zh, en) = match role {
        Role::Assistant => ("empty-answer", "回答为空", "the answer is empty"),
        Role::User | Role::System => ("empty-question", "提问为空", "the question is empty"),
    };
    Err(DatasetError::new(
        line,
        code,
        format!("{zh}（字段 {name}）。请补充内容或删除此样本"),
        format!("{en} (field {name}). Fill it in or remove the example"),
    ))
}

pub(super) fn field<'a>(row: &'a Row, name: &str, line: u64) -> Result<&'a Value, DatasetError> {
    row.get(name).ok_or_else(|| {
        DatasetError::new(
            line,
            "missing-field",
            format!("缺少字段 {name}。请补充该字段或删除此样本"),
            format!("the field {name} is missing. Add it or remove the example"),
        )
    })
}

pub(super) fn text<'a>(value: &'a Value, name: &str, line: u64) -> Result<&'a str, DatasetError> {
    value.as_str().ok_or_else(|| wrong_type(line, name, value, "text", "文本"))
}

fn optional_text<'a>(row: &'a Row, name: &str, line: u64) -> Result<Option<&'a str>, DatasetError> {
    row.get(name).filter(|value| !value.is_null()).map(|value| text(value, name, line)).transpose()
}

fn array<'a>(value: &'a Value, name: &str, line: u64) -> Result<&'a Vec<Value>, DatasetError> {
    value.as_array().ok_or_else(|| wrong_type(line, name, value, "a list", "列表"))
}

/// An empty `name` stands for the example itself.
pub(super) fn wrong_type(line: u64, name: &str, value: &Value, wanted: &str, wanted_zh: &str) -> DatasetError {
    let (found, found_zh) = match value {
        Value::Null => ("null", "null"),
        Value::Bool(_) => ("true or false", "布尔值"),
        Value::Number(_) => ("a number", "数字"),
        Value::String(_) => ("text", "文本"),
        Value::Array(_) => ("a list", "列表"),
        Value::Object(_) => ("an object", "对象"),
    };
    let (subject, subject_zh) = match name {
        "" => ("the example".to_owned(), "样本".to_owned()),
        name => (format!("the field {name}"), format!("字段 {name} ")),
    };
    DatasetError::new(
        line,
        "wrong-type",
        format!("{subject_zh}应为{wanted_zh}，实际为{found_zh}。请修正此样本"),
        format!("{subject} should be {wanted} but is {found}. Correct the example"),
    )
}
