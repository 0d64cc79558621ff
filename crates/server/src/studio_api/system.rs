use api_types::ErrorBody;
use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderName, header},
    response::IntoResponse,
};
use recipes::advice;
use utoipa::ToSchema;

use crate::app::Shared;

const JSON: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// The GPUs and what to train on them
#[derive(ToSchema)]
#[allow(unused)]
pub struct GpuInfo {
    available: bool,
    count: u32,
    devices: Vec<GpuInfoDevice>,
    /// A sentence for people.
    recommendation: String,
}

#[derive(ToSchema)]
#[allow(unused)]
pub struct GpuInfoDevice {
    id: u32,
    name: String,
    /// GiB, to one decimal.
    memory_gb: f64,
}

/// The GPUs and what to train on them
///
/// Never an error: a failed detection answers `available: false` and says why in `recommendation`.
#[utoipa::path(get, path = "/api/system/gpu-info", operation_id = "gpu_info", tag = "first generation", responses(
    (status = 200, body = GpuInfo),
    (status = 401, body = ErrorBody),
))]
pub async fn gpu_info(State(app): State<Shared>) -> impl IntoResponse {
    (JSON, app.gpu_info())
}

pub fn render(info: advice::GpuInfo) -> Bytes {
    serde_json::to_vec(&info).expect("plain data serialises").into()
}

/// Whether the studio answers
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "first generation", responses(
    (status = 200, content_type = "application/json", body = inline(Health)),
))]
pub async fn health() -> impl IntoResponse {
    (JSON, r#"{"status":"ok"}"#)
}

#[derive(ToSchema)]
#[allow(unused)]
struct Health {
    /// `ok`.
    status: String,
}
