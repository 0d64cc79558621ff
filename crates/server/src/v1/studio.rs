use api_types::{ErrorBody, RecoveryView, StudioView};
use axum::{Json, extract::State};
use store::Kind;

use crate::{
    app::Shared,
    error::{Result, blocking},
};

/// The studio itself
#[utoipa::path(get, path = "/api/v1/studio", operation_id = "get_studio", tag = "studio", responses(
    (status = 200, body = StudioView),
    (status = 401, body = ErrorBody),
))]
pub async fn studio(State(app): State<Shared>) -> Result<Json<StudioView>> {
    let settings = app.engine.settings();
    let home = app.engine.home().clone();
    let look = move || {
        let damaged = [home.database(), home.audit()].into_iter().filter(|path| store::suspected(path).is_some());
        let damaged = damaged.map(|path| Kind::of(&path).as_str().to_owned()).collect();
        Ok((store::recoveries(&home.database()), damaged))
    };
    let (recoveries, damaged) = blocking(look).await?;
    Ok(Json(StudioView {
        version: env!("CARGO_PKG_VERSION").into(),
        home: app.engine.home().root().display().to_string(),
        pid: std::process::id(),
        started_at: app.options.started_at.to_string(),
        default_time_limit_seconds: settings.default_time_limit,
        queue_warning: settings.queue_warning,
        upload_limit_bytes: app.options.upload_limit,
        authentication: app.options.authentication,
        recoveries: recoveries.iter().map(recovery).collect(),
        damaged,
    }))
}

fn recovery(recovery: &store::Recovery) -> RecoveryView {
    RecoveryView {
        at: recovery.at.to_string(),
        database: recovery.kind().as_str().into(),
        backup_of: recovery.restored.as_ref().map(|backup| backup.at.to_string()),
    }
}
