//! HTTP: the first generation's API ([`studio_api`]), our own under `/api/v1` ([`v1`]), server-sent events, the page.
//!
//! Nothing else in the workspace knows HTTP. Handlers ask the [`engine`] and render; what may block runs on the
//! blocking threads, and every request passes the [`guard`] first.

// What utoipa makes of `params(…)` trips it.
#![allow(unused_qualifications)]

mod access;
mod accuracy;
mod app;
mod attempts;
mod audit;
mod auth;
mod bodies;
mod catalogue;
mod connections;
mod datasets;
mod devices;
mod download;
mod error;
mod extract;
mod files;
mod guard;
mod live;
mod needs;
mod page;
mod passwords;
pub mod people;
mod quota;
mod revoked;
mod shares;
mod sse;
mod studio_api;
mod submit;
mod sweep;
mod v1;
mod view;
mod why;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future;
use jiff::Timestamp;
use store::Audit;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use app::{App, Shared};

pub use audit::by_studio;
pub use auth::{hex, new_secret, secret_hash};
pub use connections::{Listener, Tls};
pub use error::ApiError;
pub use v1::{audit_entry, check_view};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ask for a session or token on every `/api` route. Off: whoever reaches the studio is its owner.
    pub authentication: bool,
    /// Members may submit commands, which do whatever the studio's own user can, and use files of the machine.
    pub trust_members: bool,
    /// Origins of other pages that may use the API, such as `http://localhost:5173`.
    pub allowed_origins: Vec<String>,
    /// `host:port` values besides localhost that the Host header may have.
    pub hosts: Vec<String>,
    /// Tell browsers, where there is TLS, to reach this host by nothing else for a year.
    pub hsts: bool,
    /// Largest data set that can be uploaded, in bytes.
    pub upload_limit: u64,
    /// Answer of `GET /api/finetune/current-model`: `SAGE_FINETUNE_BASE_MODEL`.
    pub base_model: String,
    /// When the studio was started.
    pub started_at: Timestamp,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            authentication: false,
            trust_members: false,
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
            hsts: true,
            upload_limit: 2 << 30,
            base_model: "Qwen/Qwen2.5-Coder-1.5B-Instruct".into(),
            started_at: Timestamp::now(),
        }
    }
}

/// Answers on all listeners until `shutdown` resolves; live streams end then, other requests get a few seconds.
pub async fn serve(
    engine: engine::Handle,
    accounts: store::Accounts,
    options: Options,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (close, closing) = watch::channel(false);
    let audit = Audit::open(&engine.home().audit()).map_err(io::Error::other)?;
    let app = Arc::new(App::new(engine, accounts, audit, options, openapi_json(), closing.clone()));
    app.datasets.prepare()?;
    let addresses = listeners.iter().map(|listener| listener.socket.local_addr());
    let addresses: Vec<SocketAddr> = addresses.collect::<io::Result<_>>()?;
    let authentication = if app.options.authentication { "on" } else { "off" };
    app.audit.record(audit::by_studio("studio.start", Some(format!("authentication {authentication}")))).await;
    let router = router(app.clone(), &addresses);

    let servers = listeners.into_iter().map(|listener| connections::serve(listener, router.clone(), closing.clone()));
    tokio::spawn(async move {
        shutdown.await;
        let _ = close.send(true);
    });
    let served = tokio::select! {
        served = future::try_join_all(servers) => served.map(drop),
        _ = async {
            App::closed(closing).await;
            tokio::time::sleep(app::PATIENCE).await;
        } => Ok(()),
    };
    // What was noted before is written when this is.
    app.audit.record(audit::by_studio("studio.stop", None)).await;
    served
}

/// The description of both APIs, as `/api/openapi.json` serves it.
pub fn openapi() -> OpenApi {
    let (_, mut api) = routes().split_for_parts();
    api.info = InfoBuilder::new()
        .title("SAGE Studio")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The fine-tuning studio for the GPUs you own."))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    api
}

fn openapi_json() -> Bytes {
    openapi().to_json().expect("the description serialises").into()
}

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().merge(v1::routes()).merge(studio_api::routes())
}

fn router(app: Shared, listening: &[SocketAddr]) -> Router {
    let hosts: Arc<[String]> = guard::allowed_hosts(listening, &app.options.hosts).into();
    let (router, _) = routes().split_for_parts();
    router
        .route("/api/openapi.json", get(openapi_document))
        .layer(DefaultBodyLimit::max(bodies::BODY_LIMIT as usize))
        .method_not_allowed_fallback(extract::method_not_allowed)
        .fallback(page::page)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state((app.clone(), hosts), guard::guard))
        .with_state(app)
}

async fn openapi_document(State(app): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.openapi.clone()).into_response()
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    ApiError::internal("the studio made a mistake", message).into_response()
}
