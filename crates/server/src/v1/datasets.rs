use api_types::{DatasetView, ErrorBody, PasteDataset};
use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
};
use domain::{Recipe, StateKind};
use store::Filter;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::{App, Shared},
    audit::About,
    auth::{Caller, Who},
    bodies,
    error::{ApiError, Result, blocking},
    extract,
    quota::Room,
};

pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(OpenApiRouter::new().routes(routes!(list, upload)).layer(DefaultBodyLimit::disable()))
        .merge(OpenApiRouter::new().routes(routes!(paste)).layer(DefaultBodyLimit::max(bodies::PASTE_LIMIT as usize)))
        .routes(routes!(delete))
}

/// A data set as a form sends it.
#[derive(ToSchema)]
#[allow(unused)]
pub struct UploadForm {
    /// `.json` or `.jsonl`.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Uploaded data sets, newest first
///
/// One's own; owners see everybody's.
#[utoipa::path(get, path = "/api/v1/datasets", operation_id = "list_datasets", tag = "datasets", responses(
    (status = 200, body = [DatasetView]),
    (status = 401, body = ErrorBody),
))]
async fn list(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<Vec<DatasetView>>> {
    let datasets = app.datasets.clone();
    blocking(move || datasets.list(&who)).await.map(Json)
}

/// Upload a data set
#[utoipa::path(post, path = "/api/v1/datasets", operation_id = "upload_dataset", tag = "datasets",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, body = DatasetView),
        (status = 400, description = "It does not parse: line and reason", body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    )
)]
async fn upload(State(app): State<Shared>, Caller(who): Caller, body: extract::Form) -> Result<Stored> {
    let view = take(&app, &who, body).await?;
    Ok(stored(view))
}

/// Takes an upload, unless this person has so many under way that others would get no turn.
pub async fn take(app: &Shared, who: &Who, body: extract::Form) -> Result<DatasetView> {
    let _share = app.uploaders.take(who.name.clone()).ok_or_else(bodies::busy)?;
    app.datasets.upload(body.0, Room::of(app, who)).await
}

/// Store pasted text as a data set
#[utoipa::path(post, path = "/api/v1/datasets/paste", operation_id = "paste_dataset", tag = "datasets", request_body = PasteDataset, responses(
    (status = 201, body = DatasetView),
    (status = 400, description = "It does not parse: line and reason", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
async fn paste(
    State(app): State<Shared>,
    Caller(who): Caller,
    extract::Json(paste): extract::Json<PasteDataset>,
) -> Result<Stored> {
    let view = app.datasets.paste(&paste.filename, paste.content, Room::of(&app, &who)).await?;
    Ok(stored(view))
}

type Stored = (StatusCode, Extension<About>, Json<DatasetView>);

fn stored(view: DatasetView) -> Stored {
    (StatusCode::CREATED, Extension(About::target(&view.filename)), Json(view))
}

/// Delete an uploaded data set
#[utoipa::path(delete, path = "/api/v1/datasets/{filename}", operation_id = "delete_dataset", tag = "datasets", params(("filename" = String, Path)),
    responses(
        (status = 204),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "A task that has not ended needs it", body = ErrorBody),
    )
)]
async fn delete(State(app): State<Shared>, Caller(who): Caller, Path(filename): Path<String>) -> Result<StatusCode> {
    blocking(move || {
        let path = app.datasets.find(&filename, &who)?;
        if let Some(task) = needed_by(&app, &path.display().to_string())? {
            let detail = format!("task {task} needs {filename}");
            return Err(ApiError::conflict("dataset-in-use", detail)
                .zh(format!("任务 {task} 还需要数据集 {filename}；请先取消任务或等待其结束"))
                .next("Cancel the task or let it end first"));
        }
        app.datasets.remove(&path)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// A task that has not ended and trains on this file.
fn needed_by(app: &App, path: &str) -> Result<Option<domain::TaskId>> {
    for kind in StateKind::ALL.into_iter().filter(|kind| !kind.is_final()) {
        let tasks = app.engine.tasks(Filter { kind: Some(kind), ..Filter::default() })?;
        let needs = |recipe: &Recipe| matches!(recipe, Recipe::FineTune(recipe) if recipe.dataset_file == path);
        if let Some(snapshot) = tasks.iter().find(|snapshot| needs(&snapshot.task.recipe)) {
            return Ok(Some(snapshot.task.id));
        }
    }
    Ok(None)
}
