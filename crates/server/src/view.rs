//! From the engine's types to those of `/api/v1`.

use api_types::{
    AttemptView, EstimateView, FetchView, GrantView, GroupMember, HolderView, JournalEntry, MaintenanceView, Message,
    ProgressView, QueueControl, QueueEntry, QueueEvent, TaskView, WaitView,
};
use domain::{
    Adjustment, Attempt, Condition, Control, Dependency, DeviceId, Failure, Group, Language, MemoryHolder, Priority,
    Progress, QueueMode, QuotaKind, Recipe, StateKind, Switched, Task, TaskId, TaskState, Terms, WaitCause, WaitReason,
    Warning,
};
use engine::{Forecast, Handle, TaskSnapshot, Waits};
use jiff::Timestamp;
use store::JournalRow;

use crate::{auth::Who, why};

/// Waiting tasks that a `queue` event lists.
const QUEUE_ENTRIES: usize = 500;
/// Instead of what is not shown.
const HIDDEN: &str = "***";

pub fn task(snapshot: &TaskSnapshot, engine: &Handle) -> TaskView {
    let TaskSnapshot { task, progress, .. } = snapshot;
    let kind = task.state.kind();
    TaskView {
        task_id: task.id.to_string(),
        name: task.name.clone(),
        owner: task.owner.clone(),
        priority: priority(task.priority),
        after: task.after.iter().map(dependency).collect(),
        group: task.terms.group.as_ref().map(group_member),
        start_after: start_after(&task.terms).map(|at| at.to_string()),
        deadline: task.terms.deadline.map(|at| at.to_string()),
        retries: task.terms.retries,
        retried: task.terms.retried,
        status: kind.to_string(),
        created_at: task.created_at.to_string(),
        started_at: task.state.started_at().map(|at| at.to_string()),
        completed_at: task.state.ended_at().map(|at| at.to_string()),
        time_limit_seconds: task.time_limit,
        trainer: task.recipe.trainer().as_str().into(),
        model_name: model_name(&task.recipe).to_owned(),
        dataset_path: match &task.recipe {
            Recipe::FineTune(recipe) => Some(recipe.dataset_file.clone()),
            Recipe::Command(_) => None,
        },
        output_dir: engine.home().task(task.id).display().to_string(),
        config: config(&task.recipe),
        progress: self::progress(progress),
        wait: match &task.state {
            TaskState::Queued { reason } => Some(wait(reason, engine.view().waits().forecast(task.id))),
            _ => None,
        },
        failure: match &task.state {
            TaskState::Failed { failure, .. } => Some(self::failure(failure)),
            _ => None,
        },
        exit_code: exit_code(task),
        attempt: task.state.attempt().map(attempt),
        estimate: task.estimate.as_ref().map(EstimateView::from),
        adjustments: task.adjustments.iter().copied().map(adjustment).collect(),
        warnings: task.warnings.iter().map(warning).collect(),
        downloadable: downloadable(kind) && matches!(task.recipe, Recipe::FineTune(_)),
    }
}

/// As `reader` may see it.
pub fn task_for(snapshot: &TaskSnapshot, engine: &Handle, reader: &Who) -> TaskView {
    let whole = task(snapshot, engine);
    if reader.sees(&snapshot.task.owner) { whole } else { to_others(whole, &snapshot.task) }
}

/// Whether whoever may not read a task's output is shown less of it.
pub fn hides(task: &Task) -> bool {
    let failure = match &task.state {
        TaskState::Failed { failure, .. } => failure.sentence_to_others(Language::En),
        _ => None,
    };
    failure.is_some() || matches!(task.recipe, Recipe::Command(_))
}

/// Without what its program says, and with what it is told.
pub fn to_others(whole: TaskView, task: &Task) -> TaskView {
    let config = match &task.recipe {
        Recipe::Command(command) => shown(&Recipe::Command(only_program(command))),
        Recipe::FineTune(_) => whole.config,
    };
    let failure = match &task.state {
        TaskState::Failed { failure, .. } => Some(failure_to_others(failure)),
        _ => None,
    };
    TaskView { config, failure, ..whole }
}

/// A finished task has something to download.
pub fn downloadable(kind: StateKind) -> bool {
    kind == StateKind::Completed
}

fn config(recipe: &Recipe) -> serde_json::Value {
    match recipe {
        Recipe::FineTune(_) => shown(recipe),
        Recipe::Command(command) => shown(&Recipe::Command(without_values(command))),
    }
}

fn shown(recipe: &Recipe) -> serde_json::Value {
    serde_json::to_value(recipe).expect("a recipe is plain data")
}

/// The values of its variables may be secrets, which are shown to nobody.
pub fn without_values(command: &domain::Command) -> domain::Command {
    let env = command.env.keys().map(|name| (name.clone(), HIDDEN.to_owned())).collect();
    domain::Command { env, ..command.clone() }
}

/// What a command is told is its owner's, as what it says is.
pub fn only_program(command: &domain::Command) -> domain::Command {
    let program = command.argv.iter().take(1).cloned();
    let rest = (command.argv.len() > 1).then(|| HIDDEN.to_owned());
    let argv = program.chain(rest).collect();
    domain::Command { argv, cwd: HIDDEN.into(), env: Default::default(), ..command.clone() }
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
        device_bytes: progress.device_bytes,
        peak_bytes: progress.peak_bytes,
        peak_allocated_bytes: progress.peak_allocated_bytes,
        seconds_per_step: progress.seconds_per_step,
        fetch: progress.fetch.map(|(bytes, total_bytes)| FetchView { bytes, total_bytes }),
    }
}

fn group_member(group: &Group) -> GroupMember {
    GroupMember { id: group.first.to_string(), index: group.index, size: group.size, label: group.label.clone() }
}

/// As it was asked: the time of the next retry is another matter.
fn start_after(terms: &Terms) -> Option<Timestamp> {
    terms.not_before.filter(|_| terms.retry_after.is_none())
}

/// As requests say it.
pub fn priority(priority: Priority) -> String {
    let word = match priority {
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
        Priority::Urgent => "urgent",
    };
    word.into()
}

fn dependency(dependency: &Dependency) -> String {
    match dependency.condition {
        Condition::Ok => dependency.task.to_string(),
        Condition::Any => format!("{},any", dependency.task),
    }
}

pub fn wait(reason: &WaitReason, forecast: Option<&Forecast>) -> WaitView {
    let view = WaitView {
        code: reason.code().into(),
        position: reason.position,
        running: None,
        device: None,
        needed_bytes: None,
        free_bytes: None,
        holders: Vec::new(),
        at: None,
        by: None,
        used: None,
        limit: None,
        quota: None,
        starts_at: forecast.map(|forecast| forecast.starts_at.to_string()),
        ends_at: forecast.map(|forecast| forecast.ends_at.to_string()),
        paused: reason.paused.as_ref().map(|cause| {
            let code = WaitReason::new(1, cause.clone()).code().to_owned();
            Message { code, zh: cause.of_pause(Language::Zh), en: cause.of_pause(Language::En) }
        }),
        zh: reason.sentence(Language::Zh),
        en: reason.sentence(Language::En),
    };
    let holders = |holders: &[MemoryHolder]| holders.iter().map(holder).collect();
    match &*reason.cause {
        WaitCause::Reserved { task, at, .. } => {
            WaitView { running: Some(task.to_string()), at: Some(at.to_string()), ..view }
        }
        WaitCause::DevicesBusy { running: task, .. }
        | WaitCause::Behind { task }
        | WaitCause::Dependency { task }
        | WaitCause::Preempted { by: task }
        | WaitCause::Measuring { task }
        | WaitCause::NotPaying { with: task, .. } => WaitView { running: Some(task.to_string()), ..view },
        WaitCause::DeviceMemory { needed, device, free, holders: who } => WaitView {
            device: Some(device.clone()),
            needed_bytes: Some(*needed),
            free_bytes: Some(*free),
            holders: holders(who),
            ..view
        },
        WaitCause::WholeDevice { device, free, holders: who, .. } => {
            WaitView { device: Some(device.clone()), free_bytes: Some(*free), holders: holders(who), ..view }
        }
        WaitCause::ForeignUse { device, holders: who } => {
            WaitView { device: Some(device.clone()), holders: holders(who), ..view }
        }
        WaitCause::TooLarge { needed, device, .. } => {
            WaitView { device: Some(device.clone()), needed_bytes: Some(*needed), ..view }
        }
        WaitCause::DeviceUnusable { device, .. } => WaitView { device: Some(device.clone()), ..view },
        WaitCause::TrialFailed { device, needed, free, holder: who, .. } => WaitView {
            device: Some(device.clone()),
            needed_bytes: Some(*needed),
            free_bytes: *free,
            holders: who.iter().map(holder).collect(),
            ..view
        },
        WaitCause::QueuePaused { by } => WaitView { by: Some(by.clone()), ..view },
        WaitCause::QuietHours { until: at } | WaitCause::NotBefore { at } | WaitCause::Retry { at, .. } => {
            WaitView { at: Some(at.to_string()), ..view }
        }
        WaitCause::Quota { kind, used, limit } => {
            WaitView { quota: Some(quota(*kind).into()), used: Some(*used), limit: Some(*limit), ..view }
        }
        WaitCause::Reclaimed { device, service } => {
            WaitView { device: Some(device.clone()), by: Some(service.clone()), ..view }
        }
        WaitCause::DiskFull { free, limit } | WaitCause::HostMemory { free, limit } => {
            WaitView { used: Some(*free), limit: Some(*limit), ..view }
        }
        WaitCause::NoUsableDevice { .. }
        | WaitCause::Detecting
        | WaitCause::Planning
        | WaitCause::Moving
        | WaitCause::TooManyDevices { .. } => view,
    }
}

fn quota(kind: QuotaKind) -> &'static str {
    match kind {
        QuotaKind::Running => "running",
        QuotaKind::Gpus => "gpus",
        QuotaKind::GpuTime => "gpu_time",
    }
}

pub fn holder(holder: &MemoryHolder) -> HolderView {
    HolderView {
        pid: holder.pid,
        name: holder.name.clone(),
        bytes: holder.bytes,
        task_id: holder.task.map(|task| task.to_string()),
    }
}

fn attempt(attempt: &Attempt) -> AttemptView {
    let grants = || attempt.grant.devices.iter();
    AttemptView {
        number: attempt.number,
        devices: grants().map(|grant| grant.device.to_string()).collect(),
        grants: grants().map(|grant| GrantView { device: grant.device.to_string(), bytes: grant.bytes }).collect(),
        pid: attempt.pid,
    }
}

fn adjustment(adjustment: Adjustment) -> String {
    let word = match adjustment {
        Adjustment::HalveMicroBatch => "halve_micro_batch",
        Adjustment::GradientCheckpointing => "gradient_checkpointing",
        Adjustment::Load8bit => "load8bit",
        Adjustment::Load4bit => "load4bit",
    };
    word.into()
}

/// Of a command that ended by itself with one.
fn exit_code(task: &Task) -> Option<i32> {
    match (&task.recipe, &task.state) {
        (Recipe::Command(_), TaskState::Failed { failure: Failure::ExitCode { exit_code, .. }, .. }) => {
            Some(*exit_code)
        }
        _ => None,
    }
}

fn failure(failure: &Failure) -> Message {
    Message { code: failure.code().into(), zh: failure.sentence(Language::Zh), en: failure.sentence(Language::En) }
}

fn failure_to_others(failure: &Failure) -> Message {
    let said = |language| failure.sentence_to_others(language).unwrap_or_else(|| failure.sentence(language));
    Message { code: failure.code().into(), zh: said(Language::Zh), en: said(Language::En) }
}

pub fn warning(warning: &Warning) -> Message {
    Message { code: warning.code.clone(), zh: warning.zh.clone(), en: warning.en.clone() }
}

/// What is switched for the whole queue now.
pub fn control(engine: &Handle) -> QueueControl {
    let Control { mode, maintenance, closing, .. } = engine.view().control();
    let (word, switched) = match (closing, mode) {
        (Some(closing), _) => ("draining", Some(closing.by)),
        (None, QueueMode::Open) => ("open", None),
        (None, QueueMode::Paused(switched)) => ("paused", Some(switched)),
        (None, QueueMode::Draining(switched)) => ("draining", Some(switched)),
    };
    let (by, since) = switched.map(|Switched { by, at }| (by, at.to_string())).unzip();
    let devices = engine.view().devices();
    let label = |id: &DeviceId| {
        let reading = devices.as_ref().and_then(|status| status.inventory.get(id));
        reading.map_or_else(|| id.to_string(), engine::label)
    };
    let maintained = |(id, Switched { by, at }): (&DeviceId, &Switched)| MaintenanceView {
        device: id.to_string(),
        label: label(id),
        by: by.clone(),
        since: at.to_string(),
    };
    let closed_until = engine.settings().start_hours.closed_until(Timestamp::now());
    QueueControl {
        mode: word.into(),
        by,
        since,
        maintenance: maintenance.iter().map(maintained).collect(),
        start_hours_closed_until: closed_until.map(|at| at.to_string()),
    }
}

pub fn queue(waits: &Waits, engine: &Handle) -> QueueEvent {
    let entry = |(task, reason): &(TaskId, WaitReason)| QueueEntry {
        task_id: task.to_string(),
        wait: wait(reason, waits.forecast(*task)),
    };
    QueueEvent {
        control: control(engine),
        waiting: waits.tasks.iter().take(QUEUE_ENTRIES).map(entry).collect(),
        total: waits.tasks.len() as u64,
        long: waits.long,
    }
}

/// `warnings`: of the task, which the journal quotes.
pub fn journal(row: JournalRow, warnings: &[Warning]) -> JournalEntry {
    let warning = warnings.iter().find(|warning| warning.en == row.why);
    JournalEntry {
        why_zh: warning.map_or_else(|| why::in_chinese(&row.why), |warning| warning.zh.clone()),
        seq: row.seq,
        at: row.at.to_string(),
        task_id: row.task.to_string(),
        who: row.who,
        from: row.from,
        to: row.to,
        why: row.why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_memory_names_the_bytes_and_who_has_them() {
        let task = TaskId::new(1, 2);
        let foreign = MemoryHolder { pid: Some(42), name: Some("vllm".into()), bytes: Some(7), task: None };
        let ours = MemoryHolder { pid: None, name: None, bytes: None, task: Some(task) };
        let view = |cause: WaitCause| wait(&WaitReason::new(3, cause), None);
        let (device, holders) = ("GPU 0".to_owned(), vec![foreign.clone(), ours]);

        let short = view(WaitCause::DeviceMemory { needed: 10, device: device.clone(), free: 4, holders });
        assert_eq!((short.code.as_str(), short.position, short.device.as_deref()), ("device_memory", 3, Some("GPU 0")));
        assert_eq!((short.needed_bytes, short.free_bytes), (Some(10), Some(4)));
        let [first, second] = &short.holders[..] else { panic!("{:?}", short.holders) };
        assert_eq!((first.pid, first.name.as_deref(), first.bytes), (Some(42), Some("vllm"), Some(7)));
        assert_eq!(second.task_id.as_deref(), Some("finetune_1_2"));

        let (holder, message) = (Some(foreign), String::new());
        let trial = view(WaitCause::TrialFailed { device, needed: 10, free: None, holder, message });
        assert_eq!((trial.code.as_str(), trial.free_bytes, trial.holders.len()), ("trial_failed", None, 1));
        assert_eq!(view(WaitCause::Behind { task }).running.as_deref(), Some("finetune_1_2"));
        assert_eq!(view(WaitCause::Detecting).holders, []);
        let quota = view(WaitCause::Quota { kind: QuotaKind::Gpus, used: 2, limit: 2 });
        assert_eq!((quota.quota.as_deref(), quota.used, quota.limit), (Some("gpus"), Some(2), Some(2)));
    }
}
