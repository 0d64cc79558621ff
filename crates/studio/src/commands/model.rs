use std::{path::PathBuf, process::ExitCode};

use api_types::ModelView;
use clap::{Args, Subcommand};
use client::{Client, ClientError};
use domain::Home;
use recipes::{
    hub::HubError,
    models::{self, HubCache, ModelRef},
};
use trainer::TinyConfig;

use crate::{
    error::{CliError, Result},
    output::{self, Table, or_dash},
    text::text,
};

#[derive(Subcommand)]
pub enum Model {
    /// List the models that can be trained
    List(List),
    /// Make a tiny random model to practise on, without any download
    MakeTiny(MakeTiny),
}

#[derive(Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct MakeTiny {
    /// Folder to make; it must be new or empty
    dir: PathBuf,
}

pub fn run(home: &Home, command: Model) -> Result<ExitCode> {
    match command {
        Model::List(List { json }) => {
            let models = match Client::connect(home) {
                Ok(client) => client.models()?,
                Err(ClientError::NotRunning { .. }) => on_this_machine(home),
                Err(error) => return Err(error.into()),
            };
            if json { output::json(&models)? } else { print(&models)? }
        }
        Model::MakeTiny(MakeTiny { dir }) => {
            make_tiny(&dir)?;
            let path = dir.display();
            output::print(&text(
                format!("已生成微型模型：{path}\n试一试：sage task submit --model {path} --data <文件>\n"),
                format!("made a tiny model: {path}\ntry it: sage task submit --model {path} --data <file>\n"),
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A random Qwen2 model whose tokenizer knows the shipped data.
pub fn make_tiny(dir: &std::path::Path) -> Result<()> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let path = dir.display();
        return Err(CliError::new(
            "folder-not-empty",
            text(format!("{path} 不是空目录"), format!("{path} is not empty")),
        )
        .next(text("请换一个新目录", "name a new folder")));
    }
    trainer::make_tiny(dir, &recipes::samples::texts(), &TinyConfig::default())
        .map_err(|error| super::train::trainer_error(&error))
}

/// What a name means.
pub fn resolve(home: &Home, name: &str) -> Result<ModelRef> {
    models::resolve(name, home, &HubCache::from_env())
        .map_err(|error| CliError::new(error.code(), text(error.message_zh(), error.to_string())))
}

pub fn hub_error(error: &HubError) -> CliError {
    CliError::new(error.code(), text(error.message_zh(), error.to_string()))
}

/// What can be listed without a studio.
fn on_this_machine(home: &Home) -> Vec<ModelView> {
    let local = models::list(home, &HubCache::from_env());
    let view = |model: models::LocalModel| ModelView {
        name: model.name,
        kind: "base".into(),
        source: "local".into(),
        description: model.architecture.unwrap_or_default(),
        bytes: Some(model.bytes),
        task_id: None,
        created_at: None,
    };
    local.into_iter().map(view).collect()
}

fn print(models: &[ModelView]) -> Result<()> {
    let mut table =
        Table::new(text(["模型", "类型", "位置", "大小", "说明"], ["MODEL", "TYPE", "WHERE", "SIZE", "ABOUT"]));
    for model in models {
        let size = or_dash(model.bytes.map(output::bytes));
        table.row([model.name.clone(), model.kind.clone(), model.source.clone(), size, model.description.clone()]);
    }
    table.print()
}
