//! `sage studio backup` and `restore`.

use std::path::{Path, PathBuf};

use clap::Args;
use domain::Home;
use jiff::Timestamp;
use serde_json::json;
use store::{Backups, StoreError, Why};

use crate::{
    daemon,
    error::{CliError, Result},
    output::{self, Table, local_time},
    text::text,
};

#[derive(Args)]
pub struct Backup {
    /// Where to; must not exist yet [default: a new file in backups/ of the home]
    #[arg(value_name = "FILE", conflicts_with = "list")]
    file: Option<PathBuf>,
    /// List the backups in the home instead
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long, requires = "list")]
    json: bool,
}

#[derive(Args)]
pub struct Restore {
    /// A file that `sage studio backup` has made
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Works beside a running studio.
pub fn backup(home: &Home, command: &Backup) -> Result<()> {
    let backups = Backups::of(&home.database());
    let audit = Backups::of(&home.audit());
    if command.list {
        return list(&[backups.list(), audit.list()].concat(), command.json);
    }
    if !home.database().exists() {
        let root = home.root().display();
        let sentence = text(format!("{root} 中没有数据库"), format!("there is no database in {root}"));
        return Err(CliError::new("backup-failed", sentence)
            .next(text("检查 --home，或先启动 Studio", "check --home, or start the studio first")));
    }
    let path = match &command.file {
        None => {
            let make = |backups: &Backups| backups.make(Why::ByHand, Timestamp::now()).map_err(|error| failed(&error));
            if home.audit().exists() {
                make(&audit)?;
            }
            make(&backups)?.path
        }
        Some(file) if file.exists() => {
            let file = file.display();
            let sentence = text(format!("{file} 已存在"), format!("{file} exists already"));
            return Err(CliError::new("backup-exists", sentence).next(text("换一个文件名", "choose another name")));
        }
        Some(file) => {
            let file = absolute(file)?;
            store::back_up(&home.database(), &file).map_err(|error| failed(&error))?;
            file
        }
    };
    output::print(&format!("{}\n", path.display()))
}

fn list(found: &[store::Backup], as_json: bool) -> Result<()> {
    if as_json {
        return output::json(&json!(found));
    }
    let mut table = Table::new([text("时间", "WHEN"), text("原因", "WHY"), text("文件", "FILE")]);
    for backup in found {
        let why = match backup.why {
            Why::Hourly => text("每小时", "hourly"),
            Why::Daily => text("每日", "daily"),
            Why::BeforeMigration => text("升级前", "before an upgrade"),
            Why::BeforeRestore => text("恢复前", "before a restore"),
            Why::ByHand => text("手动", "by hand"),
        };
        table.row([local_time(&backup.at.to_string()), why.to_owned(), backup.path.display().to_string()]);
    }
    table.print()
}

/// Only without a studio, whose place this takes for the moment.
pub fn restore(home: &Home, command: &Restore) -> Result<()> {
    let file = absolute(&command.file)?;
    let _lock = daemon::HomeLock::take(home)?;
    store::restore(&file, &home.database(), Timestamp::now()).map_err(|error| match error {
        StoreError::Newer { .. }
        | StoreError::NotOurs { .. }
        | StoreError::Open { .. }
        | StoreError::Corrupt { .. } => {
            let file = file.display();
            let sentence = text(format!("{file} 不能用于恢复：{error}"), format!("{file} cannot be restored: {error}"));
            CliError::new("backup-unusable", sentence).next(text(
                "选择另一个备份：sage studio backup --list",
                "choose another backup: sage studio backup --list",
            ))
        }
        error => failed(&error),
    })?;
    let file = file.display();
    output::print(&text(
        format!("已从 {file} 恢复；恢复前的数据库也已备份：sage studio backup --list\n启动：sage studio start\n"),
        format!(
            "restored {file}; what was there before is a backup too: sage studio backup --list\n\
             start again: sage studio start\n"
        ),
    ))
}

fn failed(error: &StoreError) -> CliError {
    let sentence = text(format!("备份没有完成：{error}"), format!("the backup was not made: {error}"));
    CliError::new("backup-failed", sentence)
        .next(text("检查磁盘空间和权限", "check the free space and the permissions"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| CliError::file(path, &error))
}
