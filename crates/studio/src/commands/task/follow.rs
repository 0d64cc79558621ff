use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use api_types::TaskView;
use client::{Client, ClientError, LogEvent};
use domain::Home;

use crate::{
    error::{FAILED, Result},
    output,
    text::text,
};

/// How long a studio may be away, for example while it is restarted.
const PATIENCE: Duration = Duration::from_secs(60);
/// As a shell says it of a program that Ctrl-C has ended.
const CANCELLED: u8 = 130;

/// Prints the log until the task has ended; the exit status is the task's.
pub fn follow(home: &Home, client: &Client, id: &str) -> Result<ExitCode> {
    let mut client = client.clone();
    let mut offset = 0;
    loop {
        match print_log(&client, id, &mut offset) {
            Ok(true) => break,
            // It went away; the training has not.
            Ok(false) | Err(ClientError::Unreachable { .. }) => client = reconnect(home)?,
            Err(error) => return Err(error.into()),
        }
    }
    let task = client.task(id)?;
    if let Some(failure) = &task.failure {
        eprintln!("{id} {}: {}", text("失败", "failed"), text(&failure.zh, &failure.en));
    }
    Ok(ExitCode::from(exit_status(&task)))
}

/// True when the task has ended, false when the connection has.
fn print_log(client: &Client, id: &str, offset: &mut u64) -> std::result::Result<bool, ClientError> {
    let mut stream = client.log_stream(id, *offset)?;
    while let Some(event) = stream.next() {
        match event {
            LogEvent::Chunk(chunk) => {
                *offset = stream.offset();
                if output::print(&chunk.text).is_err() {
                    return Ok(true);
                }
            }
            LogEvent::End => return Ok(true),
        }
    }
    Ok(false)
}

fn reconnect(home: &Home) -> std::result::Result<Client, ClientError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = Client::connect(home).and_then(|client| client.health().map(|()| client));
        match answer {
            Err(ClientError::NotRunning { .. } | ClientError::Unreachable { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

/// 0 for a completed task, 130 for a cancelled one, a command's own exit status, 1 for any other failure.
pub fn exit_status(task: &TaskView) -> u8 {
    match task.status.as_str() {
        "completed" => 0,
        "cancelled" => CANCELLED,
        _ => task.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::task::example;

    #[test]
    fn the_exit_status_tells_how_the_task_ended() {
        let failed = |exit_code| exit_status(&TaskView { exit_code, ..example("failed") });
        assert_eq!(exit_status(&example("completed")), 0);
        assert_eq!(exit_status(&example("cancelled")), 130);
        assert_eq!((failed(Some(7)), failed(Some(255))), (7, 255));
        // A fine-tune, a signal, and what no exit status can be.
        assert_eq!((failed(None), failed(Some(0)), failed(Some(256)), failed(Some(-1))), (1, 1, 1, 1));
    }
}
