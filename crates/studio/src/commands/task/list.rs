use std::process::ExitCode;

use api_types::TaskView;
use clap::Args;
use client::{Client, TaskFilter};

use super::show::status_word;
use crate::{
    error::Result,
    output::{self, Table, or_dash},
    text::text,
};

#[derive(Args)]
pub struct List {
    /// Only tasks in this state, such as queued or training
    #[arg(long, value_name = "STATE")]
    status: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Only tasks older than this one
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(client: &Client, command: &List) -> Result<ExitCode> {
    let (status, before) = (command.status.clone(), command.before.clone());
    let page = client.tasks(&TaskFilter { status, limit: Some(command.limit), before })?;
    if command.json {
        output::json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let head = text(
        ["任务", "状态", "进度", "LOSS", "模型", "名称", "说明"],
        ["TASK", "STATUS", "PROGRESS", "LOSS", "MODEL", "NAME", "ABOUT"],
    );
    let mut table = Table::new(head);
    for task in &page.tasks {
        table.row([
            task.task_id.clone(),
            status_word(&task.status).into(),
            format!("{:.0}%", task.progress.percent),
            or_dash(task.progress.loss.map(|loss| format!("{loss:.4}"))),
            short(&task.model_name),
            or_dash(task.name.as_deref()),
            about(task),
        ]);
    }
    table.print()?;
    if let Some(before) = &page.next_before {
        eprintln!("{}", text(format!("更早的任务：--before {before}"), format!("older tasks: --before {before}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Why it waits or why it failed.
fn about(task: &TaskView) -> String {
    let wait = task.wait.as_ref().map(|wait| text(&wait.zh, &wait.en));
    let failure = task.failure.as_ref().map(|failure| text(&failure.zh, &failure.en));
    wait.or(failure).cloned().unwrap_or_default()
}

/// The end of a path says more than its beginning.
fn short(model: &str) -> String {
    if model.starts_with('/') { model.rsplit('/').next().unwrap_or(model).to_owned() } else { model.to_owned() }
}
