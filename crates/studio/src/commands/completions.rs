use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::{cli, error::Result, output};

#[derive(Args)]
pub struct Completions {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(command: Completions) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut cli::command(), "sage", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
