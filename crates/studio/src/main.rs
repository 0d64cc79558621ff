//! `sage`: the studio, its command line, and the programs that the studio runs.

mod cli;
mod commands;
mod config;
mod daemon;
mod error;
mod help;
mod output;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One supervisor lives beside every training: it must stay small, so nothing else comes before it.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "supervise") {
        return runner::supervise();
    }
    let cli = cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::from(error.exit)
        }
    }
}
