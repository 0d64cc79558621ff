//! `sage explain`: why a task is where it is, what became of it, and what to do next.

use std::process::ExitCode;

use api_types::{Explanation, JournalEntry, TaskView};
use clap::Args;
use client::Client;
use domain::Home;

use super::task::{adjusted, status_word};
use crate::{
    error::Result,
    output::{self, clock, local_time},
    text::text,
};

#[derive(Args)]
pub struct Explain {
    /// The task's id
    #[arg(value_name = "ID")]
    task: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(home: &Home, command: Explain) -> Result<ExitCode> {
    let client = Client::connect(home)?;
    let answer = client.explain(&command.task)?;
    if command.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (task, journal) = (client.task(&command.task)?, client.journal(&command.task)?);
    let status = status_word(&answer.status);
    let mut lines = format!("{} ({status}): {}\n", answer.task_id, text(&answer.zh, &answer.en));
    lines += &place(&answer);
    lines += &course(&task, &journal);
    if let (None, Some(at)) = (&task.completed_at, &answer.ends_at) {
        let at = clock(Some(at));
        lines += &text(format!("预计 {at} 结束\n"), format!("expected to end {at}\n"));
    }
    lines += &format!("{}{}\n", text("下一步：", "next: "), next(&task));
    output::print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Where a waiting task stands, and what each device says to it.
fn place(answer: &Explanation) -> String {
    let mut lines = String::new();
    if let Some(wait) = &answer.wait
        && wait.starts_at.is_some()
    {
        let (from, to) = (clock(wait.starts_at.as_deref()), clock(wait.ends_at.as_deref()));
        lines += &text(format!("预计 {from} 开始，{to} 结束\n"), format!("expected to start {from}, to end {to}\n"));
    }
    for task in &answer.before {
        let (id, sentence) = (&task.task_id, text(&task.wait.zh, &task.wait.en));
        lines += &text(format!("在它之前：{id}：{sentence}\n"), format!("before it: {id}: {sentence}\n"));
    }
    for device in &answer.devices {
        let mark = if device.fits { text("可用", "fits") } else { text("不可用", "no") };
        lines += &format!("{} {mark}: {}\n", device.label, text(&device.zh, &device.en));
    }
    lines
}

/// Its attempts so far, how each of them ended, and what was changed between them.
fn course(task: &TaskView, journal: &[JournalEntry]) -> String {
    let mut lines = String::new();
    let running = |word: &str| matches!(word, "preparing" | "training");
    let mut attempt = 0;
    for entry in journal {
        let from = entry.from.as_deref().unwrap_or_default();
        let at = local_time(&entry.at);
        if entry.to == "preparing" && !running(from) {
            attempt += 1;
            lines += &text(format!("第 {attempt} 次运行：{at} 启动\n"), format!("attempt {attempt}: started {at}\n"));
        } else if running(from) && !running(&entry.to) {
            let (to, why) = (status_word(&entry.to), text(&entry.why_zh, &entry.why));
            lines += &text(
                format!("第 {attempt} 次运行：{at} 结束，{to}（{why}）\n"),
                format!("attempt {attempt}: ended {at}, {to} ({why})\n"),
            );
        }
    }
    if !task.adjustments.is_empty() {
        let made = adjusted(&task.adjustments);
        lines += &text(format!("显存不足后的调整：{made}\n"), format!("changed after running out of memory: {made}\n"));
    }
    if task.retried > 0 {
        lines += &text(
            format!("因非自身原因失败后已重试 {} 次\n", task.retried),
            format!("tried again {} times after failures that were not its own\n", task.retried),
        );
    }
    for warning in &task.warnings {
        lines += &format!("{}{}\n", text("注意：", "note: "), text(&warning.zh, &warning.en));
    }
    lines
}

fn next(task: &TaskView) -> String {
    let id = &task.task_id;
    let command = |zh: &str, en: &str, command: String| text(format!("{zh}：{command}"), format!("{en}: {command}"));
    match task.status.as_str() {
        "pending" => command("放入队列", "put it into the queue", format!("sage task release {id}")),
        "queued" => command(
            "提前或调整优先级",
            "have it sooner",
            format!("sage queue next {id}, sage queue priority {id} high"),
        ),
        "preparing" | "training" => command("跟踪日志", "follow its log", format!("sage task logs -f {id}")),
        "completed" if task.downloadable && task.trainer != "command" => {
            command("下载结果", "fetch what it made", format!("sage task download {id}"))
        }
        "failed" => {
            let code = task.failure.as_ref().map_or("", |failure| failure.code.as_str());
            text(
                format!("查看日志：sage task logs {id}；说明：docs/errors/{code}.md"),
                format!("see its log: sage task logs {id}; about the error: docs/errors/{code}.md"),
            )
        }
        _ => command("查看日志", "see its log", format!("sage task logs {id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::task::example;

    #[test]
    fn the_course_of_a_task_counts_its_attempts() {
        let entry = |from: &str, to: &str, why: &str| JournalEntry {
            seq: 1,
            at: "2026-01-01T00:00:00Z".into(),
            task_id: "finetune_1_1".into(),
            who: "studio".into(),
            from: Some(from.into()),
            to: to.into(),
            why: why.into(),
            why_zh: String::new(),
        };
        let journal = [
            entry("queued", "preparing", "its turn"),
            entry("preparing", "training", "first step"),
            entry("training", "queued", "out of memory"),
            entry("queued", "preparing", "its turn"),
            entry("preparing", "failed", "exit-code"),
        ];
        let mut task = example("failed");
        task.adjustments = vec!["halve_micro_batch".into()];
        let lines: Vec<String> = course(&task, &journal).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[1].starts_with("attempt 1: ended") && lines[1].ends_with("queued (out of memory)"), "{lines:?}");
        assert!(lines[3].starts_with("attempt 2: ended") && lines[3].ends_with("failed (exit-code)"), "{lines:?}");
        assert!(lines[4].ends_with("half the micro-batch"), "{lines:?}");
    }
}
