use std::time::Duration;

use client::{ClientError, Endpoint};
use domain::Home;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    daemon::Holder,
    error::{CliError, Result},
    output,
    text::text,
};

/// More than the studio itself allows requests under way.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(home: &Home) -> Result<()> {
    let message = match stop(home)? {
        Some(pid) => text(
            format!("Studio 已停止（pid {pid}），训练继续运行\n"),
            format!("the studio has stopped (pid {pid}); trainings go on\n"),
        ),
        None => text("没有运行中的 Studio\n".into(), "no studio is running\n".into()),
    };
    output::print(&message)
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
