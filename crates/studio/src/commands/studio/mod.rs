//! `sage studio`: the studio's own life.

mod logs;
mod open;
mod start;
mod status;
mod stop;

use std::process::ExitCode;

use clap::Subcommand;
use domain::Home;

use crate::{daemon::Holder, error::Result};

pub use start::in_background;
pub use stop::stop;

#[derive(Subcommand)]
pub enum Studio {
    /// Start the studio in the background
    Start(start::Start),
    /// Stop the studio; trainings go on
    Stop,
    /// Stop the studio and start it as it was; trainings go on
    Restart,
    /// Say whether the studio runs, and where
    Status(status::Status),
    /// Open the page in the browser
    Open,
    /// Print the studio's own log
    Logs(logs::Logs),
}

pub fn run(home: &Home, command: Studio) -> Result<ExitCode> {
    match command {
        Studio::Start(command) => start::run(home, command)?,
        Studio::Stop => stop::run(home)?,
        Studio::Restart => restart(home)?,
        Studio::Status(command) => return status::run(home, &command),
        Studio::Open => open::run(home)?,
        Studio::Logs(command) => logs::run(home, &command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn restart(home: &Home) -> Result<()> {
    let ports = Holder::read(home).and_then(|holder| holder.ports);
    stop(home)?;
    let address = in_background(home, ports.as_ref())?;
    start::announce(&address)
}
