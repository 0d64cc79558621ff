//! Which files of the machine somebody may name in a request.
//!
//! The studio reads with the rights of its own user, so a path is as good as that user's permission. Owners, and
//! everybody where members are trusted, name what they like. Others name their own uploads, the models of the studio
//! and of the hub, and what their own tasks have made.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use domain::TaskId;

use crate::{
    app::App,
    auth::Who,
    error::{ApiError, Result},
};

/// The data set that a recipe means: a path, or the name of an upload. May block.
pub fn dataset(app: &App, who: &Who, file: &str) -> Result<PathBuf> {
    let path = app.datasets.locate(file)?;
    if who.is_admin() {
        return Ok(path);
    }
    match app.datasets.upload_name(&path) {
        // Other people's are not there.
        Some(name) => app.datasets.find(&name, who),
        None if app.options.trust_members => Ok(path),
        None => Err(not_yours("dataset-not-yours", &path, "上传该数据集", "Upload the data set")),
    }
}

/// A model by its name is everybody's; a folder has to be. May block.
pub fn check_model(app: &App, who: &Who, name: &str) -> Result<()> {
    if who.is_admin() || app.options.trust_members || !name.starts_with(['/', '.']) {
        return Ok(());
    }
    let home = app.engine.home();
    let real = |path: PathBuf| path.canonicalize().ok();
    let folder = real(PathBuf::from(name));
    let within = |parent: PathBuf| Some(folder.as_deref()?.strip_prefix(real(parent)?).ok()?.to_owned());
    if within(home.models()).is_some() {
        return Ok(());
    }
    let task = within(home.tasks())
        .and_then(|rest| rest.components().next()?.as_os_str().to_str()?.parse::<TaskId>().ok())
        .map(|id| app.engine.task(id))
        .transpose()?
        .flatten();
    match task {
        Some(snapshot) if snapshot.task.owner == who.name => Ok(()),
        _ => Err(not_yours("model-not-yours", Path::new(name), "按名称选择模型", "Choose a model by its name")),
    }
}

fn not_yours(code: &'static str, path: &Path, zh: &str, next: &'static str) -> ApiError {
    let path = path.display();
    ApiError::new(StatusCode::FORBIDDEN, code, format!("{path} is not among what you may use"))
        .zh(format!("您无权使用 {path}；请{zh}，或请所有者开启 trust_members"))
        .next(format!("{next}, or let an owner set trust_members"))
}
