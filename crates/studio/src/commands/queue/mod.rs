//! `sage queue`: the plan, and what people change about it.

mod strip;

use std::process::ExitCode;

use api_types::{DeviceView, ForecastAccuracy, QueueControl, QueueView, RunningTask, WaitingTask};
use clap::{Args, Subcommand};
use client::{Client, Event};
use domain::{DeviceKind, Home};
use jiff::Timestamp;

use self::strip::{Row, strip};
use super::task::{Ids, class_word, each};
use crate::{
    error::{CliError, Result},
    output::{self, Table, clock, or_dash},
    text::text,
};

#[derive(Args)]
pub struct Queue {
    #[command(subcommand)]
    command: Option<QueueCommand>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum QueueCommand {
    /// Start nothing more; what runs goes on
    Pause,
    /// Start tasks again after a pause or a drain
    Resume,
    /// Accept no new tasks; those that were accepted run to their end
    Drain {
        /// Return when nothing runs and nothing waits any more
        #[arg(long)]
        wait: bool,
    },
    /// Put a waiting task at the head of its class
    Next {
        /// The task, such as finetune_1760000000_1
        id: String,
    },
    /// Put a waiting task before another of its class
    Move {
        /// The task, such as finetune_1760000000_1
        id: String,
        /// The task that is to come after it
        #[arg(long, value_name = "ID")]
        before: String,
    },
    /// Take waiting tasks out of the queue until they are released
    Hold(Ids),
    /// Put held tasks into the queue
    Release(Ids),
    /// Move a waiting or held task to another class
    Priority {
        /// The task, such as finetune_1760000000_1
        id: String,
        /// low, normal, high or urgent; urgent tasks may interrupt others at a checkpoint
        #[arg(value_name = "CLASS", value_parser = ["low", "normal", "high", "urgent"], hide_possible_values = true)]
        class: String,
    },
}

pub fn run(home: &Home, Queue { command, json }: Queue) -> Result<ExitCode> {
    let client = Client::connect(home)?;
    match command {
        None => show(&client, json)?,
        Some(QueueCommand::Pause) => switched(&client.pause_queue()?, json)?,
        Some(QueueCommand::Resume) => switched(&client.resume_queue()?, json)?,
        Some(QueueCommand::Drain { wait }) => {
            // Heard from before it is looked at, so that nothing is missed.
            let events = client.events(None)?;
            switched(&client.drain_queue()?, json)?;
            if wait {
                until_empty(&client, events, json)?;
            }
        }
        Some(QueueCommand::Next { id }) => moved(&client.run_next(&id)?, json)?,
        Some(QueueCommand::Move { id, before }) => moved(&client.move_before(&id, &before)?, json)?,
        Some(QueueCommand::Priority { id, class }) => moved(&client.set_priority(&id, &class)?, json)?,
        Some(QueueCommand::Hold(ids)) => return hold(&client, ids),
        Some(QueueCommand::Release(ids)) => return release(&client, ids),
    }
    Ok(ExitCode::SUCCESS)
}

fn hold(client: &Client, ids: Ids) -> Result<ExitCode> {
    let done = text("已保留", "held");
    match ids.group {
        true => each(ids, |id| Ok(Some(client.hold_group(id)?)), done),
        false => each(ids, |id| Ok(Some(client.hold(id)?)), done),
    }
}

pub fn release(client: &Client, ids: Ids) -> Result<ExitCode> {
    let done = text("已放入队列", "released");
    match ids.group {
        true => each(ids, |id| Ok(Some(client.release_group(id)?)), done),
        false => each(ids, |id| Ok(Some(client.release(id)?)), done),
    }
}

fn show(client: &Client, json: bool) -> Result<()> {
    let queue = client.queue()?;
    if json {
        return output::json(&queue);
    }
    let devices = client.devices()?.devices;
    let rows: Vec<Row> = devices
        .iter()
        .map(|device| Row { id: device.id.clone(), label: label(device), usable: device.unusable.is_none() })
        .collect();
    output::print(&switches(&queue.control))?;
    table(&queue, &rows).print()?;
    let hidden = queue.total.saturating_sub(queue.waiting.len() as u64);
    if hidden > 0 {
        output::print(&text(format!("另有 {hidden} 个任务在等待\n"), format!("{hidden} more wait\n")))?;
    }
    output::print(&strip(&queue, &rows, Timestamp::now()))?;
    output::print(&queue.forecast_accuracy.as_ref().map(accuracy).unwrap_or_default())
}

fn table(queue: &QueueView, rows: &[Row]) -> Table {
    let head = text(
        ["位次", "任务", "名称", "用户", "优先级", "预计开始", "预计结束", "状态"],
        ["NO", "TASK", "NAME", "OWNER", "CLASS", "STARTS", "ENDS", "STATE"],
    );
    let mut table = Table::new(head);
    for RunningTask { task_id, name, owner, priority, devices, started_at, ends_at } in &queue.running {
        let label =
            |id: &String| rows.iter().find(|row| row.id == *id).map_or_else(|| id.clone(), |row| row.label.clone());
        let devices: Vec<String> = devices.iter().map(label).collect();
        table.row([
            "-".to_owned(),
            task_id.clone(),
            or_dash(name.clone()),
            owner.clone(),
            class_word(priority).to_owned(),
            clock(Some(started_at)),
            clock(ends_at.as_deref()),
            text(format!("运行中：{}", devices.join("、")), format!("runs on {}", devices.join(", "))),
        ]);
    }
    for WaitingTask { task_id, name, owner, priority, wait, .. } in &queue.waiting {
        table.row([
            wait.position.to_string(),
            task_id.clone(),
            or_dash(name.clone()),
            owner.clone(),
            class_word(priority).to_owned(),
            clock(wait.starts_at.as_deref()),
            clock(wait.ends_at.as_deref()),
            text(&wait.zh, &wait.en).clone(),
        ]);
    }
    table
}

fn label(device: &DeviceView) -> String {
    match &device.mig {
        _ if device.kind == DeviceKind::Cpu.as_str() => device.name.clone(),
        Some(mig) => format!("GPU {} (MIG {})", device.index, mig.profile.as_deref().unwrap_or("?")),
        None => format!("GPU {}", device.index),
    }
}

/// What is not as usual, a line each.
fn switches(control: &QueueControl) -> String {
    let QueueControl { mode, by, since, maintenance, start_hours_closed_until } = control;
    let (who, since) = (or_dash(by.as_deref()), clock(since.as_deref()));
    let mut lines = match mode.as_str() {
        "paused" => text(
            format!("队列已由 {who} 于 {since} 暂停，不会启动任务；继续：sage queue resume\n"),
            format!("paused by {who} since {since}: nothing starts; to go on: sage queue resume\n"),
        ),
        "draining" => text(
            format!("队列正在排空（{who}，{since}），不接受新任务；继续：sage queue resume\n"),
            format!("draining ({who}, since {since}): no new tasks are accepted; to go on: sage queue resume\n"),
        ),
        _ => String::new(),
    };
    if let Some(until) = start_hours_closed_until {
        let until = clock(Some(until));
        lines += &text(
            format!("静默时段：{until} 之前不会启动任务\n"),
            format!("quiet hours: nothing starts before {until}\n"),
        );
    }
    for device in maintenance {
        let (label, id, by, since) = (&device.label, &device.device, &device.by, clock(Some(&device.since)));
        lines += &text(
            format!("{label} 维护中（{by}，{since}）；结束：sage gpu maintenance {id} off\n"),
            format!("{label} is in maintenance ({by}, since {since}); to end it: sage gpu maintenance {id} off\n"),
        );
    }
    lines
}

fn accuracy(accuracy: &ForecastAccuracy) -> String {
    let ForecastAccuracy { tasks, start_median_seconds: median, start_p90_seconds: p90, .. } = accuracy;
    let (median, p90) = (output::duration(*median), output::duration(*p90));
    text(
        format!("近 30 天的预计开始时间：{tasks} 个任务中一半的误差在 {median} 以内，九成在 {p90} 以内\n"),
        format!(
            "forecasts of the last 30 days: half of {tasks} tasks started within {median} of it, nine in ten within {p90}\n"
        ),
    )
}

pub fn switched(control: &QueueControl, json: bool) -> Result<()> {
    if json {
        return output::json(control);
    }
    let lines = switches(control);
    let open = text("队列开放，没有设备在维护\n", "the queue is open and no device is in maintenance\n");
    output::print(if lines.is_empty() { open } else { &lines })
}

fn moved(task: &api_types::TaskView, json: bool) -> Result<()> {
    if json {
        return output::json(task);
    }
    let wait = task.wait.as_ref().map(|wait| text(&wait.zh, &wait.en).as_str()).unwrap_or_default();
    output::print(&format!("{} ({}): {wait}\n", task.task_id, class_word(&task.priority)))
}

/// Reasons to wait that end within a moment.
const PASSING: [&str; 2] = ["planning", "detecting"];
/// Waiting tasks that are told of.
const TOLD: usize = 5;

/// What keeps tasks from ending by themselves, a line each: some of them may wait for ever.
pub fn stuck(queue: &QueueView) -> String {
    if !queue.running.is_empty() {
        return String::new();
    }
    let line = |task: &WaitingTask| {
        let (id, zh, en) = (&task.task_id, &task.wait.zh, &task.wait.en);
        text(format!("没有任务在运行，{id}：{zh}\n"), format!("nothing runs, and {id}: {en}\n"))
    };
    let told = queue.waiting.iter().filter(|task| !PASSING.contains(&task.wait.code.as_str()));
    told.take(TOLD).map(line).collect()
}

/// Whatever happens, the queue is looked at again.
fn until_empty(client: &Client, mut events: client::EventStream, json: bool) -> Result<()> {
    let mut told = String::new();
    loop {
        let queue = client.queue()?;
        if queue.running.is_empty() && queue.total == 0 {
            return Ok(());
        }
        let stuck = stuck(&queue);
        if !json && stuck != told {
            output::print(&stuck)?;
        }
        told = stuck;
        if queue.control.mode != "draining" {
            return Err(CliError::new(
                "drain-ended",
                text("队列不再排空：有人恢复了队列", "the queue does not drain any more: somebody resumed it"),
            )
            .next(text("查看 sage queue，必要时再次排空", "look at sage queue, and drain it again if need be")));
        }
        let moved =
            |event: &Event| matches!(event, Event::Task(_) | Event::Removed(_) | Event::Queue(_) | Event::Resync);
        if !events.any(|event| moved(&event)) {
            // The studio went away, or ended the stream.
            events = client.events(None)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_usual_is_said_with_the_way_back() {
        assert_eq!(switches(&QueueControl { mode: "open".into(), ..QueueControl::default() }), "");
        let control = QueueControl {
            mode: "paused".into(),
            by: Some("ana".into()),
            since: Some("2026-01-01T00:00:00Z".into()),
            maintenance: vec![api_types::MaintenanceView {
                device: "GPU-a".into(),
                label: "GPU 0".into(),
                by: "li".into(),
                since: "2026-01-01T00:00:00Z".into(),
            }],
            start_hours_closed_until: Some("2026-01-01T22:00:00Z".into()),
        };
        let said = switches(&control);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("paused by ana") && lines[0].ends_with("sage queue resume"), "{said}");
        assert!(lines[1].starts_with("quiet hours"), "{said}");
        assert!(lines[2].starts_with("GPU 0 ") && lines[2].ends_with("sage gpu maintenance GPU-a off"), "{said}");
    }
}
