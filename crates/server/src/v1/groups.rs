//! Tasks that were submitted as one: a sweep over parameters, or an array of commands.

use api_types::{BestMember, CreatedGroup, ErrorBody, GroupView, SubmitGroup};
use axum::{Extension, Json, extract::State, http::StatusCode};
use domain::{Group, StateKind, TaskId};
use engine::{EngineError, TaskSnapshot};
use futures_util::future;

use super::tasks;
use crate::{
    app::{App, Shared},
    audit::About,
    auth::{Caller, Who},
    error::{ApiError, Result, blocking},
    extract::{self, Id},
    submit::{long_queue, submit_group},
    sweep, view,
};

/// Submit tasks that differ in some values
///
/// A sweep of a fine-tune or a command over parameters, or a command for each index: all of the tasks are taken, or none.
#[utoipa::path(post, path = "/api/v1/groups", operation_id = "submit_group", tag = "tasks", request_body = SubmitGroup, responses(
    (status = 201, body = CreatedGroup),
    (status = 400, description = "The data set or the model cannot be used", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, description = "A recipe is not valid, or there are too many", body = ErrorBody),
))]
pub async fn submit(
    State(app): State<Shared>,
    Caller(who): Caller,
    extract::Json(body): extract::Json<SubmitGroup>,
) -> Result<(StatusCode, Extension<About>, Json<CreatedGroup>)> {
    let members = sweep::members(&body)?;
    let request = |member: sweep::Member| Ok((tasks::request(body.task.clone(), member.recipe)?, member.label));
    let requests = members.into_iter().map(request).collect::<Result<Vec<_>>>()?;
    let tasks = submit_group(&app, requests, &who).await?;
    let first = *tasks.first().ok_or_else(|| ApiError::invalid("the group has no tasks", "该组没有任务"))?;
    let snapshots = of_group(&app, first).await?;
    let waiting = app.engine.view().waits().tasks.len();
    let created = CreatedGroup {
        group: first.to_string(),
        tasks: snapshots.iter().map(|snapshot| view::task_for(snapshot, &app.engine, &who)).collect(),
        warnings: long_queue(&app, waiting).as_ref().map(view::warning).into_iter().collect(),
    };
    let about = About { detail: Some(format!("{} tasks", created.tasks.len())), ..About::target(&created.group) };
    Ok((StatusCode::CREATED, Extension(about), Json(created)))
}

/// A group as it stands
#[utoipa::path(get, path = "/api/v1/groups/{id}", operation_id = "get_group", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = GroupView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub async fn get(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<GroupView>> {
    let snapshots = of_group(&app, id).await?;
    group_view(&app, &snapshots, &who).map(Json).ok_or_else(|| no_group(id))
}

/// Cancel the tasks of a group that have not ended
#[utoipa::path(post, path = "/api/v1/groups/{id}/cancel", operation_id = "cancel_group", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = GroupView),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "All have ended already", body = ErrorBody),
))]
pub async fn cancel(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<GroupView>> {
    let active = |kind: StateKind| !kind.is_final();
    each(&app, &who, id, active, |task| app.engine.cancel(task, &who)).await
}

/// Hold the waiting tasks of a group back
#[utoipa::path(post, path = "/api/v1/groups/{id}/hold", operation_id = "hold_group", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = GroupView),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "None of them waits", body = ErrorBody),
))]
pub async fn hold(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<GroupView>> {
    let waiting = |kind| kind == StateKind::Queued;
    each(&app, &who, id, waiting, |task| app.engine.hold(task, &who)).await
}

/// Put the held tasks of a group into the queue
#[utoipa::path(post, path = "/api/v1/groups/{id}/release", operation_id = "release_group", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = GroupView),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "None of them is held", body = ErrorBody),
))]
pub async fn release(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<GroupView>> {
    let held = |kind| kind == StateKind::Pending;
    each(&app, &who, id, held, |task| app.engine.release(task, &who)).await
}

/// Delete the tasks of a group with their files
#[utoipa::path(delete, path = "/api/v1/groups/{id}", operation_id = "delete_group", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 204),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "Some are running or waiting", body = ErrorBody),
))]
pub async fn delete(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<StatusCode> {
    let snapshots = own_group(&app, &who, id).await?;
    let kinds = snapshots.iter().map(|snapshot| (snapshot.task.id, snapshot.task.state.kind()));
    if let Some((active, _)) = kinds.clone().find(|(_, kind)| !kind.is_final() && *kind != StateKind::Pending) {
        return Err(EngineError::StillActive(active).into());
    }
    let deleted = future::join_all(kinds.map(|(task, _)| app.engine.delete(task, &who))).await;
    deleted.into_iter().find(|deleted| deleted.is_err()).transpose()?;
    Ok(StatusCode::NO_CONTENT)
}

/// Does this to all members in such a state. That one of them moves meanwhile is no error, that there is none is.
async fn each<A>(
    app: &Shared,
    who: &Who,
    id: TaskId,
    fitting: impl Fn(StateKind) -> bool,
    act: impl Fn(TaskId) -> A,
) -> Result<Json<GroupView>>
where
    A: Future<Output = std::result::Result<(), EngineError>>,
{
    let snapshots = own_group(app, who, id).await?;
    let fit = |snapshot: &&TaskSnapshot| fitting(snapshot.task.state.kind());
    // The last first, so that none of them starts because one before it was cancelled.
    let chosen = snapshots.iter().rev().filter(fit).map(|snapshot| snapshot.task.id);
    // All are told at once, so that they are written down together.
    let mut done = future::join_all(chosen.map(&act)).await;
    if done.is_empty() {
        // Whatever is said of the first is true of all.
        done.push(act(snapshots[0].task.id).await);
    }
    if done.iter().all(|done| done.is_err()) {
        done.remove(0)?;
    }
    get(State(app.clone()), Caller(who.clone()), Id(id)).await
}

/// The members that are still there, in the group's order; empty if there is no such group.
async fn of_group(app: &Shared, id: TaskId) -> Result<Vec<TaskSnapshot>> {
    let app = app.clone();
    blocking(move || {
        let stored = app.engine.reader().group(id)?;
        let member = |snapshot: &TaskSnapshot| group(snapshot).is_some_and(|group| group.first == id);
        Ok(stored.into_iter().map(|stored| app.engine.view().snapshot(stored)).filter(member).collect())
    })
    .await
}

/// The members, if there are any and this caller may change them.
async fn own_group(app: &Shared, who: &Who, id: TaskId) -> Result<Vec<TaskSnapshot>> {
    let snapshots = of_group(app, id).await?;
    let owner = &snapshots.first().ok_or_else(|| no_group(id))?.task.owner;
    if !who.owns(owner) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not-yours", format!("group {id} belongs to {owner}"))
            .zh(format!("任务组 {id} 属于 {owner}，只有其本人或所有者可以操作"))
            .next("Ask them, or an owner of the studio"));
    }
    Ok(snapshots)
}

fn no_group(id: TaskId) -> ApiError {
    ApiError::not_found(format!("there is no group {id}"))
        .zh(format!("没有任务组 {id}，可能其任务已全部删除"))
        .next("A group has the id of its first task; GET /api/v1/tasks tells each task's group")
}

fn group(snapshot: &TaskSnapshot) -> Option<&Group> {
    snapshot.task.terms.group.as_ref()
}

fn group_view(app: &App, snapshots: &[TaskSnapshot], who: &Who) -> Option<GroupView> {
    let first = snapshots.first()?;
    let Group { first: id, size, .. } = group(first)?;
    let kind = |snapshot: &TaskSnapshot| snapshot.task.state.kind();
    let count = |state: StateKind| {
        (state.to_string(), snapshots.iter().filter(|snapshot| kind(snapshot) == state).count() as u64)
    };
    let percent = |snapshot: &TaskSnapshot| if kind(snapshot).is_final() { 100.0 } else { snapshot.progress.percent };
    let best = snapshots
        .iter()
        .filter_map(|snapshot| Some((snapshot, snapshot.progress.loss?, group(snapshot)?)))
        .min_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
    Some(GroupView {
        id: id.to_string(),
        name: first.task.name.clone(),
        owner: first.task.owner.clone(),
        size: *size,
        counts: StateKind::ALL.into_iter().map(count).collect(),
        percent: snapshots.iter().map(percent).sum::<f64>() / snapshots.len() as f64,
        best: best.map(|(snapshot, loss, group)| BestMember {
            task_id: snapshot.task.id.to_string(),
            label: group.label.clone(),
            loss,
        }),
        tasks: snapshots.iter().map(|snapshot| view::task_for(snapshot, &app.engine, who)).collect(),
    })
}
