//! `sage audit`: who did what, and whether anybody has tampered with the record.

use std::process::ExitCode;

use api_types::AuditEntry;
use clap::{Args, Subcommand};
use client::AuditQuery;
use domain::Home;
use store::{AuditFilter, Chain};

use super::people::{Desk, Files, failed};
use crate::{
    error::{CliError, Result},
    output::{self, Table, or_dash},
    text::text,
};

#[derive(Subcommand)]
pub enum Audit {
    /// List who did what, newest first
    List(List),
    /// Compute every hash again: was an entry changed, removed or put in?
    Verify(Verify),
}

#[derive(Args)]
pub struct List {
    /// Only what this account did
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only this action, such as task.submit, or all of a kind: task, account, token
    #[arg(long)]
    action: Option<String>,
    /// How many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only entries older than this one
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Verify {
    /// A head that was printed earlier: it must still be in the chain
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

pub fn run(home: &Home, command: Audit) -> Result<ExitCode> {
    match command {
        Audit::List(List { user: who, action, limit, before, json }) => {
            let entries = match Desk::open(home)? {
                Desk::Studio(client) => client.audit(&AuditQuery { who, action, limit: Some(limit), before })?.entries,
                Desk::Files(files) => {
                    let rows = files.audit().list(&AuditFilter { before, who, action, limit }).map_err(failed)?;
                    rows.into_iter().map(server::audit_entry).collect()
                }
            };
            if json {
                output::json(&entries)?
            } else {
                print(&entries)?
            }
            Ok(ExitCode::SUCCESS)
        }
        Audit::Verify(Verify { head }) => verify(home, head.as_deref()),
    }
}

/// Always in the file itself: whoever is to be checked is not asked.
fn verify(home: &Home, noted: Option<&str>) -> Result<ExitCode> {
    let files = Files::open(home)?;
    let tampered = |zh: String, en: String| {
        CliError::new("audit-tampered", text(zh, en))
            .next(text("请保留该文件的副本，并与备份比较", "keep a copy of the file, and compare it with a backup"))
    };
    let (rows, head) = match files.audit().verify().map_err(failed)? {
        Chain::Whole { rows, head } => (rows, server::hex(&head)),
        Chain::Broken { seq } => {
            return Err(tampered(
                format!("审计日志在第 {seq} 条处断裂：此条或其之前被修改、删除或插入"),
                format!(
                    "the audit log is broken at entry {seq}: it or what was before it was changed, removed or put in"
                ),
            ));
        }
    };
    if let Some(noted) = noted {
        let hash = parse_hash(noted).ok_or_else(|| {
            CliError::usage(
                "hash-invalid",
                text(format!("{noted:?} 不是 64 位十六进制"), format!("{noted:?} is not 64 hex digits")),
            )
            .next(text("使用 `sage audit verify` 先前输出的值", "give what `sage audit verify` printed earlier"))
        })?;
        if !files.audit().contains(&hash).map_err(failed)? {
            return Err(tampered(
                format!("审计日志中没有 {noted}：之后的记录被截去或整条链被重写"),
                format!("{noted} is not in the audit log: its end was cut off or the whole chain written anew"),
            ));
        }
    }
    output::print(&text(
        format!("完整：{rows} 条记录，链头 {head}\n"),
        format!("whole: {rows} entries, head {head}\n"),
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn parse_hash(hex: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn print(entries: &[AuditEntry]) -> Result<()> {
    let mut table = Table::new(text(
        ["编号", "时间", "用户", "地址", "操作", "对象", "结果", "详情"],
        ["NUMBER", "TIME", "USER", "ADDRESS", "ACTION", "TARGET", "OUTCOME", "DETAIL"],
    ));
    for AuditEntry { seq, at, who, address, action, target, outcome, detail, .. } in entries {
        table.row([
            seq.to_string(),
            output::local_time(at),
            who.clone(),
            address.clone(),
            action.clone(),
            or_dash(target.clone()),
            outcome.clone(),
            or_dash(detail.clone()),
        ]);
    }
    table.print()
}
