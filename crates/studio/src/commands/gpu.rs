use std::process::ExitCode;

use api_types::{DeviceView, Devices, MemoryView, Message, ProcessView};
use clap::Args;
use client::{Client, ClientError};
use domain::{DeviceKind, DeviceState, Home, Inventory, Reading};

use crate::{
    error::{CliError, Result},
    output::{self, Table, bytes, or_dash},
    text::text,
};

#[derive(Args)]
pub struct Gpu {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(home: &Home, command: Gpu) -> Result<ExitCode> {
    let devices = match Client::connect(home) {
        Ok(client) => client.devices()?,
        Err(ClientError::NotRunning { .. }) => detect()?,
        Err(error) => return Err(error.into()),
    };
    if command.json {
        output::json(&devices)?
    } else {
        print(&devices)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The same answer without a studio: nobody holds anything then.
fn detect() -> Result<Devices> {
    let options = gpu::Options::from_env().map_err(|error| CliError::usage("gpu-option-invalid", error.to_string()))?;
    let inventory = gpu::detect(&options).sweep(jiff::Timestamp::now());
    let recommendation = recipes::advice::gpu_info(&inventory).recommendation;
    let Inventory { devices, findings, .. } = inventory;
    Ok(Devices {
        detecting: false,
        age_seconds: 0.0,
        simulated: devices.iter().any(|reading| reading.device.kind == DeviceKind::Simulated),
        devices: devices.into_iter().map(view).collect(),
        recommendation,
        findings: findings
            .into_iter()
            .map(|finding| Message { code: finding.code, zh: finding.zh, en: finding.en })
            .collect(),
    })
}

fn view(reading: Reading) -> DeviceView {
    let Reading { device, state, memory, utilisation, temperature, power, processes } = reading;
    let process = |process: domain::ProcessUse| ProcessView {
        pid: process.pid,
        name: process.name,
        user: process.user,
        bytes: process.bytes,
    };
    DeviceView {
        id: device.id.0,
        kind: match device.kind {
            DeviceKind::Nvidia => "nvidia",
            DeviceKind::Simulated => "simulated",
            DeviceKind::Cpu => "cpu",
        }
        .into(),
        index: device.index,
        name: device.name,
        memory: memory.map(|memory| MemoryView {
            total: memory.total,
            reserved: memory.reserved,
            used: memory.used,
            free: memory.free,
        }),
        utilisation_percent: utilisation,
        temperature_celsius: temperature,
        power_watts: power,
        processes: processes.into_iter().map(process).collect(),
        unusable: match state {
            DeviceState::Usable => None,
            DeviceState::Unusable { code, zh, en } => Some(Message { code, zh, en }),
        },
        task_id: None,
    }
}

fn print(devices: &Devices) -> Result<()> {
    if devices.detecting {
        return output::print(text("正在检测 GPU...\n", "GPUs are being detected...\n"));
    }
    let head = text(
        ["编号", "设备", "空闲", "总显存", "利用率", "温度", "状态"],
        ["NO", "DEVICE", "FREE", "TOTAL", "LOAD", "TEMP", "STATE"],
    );
    let mut table = Table::new(head);
    for device in &devices.devices {
        let memory = device.memory.as_ref();
        let simulated = if device.kind == "simulated" { text("（模拟）", " (simulated)") } else { "" };
        table.row([
            device.index.to_string(),
            format!("{}{simulated}", device.name),
            or_dash(memory.map(|memory| bytes(memory.free))),
            or_dash(memory.map(|memory| bytes(memory.total))),
            or_dash(device.utilisation_percent.map(|percent| format!("{percent}%"))),
            or_dash(device.temperature_celsius.map(|degrees| format!("{degrees}°C"))),
            state(device),
        ]);
    }
    table.print()?;
    let mut lines = String::new();
    for device in &devices.devices {
        for ProcessView { pid, name, user, bytes } in &device.processes {
            let name = name.as_deref().unwrap_or("?");
            let user = user.as_deref().unwrap_or("?");
            let held = or_dash(bytes.map(output::bytes));
            lines.push_str(&format!("  {}: pid {pid} {name} ({user}) {held}\n", device.index));
        }
    }
    for finding in &devices.findings {
        lines.push_str(&format!("! {}\n", text(&finding.zh, &finding.en)));
    }
    lines.push_str(&format!("{}\n", devices.recommendation));
    output::print(&lines)
}

fn state(device: &DeviceView) -> String {
    match (&device.unusable, &device.task_id) {
        (Some(reason), _) => text(&reason.zh, &reason.en).clone(),
        (None, Some(task)) => task.clone(),
        (None, None) => text("空闲", "free").to_owned(),
    }
}
