use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use recipes::dataset::DatasetReport;
use serde_json::json;

use crate::{error::Result, output, text::text};

#[derive(Subcommand)]
pub enum Dataset {
    /// Check a data set and show its first examples
    Check(Check),
}

#[derive(Args)]
pub struct Check {
    /// JSON or JSONL in alpaca, sharegpt or messages format
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: Dataset) -> Result<ExitCode> {
    let Dataset::Check(Check { file, json }) = command;
    let report = recipes::dataset::check(&file).map_err(|error| super::train::dataset_error(&file, &error))?;
    if json {
        print_json(&report)?
    } else {
        print_text(&report)?
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(report: &DatasetReport) -> Result<()> {
    let DatasetReport { format, examples, bytes, preview, warnings } = report;
    let preview: Vec<_> =
        preview.iter().map(|(prompt, answer)| json!({ "prompt": prompt, "answer": answer })).collect();
    output::json(&json!({
        "format": format.as_str(),
        "examples": examples,
        "bytes": bytes,
        "preview": preview,
        "warnings": warnings,
    }))
}

fn print_text(report: &DatasetReport) -> Result<()> {
    let (format, size) = (report.format.as_str(), output::bytes(report.bytes));
    let mut lines = text(
        format!("有效：{} 条样本，{format} 格式，{size}\n", report.examples),
        format!("valid: {} examples, {format} format, {size}\n", report.examples),
    );
    for warning in &report.warnings {
        let sentence = text(&warning.zh, &warning.en);
        lines.push_str(&text(format!("注意：{sentence}\n"), format!("note: {sentence}\n")));
    }
    for (prompt, answer) in &report.preview {
        lines.push_str(&text(format!("\n问：{prompt}\n答：{answer}\n"), format!("\nQ: {prompt}\nA: {answer}\n")));
    }
    output::print(&lines)
}
