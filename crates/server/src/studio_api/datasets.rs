use api_types::ErrorBody;
use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, State},
};
use recipes::docs_dataset::{self, DocsDataset};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::Shared,
    audit::About,
    auth::Caller,
    error::{ApiError, Result, blocking},
    extract::Form,
    v1::{self, UploadForm},
};

pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(OpenApiRouter::new().routes(routes!(upload)).layer(DefaultBodyLimit::disable()))
        .routes(routes!(prepare_docs))
}

/// Where the data set is now
#[derive(Serialize, ToSchema)]
pub struct Uploaded {
    file_path: String,
    filename: String,
}

/// Upload a data set
#[utoipa::path(post, path = "/api/finetune/upload-dataset", operation_id = "finetune_upload_dataset", tag = "first generation",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Uploaded),
        (status = 400, description = "It does not parse: line and reason", body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    )
)]
async fn upload(
    State(app): State<Shared>,
    Caller(who): Caller,
    body: Form,
) -> Result<(Extension<About>, Json<Uploaded>)> {
    let view = v1::take_upload(&app, &who, body).await.map_err(ApiError::in_chinese)?;
    let about = Extension(About::target(&view.filename));
    Ok((about, Json(Uploaded { file_path: view.path, filename: view.filename })))
}

/// A data set made of the SAGE documentation
#[derive(Serialize, ToSchema)]
pub struct PreparedDocs {
    /// `success`.
    status: &'static str,
    message: String,
    data_file: String,
    stats: DocsStats,
}

#[derive(Serialize, ToSchema)]
pub struct DocsStats {
    total_samples: u64,
}

/// Make a data set of the SAGE documentation
#[utoipa::path(post, path = "/api/finetune/prepare-sage-docs", operation_id = "finetune_prepare_docs", tag = "first generation", responses(
    (status = 200, body = PreparedDocs),
    (status = 401, body = ErrorBody),
    (status = 409, description = "It is being made already", body = ErrorBody),
    (status = 502, description = "The documentation cannot be fetched", body = ErrorBody),
))]
async fn prepare_docs(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<PreparedDocs>> {
    let _turn = app.fetching_docs.try_lock().map_err(|_| {
        ApiError::conflict("docs-under-way", "SAGE 文档正在准备中").next("Wait for the first request's answer")
    })?;
    let uploads = app.engine.home().uploads();
    let preparing = app.clone();
    let DocsDataset { path, samples } = blocking(move || {
        let docs = docs_dataset::prepare(&docs_dataset::url_from_env(), &uploads).map_err(|error| {
            ApiError::new(axum::http::StatusCode::BAD_GATEWAY, "docs-unavailable", error.to_string())
                .zh(error.message_zh())
                .next("Check the network, or set SAGE_DOCS_URL to an archive that can be reached")
        })?;
        if let Some(name) = preparing.datasets.upload_name(&docs.path) {
            preparing.accounts.set_upload_owner(&name, &who)?;
        }
        Ok(docs)
    })
    .await?;
    Ok(Json(PreparedDocs {
        status: "success",
        message: format!("已准备 {samples} 条训练数据"),
        data_file: path.display().to_string(),
        stats: DocsStats { total_samples: samples },
    }))
}
