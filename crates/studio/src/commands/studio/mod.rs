//! `sage studio`: the studio's own life.

mod backup;
mod logs;
mod open;
mod service;
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
    Stop(stop::Stop),
    /// Stop the studio and start it as it was; trainings go on
    Restart,
    /// Say whether the studio runs, and where
    Status(status::Status),
    /// Open the page in the browser
    Open,
    /// Print the studio's own log
    Logs(logs::Logs),
    /// Copy the database while the studio runs
    Backup(backup::Backup),
    /// Put a backup in the place of the database
    Restore(backup::Restore),
    /// Run the studio as a service of your systemd; restarting it leaves trainings alone
    InstallService(service::InstallService),
    /// Remove that service; trainings go on
    UninstallService,
}

pub fn run(home: &Home, command: Studio) -> Result<ExitCode> {
    match command {
        Studio::Start(command) => start::run(home, command)?,
        Studio::Stop(command) => stop::run(home, &command)?,
        Studio::Restart => restart(home)?,
        Studio::Status(command) => return status::run(home, &command),
        Studio::Open => open::run(home)?,
        Studio::Logs(command) => logs::run(home, &command)?,
        Studio::Backup(command) => backup::backup(home, &command)?,
        Studio::Restore(command) => backup::restore(home, &command)?,
        Studio::InstallService(command) => service::install(home, &command)?,
        Studio::UninstallService => service::uninstall()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn restart(home: &Home) -> Result<()> {
    let ports = Holder::read(home).and_then(|holder| holder.ports);
    stop(home)?;
    let address = in_background(home, ports.as_ref())?;
    start::announce(&address)
}
