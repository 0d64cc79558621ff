//! `/api/v1`: our own typed API. The types are in the crate `api-types`.

mod accounts;
mod audit;
mod control;
mod datasets;
mod devices;
mod estimate;
mod events;
mod groups;
mod log;
mod models;
mod queue;
pub mod recipe;
mod studio;
mod tasks;
mod tokens;

pub use audit::entry as audit_entry;
pub use datasets::{UploadForm, take as take_upload};
pub use devices::check_view;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::Shared;

pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(accounts::routes())
        .merge(tokens::routes())
        .routes(routes!(audit::list))
        .routes(routes!(studio::studio))
        .routes(routes!(tasks::list, tasks::submit))
        .routes(routes!(tasks::get, tasks::change, tasks::delete))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::hold))
        .routes(routes!(tasks::release))
        .routes(routes!(tasks::next))
        .routes(routes!(tasks::before))
        .routes(routes!(tasks::download))
        .routes(routes!(tasks::metrics))
        .routes(routes!(tasks::journal))
        .routes(routes!(groups::submit))
        .routes(routes!(groups::get, groups::delete))
        .routes(routes!(groups::cancel))
        .routes(routes!(groups::hold))
        .routes(routes!(groups::release))
        .routes(routes!(queue::explain))
        .routes(routes!(queue::queue))
        .routes(routes!(control::pause))
        .routes(routes!(control::drain))
        .routes(routes!(control::resume))
        .routes(routes!(log::log))
        .routes(routes!(log::stream))
        .routes(routes!(events::events))
        .routes(routes!(devices::devices))
        .routes(routes!(devices::doctor))
        .routes(routes!(control::maintenance))
        .routes(routes!(estimate::estimate))
        .routes(routes!(estimate::recommendations))
        .merge(datasets::routes())
        .routes(routes!(models::models))
        .routes(routes!(models::presets))
}
