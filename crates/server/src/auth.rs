//! Who is asking: secrets, sessions, tokens.
//!
//! A secret is 32 random bytes. Only its SHA-256 is kept, and it is looked up by that: how long the look-up takes says
//! nothing about the secret, because nobody can steer a hash towards one that is there.

use std::ops::Deref;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use domain::Allowance;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use store::{Access, Account, By, Opened, Role, StoreError};

use crate::{
    app::{App, Shared},
    error::{ApiError, Result, blocking},
};

/// Who submits and cancels where nobody has signed in: in the one-person default a guest owns the machine.
pub const GUEST: &str = "guest";
pub const COOKIE: &str = "sage_session";

/// Tells a token from a session, and tools that look for leaked secrets what it is.
const TOKEN_PREFIX: &str = "sage_";

/// Whoever sent a request. Reads as their name.
#[derive(Debug, Clone, PartialEq)]
pub struct Who {
    pub name: String,
    pub role: Role,
    /// What this session or token can do; never more than the role.
    pub access: Access,
    /// How they proved it; `None` where nobody has to.
    pub by: Option<By>,
}

impl Who {
    /// In the one-person default, whoever reaches the studio owns it, by whatever name.
    fn owner_of_the_machine(name: String, by: Option<By>) -> Who {
        Who { name, role: Role::Owner, access: Access::Admin, by }
    }

    /// Where people sign in; `None` for a secret that opens nothing there.
    pub fn of(Opened { account, by, until: _ }: Opened) -> Option<Who> {
        let access = match by {
            By::Machine => return Some(Who::owner_of_the_machine(account.username, Some(by))),
            // Guests are let in only where nobody has to sign in.
            _ if account.username == GUEST => return None,
            By::Session => account.role.access(),
            By::Token { scope, .. } => account.role.access().min(scope),
        };
        Some(Who { name: account.username, role: account.role, access, by: Some(by) })
    }

    /// Whether all is theirs to see and change.
    pub fn is_admin(&self) -> bool {
        self.access == Access::Admin && self.role == Role::Owner
    }

    /// Whether what such a task prints is theirs to read.
    pub fn sees(&self, owner: &str) -> bool {
        self.role == Role::Owner || self.name == owner
    }

    pub fn owns(&self, owner: &str) -> bool {
        self.is_admin() || self.name == owner
    }
}

impl Deref for Who {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

/// Hands a handler whoever sent the request.
#[derive(Debug, Clone)]
pub struct Caller(pub Who);

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Caller> {
        // The guard has looked, except where nobody has to sign in and the route only reads.
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let opened = identify(app, &parts.headers).await?;
        opened.map(Caller).ok_or_else(|| ApiError::unauthorized("Not authenticated"))
    }
}

/// Who sends these headers; `None` if they have to sign in first.
pub async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Who>> {
    let opened = opened(app, headers).await?;
    if !app.options.authentication {
        let (name, by) = opened.map_or((GUEST.to_owned(), None), |opened| (opened.account.username, Some(opened.by)));
        return Ok(Some(Who::owner_of_the_machine(name, by)));
    }
    Ok(opened.and_then(Who::of))
}

/// The account whose session or token the request carries, in the header or as a cookie.
pub async fn opened(app: &App, headers: &HeaderMap) -> Result<Option<Opened>> {
    let Some(secret) = secret(headers) else { return Ok(None) };
    let hash = secret_hash(secret);
    let accounts = app.accounts.clone();
    blocking(move || Ok(accounts.open_secret(&hash, Timestamp::now())?)).await
}

pub fn secret(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| cookie(headers))
}

/// Whether nothing but a cookie says who this is: browsers send it whichever page asks.
pub fn only_by_cookie(headers: &HeaderMap) -> bool {
    bearer(headers).is_none() && cookie(headers).is_some()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Of a session: 32 random bytes in hex.
pub fn new_secret() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal("no random numbers", error))?;
    Ok(hex(&bytes))
}

pub fn new_token() -> Result<String> {
    Ok(format!("{TOKEN_PREFIX}{}", new_secret()?))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens a session and returns its secret, which is kept nowhere.
pub async fn open_session(app: &App, account: i64) -> Result<String> {
    let secret = new_secret()?;
    let hash = secret_hash(&secret);
    let accounts = app.accounts.clone();
    blocking(move || Ok(accounts.open_session(account, &hash, Timestamp::now())?)).await?;
    Ok(secret)
}

pub async fn close_session(app: &App, secret: &str) -> Result<()> {
    let hash = secret_hash(secret);
    let accounts = app.accounts.clone();
    blocking(move || Ok(accounts.close_session(&hash)?)).await
}

/// The guest's account, made when it is first needed.
pub async fn guest(app: &App) -> Result<Account> {
    let accounts = app.accounts.clone();
    blocking(move || {
        if let Some(guest) = accounts.by_name(GUEST)? {
            return Ok(guest);
        }
        match accounts.create(GUEST, None, Role::Viewer, &Allowance::default(), Timestamp::now()) {
            // Somebody else was a moment faster.
            Err(StoreError::NameTaken(_)) => {
                accounts.by_name(GUEST)?.ok_or_else(|| ApiError::internal("the guest's account", "cannot be found"))
            }
            created => Ok(created?),
        }
    })
    .await
}
