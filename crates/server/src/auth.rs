//! Who is asking: sessions, passwords, tokens.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use store::{Account, StoreError};

use crate::{
    app::{App, Shared},
    error::{ApiError, Result, blocking},
};

/// Who submits and cancels where nobody has signed in: in the one-person default a guest owns the machine.
pub const GUEST: &str = "guest";
pub const COOKIE: &str = "sage_session";

/// Name of whoever sent the request.
#[derive(Clone)]
pub struct Caller(pub String);

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Caller> {
        // The guard has looked where authentication is on.
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let account = session(app, &parts.headers).await?;
        Ok(Caller(account.map_or_else(|| GUEST.to_owned(), |account| account.username)))
    }
}

/// The account whose session the request carries, as a bearer token or as a cookie.
pub async fn session(app: &App, headers: &HeaderMap) -> Result<Option<Account>> {
    let Some(token) = token(headers) else { return Ok(None) };
    // Looking up the hash tells nothing about the token by its timing.
    let hash = token_hash(token);
    let accounts = app.accounts.clone();
    blocking(move || Ok(accounts.by_session(&hash)?)).await
}

pub fn token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| cookie(headers))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Opens a session and returns its token, 32 random bytes in hex, which is kept nowhere.
pub async fn open_session(app: &App, account: i64) -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal("no random numbers", error))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = token_hash(&token);
    let accounts = app.accounts.clone();
    blocking(move || Ok(accounts.open_session(account, &hash, Timestamp::now())?)).await?;
    Ok(token)
}

pub async fn close_session(app: &App, token: &str) -> Result<()> {
    let hash = token_hash(token);
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
        match accounts.create(GUEST, None, Timestamp::now()) {
            // Somebody else was a moment faster.
            Err(StoreError::NameTaken(_)) => {
                accounts.by_name(GUEST)?.ok_or_else(|| ApiError::internal("the guest's account", "cannot be found"))
            }
            created => Ok(created?),
        }
    })
    .await
}

pub async fn register(app: &App, username: String, password: String) -> Result<Account> {
    let _turn = app.hashing.acquire().await.expect("never closed");
    let accounts = app.accounts.clone();
    blocking(move || {
        let hash = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|error| ApiError::internal("the password could not be hashed", error))?;
        accounts.create(&username, Some(&hash.to_string()), Timestamp::now()).map_err(|error| match error {
            StoreError::NameTaken(_) => ApiError::bad_request("name-taken", "用户名已存在").next("Choose another name"),
            error => error.into(),
        })
    })
    .await
}

/// The account if the password is right. Takes as long for a name that does not exist.
pub async fn check_password(app: &App, username: String, password: String) -> Result<Option<Account>> {
    let _turn = app.hashing.acquire().await.expect("never closed");
    let accounts = app.accounts.clone();
    blocking(move || {
        let account = accounts.by_name(&username)?;
        let hash = account.as_ref().and_then(|account| account.password_hash.as_deref());
        let right = match hash.and_then(|hash| PasswordHash::new(hash).ok()) {
            Some(hash) => Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(),
            None => {
                let _ = Argon2::default().hash_password(password.as_bytes());
                false
            }
        };
        Ok(account.filter(|_| right))
    })
    .await
}
