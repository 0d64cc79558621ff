//! What people switch for the whole queue and for a device.

use api_types::{ErrorBody, QueueControl, SetMaintenance};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use domain::{DeviceId, Reading};
use engine::{EngineError, Switch};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::{App, Shared},
    audit::About,
    auth::{Caller, Who},
    error::{ApiError, Result},
    extract::{self, Params},
    view,
};

/// Pause the queue
///
/// Nothing starts until it is resumed; what runs goes on, and new tasks are accepted.
#[utoipa::path(post, path = "/api/v1/queue/pause", operation_id = "pause_queue", tag = "tasks", responses(
    (status = 200, body = QueueControl),
    (status = 401, body = ErrorBody),
))]
pub async fn pause(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<QueueControl>> {
    switch(&app, &who, Switch::Pause).await
}

/// Let the queue run empty
///
/// No new tasks are accepted until it is resumed; those that were run to their end, once no pause keeps them from it.
#[utoipa::path(post, path = "/api/v1/queue/drain", operation_id = "drain_queue", tag = "tasks", params(DrainParams), responses(
    (status = 200, body = QueueControl),
    (status = 401, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn drain(
    State(app): State<Shared>,
    Caller(who): Caller,
    Params(params): Params<DrainParams>,
) -> Result<Json<QueueControl>> {
    let switch = match params.until {
        None => Switch::Drain,
        Some(Until::Stopped) => Switch::Close { starts: true },
        Some(Until::Cancelled) => Switch::Close { starts: false },
    };
    self::switch(&app, &who, switch).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DrainParams {
    /// `stopped`: until the studio starts again, which then finds its queue as it was. `cancelled`: the same, and nothing
    /// that waits is started meanwhile. A resume ends it, too.
    #[param(inline)]
    until: Option<Until>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    Stopped,
    Cancelled,
}

/// Go on after a pause or a drain
#[utoipa::path(post, path = "/api/v1/queue/resume", operation_id = "resume_queue", tag = "tasks", responses(
    (status = 200, body = QueueControl),
    (status = 401, body = ErrorBody),
))]
pub async fn resume(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<QueueControl>> {
    switch(&app, &who, Switch::Resume).await
}

/// Take a device out of the queue for maintenance, or give it back
///
/// Nothing new starts on it meanwhile; what runs there goes on. `id` is a device's UUID, or the number of a GPU, which
/// stands for all of its MIG instances.
#[utoipa::path(post, path = "/api/v1/gpus/{id}/maintenance", operation_id = "set_maintenance", tag = "devices", params(("id" = String, Path)), request_body = SetMaintenance, responses(
    (status = 200, body = QueueControl),
    (status = 401, body = ErrorBody),
    (status = 404, description = "There is no such device", body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, description = "GPUs of several kinds have this number", body = ErrorBody),
))]
pub async fn maintenance(
    State(app): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    extract::Json(body): extract::Json<SetMaintenance>,
) -> Result<(Extension<About>, Json<QueueControl>)> {
    for device in devices(&app, &id)? {
        let switch = if body.on { Switch::Maintain(device) } else { Switch::Restore(device) };
        app.engine.switch(switch, &who).await?;
    }
    let detail = if body.on { "on" } else { "off" };
    let about = About { detail: Some(detail.into()), ..About::default() };
    Ok((Extension(about), Json(view::control(&app.engine))))
}

async fn switch(app: &App, who: &Who, switch: Switch) -> Result<Json<QueueControl>> {
    app.engine.switch(switch, who).await?;
    Ok(Json(view::control(&app.engine)))
}

/// The devices that people mean by a UUID or a number.
fn devices(app: &App, id: &str) -> Result<Vec<DeviceId>> {
    let inventory = app.inventory();
    let numbered: Vec<&Reading> = match id.parse::<u32>() {
        Ok(number) => inventory.devices.iter().filter(|reading| reading.device.index == number).collect(),
        Err(_) => Vec::new(),
    };
    let Some(first) = numbered.first() else {
        // One that is not there any more may still be in maintenance.
        let device = DeviceId(id.to_owned());
        let known = inventory.get(&device).is_some() || app.engine.view().control().maintenance.contains_key(&device);
        return if known { Ok(vec![device]) } else { Err(EngineError::NoDevice(device).into()) };
    };
    if numbered.iter().any(|reading| reading.device.kind != first.device.kind) {
        let ids: Vec<String> = numbered.iter().map(|reading| reading.device.id.to_string()).collect();
        let ids = ids.join(", ");
        return Err(ApiError::invalid(
            format!("{id} is the number of several devices; name one: {ids}"),
            format!("有多个设备的编号是 {id}；请指定其中一个：{ids}"),
        ));
    }
    Ok(numbered.iter().map(|reading| reading.device.id.clone()).collect())
}
