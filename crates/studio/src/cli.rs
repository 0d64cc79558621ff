//! What can be typed.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use domain::{Home, Language};

use crate::{
    commands::{
        attempt, audit, completions, dataset, demo, estimate, explain, generate, gpu, model, queue, simulate, studio,
        task, token, train, trainer, user,
    },
    error::{CliError, Result},
    help,
    text::{language, text},
};

/// The fine-tuning studio for the GPUs you own
#[derive(Parser)]
#[command(name = "sage", version, propagate_version = true, arg_required_else_help = true)]
#[command(disable_help_flag = true, disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

// Not a doc comment, which would become the program's.
// What every command takes.
#[derive(Args)]
pub struct Options {
    /// Folder of the studio [default: ~/.sage]
    #[arg(long, global = true, value_name = "DIR", display_order = 1000)]
    pub home: Option<PathBuf>,
    /// Language of all texts: zh or en [default: the system's]
    #[arg(long, global = true, value_name = "zh|en", value_parser = ["zh", "en"], hide_possible_values = true, display_order = 1001)]
    lang: Option<String>,
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::Help, display_order = 1002)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, display_order = 1003)]
    version: Option<bool>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start, stop and look after the studio
    #[command(subcommand)]
    Studio(studio::Studio),
    /// Submit fine-tunes and other tasks, and follow them
    #[command(subcommand)]
    Task(task::Task),
    /// Show the plan, or change it: what runs, what waits for what, when it is expected to start
    Queue(queue::Queue),
    /// Say why a task is where it is, and what each device says to it
    Explain(explain::Explain),
    /// Show the GPUs, what is free on them and which models fit
    Gpu(gpu::Gpu),
    /// Look at data sets
    #[command(subcommand)]
    Dataset(dataset::Dataset),
    /// List models, or make a tiny one to practise on
    #[command(subcommand)]
    Model(model::Model),
    /// Say how much memory and time a fine-tune needs, before it runs
    Estimate(estimate::Estimate),
    /// Replay a recorded queue under a policy, on GPUs that need not be there
    Simulate(simulate::Simulate),
    /// Ask a model, with an adapter if you like
    Generate(generate::Generate),
    /// See it all at work in a minute: three fine-tunes of a tiny model
    Demo(demo::Demo),
    /// Say who may use the studio, and how much of it
    #[command(subcommand)]
    User(user::User),
    /// Make, list and revoke tokens for scripts and other machines
    #[command(subcommand)]
    Token(token::Token),
    /// Look at who did what
    #[command(subcommand)]
    Audit(audit::Audit),
    /// List the trainers, and install or delete what one needs
    #[command(subcommand)]
    Trainer(trainer::Trainer),
    /// Train one recipe here and now, as the studio's tasks do
    Train(train::Train),
    /// Train one recipe here and now with trainer peft
    #[command(hide = true)]
    Peft(attempt::Places),
    /// Print a shell's completions
    Completions(completions::Completions),
}

impl Cli {
    /// `--home`, else `SAGE_HOME`, else `~/.sage`.
    pub fn home(&self) -> Result<Home> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let given = self.options.home.clone().or_else(|| variable("SAGE_HOME"));
        let home = given.or_else(|| Some(variable("HOME")?.join(".sage"))).ok_or_else(|| {
            CliError::usage("no-home", text("没有设置 HOME", "HOME is not set"))
                .next(text("用 --home 指定目录", "name a folder with --home"))
        })?;
        let home = std::path::absolute(&home).map_err(|error| CliError::file(&home, &error))?;
        Ok(Home::new(home))
    }
}

/// Ends the program where the arguments ask for help or cannot be understood.
pub fn parse() -> Cli {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    crate::text::choose(&arguments);
    submit(&arguments).unwrap_or_else(|| {
        let parsed = command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
        parsed.unwrap_or_else(|error| help::exit(&error))
    })
}

/// `sage task submit`, which scripts call by the thousand, without making the rest of the command tree first. `None` for
/// anything else and where something is wrong: that is for the whole tree to say.
fn submit(arguments: &[OsString]) -> Option<Cli> {
    let submit = arguments.get(1)? == "task" && arguments.get(2)? == "submit";
    let submit = submit.then(|| task::Submit::augment_args(clap::Command::new("submit")))?;
    let root = clap::Command::new("sage").version(env!("CARGO_PKG_VERSION"));
    let root = Options::augment_args(root.disable_help_flag(true).disable_version_flag(true));
    let root = root.subcommand(clap::Command::new("task").subcommand(submit));
    Cli::from_arg_matches(&root.try_get_matches_from(arguments).ok()?).ok()
}

/// The whole command tree in the language of this run.
pub fn command() -> clap::Command {
    match language() {
        Language::Zh => help::in_chinese(Cli::command()),
        Language::En => Cli::command(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_understood_without_the_whole_tree() {
        let parse = |line: &str| submit(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let cli = parse("sage task submit --home /h --sweep n=1,2 m=3 -- echo {n}").expect("it is a submission");
        assert_eq!(cli.options.home, Some(PathBuf::from("/h")));
        assert!(matches!(cli.command, Command::Task(task::Task::Submit(_))));
        for other in ["sage task list", "sage task submit --help", "sage task submit --no-such-option", "sage"] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
