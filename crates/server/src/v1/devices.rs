use api_types::{CheckView, Devices, ErrorBody};
use axum::{Json, extract::State};

use crate::{
    app::Shared,
    devices,
    error::{Result, blocking},
};

/// The devices as last read
#[utoipa::path(get, path = "/api/v1/devices", operation_id = "get_devices", tag = "devices", responses(
    (status = 200, body = Devices),
    (status = 401, body = ErrorBody),
))]
pub async fn devices(State(app): State<Shared>) -> Json<Devices> {
    Json(devices::view(app.engine.view().devices().as_deref()))
}

/// Look for what keeps GPUs from being used
///
/// Driver, library, permissions, MIG, containers, a trial allocation; takes a few seconds.
#[utoipa::path(get, path = "/api/v1/gpus/doctor", operation_id = "gpu_doctor", tag = "devices", responses(
    (status = 200, body = [CheckView]),
    (status = 401, body = ErrorBody),
))]
pub async fn doctor(State(app): State<Shared>) -> Result<Json<Vec<CheckView>>> {
    // One at a time: it allocates memory of the GPUs.
    let _alone = app.doctor.lock().await;
    let app = app.clone();
    let checks = blocking(move || Ok(app.engine.doctor())).await?;
    Ok(Json(checks.into_iter().map(check_view).collect()))
}

/// As the API and `sage gpu doctor --json` say it.
pub fn check_view(check: gpu::Check) -> CheckView {
    let gpu::Check { subject, status, zh, en, next_zh, next_en } = check;
    let status = match status {
        gpu::Status::Ok => "ok",
        gpu::Status::Problem => "problem",
        gpu::Status::Note => "note",
    };
    CheckView { subject: subject.into(), status: status.into(), zh, en, next_zh, next_en }
}
