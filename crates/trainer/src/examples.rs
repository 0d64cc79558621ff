//! From conversations to tokens, and which of the tokens are answers.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::decoder::Batch;
use crate::engine::Span;
use crate::template::ChatTemplate;
use crate::{Conversation, Role, TrainError, Turn, files};

/// A conversation in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub ids: Vec<u32>,
    /// Which tokens belong to an answer, its end token included.
    pub answer: Vec<bool>,
}

/// Tokenizer and chat template of a model.
pub struct Encoder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// Tokens that were added to the vocabulary, such as the end of a turn.
    added: HashSet<u32>,
    /// Tokens that end a text.
    ends: HashSet<u32>,
}

impl Encoder {
    pub fn of_model(dir: &Path, vocab: usize) -> Result<Self, TrainError> {
        let path = dir.join("tokenizer.json");
        let hint = [
            "the model folder needs the tokenizer in this form. Save it with the `tokenizers` library",
            "模型目录需要这种格式的分词器。请用 tokenizers 库保存",
        ];
        let bytes = files::read_if_present(&path)?.ok_or(TrainError::MissingFile { path: path.clone(), hint })?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| TrainError::bad_file(&path, e))?;
        // A tokenizer.json may ask for cutting and padding; both are done here.
        tokenizer.with_truncation(None).map_err(|e| TrainError::bad_file(&path, e))?.with_padding(None);
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= vocab {
            let reason = format!("token {largest} is beyond the model's vocabulary of {vocab}");
            return Err(TrainError::bad_file(path, reason));
        }
        let added = tokenizer.get_added_tokens_decoder().into_keys().collect();
        let template = ChatTemplate::of_model(dir)?;
        let mut encoder = Self { tokenizer, template, added, ends: HashSet::new() };
        encoder.ends = encoder.end_tokens(dir)?;
        Ok(encoder)
    }

    /// What the model's files call the end, and what the chat template puts after an answer.
    fn end_tokens(&self, dir: &Path) -> Result<HashSet<u32>, TrainError> {
        let mut ends = HashSet::new();
        for name in ["generation_config.json", "config.json"] {
            let config: Value = files::read_json_if_present(&dir.join(name))?.unwrap_or_default();
            let id = &config["eos_token_id"];
            let ids = id.as_array().cloned().unwrap_or_else(|| vec![id.clone()]);
            ends.extend(ids.iter().filter_map(|id| id.as_u64()).map(|id| id as u32));
        }
        let turns = [(Role::User, "a"), (Role::Assistant, "b")];
        let turns = turns.map(|(role, content)| Turn { role, content: content.into() });
        if let Ok(example) = self.encode(&Conversation { turns: turns.into() }, 0) {
            let last = example.answer.iter().rposition(|answer| *answer);
            ends.extend(last.map(|i| example.ids[i]).filter(|id| self.added.contains(id)));
        }
        Ok(ends)
    }

    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Tokens of the turns, followed by what opens an answer.
    pub fn prompt(&self, turns: &[Turn]) -> Result<Vec<u32>, TrainError> {
        let text = self.template.render(turns, true).map_err(|reason| TrainError::Template { example: 0, reason })?;
        let encoding = self.tokenizer.encode(text, false).map_err(tokenizer_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn decode(&self, ids: &[u32]) -> Result<String, TrainError> {
        self.tokenizer.decode(ids, true).map_err(tokenizer_error)
    }

    /// `index` names the conversation in errors, counted from 1 there.
    pub fn encode(&self, conversation: &Conversation, index: usize) -> Result<Example, TrainError> {
        let turns = &conversation.turns;
        if !turns.iter().any(|turn| turn.role == Role::Assistant) {
            return Err(TrainError::NoAnswer { example: index + 1 });
        }
        let failed = |reason| TrainError::Template { example: index + 1, reason };
        let text = self.template.render(turns, false).map_err(failed)?;
        let answers = self.answers(turns, &text).map_err(failed)?;
        let encoding = self.tokenizer.encode(text.as_str(), false).map_err(tokenizer_error)?;
        let (ids, offsets) = (encoding.get_ids(), encoding.get_offsets());
        let mut answer: Vec<bool> = offsets
            .iter()
            .map(|&(start, end)| answers.iter().any(|a| a.start <= start && end <= a.end && start < a.end))
            .collect();
        for Range { end, .. } in answers {
            let next = offsets.iter().position(|&(start, _)| start >= end);
            // The token that ends the turn, if one follows with nothing but space between.
            if let Some(next) = next.filter(|&i| self.added.contains(&ids[i]))
                && text[end..offsets[next].0].trim().is_empty()
            {
                answer[next] = true;
            }
        }
        Ok(Example { ids: ids.to_vec(), answer })
    }

    /// Where the answers are in the rendered text: from where the model would be asked for one to its last character.
    fn answers(&self, turns: &[Turn], text: &str) -> Result<Vec<Range<usize>>, String> {
        let mut answers = Vec::new();
        for (i, turn) in turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::Assistant) {
            let prompt = self.template.render(&turns[..i], true)?;
            if !text.starts_with(&prompt) {
                return Err(format!("turn {} does not begin where the model would be asked for it", i + 1));
            }
            // Templates trim answers, and drop the reasoning of earlier ones.
            let content = turn.content.as_str();
            let visible = content.rsplit("</think>").next().unwrap_or(content).trim();
            let rest = &text[prompt.len()..];
            let found =
                [content, content.trim(), visible].into_iter().find_map(|part| Some(rest.find(part)? + part.len()));
            let length = found.ok_or_else(|| format!("the answer in turn {} is not in the rendered text", i + 1))?;
            answers.push(prompt.len()..prompt.len() + length);
        }
        Ok(answers)
    }
}

fn tokenizer_error(error: tokenizers::Error) -> TrainError {
    TrainError::Tokenizer { reason: error.to_string() }
}

impl Example {
    /// Cuts off what is beyond `length` tokens; false when no token of an answer remains to be predicted.
    pub fn truncate(&mut self, length: usize) -> bool {
        self.ids.truncate(length);
        self.answer.truncate(length);
        self.answer.iter().skip(1).any(|answer| *answer)
    }

    /// The least `max_length` with which something of the answer remains.
    pub fn needed_length(&self) -> Option<usize> {
        Some(self.answer.iter().skip(1).position(|answer| *answer)? + 2)
    }

    /// Tokens that are predicted: those of answers, but not the very first of all.
    pub fn targets(&self) -> usize {
        self.answer.iter().skip(1).filter(|answer| **answer).count()
    }
}

impl Batch {
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut batch = Self { ids: Vec::new(), spans: Vec::new(), rows: Vec::new(), targets: Vec::new() };
        for example in examples {
            let start = batch.ids.len();
            batch.ids.extend(&example.ids);
            let rows = start..batch.ids.len();
            batch.spans.push(Span { queries: rows.clone(), keys: rows });
            for i in (1..example.ids.len()).filter(|&i| example.answer[i]) {
                batch.rows.push((start + i - 1) as u32);
                batch.targets.push(example.ids[i]);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests;
