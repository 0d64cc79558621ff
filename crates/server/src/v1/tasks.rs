use std::io::BufReader;

use api_types::{
    CreatedTask, ErrorBody, EvalPoint, JournalEntry, MetricPoint, Metrics, PutBefore, SubmitTask, TaskPage, TaskPatch,
    TaskView,
};
use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{InvalidTaskId, Recipe, StateKind, TaskId};
use engine::{EngineError, TaskSnapshot};
use jiff::Timestamp;
use recipes::progress;
use serde::Deserialize;
use store::Filter;
use utoipa::IntoParams;

use super::recipe;
use crate::{
    app::Shared,
    audit::About,
    auth::Caller,
    download,
    error::{ApiError, Result, blocking},
    extract::{self, Id, Params},
    submit::{self, queue_warning},
    view,
};

const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;
/// Points of a loss curve that an answer holds at most.
const METRIC_POINTS: usize = 2000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Only tasks with this status.
    status: Option<String>,
    /// Only tasks of this group.
    group: Option<String>,
    /// Only tasks of this person, whose alone are counted then.
    owner: Option<String>,
    /// 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// Only tasks older than this one: `next_before` of the page before.
    before: Option<String>,
}

/// Tasks, newest first
#[utoipa::path(get, path = "/api/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(ListParams), responses(
    (status = 200, body = TaskPage),
    (status = 401, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn list(
    State(app): State<Shared>,
    Caller(who): Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<TaskPage>> {
    let kind = params.status.as_deref().map(|word| {
        StateKind::parse(word).ok_or_else(|| {
            let words: Vec<&str> = StateKind::ALL.iter().map(|kind| kind.as_str()).collect();
            let words = words.join(", ");
            ApiError::invalid(
                format!("status {word:?} is none of {words}"),
                format!("status {word:?} 无法识别；可用的值：{words}"),
            )
        })
    });
    let id = |name: &str, id: Option<&String>| -> Result<Option<TaskId>> {
        let invalid = |_| ApiError::invalid(format!("{name} is no task id"), format!("{name} 不是任务 id"));
        id.map(|id| id.parse().map_err(invalid)).transpose()
    };
    let (kind, before, group) =
        (kind.transpose()?, id("before", params.before.as_ref())?, id("group", params.group.as_ref())?);
    let limit = params.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(bad_limit(limit, LARGEST_PAGE));
    }
    blocking(move || {
        let reader = app.engine.reader();
        // Read first: what happens meanwhile is told again rather than missed.
        let last_event_id = reader.last_seq()?;
        let counts = reader.counts_of(params.owner.as_deref())?;
        let mut tasks =
            app.engine.tasks(Filter { kind, owner: params.owner, group, before, limit: Some(limit + 1) })?;
        let more = tasks.len() > limit as usize;
        tasks.truncate(limit as usize);
        let count = |kind: StateKind| (kind.to_string(), counts.get(&kind).copied().unwrap_or(0));
        Ok(Json(TaskPage {
            next_before: tasks.last().filter(|_| more).map(|last| last.task.id.to_string()),
            tasks: tasks.iter().map(|snapshot| view::task_for(snapshot, &app.engine, &who)).collect(),
            counts: StateKind::ALL.into_iter().map(count).collect(),
            last_event_id,
        }))
    })
    .await
}

pub fn bad_limit(limit: u32, largest: u32) -> ApiError {
    ApiError::invalid(format!("limit is {limit}; use 1 to {largest}"), format!("limit 为 {limit}；请用 1 到 {largest}"))
}

/// Submit a task
///
/// When this answers, the task is kept whatever happens to the studio.
#[utoipa::path(post, path = "/api/v1/tasks", operation_id = "submit_task", tag = "tasks", request_body = SubmitTask, responses(
    (status = 201, body = CreatedTask),
    (status = 400, description = "The data set or the model cannot be used", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, description = "The recipe is not valid", body = ErrorBody),
))]
pub async fn submit(
    State(app): State<Shared>,
    Caller(who): Caller,
    extract::Json(body): extract::Json<SubmitTask>,
) -> Result<(StatusCode, Extension<About>, Json<CreatedTask>)> {
    let recipe = match (&body.fine_tune, &body.command) {
        (Some(request), None) => Recipe::FineTune(recipe::fine_tune(request.clone())?),
        (None, Some(command)) => Recipe::Command(recipe::command(command.clone())),
        _ => {
            let zh = "须且只能给出 `fine_tune` 和 `command` 之一";
            return Err(ApiError::invalid("give exactly one of `fine_tune` and `command`", zh));
        }
    };
    let request = request(body, recipe)?;
    let submit::Accepted { submitted, alternatives } = submit::submit(&app, request, &who).await?;
    let mut task = view::task(&submitted.snapshot, &app.engine);
    task.warnings.extend(queue_warning(&app, &submitted).as_ref().map(view::warning));
    let about = Extension(About::target(&task.task_id));
    Ok((StatusCode::CREATED, about, Json(CreatedTask { task, alternatives })))
}

/// The task as it was asked for, with this recipe.
pub fn request(task: SubmitTask, recipe: Recipe) -> Result<submit::Request> {
    let SubmitTask { name, fine_tune: _, command: _, time_limit_seconds: time_limit, hold, fit, .. } = task;
    let priority = recipe::priority(task.priority.as_deref().unwrap_or("normal"))?;
    let after = task.after.iter().map(|text| recipe::dependency(text)).collect::<Result<_>>()?;
    let (start_after, deadline) = (task.start_after.as_deref(), task.deadline.as_deref());
    let terms = recipe::terms(start_after, deadline, task.retries, Timestamp::now())?;
    Ok(submit::Request { name, recipe, time_limit, hold, priority, after, terms, fit })
}

/// One task
#[utoipa::path(get, path = "/api/v1/tasks/{id}", operation_id = "get_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub async fn get(State(app): State<Shared>, caller: Caller, Id(id): Id) -> Result<Json<TaskView>> {
    let snapshot = snapshot(&app, id).await?;
    Ok(Json(view::task_for(&snapshot, &app.engine, &caller.0)))
}

/// Cancel a task
///
/// Its processes get a grace period to save a checkpoint.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/cancel", operation_id = "cancel_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has ended already", body = ErrorBody),
))]
pub async fn cancel(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<TaskView>> {
    app.engine.cancel(id, &who).await?;
    get(State(app), Caller(who), Id(id)).await
}

/// Put a held task into the queue
#[utoipa::path(post, path = "/api/v1/tasks/{id}/release", operation_id = "release_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It is not held", body = ErrorBody),
))]
pub async fn release(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<TaskView>> {
    app.engine.release(id, &who).await?;
    get(State(app), Caller(who), Id(id)).await
}

/// Hold a waiting task back
///
/// It leaves the queue until it is released.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/hold", operation_id = "hold_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not wait", body = ErrorBody),
))]
pub async fn hold(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<TaskView>> {
    app.engine.hold(id, &who).await?;
    get(State(app), Caller(who), Id(id)).await
}

/// Put a waiting task at the head of its priority
#[utoipa::path(post, path = "/api/v1/tasks/{id}/next", operation_id = "run_task_next", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not wait", body = ErrorBody),
))]
pub async fn next(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<TaskView>> {
    app.engine.run_next(id, &who).await?;
    get(State(app), Caller(who), Id(id)).await
}

/// Put a waiting task before another of its priority
#[utoipa::path(post, path = "/api/v1/tasks/{id}/before", operation_id = "move_task", tag = "tasks", params(("id" = String, Path)), request_body = PutBefore, responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "One of them does not wait, or has another priority", body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn before(
    State(app): State<Shared>,
    Caller(who): Caller,
    Id(id): Id,
    extract::Json(body): extract::Json<PutBefore>,
) -> Result<(Extension<About>, Json<TaskView>)> {
    let other = body.task.parse().map_err(|error: InvalidTaskId| recipe::no_task_id("task", &body.task, &error))?;
    app.engine.move_before(id, other, &who).await?;
    let about = About { detail: Some(format!("before {other}")), ..About::default() };
    Ok((Extension(about), get(State(app), Caller(who), Id(id)).await?))
}

/// Give a waiting or held task another priority
#[utoipa::path(patch, path = "/api/v1/tasks/{id}", operation_id = "change_task", tag = "tasks", params(("id" = String, Path)), request_body = TaskPatch, responses(
    (status = 200, body = TaskView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It runs or has ended", body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn change(
    State(app): State<Shared>,
    Caller(who): Caller,
    Id(id): Id,
    extract::Json(body): extract::Json<TaskPatch>,
) -> Result<(Extension<About>, Json<TaskView>)> {
    let priority = recipe::priority(&body.priority)?;
    submit::may_have(&who, priority)?;
    app.engine.prioritise(id, priority, &who).await?;
    let about = About { detail: Some(format!("priority {}", body.priority)), ..About::default() };
    Ok((Extension(about), get(State(app), Caller(who), Id(id)).await?))
}

/// Delete a task with its files
#[utoipa::path(delete, path = "/api/v1/tasks/{id}", operation_id = "delete_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 204),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It is running or waiting", body = ErrorBody),
))]
pub async fn delete(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<StatusCode> {
    app.engine.delete(id, &who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Download the adapter
#[utoipa::path(get, path = "/api/v1/tasks/{id}/download", operation_id = "download_task", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, description = "{id}_finetuned_model.tar.gz", content_type = "application/gzip", body = [u8]),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It is not completed, or has no adapter", body = ErrorBody),
    (status = 503, description = "Too many downloads at once", body = ErrorBody),
))]
pub async fn download(State(app): State<Shared>, Id(id): Id) -> Result<Response> {
    let status = snapshot(&app, id).await?.task.state.kind();
    if !view::downloadable(status) {
        let detail = format!("task {id} is {status}; only a completed task can be downloaded");
        return Err(ApiError::conflict("not-completed", detail).zh("任务未完成，无法下载"));
    }
    download::adapter(&app, id).await
}

/// The loss curve
#[utoipa::path(get, path = "/api/v1/tasks/{id}/metrics", operation_id = "get_task_metrics", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = Metrics),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub async fn metrics(State(app): State<Shared>, Id(id): Id) -> Result<Json<Metrics>> {
    snapshot(&app, id).await?;
    blocking(move || {
        let unreadable = |error| ApiError::internal("the metrics could not be read", error);
        let points = match std::fs::File::open(app.engine.home().metrics(id)) {
            Ok(file) => progress::metrics_points(BufReader::new(file), METRIC_POINTS).map_err(unreadable)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => progress::MetricsPoints::default(),
            Err(error) => return Err(unreadable(error)),
        };
        let train = points.train.into_iter().map(|point| MetricPoint {
            step: point.step,
            epoch: point.epoch,
            loss: point.loss,
            learning_rate: point.learning_rate,
            grad_norm: point.grad_norm,
            tokens_per_second: point.tokens_per_second,
            memory_bytes: point.memory_bytes,
        });
        let eval = points.eval.into_iter().map(|point| EvalPoint { step: point.step, loss: point.loss });
        Ok(Json(Metrics { train: train.collect(), eval: eval.collect() }))
    })
    .await
}

/// The history of a task
#[utoipa::path(get, path = "/api/v1/tasks/{id}/journal", operation_id = "get_task_journal", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = [JournalEntry]),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub async fn journal(State(app): State<Shared>, Id(id): Id) -> Result<Response> {
    let warnings = snapshot(&app, id).await?.task.warnings;
    let rows = blocking(move || Ok(app.engine.reader().journal(id)?)).await?;
    let entries: Vec<JournalEntry> = rows.into_iter().map(|row| view::journal(row, &warnings)).collect();
    Ok(Json(entries).into_response())
}

/// The task as it stands, or a 404.
pub async fn snapshot(app: &Shared, id: TaskId) -> Result<TaskSnapshot> {
    let app = app.clone();
    blocking(move || app.engine.task(id)?.ok_or_else(|| EngineError::NotFound(id).into())).await
}
