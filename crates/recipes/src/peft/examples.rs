//! The data set in the one form that our Python package reads, whatever form the user's file has.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use domain::Objective;
use serde_json::{Value, json};

use crate::dataset::{self, DatasetError, Role, Turn};

/// Why there are no examples.
#[derive(Debug, thiserror::Error)]
pub enum ExamplesError {
    #[error(transparent)]
    Data(#[from] DatasetError),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Reads a data set and writes it with one JSON object per line: `{"messages": […]}`, or
/// `{"prompt": [messages], "chosen": "…", "rejected": "…"}`. Answers how many there are.
pub fn write_examples(from: &Path, objective: Objective, to: &Path) -> Result<usize, ExamplesError> {
    let rows: Vec<Value> = match objective {
        Objective::Sft => {
            let conversations = dataset::read(from)?;
            conversations.iter().map(|conversation| json!({ "messages": messages(&conversation.turns) })).collect()
        }
        Objective::Dpo => {
            let row = |example: &dataset::Preference| {
                let dataset::Preference { prompt, chosen, rejected } = example;
                json!({ "prompt": messages(prompt), "chosen": chosen, "rejected": rejected })
            };
            dataset::read_preferences(from)?.iter().map(row).collect()
        }
    };
    write(&rows, to).map_err(|source| ExamplesError::Write { path: to.into(), source })?;
    Ok(rows.len())
}

fn write(rows: &[Value], to: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(to)?);
    for row in rows {
        writeln!(file, "{row}")?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()
}

fn messages(turns: &[Turn]) -> Vec<Value> {
    let role = |role| match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    turns.iter().map(|turn| json!({ "role": role(turn.role), "content": turn.content })).collect()
}
