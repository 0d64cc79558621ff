use api_types::{ErrorBody, EstimateAnswer, FineTuneRequest, Recommendations};
use axum::{Json, extract::State};
use domain::Recipe;
use serde::Deserialize;
use utoipa::IntoParams;

use super::recipe;
use crate::{
    app::Shared,
    auth::Caller,
    error::{Result, blocking},
    extract::{self, Params},
    files, needs, submit, view,
};

/// What a fine-tune would need
///
/// Answers without submitting: memory and time with their parts, whether that fits, and what would. `dataset_file` may
/// be empty; the time is unknown then.
#[utoipa::path(post, path = "/api/v1/estimate", operation_id = "estimate", tag = "tasks", request_body = FineTuneRequest, responses(
    (status = 200, body = EstimateAnswer),
    (status = 400, description = "The data set or the model cannot be used", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, description = "The recipe is not valid", body = ErrorBody),
))]
pub async fn estimate(
    State(app): State<Shared>,
    Caller(who): Caller,
    extract::Json(request): extract::Json<FineTuneRequest>,
) -> Result<Json<EstimateAnswer>> {
    let mut recipe = recipe::fine_tune(request)?;
    let without_data = recipe.dataset_file.trim().is_empty();
    if without_data {
        recipe.dataset_file = "-".into();
    }
    submit::validate(&Recipe::FineTune(recipe.clone()))?;
    app.detected().await;
    blocking(move || {
        if without_data {
            submit::check_model(&app, &who, &recipe)?;
            return needs::answer(&app, recipe, None, Vec::new()).map(Json);
        }
        let (recipe, report) = submit::check_files(&app, &who, recipe)?;
        let warnings = report.warnings.iter().map(view::warning).collect();
        needs::answer(&app, recipe, Some(report.examples), warnings).map(Json)
    })
    .await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RecommendationParams {
    /// A data set to tell the times for: a `path` from `/api/v1/datasets`, or any file the studio can read.
    dataset: Option<String>,
}

/// Which models fit, and how
///
/// For every model that is here or in the catalogue and every method: whether it fits now, when the card is free, or
/// never, with the numbers; the largest length and batch; the time for the data set; and the request that does it.
#[utoipa::path(get, path = "/api/v1/recommendations", operation_id = "recommend", tag = "models", params(RecommendationParams), responses(
    (status = 200, body = Recommendations),
    (status = 400, description = "The data set cannot be used", body = ErrorBody),
    (status = 401, body = ErrorBody),
))]
pub async fn recommendations(
    State(app): State<Shared>,
    Caller(who): Caller,
    Params(params): Params<RecommendationParams>,
) -> Result<Json<Recommendations>> {
    blocking(move || {
        let dataset = params.dataset.as_deref().map(|file| -> Result<(String, u64)> {
            let path = files::dataset(&app, &who, file)?;
            let examples = app.datasets.check(&path)?.examples;
            Ok((path.display().to_string(), examples))
        });
        needs::recommend(&app, dataset.transpose()?).map(Json)
    })
    .await
}
