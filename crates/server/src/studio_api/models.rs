use api_types::{ErrorBody, ModelView};
use axum::{Json, extract::State};
use recipes::advice;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::Shared,
    auth::Caller,
    catalogue,
    error::{Result, blocking},
};

/// A model to tune, or one tuned here
#[derive(Serialize, ToSchema)]
pub struct Model {
    name: String,
    /// `base` or `finetuned`.
    #[serde(rename = "type")]
    kind: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

impl From<ModelView> for Model {
    fn from(view: ModelView) -> Model {
        let ModelView { name, kind, description, task_id, created_at, .. } = view;
        Model { name, kind, description, task_id, created_at }
    }
}

/// Models to tune, and models tuned here
#[utoipa::path(get, path = "/api/finetune/models", operation_id = "finetune_models", tag = "first generation", responses(
    (status = 200, body = [Model]),
    (status = 401, body = ErrorBody),
))]
pub async fn models(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<Vec<Model>>> {
    let models = blocking(move || catalogue::models(&app, &who)).await?;
    Ok(Json(models.into_iter().map(Model::from).collect()))
}

/// Base models by what fits the detected device
#[derive(ToSchema)]
#[allow(unused)]
pub struct BaseModels {
    /// Those that fit this machine, whatever its card.
    recommended_for_rtx3060: Vec<BaseModel>,
    advanced_models: Vec<BaseModel>,
}

#[derive(ToSchema)]
#[allow(unused)]
pub struct BaseModel {
    /// Hub id.
    name: String,
    size: String,
    vram_required: String,
    description: String,
    training_time: String,
}

/// Base models by what fits the detected device
#[utoipa::path(get, path = "/api/finetune/models/base", operation_id = "finetune_base_models", tag = "first generation", responses(
    (status = 200, body = BaseModels),
    (status = 401, body = ErrorBody),
))]
pub async fn base(State(app): State<Shared>) -> Json<advice::BaseModels> {
    Json(advice::base_models(&app.inventory()))
}
