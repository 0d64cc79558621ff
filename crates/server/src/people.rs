//! What owners do with accounts and tokens, over HTTP and, while no studio runs, from the command line.
//!
//! All of it may block.

use api_types::{AccountPatch, AccountView, CreatedToken, NewAccount, NewToken, Quota, TokenView};
use axum::http::StatusCode;
use domain::Allowance;
use jiff::{SignedDuration, Timestamp};
use store::{Access, Account, Accounts, Role, StoreError, Token};

use crate::{
    auth::{self, GUEST},
    error::{ApiError, Result},
    passwords,
};

/// Longest name of an account or a token, in characters.
const LONGEST_NAME: usize = 64;
/// Tokens that one account has at most.
const TOKENS: usize = 100;
const LONGEST_LIFE: u32 = 3650;

pub fn list(accounts: &Accounts) -> Result<Vec<AccountView>> {
    let tokens = accounts.tokens()?;
    let all = accounts.list()?.into_iter().filter(|account| account.username != GUEST);
    Ok(all.map(|account| view(&account, &tokens)).collect())
}

pub fn add(accounts: &Accounts, account: NewAccount) -> Result<AccountView> {
    let NewAccount { name, password, role, quota, inherit } = account;
    let role = role.as_deref().map_or(Ok(Role::Member), role_of)?;
    let allowance = quota.map_or(Ok(Allowance::default()), allowance)?;
    let hash = password.map(|password| new_password(&password, passwords::LENGTH)).transpose()?;
    if !inherit {
        owns_nothing(accounts, name.trim())?;
    }
    create(accounts, &name, hash.as_deref(), role, &allowance).map(|account| view(&account, &[]))
}

/// What the audit log says of it.
pub fn added(account: &AccountView, inherits: bool) -> String {
    let what = if inherits { "; gets what an account of this name has left" } else { "" };
    format!("{}{what}", account.role)
}

/// As the first generation registers people: the first is the owner.
pub fn register(accounts: &Accounts, name: &str, password: &str) -> Result<Account> {
    let hash = new_password(password, passwords::FIRST_GENERATION_LENGTH)?;
    let first = accounts.list()?.iter().all(|account| account.password_hash.is_none());
    let role = if first { Role::Owner } else { Role::Member };
    owns_nothing(accounts, name.trim())?;
    create(accounts, name, Some(&hash), role, &Allowance::default())
}

fn create(accounts: &Accounts, name: &str, hash: Option<&str>, role: Role, allowance: &Allowance) -> Result<Account> {
    let name = name_of(name)?;
    let taken =
        || ApiError::bad_request("name-taken", "the name is taken").zh("用户名已存在").next("Choose another name");
    if name == GUEST {
        return Err(taken());
    }
    accounts.create(name, hash, role, allowance, Timestamp::now()).map_err(|error| match error {
        StoreError::NameTaken(_) => taken(),
        error => error.into(),
    })
}

/// What is owned is owned by name, so a new account of an old name would be handed all that the old one has left.
fn owns_nothing(accounts: &Accounts, name: &str) -> Result<()> {
    // Of one that is there, it is the name itself that is taken.
    if accounts.by_name(name)?.is_some() {
        return Ok(());
    }
    let (tasks, data_sets) = accounts.owned_by(name)?;
    if (tasks, data_sets) == (0, 0) {
        return Ok(());
    }
    let detail = format!("an account {name} that was removed has left {tasks} tasks and {data_sets} data sets");
    Err(ApiError::conflict("name-has-things", detail)
        .zh(format!(
            "已删除的账号 {name} 留下了 {tasks} 个任务和 {data_sets} 个数据集；请换一个名称，或先删除它们，\
             或由所有者明确移交：sage user add {name} --inherit"
        ))
        .next(format!(
            "Choose another name, delete them, or have an owner hand them over: sage user add {name} --inherit"
        )))
}

pub fn change(accounts: &Accounts, name: &str, patch: AccountPatch) -> Result<AccountView> {
    let AccountPatch { role, password, quota } = patch;
    // All is checked before anything is changed.
    let account = find(accounts, name)?;
    let role = role.as_deref().map(role_of).transpose()?;
    let allowance = quota.map(allowance).transpose()?;
    let hash = password.map(|password| new_password(&password, passwords::LENGTH)).transpose()?;
    if let Some(role) = role {
        accounts.set_role(account.id, role)?;
    }
    if let Some(allowance) = allowance {
        accounts.set_allowance(account.id, &allowance)?;
    }
    if let Some(hash) = hash {
        accounts.set_password(account.id, &hash)?;
    }
    Ok(view(&find(accounts, name)?, &accounts.tokens()?))
}

pub fn remove(accounts: &Accounts, name: &str) -> Result<()> {
    Ok(accounts.remove(find(accounts, name)?.id)?)
}

/// Of this account, or of all.
pub fn tokens(accounts: &Accounts, of: Option<&str>) -> Result<Vec<TokenView>> {
    let tokens = accounts.tokens()?;
    Ok(tokens.iter().filter(|token| of.is_none_or(|name| token.account == name)).map(token_view).collect())
}

/// The scope is at most `most`.
pub fn create_token(accounts: &Accounts, account: &str, token: NewToken, most: Access) -> Result<CreatedToken> {
    let NewToken { name, scope: word, expires_in_days, account: _ } = token;
    let name = name_of(&name)?;
    let account = find(accounts, account)?;
    let scope = Access::parse(&word).ok_or_else(|| {
        ApiError::invalid(
            format!("scope is {word:?}; use read, submit or admin"),
            format!("scope 为 {word:?}；请用 read、submit 或 admin"),
        )
    })?;
    if scope > most {
        let (most, scope) = (most.as_str(), scope.as_str());
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "scope-too-wide",
            format!("you can do {most}, and a token for {scope} could do more"),
        )
        .zh(format!("您的权限是 {most}，不能创建权限为 {scope} 的令牌；请选择更小的范围，或请所有者创建"))
        .next(format!("Ask for scope {most} or less, or let an owner make the token")));
    }
    let now = Timestamp::now();
    let expires_at = match expires_in_days {
        None => None,
        Some(days @ 1..=LONGEST_LIFE) => Some(now + SignedDuration::from_hours(24 * i64::from(days))),
        Some(days) => {
            return Err(ApiError::invalid(
                format!("expires_in_days is {days}; use 1 to {LONGEST_LIFE}"),
                format!("expires_in_days 为 {days}；请用 1 到 {LONGEST_LIFE}"),
            ));
        }
    };
    if accounts.tokens()?.iter().filter(|token| token.account == account.username).count() >= TOKENS {
        return Err(ApiError::conflict("too-many-tokens", format!("{} has {TOKENS} tokens", account.username))
            .zh(format!("{} 已有 {TOKENS} 个令牌，请先吊销不用的", account.username))
            .next("Revoke those that are not used"));
    }
    let secret = auth::new_token()?;
    let token = accounts.create_token(&account, name, &auth::secret_hash(&secret), scope, expires_at, now)?;
    Ok(CreatedToken { token: token_view(&token), secret })
}

/// One of this account's, or of anybody's.
pub fn revoke_token(accounts: &Accounts, id: i64, of: Option<&str>) -> Result<TokenView> {
    let token = accounts.tokens()?.into_iter().find(|token| token.id == id);
    let token = token.filter(|token| of.is_none_or(|name| token.account == name)).ok_or_else(|| {
        ApiError::not_found(format!("there is no token {id}"))
            .zh(format!("没有编号为 {id} 的令牌"))
            .next("GET /api/v1/tokens lists them")
    })?;
    accounts.revoke_token(id)?;
    Ok(token_view(&token))
}

pub fn find(accounts: &Accounts, name: &str) -> Result<Account> {
    accounts.by_name(name)?.filter(|account| account.username != GUEST).ok_or_else(|| {
        ApiError::not_found(format!("there is no account {name:?}"))
            .zh(format!("没有账号 {name:?}"))
            .next("GET /api/v1/accounts lists them")
    })
}

/// The hash of a password that is long enough.
pub fn new_password(password: &str, least: usize) -> Result<String> {
    passwords::check_length(password, least)?;
    passwords::hash(password)
}

fn name_of(name: &str) -> Result<&str> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::bad_request("bad-name", format!("a name has 1 to {LONGEST_NAME} characters"))
            .zh(format!("名称需要 1 到 {LONGEST_NAME} 个字符"))
            .next("Choose another name"));
    }
    Ok(name)
}

fn role_of(word: &str) -> Result<Role> {
    Role::parse(word).ok_or_else(|| {
        ApiError::invalid(
            format!("role is {word:?}; use owner, member or viewer"),
            format!("role 为 {word:?}；请用 owner、member 或 viewer"),
        )
    })
}

fn allowance(quota: Quota) -> Result<Allowance> {
    let Quota { weight, running, queued, gpus, gpu_hours_per_day, disk_bytes } = quota;
    if !(weight > 0.0 && weight <= 1000.0) {
        return Err(ApiError::invalid(
            format!("quota.weight is {weight}; use a number above 0, at most 1000"),
            format!("quota.weight 为 {weight}；请用大于 0、不超过 1000 的数"),
        ));
    }
    if let Some(hours) = gpu_hours_per_day.filter(|hours| !(*hours >= 0.0 && hours.is_finite())) {
        return Err(ApiError::invalid(
            format!("quota.gpu_hours_per_day is {hours}; use 0 or more"),
            format!("quota.gpu_hours_per_day 为 {hours}；请用 0 或更大的数"),
        ));
    }
    Ok(Allowance { weight, running, queued, gpus, gpu_hours_per_day, disk_bytes })
}

pub fn quota(allowance: &Allowance) -> Quota {
    let Allowance { weight, running, queued, gpus, gpu_hours_per_day, disk_bytes } = *allowance;
    Quota { weight, running, queued, gpus, gpu_hours_per_day, disk_bytes }
}

fn view(account: &Account, tokens: &[Token]) -> AccountView {
    let tokens = tokens.iter().filter(|token| token.account == account.username).count();
    AccountView {
        name: account.username.clone(),
        role: account.role.as_str().into(),
        created_at: account.created_at.to_string(),
        has_password: account.password_hash.is_some(),
        tokens: tokens as u32,
        quota: quota(&account.allowance),
    }
}

fn token_view(token: &Token) -> TokenView {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    TokenView {
        id: token.id,
        account: token.account.clone(),
        name: token.name.clone(),
        scope: token.scope.as_str().into(),
        created_at: token.created_at.to_string(),
        expires_at: time(token.expires_at),
        last_used_at: time(token.last_used_at),
    }
}
