//! `sage queue` and `sage explain`: the plan, and one task's place in it.

use std::process::ExitCode;

use api_types::{QueueView, RunningTask, WaitingTask};
use clap::Args;
use client::Client;
use domain::Home;
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    error::Result,
    output::{self, Table, or_dash},
    text::text,
};

/// Columns of the strip, and the hours that they stand for at most.
const STRIP: usize = 48;
const STRIP_HOURS: i64 = 12;

#[derive(Args)]
pub struct Queue {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Explain {
    /// The task's id
    #[arg(value_name = "ID")]
    task: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(home: &Home, command: Queue) -> Result<ExitCode> {
    let queue = Client::connect(home)?.queue()?;
    if command.json {
        output::json(&queue)?
    } else {
        print(&queue)?
    }
    Ok(ExitCode::SUCCESS)
}

fn print(queue: &QueueView) -> Result<()> {
    let head = text(
        ["位次", "任务", "名称", "用户", "优先级", "预计开始", "预计结束", "状态"],
        ["NO", "TASK", "NAME", "OWNER", "CLASS", "STARTS", "ENDS", "STATE"],
    );
    let mut table = Table::new(head);
    for RunningTask { task_id, name, owner, priority, devices, started_at, ends_at } in &queue.running {
        table.row([
            "-".to_owned(),
            task_id.clone(),
            or_dash(name.clone()),
            owner.clone(),
            priority.clone(),
            clock(Some(started_at)),
            clock(ends_at.as_deref()),
            text(format!("运行中：{}", devices.join(" ")), format!("runs on {}", devices.join(" "))),
        ]);
    }
    for WaitingTask { task_id, name, owner, priority, wait, .. } in &queue.waiting {
        table.row([
            wait.position.to_string(),
            task_id.clone(),
            or_dash(name.clone()),
            owner.clone(),
            priority.clone(),
            clock(wait.starts_at.as_deref()),
            clock(wait.ends_at.as_deref()),
            text(&wait.zh, &wait.en).clone(),
        ]);
    }
    table.print()?;
    let hidden = queue.total.saturating_sub(queue.waiting.len() as u64);
    if hidden > 0 {
        output::print(&text(format!("另有 {hidden} 个任务在等待\n"), format!("{hidden} more wait\n")))?;
    }
    output::print(&strip(queue, Timestamp::now()))
}

/// A line for each task that runs or is expected to start: when, over the next hours.
fn strip(queue: &QueueView, now: Timestamp) -> String {
    let running = queue.running.iter().map(|task| (&task.task_id, Some(now), parse(task.ends_at.as_deref())));
    let waiting = queue
        .waiting
        .iter()
        .map(|task| (&task.task_id, parse(task.wait.starts_at.as_deref()), parse(task.wait.ends_at.as_deref())));
    let spans: Vec<(&String, Timestamp, Timestamp)> =
        running.chain(waiting).filter_map(|(id, from, to)| Some((id, from?, to?))).take(20).collect();
    let Some(last) = spans.iter().map(|(_, _, to)| *to).max() else { return String::new() };
    let seconds = last.duration_since(now).as_secs().clamp(60, STRIP_HOURS * 3600);
    let column = |at: Timestamp| {
        let share = at.duration_since(now).as_secs_f64() / seconds as f64;
        (share.clamp(0.0, 1.0) * STRIP as f64).round() as usize
    };
    let mut lines = format!("\n{}\n", text("接下来：", "from now on:"));
    for (id, from, to) in spans {
        let (from, to) = (column(from), column(to).max(column(from) + 1).min(STRIP + 1));
        let bar: String = (0..=STRIP).map(|at| if (from..to).contains(&at) { '█' } else { '·' }).collect();
        lines.push_str(&format!("{bar} {id}\n"));
    }
    lines.push_str(&format!(
        "{:<width$}{}\n",
        clock_of(now),
        clock_of(now + jiff::SignedDuration::from_secs(seconds)),
        width = STRIP - 4
    ));
    lines
}

pub fn explain(home: &Home, command: Explain) -> Result<ExitCode> {
    let answer = Client::connect(home)?.explain(&command.task)?;
    if command.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = format!("{} ({}): {}\n", answer.task_id, answer.status, text(&answer.zh, &answer.en));
    if let Some(wait) = &answer.wait {
        let (from, to) = (clock(wait.starts_at.as_deref()), clock(wait.ends_at.as_deref()));
        lines.push_str(&text(
            format!("预计 {from} 开始，{to} 结束\n"),
            format!("expected to start {from}, to end {to}\n"),
        ));
    }
    for task in &answer.before {
        let (id, sentence) = (&task.task_id, text(&task.wait.zh, &task.wait.en));
        lines.push_str(&text(format!("在它之前：{id}：{sentence}\n"), format!("before it: {id}: {sentence}\n")));
    }
    for device in &answer.devices {
        let mark = if device.fits { text("可用", "fits") } else { text("不可用", "no") };
        lines.push_str(&format!("{} {mark}: {}\n", device.label, text(&device.zh, &device.en)));
    }
    output::print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

fn parse(time: Option<&str>) -> Option<Timestamp> {
    time?.parse().ok()
}

/// Local time of day, with the day where it is another.
fn clock(time: Option<&str>) -> String {
    parse(time).map_or_else(|| "-".to_owned(), clock_of)
}

fn clock_of(at: Timestamp) -> String {
    let zone = TimeZone::system();
    let at = at.to_zoned_datetime(zone.clone());
    let today = Timestamp::now().to_zoned_datetime(zone).date() == at.date();
    at.strftime(if today { "%H:%M" } else { "%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strip_shows_who_is_when() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let running = |id: &str, ends_at: &str| RunningTask {
            task_id: id.into(),
            name: None,
            owner: "ana".into(),
            priority: "normal".into(),
            devices: vec!["GPU-a".into()],
            started_at: "2026-01-01T00:00:00Z".into(),
            ends_at: Some(ends_at.into()),
        };
        let running = vec![running("half", "2026-01-01T01:00:00Z"), running("whole", "2026-01-01T02:00:00Z")];
        let queue = QueueView { running, ..QueueView::default() };
        let strip = strip(&queue, now);
        let blocks = |id: &str| {
            let line = strip.lines().find(|line| line.ends_with(id)).unwrap();
            line.chars().filter(|column| *column == '█').count()
        };
        assert_eq!((blocks("half"), blocks("whole")), (STRIP / 2, STRIP));
        assert_eq!(super::strip(&QueueView::default(), now), "");
    }
}
