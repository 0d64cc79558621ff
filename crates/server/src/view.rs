//! From the engine's types to those of `/api/v1`.

use std::collections::HashMap;

use api_types::{
    AttemptView, DeviceView, Devices, FetchView, JournalEntry, MemoryView, Message, ProcessView, ProgressView,
    QueueEntry, QueueEvent, TaskView, WaitView,
};
use domain::{
    DeviceId, DeviceKind, DeviceState, Failure, Home, Language, Progress, Reading, Recipe, StateKind, TaskId,
    TaskState, WaitReason, Warning,
};
use engine::{DeviceStatus, TaskSnapshot, Waits};
use jiff::Timestamp;
use recipes::advice;
use store::JournalRow;

/// Waiting tasks that a `queue` event lists.
const QUEUE_ENTRIES: usize = 500;

pub fn task(snapshot: &TaskSnapshot, home: &Home) -> TaskView {
    let TaskSnapshot { task, progress, .. } = snapshot;
    let kind = task.state.kind();
    TaskView {
        task_id: task.id.to_string(),
        name: task.name.clone(),
        owner: task.owner.clone(),
        status: kind.to_string(),
        created_at: task.created_at.to_string(),
        started_at: task.state.started_at().map(|at| at.to_string()),
        completed_at: task.state.ended_at().map(|at| at.to_string()),
        time_limit_seconds: task.time_limit,
        trainer: match task.recipe.trainer() {
            domain::TrainerKind::Builtin => "builtin".into(),
            domain::TrainerKind::Command => "command".into(),
        },
        model_name: model_name(&task.recipe).to_owned(),
        dataset_path: match &task.recipe {
            Recipe::FineTune(recipe) => Some(recipe.dataset_file.clone()),
            Recipe::Command(_) => None,
        },
        output_dir: home.task(task.id).display().to_string(),
        config: serde_json::to_value(&task.recipe).expect("a recipe is plain data"),
        progress: self::progress(progress),
        wait: match &task.state {
            TaskState::Queued { reason } => Some(wait(reason)),
            _ => None,
        },
        failure: match &task.state {
            TaskState::Failed { failure, .. } => Some(self::failure(failure)),
            _ => None,
        },
        attempt: task.state.attempt().map(|attempt| AttemptView {
            number: attempt.number,
            devices: attempt.grant.devices.iter().map(|grant| grant.device.to_string()).collect(),
            pid: attempt.pid,
        }),
        warnings: task.warnings.iter().map(warning).collect(),
        downloadable: downloadable(kind),
    }
}

/// A finished task has something to download.
pub fn downloadable(kind: StateKind) -> bool {
    kind == StateKind::Completed
}

/// The model of a fine-tune, the program of a command.
pub fn model_name(recipe: &Recipe) -> &str {
    match recipe {
        Recipe::FineTune(recipe) => &recipe.model_name,
        Recipe::Command(command) => command.argv.first().map_or("", String::as_str),
    }
}

pub fn progress(progress: &Progress) -> ProgressView {
    ProgressView {
        percent: progress.percent,
        epoch: progress.epoch,
        total_epochs: progress.total_epochs,
        step: progress.step,
        total_steps: progress.total_steps,
        loss: progress.loss,
        learning_rate: progress.learning_rate,
        grad_norm: progress.grad_norm,
        tokens_per_second: progress.tokens_per_second,
        memory_bytes: progress.memory_bytes,
        fetch: progress.fetch.map(|(bytes, total_bytes)| FetchView { bytes, total_bytes }),
    }
}

fn wait(reason: &WaitReason) -> WaitView {
    WaitView {
        code: reason.code().into(),
        position: reason.position,
        running: reason.running().map(|task| task.to_string()),
        zh: reason.sentence(Language::Zh),
        en: reason.sentence(Language::En),
    }
}

fn failure(failure: &Failure) -> Message {
    Message { code: failure.code().into(), zh: failure.sentence(Language::Zh), en: failure.sentence(Language::En) }
}

pub fn warning(warning: &Warning) -> Message {
    Message { code: warning.code.clone(), zh: warning.zh.clone(), en: warning.en.clone() }
}

pub fn queue(waits: &Waits) -> QueueEvent {
    let entry = |(task, reason): &(TaskId, WaitReason)| QueueEntry { task_id: task.to_string(), wait: wait(reason) };
    QueueEvent {
        waiting: waits.tasks.iter().take(QUEUE_ENTRIES).map(entry).collect(),
        total: waits.tasks.len() as u64,
        long: waits.long,
    }
}

/// `None` while detection has not answered yet.
pub fn devices(status: Option<&DeviceStatus>, now: Timestamp) -> Devices {
    let Some(DeviceStatus { inventory, holders }) = status else {
        return Devices {
            detecting: true,
            age_seconds: 0.0,
            devices: Vec::new(),
            simulated: false,
            recommendation: advice::GpuInfo::detecting().recommendation,
            findings: Vec::new(),
        };
    };
    let holders: HashMap<&DeviceId, TaskId> = holders.iter().map(|(device, task)| (device, *task)).collect();
    Devices {
        detecting: false,
        age_seconds: now.duration_since(inventory.taken_at).as_secs_f64().max(0.0),
        devices: inventory
            .devices
            .iter()
            .map(|reading| device(reading, holders.get(&reading.device.id).copied()))
            .collect(),
        simulated: inventory.devices.iter().any(|reading| reading.device.kind == DeviceKind::Simulated),
        recommendation: advice::gpu_info(inventory).recommendation,
        findings: inventory
            .findings
            .iter()
            .map(|finding| Message { code: finding.code.clone(), zh: finding.zh.clone(), en: finding.en.clone() })
            .collect(),
    }
}

fn device(reading: &Reading, holder: Option<TaskId>) -> DeviceView {
    DeviceView {
        id: reading.device.id.to_string(),
        kind: match reading.device.kind {
            DeviceKind::Nvidia => "nvidia".into(),
            DeviceKind::Simulated => "simulated".into(),
            DeviceKind::Cpu => "cpu".into(),
        },
        index: reading.device.index,
        name: reading.device.name.clone(),
        memory: reading.memory.map(|memory| MemoryView {
            total: memory.total,
            reserved: memory.reserved,
            used: memory.used,
            free: memory.free,
        }),
        utilisation_percent: reading.utilisation,
        temperature_celsius: reading.temperature,
        power_watts: reading.power,
        processes: reading
            .processes
            .iter()
            .map(|process| ProcessView {
                pid: process.pid,
                name: process.name.clone(),
                user: process.user.clone(),
                bytes: process.bytes,
            })
            .collect(),
        unusable: match &reading.state {
            DeviceState::Usable => None,
            DeviceState::Unusable { code, zh, en } => {
                Some(Message { code: code.clone(), zh: zh.clone(), en: en.clone() })
            }
        },
        task_id: holder.map(|task| task.to_string()),
    }
}

pub fn journal(row: JournalRow) -> JournalEntry {
    JournalEntry {
        seq: row.seq,
        at: row.at.to_string(),
        task_id: row.task.to_string(),
        who: row.who,
        from: row.from,
        to: row.to,
        why: row.why,
    }
}
