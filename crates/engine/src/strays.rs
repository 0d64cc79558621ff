//! Attempts that live and that the database does not know: it is an earlier one, put back from a backup.

use std::{collections::BTreeMap, path::Path};

use domain::{Home, TaskId};

use crate::machine::RunningTask;

/// Stops them at a checkpoint, so that their devices are free for what the database knows. Their files stay. Their highest
/// number, which is not to be used again: 0 if there are none.
pub fn stop(home: &Home, running: &BTreeMap<TaskId, RunningTask>) -> u64 {
    let mut highest = 0;
    let living = runner::living(&home.tasks()).unwrap_or_else(|error| {
        tracing::warn!("it cannot be seen what runs: {error}");
        Vec::new()
    });
    for attempt in living {
        let Some((task, number)) = name(home, &attempt) else { continue };
        if running.get(&task).is_some_and(|running| running.attempt.number == number) {
            continue;
        }
        highest = highest.max(task.number);
        tracing::warn!(
            "{task}: attempt {number} runs and the database knows nothing of it, as after a restore; it is stopped, and its \
             files stay in {}",
            home.task(task).display()
        );
        if let Err(error) = runner::stop(&attempt) {
            tracing::warn!("{task} cannot be stopped: {error}");
        }
    }
    highest
}

/// Whose folder it is: `<task>/attempts/<number>`.
fn name(home: &Home, attempt: &Path) -> Option<(TaskId, u32)> {
    let mut parts = attempt.strip_prefix(home.tasks()).ok()?.components();
    let task: TaskId = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    let number = parts.nth(1)?.as_os_str().to_str()?.parse().ok()?;
    (attempt == home.attempt(task, number)).then_some((task, number))
}
