//! One preference: a prompt, the answer that was chosen and the one that was rejected.

use serde_json::Value;

use super::rows::{Row, chat, field, question, system, text, turn, wrong_type};
use super::{DatasetError, Preference, Role, Turn};

/// Either the row has a prompt and two answers, or both answers are whole conversations that begin with it.
pub(super) fn read(row: &Row, line: u64) -> Result<Preference, DatasetError> {
    let (mut chosen, mut rejected) = (answer(row, "chosen", line)?, answer(row, "rejected", line)?);
    let of_answers = |turns: &mut Vec<Turn>| turns.pop().filter(|turn| turn.role == Role::Assistant);
    let (Some(chosen_answer), Some(rejected_answer)) = (of_answers(&mut chosen), of_answers(&mut rejected)) else {
        return Err(DatasetError::new(
            line,
            "no-answer",
            "chosen 和 rejected 须以助手的回答结尾。请补充回答或删除此样本".into(),
            "chosen and rejected must end with an answer of the assistant. Add it or remove the example".into(),
        ));
    };
    let mut prompt = prompt(row, line)?;
    if prompt.iter().all(|turn| turn.role == Role::System) && chosen == rejected {
        prompt.append(&mut chosen);
        rejected.clear();
    }
    if prompt.last().is_none_or(|turn| turn.role != Role::User) || !chosen.is_empty() || !rejected.is_empty() {
        return Err(DatasetError::new(
            line,
            "no-prompt",
            "此样本没有共同的提问。请用 prompt 给出提问，或让 chosen 和 rejected 以相同的对话开头".into(),
            "the two answers have no prompt in common. Give it as prompt, or begin chosen and rejected with the same \
             conversation"
                .into(),
        ));
    }
    Ok(Preference { prompt, chosen: chosen_answer.content, rejected: rejected_answer.content })
}

/// Under any of the names that are in use.
fn prompt(row: &Row, line: u64) -> Result<Vec<Turn>, DatasetError> {
    let name = ["prompt", "conversations", "messages"].into_iter().find(|name| row.contains_key(*name));
    let written = match name {
        Some(name) if row[name].is_array() => return messages(row, name, line),
        Some(name) => text(&row[name], name, line)?.to_owned(),
        None if row.contains_key("instruction") => question(row, line)?,
        None => return system(row, line),
    };
    let mut turns = system(row, line)?;
    turns.push(turn(Role::User, &written, name.unwrap_or("instruction"), line)?);
    Ok(turns)
}

/// Text, a message or messages.
fn answer(row: &Row, name: &str, line: u64) -> Result<Vec<Turn>, DatasetError> {
    match field(row, name, line)? {
        Value::String(text) => Ok(vec![turn(Role::Assistant, text, name, line)?]),
        message @ Value::Object(_) => {
            let list = Row::from_iter([(name.to_owned(), Value::Array(vec![message.clone()]))]);
            messages(&list, name, line)
        }
        Value::Array(_) => {
            let list = Row::from_iter([(name.to_owned(), row[name].clone())]);
            messages(&list, name, line)
        }
        other => Err(wrong_type(line, name, other, "text or messages", "文本或消息列表")),
    }
}

/// Of `role` and `content`, or of `from` and `value`.
fn messages(row: &Row, name: &str, line: u64) -> Result<Vec<Turn>, DatasetError> {
    let (who, what) = if row[name][0].get("from").is_some() { ("from", "value") } else { ("role", "content") };
    chat(row, line, name, who, what)
}
