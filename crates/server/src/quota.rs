//! How much room on the disk an account may take. Its tasks and GPUs are the engine's business.

use std::{fs, path::Path};

use axum::http::StatusCode;

use crate::{
    app::{App, Shared},
    auth::Who,
    error::{ApiError, Result, blocking},
};

/// What somebody may still store.
#[derive(Clone)]
pub struct Room {
    app: Shared,
    owner: String,
}

impl Room {
    pub fn of(app: &Shared, who: &Who) -> Room {
        Room { app: app.clone(), owner: who.name.clone() }
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// In bytes; `None`: as much as there is. The error is that there are none.
    pub async fn left(&self) -> Result<Option<u64>> {
        // Most have no limit, and need not wait for a thread to be told so.
        if self.app.engine.view().disk_allowance(&self.owner).is_none() {
            return Ok(None);
        }
        let room = self.clone();
        blocking(move || room.now()).await
    }

    /// The same. May block.
    pub fn now(&self) -> Result<Option<u64>> {
        let account = self.app.accounts.by_name(&self.owner)?;
        let Some(limit) = account.and_then(|account| account.allowance.disk_bytes) else { return Ok(None) };
        let used = used(&self.app, &self.owner)?;
        if used < limit { Ok(Some(limit - used)) } else { Err(disk_full(Some(limit))) }
    }
}

/// There is room for less than is to be stored.
pub fn disk_full(limit: Option<u64>) -> ApiError {
    let (en, zh) = match limit {
        Some(limit) => (format!(" of {}", domain::gib(limit)), format!(" {}", domain::gib(limit))),
        None => Default::default(),
    };
    ApiError::new(
        StatusCode::FORBIDDEN,
        "quota-disk",
        format!("your data sets and tasks would need more than your quota{en}"),
    )
    .zh(format!("您的数据集和任务占用的空间将超过配额{zh}；请删除不用的任务或数据集，或请所有者提高配额"))
    .next("Delete tasks or data sets that are not needed, or ask an owner for a larger quota")
}

/// Bytes of somebody's uploads and task folders.
fn used(app: &App, name: &str) -> Result<u64> {
    let home = app.engine.home();
    let uploads = app.accounts.uploads()?.into_iter().filter(|(_, owner)| owner == name);
    let uploads = uploads.map(|(file, _)| size(&home.uploads().join(file)));
    let tasks = app.engine.reader().tasks_of(name)?.into_iter().map(|id| size(&home.task(id)));
    Ok(uploads.chain(tasks).sum())
}

/// Of a file, or of a folder with all that is in it; links are not followed.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
