//! `sage`: the studio, its command line, and the programs that the studio runs.

mod cli;
mod commands;
mod config;
mod daemon;
mod error;
mod help;
mod output;
mod text;

use std::{ffi::OsStr, process::ExitCode};

fn main() -> ExitCode {
    // The studio's own processes, which nobody types: they must stay small, so nothing else comes before them.
    match std::env::args_os().nth(1).as_deref().and_then(OsStr::to_str) {
        // Beside every training.
        Some("supervise") => return runner::supervise(),
        // Calls the GPU drivers, which may hang.
        Some("gpu-worker") => return gpu::worker_main(),
        // Allocates memory on a GPU to see whether it is there.
        Some("gpu-trial") => return gpu::trial_main(std::env::args().skip(2)),
        _ => {}
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
