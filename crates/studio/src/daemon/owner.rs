use domain::Allowance;
use jiff::Timestamp;
use store::{Account, Accounts, Role, StoreError};

use crate::error::{CliError, Result};

/// Signs in the owner of the machine, whose command line reads the secret from `studio.json`.
pub fn open_session(accounts: &Accounts) -> Result<String> {
    let account = account(accounts)?;
    let secret = server::new_secret()?;
    accounts.open_machine_session(account.id, &server::secret_hash(&secret), Timestamp::now()).map_err(failed)?;
    Ok(secret)
}

/// Whose tasks are those of this machine's command line; made when it is first needed, without a password.
pub fn account(accounts: &Accounts) -> Result<Account> {
    let name = name();
    match accounts.by_name(&name).map_err(failed)? {
        Some(account) => Ok(account),
        None => accounts.create(&name, None, Role::Owner, &Allowance::default(), Timestamp::now()).map_err(failed),
    }
}

fn failed(error: StoreError) -> CliError {
    CliError::new("studio-start-failed", error.to_string())
}

/// What the owner of the machine is called here.
pub fn name() -> String {
    std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "owner".into())
}
