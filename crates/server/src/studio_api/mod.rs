//! The API of the first generation, which its page and its users' scripts speak: shapes, status codes and sentences
//! are theirs to the letter. New features go to `/api/v1`.

pub mod accounts;
mod backend;
mod create;
mod datasets;
mod models;
pub mod system;
pub mod task_list;
mod task_object;
mod tasks;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::Shared;

pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(system::gpu_info))
        .routes(routes!(system::health))
        .routes(routes!(create::create))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::get, tasks::delete))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::download))
        .merge(datasets::routes())
        .routes(routes!(models::models))
        .routes(routes!(models::base))
        .routes(routes!(backend::current_model))
        .routes(routes!(backend::switch_model))
        .routes(routes!(backend::use_as_backend))
        .routes(routes!(accounts::guest))
        .routes(routes!(accounts::login))
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::me))
        .routes(routes!(accounts::logout))
}
