//! Serving a tuned model needs an inference service, and none can be registered yet. These routes say so.

use api_types::ErrorBody;
use axum::{Json, extract::State};
use domain::TaskId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::Shared,
    error::{ApiError, Result, blocking},
    extract::{self, Params},
    view,
};

/// The model that is served or would be
#[derive(Serialize, ToSchema)]
pub struct CurrentModel {
    current_model: String,
}

/// The base model in use
#[utoipa::path(get, path = "/api/finetune/current-model", operation_id = "finetune_current_model", tag = "first generation", responses(
    (status = 200, body = CurrentModel),
    (status = 401, body = ErrorBody),
))]
pub async fn current_model(State(app): State<Shared>) -> Json<CurrentModel> {
    Json(CurrentModel { current_model: app.options.base_model.clone() })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SwitchParams {
    model_path: String,
}

/// Serve another model
#[utoipa::path(post, path = "/api/finetune/switch-model", operation_id = "finetune_switch_model", tag = "first generation", params(SwitchParams), responses(
    (status = 401, body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 503, description = "No inference service is registered", body = ErrorBody),
))]
pub async fn switch_model(Params(params): Params<SwitchParams>) -> ApiError {
    no_service(&params.model_path)
}

#[derive(Deserialize, ToSchema)]
pub struct UseAsBackend {
    task_id: String,
}

/// Serve a tuned model
#[utoipa::path(post, path = "/api/finetune/use-as-backend", operation_id = "finetune_use_as_backend", tag = "first generation", request_body = UseAsBackend,
    responses(
        (status = 400, description = "The task is not completed", body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody),
        (status = 503, description = "No inference service is registered", body = ErrorBody),
    )
)]
pub async fn use_as_backend(
    State(app): State<Shared>,
    extract::Json(body): extract::Json<UseAsBackend>,
) -> Result<Json<()>> {
    let id: TaskId = body.task_id.parse().map_err(|_| ApiError::task_not_found())?;
    let snapshot = blocking(move || app.engine.task(id)?.ok_or_else(ApiError::task_not_found)).await?;
    if !view::downloadable(snapshot.task.state.kind()) {
        return Err(ApiError::bad_request("not-completed", "任务未完成，无法用作后端"));
    }
    Err(no_service(&format!("sage-finetuned-{id}")))
}

fn no_service(model: &str) -> ApiError {
    let model: String = model.chars().take(200).collect();
    ApiError::unavailable("no-inference-service", format!("没有已注册的推理服务，无法切换到 {model}"))
        .next("Serve the model yourself: download the adapter and load it with vLLM, SGLang or llama.cpp")
}
