use api_types::{Devices, ErrorBody};
use axum::{Json, extract::State};
use jiff::Timestamp;

use crate::{app::Shared, view};

/// The devices as last read
#[utoipa::path(get, path = "/api/v1/devices", operation_id = "get_devices", tag = "devices", responses(
    (status = 200, body = Devices),
    (status = 401, body = ErrorBody),
))]
pub async fn devices(State(app): State<Shared>) -> Json<Devices> {
    let status = app.engine.view().devices();
    Json(view::devices(status.as_deref(), Timestamp::now()))
}
