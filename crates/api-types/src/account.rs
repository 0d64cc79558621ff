use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who is asking, and what they can do
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    pub name: String,
    /// `owner`, `member` or `viewer`; `owner` wherever the studio asks nobody for a sign-in.
    pub role: String,
    /// What this session or token can do: `read`, `submit` or `admin`.
    pub access: String,
    /// Whether the studio asks for a sign-in at all.
    pub authentication: bool,
    pub quota: Quota,
}

/// Somebody who can sign in
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    pub name: String,
    /// `owner`: everything; `member`: tasks and data sets of their own; `viewer`: looks on.
    pub role: String,
    pub created_at: String,
    /// Whether there is a password to sign in with.
    pub has_password: bool,
    /// How many tokens it has.
    pub tokens: u32,
    pub quota: Quota,
}

/// What one user may have of the machine; `null`: as much as there is
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Share of the GPU time among users who want more than there is, relative to the others' weights; above 0.
    #[schema(default = 1.0)]
    pub weight: f64,
    /// Tasks that run at once.
    pub running: Option<u32>,
    /// Tasks that wait at once, held ones included.
    pub queued: Option<u32>,
    /// GPUs in use at once.
    pub gpus: Option<u32>,
    /// GPU-hours of the last 24 hours.
    pub gpu_hours_per_day: Option<f64>,
    /// Bytes of data sets and task folders.
    pub disk_bytes: Option<u64>,
}

impl Default for Quota {
    fn default() -> Quota {
        Quota { weight: 1.0, running: None, queued: None, gpus: None, gpu_hours_per_day: None, disk_bytes: None }
    }
}

#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// 1 to 64 characters.
    pub name: String,
    /// At least 8 characters. Left out: the account can only use tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `owner`, `member` (the default) or `viewer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// The account gets the tasks and data sets that an account of this name has left behind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inherit: bool,
}

/// What to change; what is left out stays
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Ends the account's sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    pub current: String,
    /// At least 8 characters.
    pub new: String,
}

/// A secret for scripts, without the secret
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub id: i64,
    pub account: String,
    pub name: String,
    /// `read`: look on; `submit`: also submit, upload and manage one's own; `admin`: all that the account may.
    pub scope: String,
    pub created_at: String,
    /// `null`: never.
    pub expires_at: Option<String>,
    /// To the minute.
    pub last_used_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for; 1 to 64 characters.
    pub name: String,
    /// `read`, `submit` or `admin`, at most what whoever asks can do.
    pub scope: String,
    /// 1 to 3650. Left out: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
    /// Whose it is; only owners make tokens for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// A new token; the secret is shown this once and kept nowhere
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    #[serde(flatten)]
    pub token: TokenView,
    /// Sent as `Authorization: Bearer …`.
    pub secret: String,
}

/// What people did, newest first
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// `before` of the next page; `null` on the last.
    pub next_before: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    pub seq: u64,
    pub at: String,
    /// Name of the account; `-`: nobody was signed in.
    pub who: String,
    /// IP address; `local`: the command line beside the studio's files.
    pub address: String,
    /// Such as `sign-in`, `task.submit`, `account.change`.
    pub action: String,
    /// What it was done to.
    pub target: Option<String>,
    /// `ok`, or the code of the error.
    pub outcome: String,
    pub detail: Option<String>,
    /// SHA-256 of this entry and the hash before it, in hex.
    pub hash: String,
}
