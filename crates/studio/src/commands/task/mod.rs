//! `sage task`: everything about tasks.

mod download;
mod follow;
mod group;
mod list;
mod show;
mod submit;

use std::process::ExitCode;

use api_types::TaskView;
use clap::{Args, Subcommand};
use client::Client;
use domain::Home;
use serde::Serialize;

use super::queue;
use crate::{error::Result, output, text::text};

pub use follow::follow;
pub use show::{adjusted, class_word, status_word};
pub use submit::Submit;

#[derive(Subcommand)]
pub enum Task {
    /// Submit a fine-tune, or any command after --
    Submit(Box<Submit>),
    /// List tasks, newest first
    List(list::List),
    /// Show one task in full
    Show(show::Show),
    /// Print a task's log
    Logs(Logs),
    /// Stop running or waiting tasks
    Cancel(Ids),
    /// Put held tasks into the queue
    Release(Ids),
    /// Delete ended tasks and their files
    Delete(Ids),
    /// Download the adapter of a completed task
    Download(download::Download),
}

#[derive(Args)]
pub struct Logs {
    /// The task, such as finetune_1760000000_1
    id: String,
    /// Go on until the task ends, and end with its exit status
    #[arg(short, long)]
    follow: bool,
}

#[derive(Args, Clone)]
pub struct Ids {
    /// The tasks, such as finetune_1760000000_1
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// The ids are of groups: do it to all of their tasks
    #[arg(long)]
    pub group: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(home: &Home, command: Task) -> Result<ExitCode> {
    let connect = || Client::connect(home);
    match command {
        Task::Submit(command) => submit::run(home, *command),
        Task::List(command) => list::run(&connect()?, &command),
        Task::Show(command) => show::run(&connect()?, &command),
        Task::Logs(Logs { id, follow: true }) => follow(home, &connect()?, &id),
        Task::Logs(Logs { id, follow: false }) => {
            output::print(&connect()?.log(&id, 0)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Cancel(ids) => cancel(&connect()?, ids),
        Task::Release(ids) => queue::release(&connect()?, ids),
        Task::Delete(ids) => delete(&connect()?, ids),
        Task::Download(command) => download::run(&connect()?, command),
    }
}

fn cancel(client: &Client, ids: Ids) -> Result<ExitCode> {
    let done = text("已取消", "cancelled");
    match ids.group {
        true => each(ids, |id| Ok(Some(client.cancel_group(id)?)), done),
        false => each(ids, |id| Ok(Some(client.cancel(id)?)), done),
    }
}

fn delete(client: &Client, ids: Ids) -> Result<ExitCode> {
    let done = text("已删除", "deleted");
    let delete = |id: &str| if ids.group { client.delete_group(id) } else { client.delete(id) };
    each(ids.clone(), |id| Ok(delete(id).map(|()| None::<TaskView>)?), done)
}

/// All of them, also when one fails; then with the exit status of the first failure.
pub fn each<T: Serialize>(ids: Ids, act: impl Fn(&str) -> Result<Option<T>>, done: &str) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut views = Vec::new();
    for id in &ids.ids {
        match act(id) {
            Ok(view) => {
                if !ids.json {
                    output::print(&format!("{id} {done}\n"))?;
                }
                views.extend(view);
            }
            Err(error) => {
                error.print();
                if code == ExitCode::SUCCESS {
                    code = ExitCode::from(error.exit);
                }
            }
        }
    }
    if ids.json {
        output::json(&views)?;
    }
    Ok(code)
}

#[cfg(test)]
pub fn example(status: &str) -> TaskView {
    TaskView {
        task_id: "finetune_1_1".into(),
        name: None,
        owner: "ana".into(),
        priority: "normal".into(),
        after: Vec::new(),
        group: None,
        start_after: None,
        deadline: None,
        retries: None,
        retried: 0,
        status: status.into(),
        created_at: String::new(),
        started_at: None,
        completed_at: None,
        time_limit_seconds: 60,
        trainer: "command".into(),
        model_name: "m".into(),
        dataset_path: None,
        output_dir: String::new(),
        config: serde_json::Value::Null,
        progress: api_types::ProgressView::default(),
        wait: None,
        failure: None,
        exit_code: None,
        attempt: None,
        estimate: None,
        adjustments: Vec::new(),
        warnings: Vec::new(),
        downloadable: false,
    }
}
