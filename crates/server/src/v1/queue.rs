use api_types::{DeviceVerdict, ErrorBody, Explanation, Message, QueueView, RunningTask, WaitingTask};
use axum::{Json, extract::State};
use domain::{Attempt, DeviceId, Language, StateKind, TaskState, gib};
use engine::{Refusal, TaskSnapshot, Verdict, Waits};
use jiff::Timestamp;
use store::Filter;

use crate::{
    accuracy,
    app::{App, Shared},
    auth::Caller,
    error::{Result, blocking},
    extract::Id,
    v1::tasks,
    view,
};

/// Waiting tasks that an answer lists.
const WAITING: usize = 500;
/// Tasks listed of those before one.
const BEFORE: usize = 50;

/// What runs and what waits, in the plan's order
#[utoipa::path(get, path = "/api/v1/queue", operation_id = "get_queue", tag = "tasks", responses(
    (status = 200, body = QueueView),
    (status = 401, body = ErrorBody),
))]
pub async fn queue(State(app): State<Shared>) -> Result<Json<QueueView>> {
    blocking(move || {
        let (now, waits) = (Timestamp::now(), app.engine.view().waits());
        let mut running = Vec::new();
        for kind in [StateKind::Preparing, StateKind::Training] {
            running.extend(app.engine.tasks(Filter { kind: Some(kind), ..Filter::default() })?);
        }
        running.sort_by_key(|snapshot| (snapshot.task.state.started_at(), snapshot.task.id));
        Ok(Json(QueueView {
            control: view::control(&app.engine),
            running: running.iter().filter_map(|snapshot| running_task(snapshot, now)).collect(),
            waiting: first(&app, &waits, WAITING)?,
            total: waits.tasks.len() as u64,
            long: waits.long,
            forecast_accuracy: accuracy::of_late(app.engine.reader(), now)?,
        }))
    })
    .await
}

/// Why a task is where it is
///
/// Of a queued task: what it waits for, when it is expected to start, who is before it, and what each device says to
/// it. Of a running one what it holds, of an ended one how it ended.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/explain", operation_id = "explain_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = Explanation),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub async fn explain(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<Explanation>> {
    let verdicts = app.engine.by_device(id).await?;
    let snapshot = tasks::snapshot(&app, id).await?;
    blocking(move || {
        let task = view::task_for(&snapshot, &app.engine, &who);
        let queued = task.wait.is_some();
        let before = if queued {
            let waits = app.engine.view().waits();
            let place = waits.tasks.iter().position(|(task, _)| *task == id).unwrap_or(0);
            first(&app, &waits, place.min(BEFORE))?
        } else {
            Vec::new()
        };
        let ends_at = snapshot.ends_at(Timestamp::now()).or(snapshot.task.state.ended_at());
        let failure = task.failure.as_ref();
        let sentence = |language| sentence(&app, &snapshot, failure, language);
        Ok(Json(Explanation {
            zh: sentence(Language::Zh),
            en: sentence(Language::En),
            task_id: task.task_id,
            name: task.name,
            owner: task.owner,
            priority: task.priority,
            status: task.status,
            wait: task.wait,
            before,
            devices: if queued { verdicts.iter().map(verdict).collect() } else { Vec::new() },
            attempt: task.attempt,
            ends_at: ends_at.map(|at| at.to_string()),
            failure: task.failure,
        }))
    })
    .await
}

/// The first so many that wait. May block.
fn first(app: &App, waits: &Waits, count: usize) -> Result<Vec<WaitingTask>> {
    let mut waiting = Vec::new();
    for (id, reason) in waits.tasks.iter().take(count) {
        // It may have started, or be gone, since the plan was made.
        let task = app.engine.task(*id)?.map(|snapshot| snapshot.task);
        let Some(task) = task.filter(|task| task.state.kind() == StateKind::Queued) else { continue };
        waiting.push(WaitingTask {
            task_id: id.to_string(),
            priority: view::priority(task.priority),
            gpus: task.recipe.gpus().max(1),
            name: task.name,
            owner: task.owner,
            wait: view::wait(reason, waits.forecast(*id)),
        });
    }
    Ok(waiting)
}

fn running_task(snapshot: &TaskSnapshot, now: Timestamp) -> Option<RunningTask> {
    let task = &snapshot.task;
    let attempt = task.state.attempt()?;
    Some(RunningTask {
        task_id: task.id.to_string(),
        name: task.name.clone(),
        owner: task.owner.clone(),
        priority: view::priority(task.priority),
        devices: attempt.grant.devices.iter().map(|granted| granted.device.to_string()).collect(),
        started_at: attempt.started_at.to_string(),
        ends_at: snapshot.ends_at(now).map(|at| at.to_string()),
    })
}

fn verdict(verdict: &Verdict) -> DeviceVerdict {
    let (total, tasks, reserved_at) = match &verdict.refusal {
        Some(Refusal::TooSmall { total, .. } | Refusal::NotFreeEnough { total, .. }) => (Some(*total), vec![], None),
        Some(Refusal::Taken { tasks }) => (None, tasks.clone(), None),
        Some(Refusal::Measuring { task }) => (None, vec![*task], None),
        Some(Refusal::Reserved { task, at }) => (None, vec![*task], Some(*at)),
        _ => (None, Vec::new(), None),
    };
    DeviceVerdict {
        device: verdict.device.to_string(),
        label: verdict.label.clone(),
        fits: verdict.refusal.is_none(),
        code: verdict.code().into(),
        needed_bytes: verdict.needed,
        free_bytes: verdict.free,
        total_bytes: total,
        tasks: tasks.iter().map(|task| task.to_string()).collect(),
        holders: verdict.holders().iter().map(view::holder).collect(),
        reserved_at: reserved_at.map(|at| at.to_string()),
        zh: verdict.sentence(Language::Zh),
        en: verdict.sentence(Language::En),
    }
}

/// `failure`: as the reader may see it.
fn sentence(app: &App, snapshot: &TaskSnapshot, failure: Option<&Message>, language: Language) -> String {
    let zh = language == Language::Zh;
    match &snapshot.task.state {
        TaskState::Pending if zh => "已保留，放行后才会进入队列".into(),
        TaskState::Pending => "held: it enters the queue when it is released".into(),
        TaskState::Queued { reason } => reason.sentence(language),
        TaskState::Preparing { attempt } if zh => format!("准备中，占用 {}", held(app, attempt, language)),
        TaskState::Preparing { attempt } => format!("preparing; holds {}", held(app, attempt, language)),
        TaskState::Training { attempt } if zh => format!("训练中，占用 {}", held(app, attempt, language)),
        TaskState::Training { attempt } => format!("training; holds {}", held(app, attempt, language)),
        TaskState::Completed { .. } if zh => "已完成".into(),
        TaskState::Completed { .. } => "completed".into(),
        TaskState::Failed { .. } if zh => format!("失败：{}", failure.map_or("", |failure| &failure.zh)),
        TaskState::Failed { .. } => format!("failed: {}", failure.map_or("", |failure| &failure.en)),
        TaskState::Cancelled { by, .. } if zh => format!("已由 {by} 取消"),
        TaskState::Cancelled { by, .. } => format!("cancelled by {by}"),
    }
}

/// `GPU 0 (9.4 GiB), GPU 1 (9.4 GiB)`.
fn held(app: &App, attempt: &Attempt, language: Language) -> String {
    let inventory = app.inventory();
    let label = |id: &DeviceId| inventory.get(id).map_or_else(|| id.to_string(), engine::label);
    let granted = attempt.grant.devices.iter().map(|granted| match (granted.bytes, language) {
        (Some(bytes), Language::Zh) => format!("{}（{}）", label(&granted.device), gib(bytes)),
        (Some(bytes), Language::En) => format!("{} ({})", label(&granted.device), gib(bytes)),
        (None, _) => label(&granted.device),
    });
    granted.collect::<Vec<_>>().join(if language == Language::Zh { "、" } else { ", " })
}
