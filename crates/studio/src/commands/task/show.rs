use std::process::ExitCode;

use api_types::{EstimateView, GrantView, TaskView};
use clap::Args;
use client::Client;

use super::group;
use crate::{
    error::Result,
    output::{self, bytes, duration, local_time, or_dash},
    text::text,
};

#[derive(Args)]
pub struct Show {
    /// The task, such as finetune_1760000000_1
    id: String,
    /// The id is of a group: show that, and its tasks
    #[arg(long)]
    group: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(client: &Client, command: &Show) -> Result<ExitCode> {
    if command.group {
        return group::show(&client.group(&command.id)?, command.json);
    }
    let task = client.task(&command.id)?;
    if command.json {
        output::json(&task)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = lines(facts(&task));
    lines.push_str(text("经过：\n", "history:\n"));
    for entry in client.journal(&command.id)? {
        let from = entry.from.map(|from| format!("{} → ", status_word(&from))).unwrap_or_default();
        let to = status_word(&entry.to);
        lines.push_str(&format!(
            "  {}  {from}{to}  {} ({})\n",
            local_time(&entry.at),
            text(&entry.why_zh, &entry.why),
            entry.who
        ));
    }
    output::print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each, the values one below the other.
pub fn lines(facts: Vec<(&'static str, String)>) -> String {
    let mut lines = String::new();
    for (name, value) in facts {
        let name = format!("{name}{}", text("：", ":"));
        let padding = " ".repeat(14usize.saturating_sub(console::measure_text_width(&name)));
        lines.push_str(&format!("{name}{padding}{value}\n"));
    }
    lines
}

fn facts(task: &TaskView) -> Vec<(&'static str, String)> {
    let progress = &task.progress;
    let mut facts = vec![
        (text("任务", "task"), task.task_id.clone()),
        (text("状态", "status"), status_word(&task.status).to_owned()),
    ];
    let mut add = |zh, en, value: Option<String>| facts.extend(value.map(|value| (text(zh, en), value)));
    add("名称", "name", task.name.clone());
    add("任务组", "group", task.group.as_ref().map(|group| format!("{} ({})", group.id, group.label)));
    add("最早开始", "not before", task.start_after.as_deref().map(local_time));
    add("截止", "deadline", task.deadline.as_deref().map(local_time));
    add("重试", "retries", retries(task));
    add("等待", "waits", task.wait.as_ref().map(|wait| text(&wait.zh, &wait.en).clone()));
    add("原因", "reason", task.failure.as_ref().map(|failure| text(&failure.zh, &failure.en).clone()));
    for warning in &task.warnings {
        add("注意", "note", Some(text(&warning.zh, &warning.en).clone()));
    }
    add("模型", "model", Some(task.model_name.clone()));
    add("数据", "data", task.dataset_path.clone());
    add("输出", "output", Some(task.output_dir.clone()));
    add("提交者", "owner", Some(task.owner.clone()));
    add("创建", "created", Some(local_time(&task.created_at)));
    add("开始", "started", task.started_at.as_deref().map(local_time));
    add("结束", "ended", task.completed_at.as_deref().map(local_time));
    if let Some(fetch) = &progress.fetch {
        let total = or_dash(fetch.total_bytes.map(bytes));
        add("下载", "fetched", Some(format!("{} / {total}", bytes(fetch.bytes))));
    }
    if progress.total_steps > 0 {
        let (percent, step, total) = (progress.percent, progress.step, progress.total_steps);
        add("进度", "progress", Some(format!("{percent:.0}%  {step}/{total}")));
    }
    add("loss", "loss", progress.loss.map(|loss| format!("{loss:.4}")));
    add("速度", "speed", progress.tokens_per_second.map(|speed| format!("{speed:.0} tokens/s")));
    add("训练器", "trainer", Some(task.trainer.clone()));
    add("内存", "memory", progress.memory_bytes.map(bytes));
    add("显存", "gpu memory", progress.device_bytes.map(bytes));
    add("显存峰值", "peak", progress.peak_bytes.map(bytes));
    add("预计", "estimate", task.estimate.as_ref().map(expected));
    if !task.adjustments.is_empty() {
        add("已调整", "adjusted", Some(adjusted(&task.adjustments)));
    }
    if let Some(attempt) = &task.attempt {
        let grant = |grant: &GrantView| match grant.bytes {
            Some(granted) => format!("{} ({})", grant.device, bytes(granted)),
            None => grant.device.clone(),
        };
        add("设备", "devices", Some(attempt.grants.iter().map(grant).collect::<Vec<_>>().join(", ")));
        add("进程", "pid", attempt.pid.map(|pid| pid.to_string()));
    }
    facts
}

/// What was changed after running out of memory, in words.
pub fn adjusted(adjustments: &[String]) -> String {
    let word = |code: &String| match code.as_str() {
        "halve_micro_batch" => text("微批次减半", "half the micro-batch").to_owned(),
        "gradient_checkpointing" => text("开启梯度检查点", "gradient checkpointing").to_owned(),
        "load8bit" => text("基座模型 8 位量化", "the base model in 8 bits").to_owned(),
        "load4bit" => text("基座模型 4 位量化", "the base model in 4 bits").to_owned(),
        _ => code.clone(),
    };
    adjustments.iter().map(word).collect::<Vec<_>>().join(text("、", ", "))
}

/// How the queue calls its classes.
pub fn class_word(class: &str) -> &str {
    match class {
        "low" => text("低", class),
        "normal" => text("普通", class),
        "high" => text("高", class),
        "urgent" => text("紧急", class),
        other => other,
    }
}

/// `1 of 3`, or nothing where it was neither asked for nor needed.
fn retries(task: &TaskView) -> Option<String> {
    match (task.retried, task.retries) {
        (0, None) => None,
        (retried, None) => Some(retried.to_string()),
        (retried, Some(most)) => Some(text(format!("{retried}/{most}"), format!("{retried} of {most}"))),
    }
}

/// `21.3 GiB (19.9 GiB to 23.0 GiB), 1 h 24 min`
fn expected(estimate: &EstimateView) -> String {
    let (low, high) = (bytes(estimate.footprint_low_bytes), bytes(estimate.footprint_high_bytes));
    let footprint = bytes(estimate.footprint_bytes);
    let time = estimate.total_seconds.map(duration);
    let time = time.map(|time| text(format!("，{time}"), format!(", {time}"))).unwrap_or_default();
    text(format!("{footprint}（{low} 至 {high}）{time}"), format!("{footprint} ({low} to {high}){time}"))
}

/// The words of the page.
pub fn status_word(status: &str) -> &str {
    let zh = match status {
        "pending" => "等待中",
        "queued" => "排队中",
        "preparing" => "准备中",
        "training" => "训练中",
        "completed" => "已完成",
        "failed" => "失败",
        "cancelled" => "已取消",
        other => other,
    };
    text(zh, status)
}
