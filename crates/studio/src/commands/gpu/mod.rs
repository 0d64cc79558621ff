mod doctor;
mod list;
mod picture;
mod watch;

use std::{ffi::OsString, process::ExitCode};

use api_types::{DeviceView, Devices};
use clap::{Args, Subcommand};
use client::{Client, ClientError};
use domain::{DeviceKind, Home, Inventory};
use jiff::Timestamp;

use super::queue;
use crate::{
    config::Config,
    error::{CliError, Result},
    output,
};

#[derive(Args)]
pub struct Gpu {
    #[command(subcommand)]
    command: Option<GpuCommand>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum GpuCommand {
    /// Watch the GPUs, who uses them and who waits for what, until Ctrl-C
    Watch,
    /// Look for what keeps GPUs from being used, and say what to do
    Doctor(doctor::Doctor),
    /// Start nothing new on a GPU, or use it again; what runs there goes on
    Maintenance {
        /// The GPU's number or UUID, as `sage gpu` shows them
        gpu: String,
        /// on or off
        #[arg(value_parser = ["on", "off"], hide_possible_values = true)]
        state: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(home: &Home, command: Gpu) -> Result<ExitCode> {
    match command.command {
        Some(GpuCommand::Watch) => return watch::run(home),
        Some(GpuCommand::Doctor(command)) => return doctor::run(home, &command),
        Some(GpuCommand::Maintenance { gpu, state, json }) => {
            let control = Client::connect(home)?.set_maintenance(&gpu, state == "on")?;
            queue::switched(&control, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let devices = match Client::connect(home) {
        Ok(client) => client.devices()?,
        Err(ClientError::NotRunning { .. }) => detect(home)?,
        Err(error) => return Err(error.into()),
    };
    if command.json {
        output::json(&devices)?
    } else {
        list::print(&devices)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The same answer without a studio.
fn detect(home: &Home) -> Result<Devices> {
    let config = Config::read(&home.config())?;
    let inventory = gpu::sweep_once(&config.gpu_options(home)?, &own("gpu-worker")?, config.gpus.sweep_deadline);
    Ok(picture_of(&inventory))
}

/// As the studio would tell it if no task held anything.
fn picture_of(inventory: &Inventory) -> Devices {
    let now = Timestamp::now();
    Devices {
        detecting: false,
        age_seconds: api_types::age(inventory.taken_at, now),
        devices: inventory.devices.iter().map(|reading| DeviceView::new(reading, now)).collect(),
        simulated: inventory.devices.iter().any(|reading| reading.device.kind == DeviceKind::Simulated),
        recommendation: recipes::advice::gpu_info(inventory).recommendation,
        findings: inventory.findings.iter().map(Into::into).collect(),
    }
}

/// One of the processes that this program is too.
fn own(word: &str) -> Result<Vec<OsString>> {
    let program = std::env::current_exe().map_err(|error| CliError::file("/proc/self/exe".as_ref(), &error))?;
    Ok(vec![program.into_os_string(), word.into()])
}
