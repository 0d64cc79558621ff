//! Passwords: what they must be, and argon2id for what is kept of them.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

use crate::error::{ApiError, Result};

/// Characters that a password needs at least.
pub const LENGTH: usize = 8;
/// What the first generation asked for.
pub const FIRST_GENERATION_LENGTH: usize = 6;
/// Characters that a password may have, which bounds the work of hashing it.
pub const LONGEST: usize = 1024;

pub fn check_length(password: &str, least: usize) -> Result<()> {
    let length = password.chars().count();
    if length < least {
        return Err(ApiError::bad_request("short-password", format!("a password needs at least {least} characters"))
            .zh(format!("密码至少需要 {least} 个字符"))
            .next("Choose a longer one"));
    }
    if length > LONGEST {
        return Err(ApiError::bad_request("long-password", format!("a password has at most {LONGEST} characters"))
            .zh(format!("密码最多 {LONGEST} 个字符"))
            .next("Choose a shorter one"));
    }
    Ok(())
}

/// PHC string. Takes some 20 ms and 19 MiB.
pub fn hash(password: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    let hash = hash.map_err(|error| ApiError::internal("the password could not be hashed", error))?;
    Ok(hash.to_string())
}

/// Takes as long where there is no hash to compare with.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    match hash.and_then(|hash| PasswordHash::new(hash).ok()) {
        Some(hash) => Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(),
        None => {
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    }
}
