//! `sage trainer`: which trainers there are, and the environment that one of them needs.

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use clap::{Args, Subcommand, ValueEnum};
use domain::Home;
use recipes::peft::{self, PeftError, PeftOptions};
use serde::Serialize;

use super::{attempt, peft::Teller};
use crate::{
    error::{CliError, Result},
    output::{self, Table, or_dash},
    text::text,
};

#[derive(Subcommand)]
pub enum Trainer {
    /// List the trainers, and what is installed of them
    List(List),
    /// Install what a trainer needs, now instead of with its first task
    Install(Named),
    /// Delete what was installed for a trainer
    Remove(Named),
}

#[derive(Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Named {
    /// The trainer: peft
    trainer: Installable,
}

/// Trainers that are not part of this program.
#[derive(Clone, Copy, ValueEnum)]
enum Installable {
    Peft,
}

pub fn run(home: &Home, command: Trainer) -> Result<ExitCode> {
    let options = PeftOptions::from_env(home);
    match command {
        Trainer::List(List { json }) => {
            let rows = rows(&options);
            if json {
                output::json(&rows)?
            } else {
                print(&rows)?
            }
            Ok(ExitCode::SUCCESS)
        }
        Trainer::Install(Named { trainer: Installable::Peft }) => install(&options, &attempt::stop_flag()?),
        Trainer::Remove(Named { trainer: Installable::Peft }) => {
            if let Some(pid) = peft::in_use(&options) {
                return Err(CliError::new(
                    "peft-in-use",
                    text(
                        format!("进程 {pid} 正在用 peft 训练器训练"),
                        format!("process {pid} is training with trainer peft"),
                    ),
                )
                .next(text(
                    "等待任务结束，或先取消：sage task list --state training",
                    "wait for the task, or cancel it first: sage task list --state training",
                )));
            }
            let freed = peft::remove(&options, &AtomicBool::new(false)).map_err(|error| peft_error(&error))?;
            let freed = output::bytes(freed);
            output::print(&text(format!("已删除，释放 {freed}\n"), format!("removed; {freed} freed\n")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn install(options: &PeftOptions, stop: &Arc<AtomicBool>) -> Result<ExitCode> {
    let mut teller = Teller::new();
    match peft::ensure(options, &mut |progress| teller.tell(&progress), stop) {
        Ok(environment) => {
            let path = environment.folder.display();
            output::print(&text(format!("已安装：{path}\n"), format!("installed: {path}\n")))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(PeftError::Stopped) => Ok(ExitCode::from(attempt::STOPPED)),
        Err(error) => Err(peft_error(&error)),
    }
}

fn peft_error(error: &PeftError) -> CliError {
    CliError::new(error.code(), text(error.message_zh(), error.to_string()))
}

/// A trainer, or an environment of it.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// `built-in`, `installed`, `outdated` (of another version or choice of PyTorch) or `not-installed`.
    status: &'static str,
    bytes: Option<u64>,
    path: Option<String>,
}

fn rows(options: &PeftOptions) -> Vec<Row> {
    let path = |path: &Path| Some(path.display().to_string());
    let installed = peft::installed(options);
    let mut rows = vec![Row { name: "builtin", status: "built-in", bytes: None, path: None }];
    if !installed.iter().any(|environment| environment.current) {
        rows.push(Row { name: "peft", status: "not-installed", bytes: None, path: path(&options.folder()) });
    }
    rows.extend(installed.iter().map(|environment| Row {
        name: "peft",
        status: if environment.current { "installed" } else { "outdated" },
        bytes: Some(environment.bytes),
        path: path(&environment.path),
    }));
    rows
}

fn print(rows: &[Row]) -> Result<()> {
    let mut table = Table::new(text(["训练器", "状态", "大小", "位置"], ["TRAINER", "STATUS", "SIZE", "PATH"]));
    for row in rows {
        let status = match row.status {
            "built-in" => text("内置", "built in"),
            "installed" => text("已安装", "installed"),
            "outdated" => text("旧版本", "outdated"),
            _ => text("未安装，首次使用时安装", "not installed; its first task installs it"),
        };
        let size = or_dash(row.bytes.map(output::bytes));
        table.row([row.name.to_owned(), status.to_owned(), size, or_dash(row.path.clone())]);
    }
    table.print()
}
