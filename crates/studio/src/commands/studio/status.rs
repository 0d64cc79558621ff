use std::process::ExitCode;

use clap::Args;
use client::{Client, ClientError, TaskFilter};
use domain::Home;
use serde_json::json;

use crate::{
    commands::task::status_word,
    daemon::database::{describe, found},
    error::{NOT_RUNNING, Result},
    output::{self, local_time},
    text::text,
};

#[derive(Args)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(home: &Home, command: &Status) -> Result<ExitCode> {
    let client = match Client::connect(home) {
        Ok(client) => client,
        Err(ClientError::NotRunning { .. }) => {
            if command.json {
                let recoveries = store::recoveries(&home.database());
                output::json(&json!({ "running": false, "home": home.root(), "recoveries": recoveries }))?;
            } else {
                let root = home.root().display();
                output::print(&text(
                    format!("{root} 上没有运行中的 Studio\n"),
                    format!("no studio is running on {root}\n"),
                ))?;
                tell_damages(home)?;
            }
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let studio = client.studio()?;
    let page = client.tasks(&TaskFilter { limit: Some(1), ..TaskFilter::default() })?;
    if command.json {
        output::json(&json!({
            "running": true,
            "address": client.address(),
            "studio": studio,
            "counts": page.counts,
            "recoveries": store::recoveries(&home.database()),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let counts: Vec<String> = page
        .counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(status, count)| format!("{} {count}", status_word(status)))
        .collect();
    let counts = if counts.is_empty() { text("无", "none").to_owned() } else { counts.join(", ") };
    let (address, version, pid, since) =
        (client.address(), &studio.version, studio.pid, local_time(&studio.started_at));
    output::print(&text(
        format!(
            "运行中：{address}\n版本：{version}\npid：{pid}\n启动于：{since}\n目录：{}\n任务：{counts}\n",
            studio.home
        ),
        format!(
            "running:  {address}\nversion:  {version}\npid:      {pid}\nsince:    {since}\nhome:     {}\ntasks:    {counts}\n",
            studio.home
        ),
    ))?;
    for short in &studio.short_of {
        output::print(&format!("{}{}\n", text("注意：", "note:     "), text(&short.zh, &short.en)))?;
    }
    tell_damages(home)?;
    Ok(ExitCode::SUCCESS)
}

fn tell_damages(home: &Home) -> Result<()> {
    for database in [home.database(), home.audit()] {
        if let Some(damage) = store::suspected(&database) {
            output::print(&format!("{}\n", found(&database, &damage)))?;
        }
    }
    store::recoveries(&home.database())
        .iter()
        .try_for_each(|recovery| output::print(&format!("{}\n", describe(recovery))))
}
