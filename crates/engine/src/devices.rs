//! What attempts do to devices, and devices to attempts.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Demand, DeviceId, DeviceState, Failure, Inventory, Language, MemoryHolder, Progress, Reading, Recipe, StateKind,
    Task, TaskId, Warning, gib,
};
use jiff::{SignedDuration, Timestamp};

use crate::{View, machine::RunningTask};

/// What a preempted training loses: it saves when it is stopped, and loads model and data again.
const RESUME: SignedDuration = SignedDuration::from_secs(60);
/// A training that makes no steps does not keep others away for longer.
const LONGEST_MEASURED: Duration = Duration::from_secs(300);
/// States of a device from which no training on it comes back.
const LOST: [&str; 2] = ["gpu-lost", "gpu-needs-reset"];

/// The running attempts as the planner sees them.
pub fn holders(
    inventory: Option<&Inventory>,
    running: &BTreeMap<TaskId, RunningTask>,
    view: &View,
    trial: Duration,
    now: Timestamp,
) -> Vec<scheduler::Running> {
    let holder = |(task, running): (&TaskId, &RunningTask)| {
        let progress = view.progress(*task);
        let grant = running.attempt.grant.clone();
        let used = |device: &DeviceId| used(inventory?.get(device)?, *task, &progress);
        let used = grant.devices.iter().map(|granted| used(&granted.device)).collect();
        let stopping = running.is_pausing() || running.task.state.kind() != StateKind::Training;
        scheduler::Running {
            task: *task,
            owner: running.task.owner.clone(),
            pace: running.pace.pace(trial),
            measuring: is_measured(running, now),
            grant,
            used,
            priority: running.task.priority,
            started_at: running.attempt.started_at,
            ends_at: ends_at(&running.task, running.attempt.started_at, &progress, now),
            shares: Demand::of(&running.task).shares,
            loss: (running.task.recipe.resumes() && !stopping).then_some(RESUME),
            stopping: running.is_pausing() || running.task.state.kind().is_final(),
        }
    };
    let mut holders: Vec<scheduler::Running> = running.iter().map(holder).collect();
    let stopping: Vec<DeviceId> = running
        .values()
        .filter(|running| running.is_pausing() || running.task.state.kind().is_final())
        .flat_map(|running| running.attempt.grant.devices.iter().map(|granted| granted.device.clone()))
        .collect();
    // While one of those that share a device is being stopped, the rest is not judged.
    for holder in &mut holders {
        if holder.grant.devices.iter().any(|granted| stopping.contains(&granted.device)) {
            holder.pace = None;
        }
    }
    holders
}

/// Whether its first steps are still to be timed.
fn is_measured(running: &RunningTask, now: Timestamp) -> bool {
    let is_timed = matches!(running.task.recipe, Recipe::FineTune(_)) && !running.task.state.kind().is_final();
    is_timed && running.pace.alone().is_none() && Duration::from_secs(running.ran(now)) < LONGEST_MEASURED
}

/// By the pace of this attempt, else by its estimate; one that has outlived its estimate is expected to take as long again.
pub fn ends_at(task: &Task, started_at: Timestamp, progress: &Progress, now: Timestamp) -> Option<Timestamp> {
    let ran = now.duration_since(started_at).as_secs_f64().max(0.0);
    let estimated = task.estimate.as_ref().and_then(|estimate| estimate.total_seconds);
    let (left, done) = (100.0 - progress.percent, progress.percent - progress.began_percent());
    let step =
        progress.seconds_per_step.filter(|_| (progress.began_step + 1..progress.total_steps).contains(&progress.step));
    let rest = match (step, estimated) {
        _ if done >= 1.0 => ran * left / done,
        (Some(seconds), _) => seconds * (progress.total_steps - progress.step) as f64,
        (_, Some(total)) => {
            let whole = total * (1.0 - progress.began_percent() / 100.0);
            if whole > ran { whole - ran } else { ran }
        }
        (None, None) => return None,
    };
    now.checked_add(SignedDuration::try_from_secs_f64(rest).ok()?).ok()
}

/// Bytes that a task holds on a device: by the driver's account, else by its own.
fn used(reading: &Reading, task: TaskId, progress: &Progress) -> Option<u64> {
    let mut own = reading.processes.iter().filter(|process| process.task == Some(task)).peekable();
    if own.peek().is_some() {
        return own.map(|process| process.bytes).sum::<Option<u64>>().or(progress.device_bytes);
    }
    // A process whose owner cannot be seen, as in a container, may be the task's.
    let hidden = reading.unattributed.is_none() || reading.processes.iter().any(|process| process.user.is_none());
    if hidden { progress.device_bytes } else { Some(progress.device_bytes.unwrap_or(0)) }
}

/// Tasks whose device is gone, with how that reads.
pub fn lost(inventory: &Inventory, running: &BTreeMap<TaskId, RunningTask>) -> Vec<(TaskId, Failure)> {
    let failure = |running: &RunningTask| {
        running.attempt.grant.devices.iter().find_map(|granted| {
            let reading = inventory.get(&granted.device)?;
            match &reading.state {
                DeviceState::Unusable { code, zh, en } if LOST.contains(&code.as_str()) => Some(Failure::DeviceLost {
                    device: format!("GPU {} ({})", reading.device.index, reading.device.name),
                    zh: zh.clone(),
                    en: en.clone(),
                }),
                _ => None,
            }
        })
    };
    running.iter().filter_map(|(task, running)| Some((*task, failure(running)?))).collect()
}

/// Tasks whose grants other programs have grown into, with whom to blame and how that reads.
pub fn squeezed(inventory: &Inventory, holders: &[scheduler::Running]) -> Vec<(TaskId, Option<u32>, Warning)> {
    let mut squeezed = Vec::new();
    for reading in inventory.devices.iter().filter(|reading| reading.is_usable()) {
        let Some((missing, blamed)) = scheduler::shortfall(reading, holders) else { continue };
        let blamed = blamed.first();
        for holder in holders {
            if holder.grant.devices.iter().any(|granted| granted.device == reading.device.id) {
                let pid = blamed.and_then(|blamed| blamed.pid);
                squeezed.push((holder.task, pid, warning(reading, missing, blamed)));
            }
        }
    }
    squeezed
}

fn warning(reading: &Reading, missing: u64, blamed: Option<&MemoryHolder>) -> Warning {
    let (index, missing) = (reading.device.index, gib(missing));
    let who = |language| blamed.map_or_else(String::new, |blamed| blamed.describe(language));
    Warning {
        code: "foreign-use".into(),
        zh: format!(
            "⚠️ 其他程序占用了预留给任务的显存：GPU {index} 还差 {missing}（{}）。训练可能因显存不足而中断",
            who(Language::Zh)
        ),
        en: format!(
            "another program has taken memory promised to this task: GPU {index} is {missing} short ({}). The training \
             may run out of memory",
            who(Language::En)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_the_pace_of_this_attempt() {
        let task = |total: Option<f64>| {
            let estimate = total.map(|total_seconds| {
                serde_json::json!({
                    "allocated_bytes": 1, "footprint_bytes": 1, "footprint_low_bytes": 1, "footprint_high_bytes": 1,
                    "grant_bytes": 1, "seconds_per_step": null, "total_seconds": total_seconds,
                    "basis": {"basis": "formula"}, "breakdown": domain::Breakdown::default(),
                })
            });
            Task {
                id: TaskId::new(0, 1),
                name: None,
                owner: "ana".into(),
                created_at: Timestamp::UNIX_EPOCH,
                time_limit: 3600,
                recipe: Recipe::FineTune(domain::FineTune::default()),
                priority: domain::Priority::Normal,
                after: Vec::new(),
                terms: domain::Terms::default(),
                warnings: Vec::new(),
                estimate: estimate.map(|estimate| serde_json::from_value(estimate).unwrap()),
                adjustments: Vec::new(),
                state: domain::TaskState::Pending,
            }
        };
        let at = |second: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let left = |total, progress: &Progress, ran: i64| {
            ends_at(&task(total), at(0), progress, at(ran)).map(|end| end.duration_since(at(ran)).as_secs_f64().round())
        };
        let progress = |began_step: u64, step: u64| {
            let percent = step as f64 / 10.0;
            Progress { percent, step, total_steps: 1000, began_step, ..Progress::default() }
        };
        assert_eq!(left(None, &progress(0, 500), 100), Some(100.0));
        // 20 steps in 10 s, so the 380 that are left take 190 s, whatever earlier attempts did.
        assert_eq!(left(None, &progress(600, 620), 10), Some(190.0));
        let measured = Progress { seconds_per_step: Some(0.5), ..progress(600, 602) };
        assert_eq!(left(None, &measured, 10), Some(199.0), "too few to tell, but it says how long a step takes");
        assert_eq!(left(Some(1000.0), &progress(600, 600), 10), Some(390.0), "its part of the estimate");
        assert_eq!(left(None, &progress(600, 600), 10), None);

        // And what waits to go on counts with what is left.
        let ticket = store::Ticket::of(&task(Some(1000.0)), &progress(0, 600));
        assert!((ticket.expected_seconds.unwrap() - 400.0).abs() < 1e-6);
    }
}
