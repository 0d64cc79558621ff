//! `sage token`: secrets for scripts and for the command line on other machines.

use std::process::ExitCode;

use api_types::{CreatedToken, NewToken, TokenView};
use clap::{Args, Subcommand};
use domain::Home;

use super::people::Desk;
use crate::{
    error::Result,
    output::{self, Table},
    text::text,
};

#[derive(Subcommand)]
pub enum Token {
    /// Make a token and print its secret, this once
    Create(Create),
    /// List tokens, without their secrets
    List(List),
    /// Make tokens worthless
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Create {
    /// What it is for
    name: String,
    /// read: look on; submit: also submit and manage one's own; admin: all that the account may
    #[arg(long, default_value = "submit", value_parser = ["read", "submit", "admin"], hide_possible_values = true)]
    scope: String,
    /// Days until it expires; left out: never
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Whose it is [default: yours]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct List {
    /// Everybody's
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Revoke {
    /// Numbers of the tokens, from `sage token list`
    #[arg(required = true, value_name = "NUMBER")]
    ids: Vec<i64>,
}

pub fn run(home: &Home, command: Token) -> Result<ExitCode> {
    let desk = Desk::open(home)?;
    match command {
        Token::Create(Create { name, scope, days, user, json }) => {
            let created = desk.create_token(NewToken { name, scope, expires_in_days: days, account: user })?;
            if json {
                output::json(&created)?;
            } else {
                let CreatedToken { token, secret } = created;
                eprintln!(
                    "{}",
                    text(
                        format!("令牌 {}（{}，权限 {}）；密钥只显示这一次：", token.id, token.account, token.scope),
                        format!(
                            "token {} of {}, scope {}; its secret is shown this once:",
                            token.id, token.account, token.scope
                        ),
                    )
                );
                output::print(&format!("{secret}\n"))?;
            }
        }
        Token::List(List { all, json }) => {
            let tokens = desk.tokens(all)?;
            if json { output::json(&tokens)? } else { print(&tokens)? }
        }
        Token::Revoke(Revoke { ids }) => {
            for id in ids {
                desk.revoke_token(id)?;
                output::print(&text(format!("已吊销令牌 {id}\n"), format!("revoked token {id}\n")))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(tokens: &[TokenView]) -> Result<()> {
    let mut table = Table::new(text(
        ["编号", "用户", "名称", "权限", "创建时间", "到期", "最近使用"],
        ["NUMBER", "USER", "NAME", "SCOPE", "CREATED", "EXPIRES", "LAST USED"],
    ));
    let time = |iso: &Option<String>| output::or_dash(iso.as_deref().map(output::local_time));
    for token in tokens {
        let TokenView { id, account, name, scope, created_at, expires_at, last_used_at } = token;
        table.row([
            id.to_string(),
            account.clone(),
            name.clone(),
            scope.clone(),
            output::local_time(created_at),
            time(expires_at),
            time(last_used_at),
        ]);
    }
    table.print()
}
