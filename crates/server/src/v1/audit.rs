use api_types::{AuditEntry, AuditPage, ErrorBody};
use axum::{Json, extract::State};
use serde::Deserialize;
use store::{AuditFilter, AuditRow, Entry};
use utoipa::IntoParams;

use crate::{
    app::Shared,
    auth,
    error::{Result, blocking},
    extract::Params,
};

const DEFAULT_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// Only what this account did.
    who: Option<String>,
    /// Only this action, such as `task.submit`, or all of a kind: `task`.
    action: Option<String>,
    /// 1 to 1000.
    #[param(default = 100)]
    limit: Option<u32>,
    /// Only entries older than this one: `next_before` of the page before.
    before: Option<u64>,
}

/// Who did what, newest first
///
/// Each entry's hash covers the one before it: `sage audit verify` on the machine computes them all again.
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "list_audit", tag = "accounts", params(AuditParams), responses(
    (status = 200, body = AuditPage),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn list(State(app): State<Shared>, Params(params): Params<AuditParams>) -> Result<Json<AuditPage>> {
    let AuditParams { who, action, limit, before } = params;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(super::tasks::bad_limit(limit, LARGEST_PAGE));
    }
    blocking(move || {
        let mut rows = app.audit.rows(&AuditFilter { before, who, action, limit: limit + 1 })?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_before = rows.last().filter(|_| more).map(|row| row.seq);
        Ok(Json(AuditPage { entries: rows.into_iter().map(entry).collect(), next_before }))
    })
    .await
}

/// As the API and `sage audit list --json` say it.
pub fn entry(row: AuditRow) -> AuditEntry {
    let AuditRow { seq, entry, hash } = row;
    let Entry { at, who, address, action, target, outcome, detail } = entry;
    AuditEntry { seq, at: at.to_string(), who, address, action, target, outcome, detail, hash: auth::hex(&hash) }
}
