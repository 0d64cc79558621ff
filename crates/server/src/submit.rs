//! What both APIs do with a task before the engine gets it, and what they add to its answer.

use api_types::AlternativeView;
use axum::http::StatusCode;
use domain::{Recipe, Warning};
use engine::{Submission, Submitted};
use recipes::{advice, models};

use crate::{
    app::{App, Shared},
    error::{ApiError, Result, blocking},
};

/// Longest name of a task, in characters.
const NAME_LENGTH: usize = 200;

/// A task as a request asks for it.
pub struct Request {
    pub name: Option<String>,
    pub recipe: Recipe,
    pub time_limit: Option<u64>,
    pub hold: bool,
    /// Rather change the recipe than let it wait for memory that this machine does not have.
    pub fit: bool,
}

/// A task that was taken, and what would fit where it does not.
pub struct Accepted {
    pub submitted: Submitted,
    pub alternatives: Vec<AlternativeView>,
}

/// Validates the task with its data set and model, and submits it.
pub async fn submit(app: &Shared, request: Request, who: &str) -> Result<Accepted> {
    let Request { name, recipe, time_limit, hold, fit } = request;
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.chars().count() > NAME_LENGTH) {
        return Err(ApiError::invalid(format!("name is longer than {NAME_LENGTH} characters")));
    }
    if time_limit == Some(0) {
        return Err(ApiError::invalid("time_limit_seconds is 0; use 1 or more, or leave it out"));
    }
    recipes::validate(&recipe).map_err(|invalid| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-recipe", invalid.message)
            .zh(invalid.message_zh)
            .next(format!("Correct {} and submit again", invalid.field))
    })?;
    let (recipe, warnings) = match recipe {
        Recipe::Command(_) => (recipe, Vec::new()),
        Recipe::FineTune(_) => {
            let app = app.clone();
            blocking(move || check_files(&app, recipe)).await?
        }
    };
    let _ = fit;
    let submission = Submission { name, recipe, time_limit, hold, warnings, estimate: None };
    let submitted = app.engine.submit(submission, who).await?;
    Ok(Accepted { submitted, alternatives: Vec::new() })
}

/// May block.
fn check_files(app: &App, recipe: Recipe) -> Result<(Recipe, Vec<Warning>)> {
    let Recipe::FineTune(mut recipe) = recipe else { return Ok((recipe, Vec::new())) };
    let path = app.datasets.locate(&recipe.dataset_file)?;
    let report = app.datasets.check(&path)?;
    recipe.dataset_file = path.display().to_string();
    models::resolve(&recipe.model_name, app.engine.home(), &app.hub_cache)
        .map_err(|error| ApiError::bad_request(error.code(), error.to_string()).zh(error.message_zh()))?;
    let mut warnings = advice::preflight(&recipe, &app.inventory());
    warnings.extend(report.warnings.iter().cloned());
    Ok((Recipe::FineTune(recipe), warnings))
}

/// Said to whoever submits to a long queue; not kept with the task, because queues move.
pub fn queue_warning(app: &App, submitted: &Submitted) -> Option<Warning> {
    let waiting = submitted.waiting;
    let queued = submitted.snapshot.task.state.kind() == domain::StateKind::Queued;
    (queued && waiting > app.engine.settings().queue_warning as usize).then(|| Warning {
        code: "queue-long".into(),
        zh: format!("⚠️ 队列较长：当前有 {waiting} 个任务在等待，本任务可能需要较长时间才能开始"),
        en: format!("the queue is long: {waiting} tasks wait, so this one may start late"),
    })
}
