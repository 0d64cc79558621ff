use api_types::{ErrorBody, ModelView, Preset};
use axum::{Json, extract::State};

use crate::{
    app::Shared,
    auth::Caller,
    catalogue,
    error::{Result, blocking},
};

/// Models to tune, and models tuned here
#[utoipa::path(get, path = "/api/v1/models", operation_id = "list_models", tag = "models", responses(
    (status = 200, body = [ModelView]),
    (status = 401, body = ErrorBody),
))]
pub async fn models(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<Vec<ModelView>>> {
    blocking(move || catalogue::models(&app, &who)).await.map(Json)
}

/// Named sets of hyper-parameters
#[utoipa::path(get, path = "/api/v1/presets", operation_id = "list_presets", tag = "models", responses(
    (status = 200, body = [Preset]),
    (status = 401, body = ErrorBody),
))]
pub async fn presets() -> Json<Vec<Preset>> {
    let preset = |preset: &recipes::Preset| Preset {
        name: preset.name.into(),
        title_zh: preset.title_zh.into(),
        title_en: preset.title_en.into(),
        num_epochs: preset.num_epochs,
        batch_size: preset.batch_size,
        gradient_accumulation_steps: preset.gradient_accumulation_steps,
        learning_rate: preset.learning_rate,
        max_length: preset.max_length,
        lora_rank: preset.lora_rank,
        lora_alpha: preset.lora_alpha,
    };
    Json(recipes::presets().iter().map(preset).collect())
}
