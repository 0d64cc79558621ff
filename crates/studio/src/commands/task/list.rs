use std::process::ExitCode;

use api_types::TaskView;
use clap::Args;
use client::{Client, TaskFilter};

use super::{
    group::{Summary, summary},
    show::status_word,
};
use crate::{
    error::Result,
    output::{self, Table, or_dash},
    text::text,
};

/// Tasks that are fetched at a time where groups have to be read to their ends.
const PAGE: u32 = 500;

#[derive(Args)]
pub struct List {
    /// Only tasks in this state, such as queued or training
    #[arg(long, value_name = "STATE")]
    status: Option<String>,
    /// Only tasks of this person
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only one's own tasks
    #[arg(long, conflicts_with = "owner")]
    mine: bool,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Only tasks older than this one
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// A row for each task of a group, instead of one for the group
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(client: &Client, command: &List) -> Result<ExitCode> {
    let List { status, owner, mine, limit, before, all, json } = command;
    let owner = if *mine { Some(client.me()?.name) } else { owner.clone() };
    let filter = TaskFilter { status: status.clone(), owner, limit: Some(*limit), before: before.clone() };
    if *json {
        output::json(&client.tasks(&filter)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Of those in one state each is asked for by itself.
    let Rows { rows, next_before } = rows(client, filter, *all || status.is_some())?;
    let head = text(
        ["任务", "状态", "进度", "LOSS", "模型", "名称", "说明"],
        ["TASK", "STATUS", "PROGRESS", "LOSS", "MODEL", "NAME", "ABOUT"],
    );
    let mut table = Table::new(head);
    for row in &rows {
        table.row(match &row[..] {
            [task] => cells(task),
            tasks => group_cells(tasks),
        });
    }
    table.print()?;
    if let Some(before) = next_before {
        eprintln!("{}", text(format!("更早的任务：--before {before}"), format!("older tasks: --before {before}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Each row is a task, or the tasks of a group, the newest first.
struct Rows {
    rows: Vec<Vec<TaskView>>,
    next_before: Option<String>,
}

fn rows(client: &Client, mut filter: TaskFilter, all: bool) -> Result<Rows> {
    let limit = filter.limit.unwrap_or(PAGE) as usize;
    let mut rows: Vec<Vec<TaskView>> = Vec::new();
    loop {
        let page = client.tasks(&filter)?;
        for task in page.tasks {
            let id = task.group.as_ref().map(|group| &group.id).filter(|_| !all);
            // The tasks of a group follow one another, because they were submitted as one.
            let same = |row: &&mut Vec<TaskView>| {
                let last = row.last().and_then(|last| last.group.as_ref());
                id.is_some() && last.map(|group| &group.id) == id
            };
            if let Some(row) = rows.last_mut().filter(same) {
                row.push(task);
            } else if rows.len() == limit {
                let last = rows.last().and_then(|row| row.last()).map(|task| task.task_id.clone());
                return Ok(Rows { rows, next_before: last });
            } else {
                rows.push(vec![task]);
            }
        }
        let Some(before) = page.next_before else { return Ok(Rows { rows, next_before: None }) };
        // Else more of the last row's group may follow.
        let group = rows.last().and_then(|row| Some((row.len(), row[0].group.as_ref()?)));
        let whole = group.is_none_or(|(members, group)| members >= group.size as usize);
        if all || (rows.len() == limit && whole) {
            return Ok(Rows { rows, next_before: Some(before) });
        }
        filter = TaskFilter { before: Some(before), limit: Some(PAGE), ..filter };
    }
}

fn cells(task: &TaskView) -> [String; 7] {
    [
        task.task_id.clone(),
        status_word(&task.status).into(),
        format!("{:.0}%", task.progress.percent),
        or_dash(task.progress.loss.map(|loss| format!("{loss:.4}"))),
        short(&task.model_name),
        or_dash(task.name.as_deref()),
        labelled(task),
    ]
}

fn group_cells(tasks: &[TaskView]) -> [String; 7] {
    let Summary { states, percent, best } = summary(&tasks.iter().collect::<Vec<_>>());
    let first = &tasks[0];
    let id = first.group.as_ref().map_or(&first.task_id, |group| &group.id);
    [
        format!("{id} ×{}", tasks.len()),
        states,
        format!("{percent:.0}%"),
        or_dash(best.map(|loss| format!("{loss:.4}"))),
        short(&first.model_name),
        or_dash(first.name.as_deref()),
        format!("sage task show --group {id}"),
    ]
}

/// The same, after what sets it apart in its group.
fn labelled(task: &TaskView) -> String {
    let label = task.group.as_ref().map(|group| group.label.clone()).unwrap_or_default();
    match (label.is_empty(), about(task)) {
        (false, about) if about.is_empty() => label,
        (false, about) => format!("{label}: {about}"),
        (true, about) => about,
    }
}

/// Why it waits or why it failed.
pub fn about(task: &TaskView) -> String {
    let wait = task.wait.as_ref().map(|wait| text(&wait.zh, &wait.en));
    let failure = task.failure.as_ref().map(|failure| text(&failure.zh, &failure.en));
    wait.or(failure).cloned().unwrap_or_default()
}

/// The end of a path says more than its beginning.
fn short(model: &str) -> String {
    if model.starts_with('/') { model.rsplit('/').next().unwrap_or(model).to_owned() } else { model.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::task::example;

    #[test]
    fn a_group_is_one_row() {
        let member = |status: &str, percent: f64, loss: Option<f64>| {
            let mut task = example(status);
            let (id, label) = ("finetune_1_1".to_owned(), String::new());
            task.group = Some(api_types::GroupMember { id, index: 0, size: 4, label });
            task.completed_at = (status == "completed").then(|| "2026-01-01T00:00:00Z".into());
            task.progress.percent = percent;
            task.progress.loss = loss;
            task
        };
        let tasks = [
            member("queued", 0.0, None),
            member("training", 20.0, Some(2.5)),
            member("completed", 99.0, Some(1.25)),
            member("queued", 0.0, None),
        ];
        let [id, states, percent, loss, ..] = group_cells(&tasks);
        assert_eq!((id.as_str(), states.as_str()), ("finetune_1_1 ×4", "1 training, 2 queued, 1 completed"));
        assert_eq!((percent.as_str(), loss.as_str()), ("30%", "1.2500"));
    }
}
