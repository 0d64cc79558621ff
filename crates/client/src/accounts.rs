//! Accounts, tokens and the audit log, as far as whoever asks may see to them.

use api_types::{AccountPatch, AccountView, AuditPage, CreatedToken, Me, NewAccount, NewToken, TokenView};

use crate::{Client, Result, client::encode};

/// Which entries of the audit log to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    pub who: Option<String>,
    /// An action, or a kind of actions: `task`.
    pub action: Option<String>,
    pub limit: Option<u32>,
    /// Only entries older than this one.
    pub before: Option<u64>,
}

impl Client {
    pub fn me(&self) -> Result<Me> {
        self.get("/api/v1/me")
    }

    pub fn accounts(&self) -> Result<Vec<AccountView>> {
        self.get("/api/v1/accounts")
    }

    pub fn add_account(&self, account: &NewAccount) -> Result<AccountView> {
        self.post("/api/v1/accounts", account)
    }

    pub fn change_account(&self, name: &str, patch: &AccountPatch) -> Result<AccountView> {
        self.send("PATCH", &format!("/api/v1/accounts/{}", encode(name)), patch)
    }

    pub fn remove_account(&self, name: &str) -> Result<()> {
        self.remove(&format!("/api/v1/accounts/{}", encode(name)))
    }

    /// One's own, or everybody's.
    pub fn tokens(&self, all: bool) -> Result<Vec<TokenView>> {
        self.get(&format!("/api/v1/tokens?all={all}"))
    }

    pub fn create_token(&self, token: &NewToken) -> Result<CreatedToken> {
        self.post("/api/v1/tokens", token)
    }

    pub fn revoke_token(&self, id: i64) -> Result<()> {
        self.remove(&format!("/api/v1/tokens/{id}"))
    }

    pub fn audit(&self, query: &AuditQuery) -> Result<AuditPage> {
        let AuditQuery { who, action, limit, before } = query;
        let limit = limit.map(|limit| limit.to_string());
        let before = before.map(|before| before.to_string());
        let fields = [("who", who), ("action", action), ("limit", &limit), ("before", &before)];
        let given = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?))));
        self.get(&format!("/api/v1/audit?{}", given.collect::<Vec<_>>().join("&")))
    }
}
