use std::process::ExitCode;

use api_types::{DeviceView, Devices, Message, ProcessView};
use clap::Args;
use client::{Client, ClientError};
use domain::{DeviceKind, Home, Inventory};

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
        devices: devices.iter().map(|reading| DeviceView::new(reading, jiff::Timestamp::now())).collect(),
        recommendation,
        findings: findings
            .into_iter()
            .map(|finding| Message { code: finding.code, zh: finding.zh, en: finding.en })
            .collect(),
    })
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
        for ProcessView { pid, name, user, bytes, .. } in &device.processes {
            let name = name.as_deref().unwrap_or("?");
            let user = user.as_deref().unwrap_or("?");
            let held = or_dash(bytes.map(output::bytes));
            lines.push_str(&format!("  {}: pid {pid} {name} ({user}) {held}\n", device.index));
        }
    }
    for finding in &devices.findings {
        lines.push_str(&format!("! {}\n", text(&finding.zh, &finding.en)));
    }
    let recommendation = &devices.recommendation;
    lines.push_str(&text(format!("{recommendation}\n"), format!("{}\n", in_english(recommendation))));
    output::print(&lines)
}

fn state(device: &DeviceView) -> String {
    match (&device.unusable, &device.task_id) {
        (Some(reason), _) => text(&reason.zh, &reason.en).clone(),
        (None, Some(task)) => task.clone(),
        (None, None) => text("空闲", "free").to_owned(),
    }
}

/// The recommendation is one of a few fixed Chinese sentences, because programs read it.
fn in_english(recommendation: &str) -> String {
    let words = [
        ("CPU 模式（不推荐微调）", "CPU only: fine-tuning works but is slow"),
        ("正在检测 GPU...", "GPUs are being detected..."),
        ("GPU 检测失败: ", "GPU detection failed: "),
        ("检测到 ", "found "),
        (" 块 GPU（总显存 ", " GPUs ("),
        ("GB）：支持多卡并行训练", "GB in all): tasks train on them in parallel"),
        ("（模拟 GPU）", " (simulated GPUs)"),
        ("推荐 ", "recommended: "),
        ("（最佳平衡）", " (best balance)"),
        (" 或 ", " or "),
        ("或 ", " or "),
        ("（最快训练）", " (fastest)"),
    ];
    words.iter().fold(recommendation.to_owned(), |sentence, (zh, en)| sentence.replace(zh, en))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recommendation_has_its_english() {
        let options = [(0, 0.0), (1, 6.0), (1, 8.0), (1, 12.0), (1, 24.0), (1, 80.0), (2, 24.0)];
        for (count, memory) in options {
            let options = gpu::Options {
                mock_count: Some(count),
                mock_memory_gb: Some(memory),
                disable_nvml: true,
                ..gpu::Options::default()
            };
            let inventory = gpu::detect(&options).sweep(jiff::Timestamp::now());
            let chinese = recipes::advice::gpu_info(&inventory).recommendation;
            let english = in_english(&chinese);
            assert!(english.is_ascii() && english.len() > 10, "{chinese} became {english}");
        }
        assert_eq!(
            in_english("NVIDIA GeForce RTX 3060 (12.0GB): 推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）"),
            "NVIDIA GeForce RTX 3060 (12.0GB): recommended: Qwen 2.5 Coder 1.5B (best balance) or 0.5B (fastest)"
        );
    }
}
