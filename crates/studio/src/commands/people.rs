//! Where `sage user`, `token` and `audit` do their work: in the running studio, else in its files.

use api_types::{AccountPatch, AccountView, CreatedToken, NewAccount, NewToken, TokenView};
use client::{Client, ClientError};
use domain::Home;
use jiff::Timestamp;
use server::people;
use store::{Access, Accounts, Audit, Entry, StoreError};

use crate::{
    daemon,
    error::{CliError, Result},
};

pub enum Desk {
    Studio(Client),
    /// No studio runs, and whoever can write its files may do what it would do.
    Files(Box<Files>),
}

pub struct Files {
    accounts: Accounts,
    audit: Audit,
}

impl Desk {
    pub fn open(home: &Home) -> Result<Desk> {
        match Client::connect(home) {
            Ok(client) => Ok(Desk::Studio(client)),
            Err(ClientError::NotRunning { .. }) => Files::open(home).map(|files| Desk::Files(Box::new(files))),
            Err(error) => Err(error.into()),
        }
    }

    pub fn accounts(&self) -> Result<Vec<AccountView>> {
        match self {
            Desk::Studio(client) => Ok(client.accounts()?),
            Desk::Files(files) => Ok(people::list(&files.accounts)?),
        }
    }

    pub fn add(&self, account: NewAccount) -> Result<AccountView> {
        match self {
            Desk::Studio(client) => Ok(client.add_account(&account)?),
            Desk::Files(files) => {
                let inherits = account.inherit;
                let view = people::add(&files.accounts, account)?;
                files.write_down("account.add", &view.name, &people::added(&view, inherits))?;
                Ok(view)
            }
        }
    }

    /// `what` says in a word what changes.
    pub fn change(&self, name: &str, patch: AccountPatch, what: &str) -> Result<AccountView> {
        match self {
            Desk::Studio(client) => Ok(client.change_account(name, &patch)?),
            Desk::Files(files) => {
                let view = people::change(&files.accounts, name, patch)?;
                files.write_down("account.change", name, what)?;
                Ok(view)
            }
        }
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        match self {
            Desk::Studio(client) => Ok(client.remove_account(name)?),
            Desk::Files(files) => {
                people::remove(&files.accounts, name)?;
                files.write_down("account.remove", name, "")
            }
        }
    }

    /// One's own, or everybody's.
    pub fn tokens(&self, all: bool) -> Result<Vec<TokenView>> {
        match self {
            Desk::Studio(client) => Ok(client.tokens(all)?),
            Desk::Files(files) => {
                let mine = daemon::owner_name();
                Ok(people::tokens(&files.accounts, (!all).then_some(&mine))?)
            }
        }
    }

    pub fn create_token(&self, token: NewToken) -> Result<CreatedToken> {
        match self {
            Desk::Studio(client) => Ok(client.create_token(&token)?),
            Desk::Files(files) => {
                let account = token.account.clone().unwrap_or_else(daemon::owner_name);
                let created = people::create_token(&files.accounts, &account, token, Access::Admin)?;
                let TokenView { id, name, scope, account, .. } = &created.token;
                files.write_down("token.create", &id.to_string(), &format!("{name} for {account}, scope {scope}"))?;
                Ok(created)
            }
        }
    }

    pub fn revoke_token(&self, id: i64) -> Result<()> {
        match self {
            Desk::Studio(client) => Ok(client.revoke_token(id)?),
            Desk::Files(files) => {
                let TokenView { name, account, .. } = people::revoke_token(&files.accounts, id, None)?;
                files.write_down("token.revoke", &id.to_string(), &format!("{name} of {account}"))
            }
        }
    }
}

impl Files {
    /// Brings the database up to date first, as a starting studio does.
    pub fn open(home: &Home) -> Result<Files> {
        std::fs::create_dir_all(home.root()).map_err(|error| CliError::file(home.root(), &error))?;
        let open = || -> std::result::Result<Files, StoreError> {
            drop(store::Writer::open(&home.database())?);
            Ok(Files { accounts: Accounts::open(&home.database())?, audit: Audit::open(&home.audit())? })
        };
        let files = open().map_err(failed)?;
        // A token needs an account to belong to.
        daemon::owner_account(&files.accounts)?;
        Ok(files)
    }

    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    fn write_down(&self, action: &str, target: &str, detail: &str) -> Result<()> {
        let entry = Entry {
            at: Timestamp::now(),
            who: daemon::owner_name(),
            address: "local".into(),
            action: action.into(),
            target: Some(target.into()),
            outcome: "ok".into(),
            detail: Some(detail.to_owned()).filter(|detail| !detail.is_empty()),
        };
        self.audit.append(&[entry]).map_err(failed)
    }
}

pub fn failed(error: StoreError) -> CliError {
    server::ApiError::from(error).into()
}
