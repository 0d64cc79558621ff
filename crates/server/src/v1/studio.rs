use std::time::Instant;

use api_types::{ErrorBody, Message, RecoveryView, StudioView};
use axum::{Json, extract::State};
use domain::{Home, gib};
use engine::{
    Settings,
    disk::{self, Verdict},
    host_memory::{self, Source},
};
use store::Kind;

use crate::{
    app::Shared,
    error::{Result, blocking},
};

/// The studio itself
#[utoipa::path(get, path = "/api/v1/studio", operation_id = "get_studio", tag = "studio", responses(
    (status = 200, body = StudioView),
    (status = 401, body = ErrorBody),
))]
pub async fn studio(State(app): State<Shared>) -> Result<Json<StudioView>> {
    let settings = app.engine.settings();
    let looking = app.clone();
    let look = move || {
        let home = looking.engine.home();
        let damaged = [home.database(), home.audit()].into_iter().filter(|path| store::suspected(path).is_some());
        let damaged = damaged.map(|path| Kind::of(&path).as_str().to_owned()).collect();
        Ok((store::recoveries(&home.database()), damaged, short_of(home, looking.engine.settings())))
    };
    let (recoveries, damaged, short_of) = blocking(look).await?;
    Ok(Json(StudioView {
        version: env!("CARGO_PKG_VERSION").into(),
        home: app.engine.home().root().display().to_string(),
        pid: std::process::id(),
        started_at: app.options.started_at.to_string(),
        default_time_limit_seconds: settings.default_time_limit,
        queue_warning: settings.queue_warning,
        upload_limit_bytes: app.options.upload_limit,
        authentication: app.options.authentication,
        recoveries: recoveries.iter().map(recovery).collect(),
        damaged,
        short_of,
    }))
}

/// Looked at here, because the engine looks only while there is something to do.
fn short_of(home: &Home, settings: &Settings) -> Vec<Message> {
    let room = disk::read(home.root());
    let disk = room.map_or(Verdict::Enough, |room| disk::judge(room, settings.min_free, 0.0, settings.grace, false));
    let source = settings.meminfo.clone().map_or_else(Source::machine, Source::file);
    let memory = host_memory::Guard::new(source, settings.min_free_memory).look(Instant::now());
    let figures = |verdict| match verdict {
        Verdict::Enough => None,
        Verdict::NothingNew { free, limit } | Verdict::PauseRunning { free, limit } => Some((gib(free), gib(limit))),
    };
    let disk = figures(disk).map(|(free, limit)| Message {
        code: "disk-full".into(),
        zh: format!("磁盘空间不足：剩余 {free}，低于 {limit} 时不启动任务。请清理磁盘。"),
        en: format!("The disk is almost full: {free} free, and no task starts below {limit}. Free some space."),
    });
    let memory = figures(memory).map(|(free, limit)| Message {
        code: "host-memory".into(),
        zh: format!("主机内存不足：可用 {free}，低于 {limit} 时不启动任务。请结束占用内存的程序。"),
        en: format!(
            "The machine is short of memory: {free} available, and no task starts below {limit}. End what holds it."
        ),
    });
    disk.into_iter().chain(memory).collect()
}

fn recovery(recovery: &store::Recovery) -> RecoveryView {
    RecoveryView {
        at: recovery.at.to_string(),
        database: recovery.kind().as_str().into(),
        backup_of: recovery.restored.as_ref().map(|backup| backup.at.to_string()),
    }
}
