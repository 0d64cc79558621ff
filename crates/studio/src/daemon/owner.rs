use std::{fs::File, io::Read};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use store::{Accounts, StoreError};

use crate::error::{CliError, Result};

/// Signs in the owner of the machine, whose command line reads the token from `studio.json`.
pub fn open_session(accounts: &Accounts) -> Result<String> {
    let failed = |error: StoreError| CliError::new("studio-start-failed", error.to_string());
    let name = std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "owner".into());
    let now = Timestamp::now();
    let account = match accounts.by_name(&name).map_err(failed)? {
        Some(account) => account,
        None => accounts.create(&name, None, now).map_err(failed)?,
    };
    let token = random_token().map_err(|error| CliError::file("/dev/urandom".as_ref(), &error))?;
    accounts.open_session(account.id, &Sha256::digest(&token).into(), now).map_err(failed)?;
    Ok(token)
}

fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
