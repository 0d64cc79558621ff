//! The database before the studio uses it, and its backups while it does.

use std::{path::Path, thread, time::Duration};

use domain::Home;
use jiff::Timestamp;
use store::{Audit, Backups, Due, Kind, Recovery, StoreError};

use crate::{
    error::{CliError, Result},
    output::local_time,
    text::text,
};

const CODE: &str = "database-damaged";
/// A backup that could not be made is tried again after this.
const RETRY: Duration = Duration::from_secs(3600);

/// Replaces damaged databases by their newest backups, and says so.
pub fn recover(home: &Home) -> Result<()> {
    let failed = |error: StoreError| CliError::new("studio-start-failed", error.to_string());
    let mut damaged = false;
    for database in [home.database(), home.audit()] {
        let Some(recovery) = store::recover(&database, Timestamp::now()).map_err(failed)? else { continue };
        damaged = true;
        let sentence = describe(&recovery);
        tracing::error!("{sentence}");
        if recovery.kind() == Kind::Audit {
            let audit = Audit::open(&database).map_err(failed)?;
            audit.append(&[server::by_studio("audit.restore", Some(sentence))]).map_err(failed)?;
        }
    }
    if !damaged {
        tracing::info!("the databases show no damage");
    }
    Ok(())
}

/// One sentence for people, with where to look and what to do.
pub fn describe(recovery: &Recovery) -> String {
    let Recovery { at, damage, set_aside, restored } = recovery;
    let (at, file) = (local_time(&at.to_string()), set_aside.display());
    let file = match recovery.was_missing() {
        true => {
            text(format!("没有找到数据库文件，此事记录在 {file}"), format!("There was no file; a note of it is {file}"))
        }
        false => text(format!("损坏的文件是 {file}"), format!("The damaged file is {file}")),
    };
    if recovery.kind() == Kind::Audit {
        let since = restored.as_ref().map(|backup| local_time(&backup.at.to_string()));
        let (zh, en) = match since {
            Some(since) => (format!("已由 {since} 的备份替代"), format!("replaced by the backup of {since}")),
            None => ("已重新开始".into(), "begun anew, as there was no good backup".into()),
        };
        return text(
            format!("[{CODE}] 审计日志在 {at} 被发现损坏（{damage}），{zh}。{file}，删除它后本消息消失"),
            format!(
                "[{CODE}] the audit log was found damaged at {at} ({damage}) and {en}. {file}; \
                 delete it to end this message"
            ),
        );
    }
    match restored {
        Some(backup) => {
            let of = local_time(&backup.at.to_string());
            text(
                format!(
                    "[{CODE}] 数据库在 {at} 被发现损坏（{damage}），已由 {of} 的备份替代：此后的任务不在其中，其文件仍在。\
                     {file}，删除它后本消息消失"
                ),
                format!(
                    "[{CODE}] the database was found damaged at {at} ({damage}) and replaced by the backup of \
                     {of}: tasks since then are not in it, their files are still there. {file}; \
                     delete it to end this message"
                ),
            )
        }
        None => text(
            format!(
                "[{CODE}] 数据库在 {at} 被发现损坏（{damage}），没有完好的备份，已从空数据库开始；任务的文件仍在。\
                 {file}，删除它后本消息消失"
            ),
            format!(
                "[{CODE}] the database was found damaged at {at} ({damage}) and there was no good backup, so \
                 the studio began with an empty one; the tasks' files are still there. {file}; \
                 delete it to end this message"
            ),
        ),
    }
}

/// One sentence for people about a damage that the next start repairs.
pub fn found(database: &Path, damage: &str) -> String {
    let name = database.display();
    text(
        format!("[{CODE}] {name} 已损坏（{damage}）；重新启动 Studio（sage studio restart）即可从最新的备份继续"),
        format!(
            "[{CODE}] {name} is damaged ({damage}); restart the studio (sage studio restart) to go on from the newest backup"
        ),
    )
}

/// Checks each database once and backs it up every day, and every hour in which it has changed, as long as this process
/// lives.
pub fn look_after(home: &Home) {
    for database in [home.database(), home.audit()] {
        let work = move || look_after_one(&database);
        if let Err(error) = thread::Builder::new().name("database".into()).spawn(work) {
            tracing::warn!("no thread for backups: {error}");
        }
    }
}

fn look_after_one(database: &Path) {
    let name = database.display();
    match store::verify(database) {
        Ok(None) => {}
        Ok(Some(damage)) => tracing::error!("{}", found(database, &damage)),
        Err(error) => tracing::warn!("{name} could not be checked: {error}"),
    }
    let backups = Backups::of(database);
    loop {
        let pause = match backups.due(Timestamp::now()) {
            Due::In(pause) => pause,
            Due::Now(why) => match backups.make(why, Timestamp::now()) {
                Ok(backup) => {
                    tracing::info!("backed {name} up: {}", backup.path.display());
                    continue;
                }
                Err(error) => {
                    tracing::warn!("{name} could not be backed up: {error}");
                    RETRY
                }
            },
        };
        thread::sleep(pause);
    }
}
