//! Tasks that were submitted as one.

use std::process::ExitCode;

use api_types::{GroupView, TaskView};

use super::show::{lines, status_word};
use crate::{
    error::Result,
    output::{self, Table, or_dash},
    text::text,
};

/// What a list says of a group in one row.
pub struct Summary {
    /// `2 training, 6 queued`.
    pub states: String,
    pub percent: f64,
    /// The lowest training loss.
    pub best: Option<f64>,
}

const STATES: [&str; 7] = ["training", "preparing", "queued", "pending", "completed", "failed", "cancelled"];

pub fn summary(tasks: &[&TaskView]) -> Summary {
    let count = |state: &str| tasks.iter().filter(|task| task.status == state).count() as u64;
    let ended = |task: &TaskView| task.completed_at.is_some();
    let percent = |task: &&TaskView| if ended(task) { 100.0 } else { task.progress.percent };
    Summary {
        states: states(count),
        percent: tasks.iter().map(percent).sum::<f64>() / tasks.len().max(1) as f64,
        best: tasks.iter().filter_map(|task| task.progress.loss).min_by(f64::total_cmp),
    }
}

fn states(count: impl Fn(&str) -> u64) -> String {
    let some = STATES.iter().map(|state| (state, count(state))).filter(|(_, count)| *count > 0);
    let said = some.map(|(state, count)| format!("{count} {}", status_word(state)));
    said.collect::<Vec<_>>().join(text("，", ", "))
}

/// `sage task show --group`.
pub fn show(group: &GroupView, json: bool) -> Result<ExitCode> {
    if json {
        output::json(group)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut facts = vec![
        (text("任务组", "group"), group.id.clone()),
        (text("提交者", "owner"), group.owner.clone()),
        (text("任务数", "tasks"), text(format!("共 {}", group.size), format!("{} in all", group.size))),
        (text("状态", "status"), states(|state| group.counts.get(state).copied().unwrap_or(0))),
        (text("进度", "progress"), format!("{:.0}%", group.percent)),
    ];
    facts.extend(group.name.clone().map(|name| (text("名称", "name"), name)));
    let best = group.best.as_ref().map(|best| format!("{:.4}  {}  {}", best.loss, best.label, best.task_id));
    facts.extend(best.map(|best| (text("最低 loss", "best loss"), best)));
    output::print(&lines(facts))?;
    let head = text(
        ["任务", "取值", "状态", "进度", "LOSS", "说明"],
        ["TASK", "VALUES", "STATUS", "PROGRESS", "LOSS", "ABOUT"],
    );
    let mut table = Table::new(head);
    for task in &group.tasks {
        table.row([
            task.task_id.clone(),
            or_dash(task.group.as_ref().map(|group| &group.label)),
            status_word(&task.status).into(),
            format!("{:.0}%", task.progress.percent),
            or_dash(task.progress.loss.map(|loss| format!("{loss:.4}"))),
            super::list::about(task),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
