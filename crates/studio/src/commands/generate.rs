use std::{path::PathBuf, process::ExitCode, sync::atomic::AtomicBool};

use clap::Args;
use domain::Home;
use recipes::{
    hub::{self, HubOptions},
    models::ModelRef,
};
use trainer::{GenerateConfig, Role, Turn};

use super::model;
use crate::{error::Result, output, text::text};

#[derive(Args)]
pub struct Generate {
    /// A folder, a name from `sage model list`, or a hub id
    #[arg(long)]
    model: String,
    /// Folder of an adapter, such as a completed task's output
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Tokens of answer at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,
    /// 0: always the most likely word; above: the higher, the freer
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    temperature: f32,
    /// Choose among the words that make up this share of the probability
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    top_p: f32,
    /// Decides what is chosen
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// What the model shall behave like
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// What to ask
    question: String,
}

pub fn run(home: &Home, command: Generate) -> Result<ExitCode> {
    let model = find_model(home, &command.model)?;
    let turn = |role, content| Turn { role, content };
    let system = command.system.map(|content| turn(Role::System, content));
    let turns: Vec<Turn> = system.into_iter().chain([turn(Role::User, command.question)]).collect();
    let config = GenerateConfig {
        max_new_tokens: command.max_new_tokens,
        temperature: command.temperature,
        top_p: command.top_p,
        seed: command.seed,
    };
    let answer = trainer::generate(&model, command.adapter.as_deref(), &turns, &config)
        .map_err(|error| super::train::trainer_error(&error))?;
    output::print(&format!("{answer}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The model's folder; fetched first if it is not on this machine.
fn find_model(home: &Home, name: &str) -> Result<PathBuf> {
    match model::resolve(home, name)? {
        ModelRef::Local(folder) => Ok(folder),
        ModelRef::Hub { id } => {
            let bar = indicatif::ProgressBar::no_length().with_style(
                indicatif::ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec}")
                    .expect("the template is valid"),
            );
            bar.set_message(text(format!("正在下载 {id}"), format!("fetching {id}")));
            let mut show = |progress: hub::FetchProgress| {
                bar.set_position(progress.bytes);
                if let Some(total) = progress.total_bytes {
                    bar.set_length(total);
                }
            };
            // Ctrl-C ends the program; what was fetched so far is kept and gone on from.
            let folder = hub::fetch(&HubOptions::from_env(&id, home), &mut show, &AtomicBool::new(false))
                .map_err(|error| model::hub_error(&error))?;
            bar.finish_and_clear();
            Ok(folder)
        }
    }
}
