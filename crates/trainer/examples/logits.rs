//! Writes the logits of a question's tokens, for reference/check_adapter.py.
//!
//! Usage: logits MODEL ADAPTER OUT.json QUESTION

use std::path::Path;

use serde_json::json;
use trainer::{GenerateConfig, Role, Turn, generate, logits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, adapter, out, question] = args.as_slice() else {
        return Err("usage: logits MODEL ADAPTER OUT.json QUESTION".into());
    };
    let turns = [Turn { role: Role::User, content: question.clone() }];
    let (model, adapter) = (Path::new(model), Some(Path::new(adapter)));
    let (ids, logits) = logits(model, adapter, &turns)?;
    let answer = generate(model, adapter, &turns, &GenerateConfig::default())?;
    let result = json!({"question": question, "ids": ids, "logits": logits, "answer": answer});
    std::fs::write(out, serde_json::to_vec(&result)?)?;
    Ok(())
}
