use api_types::{ErrorBody, StudioView};
use axum::{Json, extract::State};

use crate::app::Shared;

/// The studio itself
#[utoipa::path(get, path = "/api/v1/studio", operation_id = "get_studio", tag = "studio", responses(
    (status = 200, body = StudioView),
    (status = 401, body = ErrorBody),
))]
pub async fn studio(State(app): State<Shared>) -> Json<StudioView> {
    let settings = app.engine.settings();
    Json(StudioView {
        version: env!("CARGO_PKG_VERSION").into(),
        home: app.engine.home().root().display().to_string(),
        pid: std::process::id(),
        started_at: app.options.started_at.to_string(),
        default_time_limit_seconds: settings.default_time_limit,
        queue_warning: settings.queue_warning,
        upload_limit_bytes: app.options.upload_limit,
        authentication: app.options.authentication,
    })
}
