//! `sage user`: who may use the studio, and how much of it.

use std::{
    io::{BufRead, IsTerminal},
    path::Path,
    process::ExitCode,
};

use api_types::{AccountPatch, AccountView, NewAccount, Quota};
use clap::{Args, Subcommand};
use domain::Home;

use super::people::Desk;
use crate::{
    config::parse_bytes,
    error::{CliError, Result},
    output::{self, Table},
    text::text,
};

#[derive(Subcommand)]
pub enum User {
    /// Make an account; asks for its password
    Add(Add),
    /// List the accounts with their roles and quotas
    List(List),
    /// Make somebody owner, member or viewer
    Role(Role),
    /// Set a new password, which ends the account's sessions
    Password(Password),
    /// Limit what somebody may have of the machine
    Quota(Limits),
    /// Remove an account with its sessions and tokens; its tasks stay
    Remove(Named),
}

#[derive(Args)]
pub struct Add {
    /// The account's name
    name: String,
    /// owner, member or viewer [default: owner for the first, then member]
    #[arg(long)]
    role: Option<String>,
    /// Read the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
    /// No password: the account can only use tokens
    #[arg(long, conflicts_with = "password_stdin")]
    no_password: bool,
    /// Hand over the tasks and data sets that a removed account of this name has left behind
    #[arg(long)]
    inherit: bool,
}

#[derive(Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Role {
    /// The account's name
    name: String,
    /// owner: everything; member: tasks and data sets of their own; viewer: looks on
    role: String,
}

#[derive(Args)]
pub struct Password {
    /// The account's name
    name: String,
    /// Read the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args)]
pub struct Named {
    /// The account's name
    name: String,
}

#[derive(Args)]
pub struct Limits {
    /// The account's name
    name: String,
    /// Share of the GPU time beside others who want more than there is [default: 1]
    #[arg(long, value_name = "N")]
    weight: Option<f64>,
    /// Tasks that run at once; none: no limit
    #[arg(long, value_name = "N", value_parser = limit::<u32>)]
    running: Option<Limit<u32>>,
    /// Tasks that wait at once; none: no limit
    #[arg(long, value_name = "N", value_parser = limit::<u32>)]
    queued: Option<Limit<u32>>,
    /// GPUs in use at once; none: no limit
    #[arg(long, value_name = "N", value_parser = limit::<u32>)]
    gpus: Option<Limit<u32>>,
    /// GPU-hours within 24 hours; none: no limit
    #[arg(long, value_name = "HOURS", value_parser = limit::<f64>)]
    gpu_hours_per_day: Option<Limit<f64>>,
    /// Room for data sets and task folders, such as 200GiB; none: no limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    disk: Option<Limit<u64>>,
}

/// What an option sets: a figure, or that there is no limit.
#[derive(Debug, Clone, Copy)]
struct Limit<T>(Option<T>);

fn limit<T: std::str::FromStr>(word: &str) -> std::result::Result<Limit<T>, String> {
    match word {
        "none" => Ok(Limit(None)),
        word => word.parse().map(|figure| Limit(Some(figure))).map_err(|_| {
            text(format!("{word:?} 不是数字，也不是 none"), format!("{word:?} is neither a number nor none"))
        }),
    }
}

fn size(word: &str) -> std::result::Result<Limit<u64>, String> {
    if word == "none" { Ok(Limit(None)) } else { parse_bytes(word).map(|bytes| Limit(Some(bytes))) }
}

pub fn run(home: &Home, command: User) -> Result<ExitCode> {
    let desk = Desk::open(home)?;
    match command {
        User::Add(Add { name, role, password_stdin, no_password, inherit }) => {
            let first = desk.accounts()?.iter().all(|account| !account.has_password);
            let role = role.unwrap_or_else(|| if first { "owner" } else { "member" }.into());
            let password = if no_password { None } else { Some(password(password_stdin)?) };
            let account = desk.add(NewAccount { name, password, role: Some(role), quota: None, inherit })?;
            let AccountView { name, role, .. } = account;
            output::print(&text(format!("已创建账号 {name}（{role}）\n"), format!("made account {name} ({role})\n")))?;
        }
        User::List(List { json }) => {
            let accounts = desk.accounts()?;
            if json { output::json(&accounts)? } else { print(&accounts)? }
        }
        User::Role(Role { name, role }) => {
            let patch = AccountPatch { role: Some(role.clone()), ..AccountPatch::default() };
            let AccountView { name, role, .. } = desk.change(&name, patch, &format!("role {role}"))?;
            output::print(&text(format!("{name} 现在是 {role}\n"), format!("{name} is {role} now\n")))?;
        }
        User::Password(Password { name, password_stdin }) => {
            let patch = AccountPatch { password: Some(password(password_stdin)?), ..AccountPatch::default() };
            let name = desk.change(&name, patch, "password")?.name;
            output::print(&text(
                format!("已修改 {name} 的密码，其会话已结束\n"),
                format!("changed the password of {name}; its sessions have ended\n"),
            ))?;
        }
        User::Quota(limits) => {
            let accounts = desk.accounts()?;
            let quota = accounts.into_iter().find(|account| account.name == limits.name).map(|account| account.quota);
            // An unknown name is refused by whoever changes it.
            let quota = changed(quota.unwrap_or_default(), &limits);
            let patch = AccountPatch { quota: Some(quota), ..AccountPatch::default() };
            print(&[desk.change(&limits.name, patch, "quota")?])?;
        }
        User::Remove(Named { name }) => {
            desk.remove(&name)?;
            output::print(&text(format!("已删除账号 {name}\n"), format!("removed account {name}\n")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn changed(quota: Quota, limits: &Limits) -> Quota {
    Quota {
        weight: limits.weight.unwrap_or(quota.weight),
        running: limits.running.map_or(quota.running, |limit| limit.0),
        queued: limits.queued.map_or(quota.queued, |limit| limit.0),
        gpus: limits.gpus.map_or(quota.gpus, |limit| limit.0),
        gpu_hours_per_day: limits.gpu_hours_per_day.map_or(quota.gpu_hours_per_day, |limit| limit.0),
        disk_bytes: limits.disk.map_or(quota.disk_bytes, |limit| limit.0),
    }
}

/// Never from the arguments, which everybody on the machine can read.
fn password(from_stdin: bool) -> Result<String> {
    let unreadable = |error: std::io::Error| CliError::file(Path::new("stdin"), &error);
    if from_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(unreadable)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "no-password",
            text("没有终端可以输入密码", "there is no terminal to ask for a password"),
        )
        .next(text("用 --password-stdin 从标准输入读取", "give it on stdin with --password-stdin")));
    }
    let terminal = console::Term::stderr();
    let ask = |prompt: &str| {
        terminal.write_str(prompt)?;
        terminal.read_secure_line()
    };
    let first = ask(text("密码（至少 8 个字符）：", "password (at least 8 characters): ")).map_err(unreadable)?;
    let second = ask(text("再输入一次：", "once more: ")).map_err(unreadable)?;
    if first != second {
        return Err(CliError::usage("passwords-differ", text("两次输入的密码不同", "the two passwords differ"))
            .next(text("请重新运行", "run it again")));
    }
    Ok(first)
}

fn print(accounts: &[AccountView]) -> Result<()> {
    let mut table = Table::new(text(
        ["用户", "角色", "密码", "令牌", "权重", "运行", "排队", "GPU", "GPU 小时/天", "磁盘"],
        ["NAME", "ROLE", "PASSWORD", "TOKENS", "WEIGHT", "RUNNING", "QUEUED", "GPUS", "GPU-HOURS/DAY", "DISK"],
    ));
    for AccountView { name, role, has_password, tokens, quota, .. } in accounts {
        let Quota { weight, running, queued, gpus, gpu_hours_per_day, disk_bytes } = *quota;
        table.row([
            name.clone(),
            role.clone(),
            if *has_password { text("有", "yes") } else { text("无", "no") }.into(),
            tokens.to_string(),
            weight.to_string(),
            output::or_dash(running),
            output::or_dash(queued),
            output::or_dash(gpus),
            output::or_dash(gpu_hours_per_day),
            output::or_dash(disk_bytes.map(output::bytes)),
        ]);
    }
    table.print()
}
