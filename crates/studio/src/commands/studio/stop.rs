use std::{thread, time::Duration};

use clap::Args;
use client::{Client, ClientError, Endpoint, TaskFilter};
use domain::Home;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    commands::queue::stuck,
    daemon::Holder,
    error::{CliError, Result},
    output,
    text::text,
};

/// More than the studio itself allows requests under way.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether the last task has ended.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct Stop {
    /// Accept no new tasks, let all that were accepted end, then stop
    #[arg(long, conflicts_with = "cancel_all")]
    drain: bool,
    /// Cancel everything that runs, waits or is held, wait until its processes are gone, then stop
    #[arg(long)]
    cancel_all: bool,
}

pub fn run(home: &Home, command: &Stop) -> Result<()> {
    if command.drain || command.cancel_all {
        match Client::connect(home) {
            Ok(client) => empty(&client, command.cancel_all)?,
            Err(ClientError::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let empty = command.drain || command.cancel_all;
    let message = match stop(home)? {
        Some(pid) if empty => text(
            format!("Studio 已停止（pid {pid}），没有任务在运行\n"),
            format!("the studio has stopped (pid {pid}); nothing runs\n"),
        ),
        Some(pid) => text(
            format!("Studio 已停止（pid {pid}），训练继续运行\n"),
            format!("the studio has stopped (pid {pid}); trainings go on\n"),
        ),
        None => text("没有运行中的 Studio\n".into(), "no studio is running\n".into()),
    };
    output::print(&message)
}

/// Returns when no task runs or waits any more and none can come in. The next start finds the queue as it was.
fn empty(client: &Client, cancel: bool) -> Result<()> {
    client.close_queue(!cancel)?;
    output::print(text(
        "不再接受新任务，直到再次启动；按 Ctrl-C 不会改变这一点，用 sage queue resume 恢复\n",
        "no new tasks are accepted before the next start; Ctrl-C leaves it so, sage queue resume ends it\n",
    ))?;
    for status in ["pending", "queued", "preparing", "training"].iter().filter(|_| cancel) {
        cancel_all(client, status)?;
    }
    let (mut told, mut waits) = (None, None);
    loop {
        let left = left(client)?;
        if left == 0 {
            return Ok(());
        }
        if told.replace(left) != Some(left) {
            output::print(&text(format!("还有 {left} 个任务\n"), format!("{left} tasks left\n")))?;
        }
        let stuck = if cancel { String::new() } else { stuck(&client.queue()?) };
        if waits.replace(stuck.clone()).unwrap_or_default() != stuck {
            output::print(&stuck)?;
        }
        thread::sleep(LOOK);
    }
}

fn cancel_all(client: &Client, status: &str) -> Result<()> {
    loop {
        let filter = TaskFilter { status: Some(status.into()), ..TaskFilter::default() };
        let tasks = client.tasks(&filter)?.tasks;
        let mut cancelled = 0;
        for task in &tasks {
            match client.cancel(&task.task_id) {
                Ok(_) => cancelled += 1,
                // It has just ended by itself.
                Err(ClientError::Api { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if cancelled == 0 {
            return Ok(());
        }
    }
}

/// Tasks that run or wait, and cancelled ones whose processes are still ending. Held ones wait for nobody.
fn left(client: &Client) -> Result<u64> {
    let counts = client.tasks(&TaskFilter { limit: Some(1), ..TaskFilter::default() })?.counts;
    let of = |status: &str| counts.get(status).copied().unwrap_or(0);
    let active = of("queued") + of("preparing") + of("training");
    let granted = client.devices()?.devices.iter().map(|device| device.grants.len() as u64).sum();
    Ok(active.max(granted))
}

/// Returns when the studio is gone: its pid, or `None` if there was none.
pub fn stop(home: &Home) -> Result<Option<u32>> {
    let process = match Endpoint::find(home) {
        Ok(endpoint) => endpoint.process,
        // One that is only starting has said who it is in the lock.
        Err(ClientError::NotRunning { .. }) => match Holder::read(home).filter(|holder| holder.process.is_alive()) {
            Some(holder) => holder.process,
            None => return Ok(None),
        },
        Err(error) => return Err(error.into()),
    };
    let failed = |error: Errno| {
        let pid = process.pid;
        CliError::new(
            "studio-stop-failed",
            text(format!("无法停止 pid {pid}：{error}"), format!("pid {pid} cannot be stopped: {error}")),
        )
    };
    let pid = Pid::from_raw(process.pid as i32).ok_or_else(|| failed(Errno::SRCH))?;
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        handle => handle.map_err(failed)?,
    };
    // The pid may have been used again before we held on to it.
    if !process.is_alive() {
        return Ok(None);
    }
    match pidfd_send_signal(&handle, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(failed(error)),
    }
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let gone = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience)).map_err(failed)?;
    if gone == 0 {
        let (pid, seconds) = (process.pid, PATIENCE.as_secs());
        return Err(CliError::new(
            "studio-stop-timeout",
            text(
                format!("Studio（pid {pid}）在 {seconds} 秒内没有停止"),
                format!("the studio (pid {pid}) has not stopped within {seconds} s"),
            ),
        )
        .next(text(
            format!("强制结束：kill -9 {pid}（训练不受影响）"),
            format!("end it by force: kill -9 {pid} (trainings are not affected)"),
        )));
    }
    Ok(Some(process.pid))
}
