use api_types::ErrorBody;
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::EngineError;
use serde::Serialize;
use utoipa::ToSchema;

use super::task_object::{Rendered, TaskObject};
use crate::{
    app::Shared,
    auth::Caller,
    download,
    error::{ApiError, Result, blocking},
    extract::Id,
    view,
};

/// What was done
#[derive(Serialize, ToSchema)]
pub struct Done {
    /// `success`.
    status: &'static str,
    message: String,
}

impl Done {
    pub fn new(message: String) -> Json<Done> {
        Json(Done { status: "success", message })
    }
}

pub fn json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// All tasks, newest first
#[utoipa::path(get, path = "/api/finetune/tasks", operation_id = "finetune_tasks", tag = "first generation", responses(
    (status = 200, body = [TaskObject<'static>]),
    (status = 401, body = ErrorBody),
))]
pub async fn list(State(app): State<Shared>, Caller(who): Caller) -> Result<Response> {
    blocking(move || Ok(json(app.task_list.render(&app.engine, &who, app.options.authentication)?))).await
}

/// One task
#[utoipa::path(get, path = "/api/finetune/tasks/{id}", operation_id = "finetune_task", tag = "first generation", params(("id" = String, Path)),
    responses(
        (status = 200, body = TaskObject<'static>),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn get(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Response> {
    blocking(move || {
        let snapshot = app.engine.task(id)?.ok_or_else(ApiError::task_not_found)?;
        let mut body = Vec::new();
        Rendered::new(&snapshot, app.engine.home(), None, app.options.authentication).write(&mut body, &who);
        Ok(json(body))
    })
    .await
}

/// Cancel a task
#[utoipa::path(post, path = "/api/finetune/tasks/{id}/cancel", operation_id = "finetune_cancel", tag = "first generation", params(("id" = String, Path)),
    responses(
        (status = 200, body = Done),
        (status = 400, description = "It has ended already", body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn cancel(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<Done>> {
    match app.engine.cancel(id, &who).await {
        Ok(()) => Ok(Done::new(format!("任务 {id} 已取消"))),
        Err(EngineError::NotRunning(_)) => Err(ApiError::bad_request("not-running", "任务不在运行中，无法取消")),
        Err(error) => Err(error.into()),
    }
}

/// Delete a task with its files
#[utoipa::path(delete, path = "/api/finetune/tasks/{id}", operation_id = "finetune_delete", tag = "first generation", params(("id" = String, Path)),
    responses(
        (status = 200, body = Done),
        (status = 400, description = "It is running or waiting", body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn delete(State(app): State<Shared>, Caller(who): Caller, Id(id): Id) -> Result<Json<Done>> {
    match app.engine.delete(id, &who).await {
        Ok(()) => Ok(Done::new(format!("任务 {id} 已删除"))),
        Err(EngineError::StillActive(_)) => {
            let error = ApiError::bad_request("still-active", "无法删除运行中或排队中的任务");
            Err(error.next("Cancel the task first"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Download the adapter
#[utoipa::path(get, path = "/api/finetune/tasks/{id}/download", operation_id = "finetune_download", tag = "first generation", params(("id" = String, Path)),
    responses(
        (status = 200, description = "{id}_finetuned_model.tar.gz", content_type = "application/gzip", body = [u8]),
        (status = 400, description = "It is not completed", body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "It has no adapter", body = ErrorBody),
        (status = 503, description = "Too many downloads at once", body = ErrorBody),
    )
)]
pub async fn download(State(app): State<Shared>, Id(id): Id) -> Result<Response> {
    let reading = app.clone();
    let snapshot = blocking(move || reading.engine.task(id)?.ok_or_else(ApiError::task_not_found)).await?;
    if !view::downloadable(snapshot.task.state.kind()) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "not-completed", "任务未完成，无法下载"));
    }
    download::adapter(&app, id).await
}
