//! One file per command.

pub mod attempt;
pub mod audit;
pub mod completions;
pub mod dataset;
pub mod demo;
pub mod estimate;
pub mod explain;
pub mod generate;
pub mod gpu;
pub mod model;
pub mod peft;
pub mod people;
pub mod queue;
pub mod simulate;
pub mod studio;
pub mod task;
pub mod token;
pub mod train;
pub mod trainer;
pub mod user;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    error::Result,
};

pub fn run(cli: Cli) -> Result<ExitCode> {
    // The demo leaves the user's studio alone, so only a folder given by name counts.
    if let Command::Demo(command) = cli.command {
        return demo::run(cli.options.home, command);
    }
    let home = cli.home()?;
    match cli.command {
        Command::Studio(command) => studio::run(&home, command),
        Command::Task(command) => task::run(&home, command),
        Command::Gpu(command) => gpu::run(&home, command),
        Command::Dataset(command) => dataset::run(command),
        Command::Model(command) => model::run(&home, command),
        Command::Estimate(command) => estimate::run(&home, command),
        Command::Simulate(command) => simulate::run(command),
        Command::Queue(command) => queue::run(&home, command),
        Command::Explain(command) => explain::run(&home, command),
        Command::Generate(command) => generate::run(&home, command),
        Command::Demo(_) => unreachable!("it was run above"),
        Command::User(command) => user::run(&home, command),
        Command::Token(command) => token::run(&home, command),
        Command::Audit(command) => audit::run(&home, command),
        Command::Trainer(command) => trainer::run(&home, command),
        Command::Train(command) => train::run(&home, command),
        Command::Peft(places) => peft::run(&home, places),
        Command::Completions(command) => completions::run(command),
    }
}
