//! `sage gpu`: one table, and below it what does not fit into one.

use api_types::{DeviceView, Devices, ProcessView};

use crate::{
    error::Result,
    output::{self, Table, bytes, or_dash},
    text::text,
};

/// Devices are measured every second; one that is so much older than that does not answer.
const STALE: f64 = 5.0;

pub fn print(devices: &Devices) -> Result<()> {
    if devices.detecting {
        return output::print(text("正在检测 GPU...\n", "GPUs are being detected...\n"));
    }
    table(devices).print()?;
    let mut lines = String::new();
    for device in &devices.devices {
        for line in details(device) {
            lines += &format!("{line}\n");
        }
    }
    for finding in &devices.findings {
        lines += &format!("! {}\n", text(&finding.zh, &finding.en));
    }
    let recommendation = &devices.recommendation;
    lines += &text(format!("{recommendation}\n"), format!("{}\n", in_english(recommendation)));
    output::print(&lines)
}

fn table(devices: &Devices) -> Table {
    let mut table = Table::new(text(
        ["编号", "设备", "可用于任务", "空闲", "总显存", "利用率", "温度", "功率", "占用者"],
        ["NO", "DEVICE", "FOR TASKS", "FREE", "TOTAL", "LOAD", "TEMP", "POWER", "HELD BY"],
    ));
    for device in &devices.devices {
        let memory = device.memory.as_ref();
        table.row([
            device.index.to_string(),
            name(device),
            or_dash(device.free_for_tasks_bytes.map(bytes)),
            or_dash(memory.map(|memory| bytes(memory.free))),
            or_dash(memory.map(|memory| bytes(memory.total))),
            or_dash(device.utilisation_percent.map(|percent| format!("{percent}%"))),
            or_dash(device.temperature_celsius.map(|degrees| format!("{degrees}°C"))),
            or_dash(device.power_watts.map(|watts| format!("{watts:.0} W"))),
            held_by(device),
        ]);
    }
    table
}

/// With what makes it another device than its name says.
pub fn name(device: &DeviceView) -> String {
    let mut name = device.name.clone();
    if let Some(profile) = device.mig.as_ref().and_then(|mig| mig.profile.as_ref())
        && !name.contains(profile.as_str())
    {
        name += &format!(" MIG {profile}");
    }
    match device.kind.as_str() {
        "simulated" => name + text("（模拟）", " (simulated)"),
        _ if device.unified_memory => name + text("（统一内存）", " (unified memory)"),
        _ => name,
    }
}

/// Tasks by their ids, others by their names; `free` if nobody has it.
fn held_by(device: &DeviceView) -> String {
    if device.unusable.is_some() {
        return text("不可用", "unusable").into();
    }
    let mut holders: Vec<&str> = device.grants.iter().map(|grant| grant.task_id.as_str()).collect();
    for process in device.processes.iter().filter(|process| process.task_id.is_none()) {
        let name = process.service.as_ref().or(process.name.as_ref()).map_or("?", String::as_str);
        if !holders.contains(&name) {
            holders.push(name);
        }
    }
    if holders.is_empty() { text("空闲", "free").into() } else { holders.join(", ") }
}

/// What else there is to say about a device, each line beginning with its number.
pub fn details(device: &DeviceView) -> Vec<String> {
    let index = device.index;
    let mut lines: Vec<String> =
        device.processes.iter().map(|process| format!("  {index}: {}", use_of(process))).collect();
    if let Some(hidden) = device.unattributed_bytes.filter(|bytes| *bytes > 0) {
        let hidden = bytes(hidden);
        lines.push(text(
            format!("  {index}: {hidden} 由看不到的进程占用"),
            format!("  {index}: {hidden} held by nobody who can be seen"),
        ));
    }
    lines.extend(troubles(device).into_iter().map(|trouble| format!("! {index}: {trouble}")));
    lines
}

/// `pid 4242  17.0 GiB  foreign (bob)  vllm serve Qwen`: what may be long comes last, where a terminal cuts it off.
pub fn use_of(process: &ProcessView) -> String {
    let ProcessView { pid, name, user, command, bytes: held, task_id, service } = process;
    let program = command.as_ref().or(name.as_ref()).map_or("?", String::as_str);
    let program = output::plain(program);
    let user = user.as_deref().unwrap_or("?");
    let held = or_dash(held.map(bytes));
    let whose = match (task_id, service) {
        (Some(task), _) => task.clone(),
        (None, Some(service)) => text(format!("服务 {service}"), format!("service {service}")),
        (None, None) => text("外部程序", "foreign").to_owned(),
    };
    format!("pid {pid}  {held}  {whose} ({user})  {program}")
}

/// Why it is not used, whether the figures are old, and what ails it.
pub fn troubles(device: &DeviceView) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(reason) = &device.unusable {
        troubles.push(text(&reason.zh, &reason.en).clone());
    }
    if device.age_seconds > STALE {
        let age = device.age_seconds;
        troubles.push(text(
            format!("这些数值来自 {age:.0} 秒前，之后驱动没有应答"),
            format!("these figures are {age:.0} s old; the driver has not answered since"),
        ));
    }
    let health = &device.health;
    if let Some(errors) = health.uncorrected_ecc_errors.filter(|errors| *errors > 0) {
        troubles.push(text(
            format!("{errors} 个不可纠正的 ECC 错误，结果可能有误；请重置或更换显卡"),
            format!("{errors} uncorrected ECC errors, results may be wrong; reset or replace the card"),
        ));
    }
    if health.row_remap_pending == Some(true) {
        troubles.push(
            text(
                "有显存行等待替换，请在空闲时重置显卡",
                "memory rows wait to be replaced; reset the card when it is idle",
            )
            .into(),
        );
    }
    if let Some(xid) = &health.last_xid {
        let at = output::local_time(&xid.at);
        troubles.push(text(
            format!("驱动在 {at} 报告了严重错误 XID {}", xid.code),
            format!("the driver reported the critical error XID {} at {at}", xid.code),
        ));
    }
    troubles
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
    use super::{super::picture::tests::device, *};

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

    #[test]
    fn a_device_is_told_with_everybody_on_it_and_all_that_ails_it() {
        let mut device = device();
        assert_eq!(held_by(&device), "finetune_1_1, vLLM, blender");
        device.age_seconds = 12.0;
        device.health.uncorrected_ecc_errors = Some(3);
        device.health.row_remap_pending = Some(true);
        device.health.last_xid = Some(api_types::XidView { code: 79, at: "x".into() });
        let details = details(&device);
        assert_eq!(
            details[..4],
            [
                "  0: pid 11  8.0 GiB  finetune_1_1 (ana)  sage train",
                "  0: pid 12  4.0 GiB  service vLLM (bob)  vllm serve Qwen",
                "  0: pid 13  2.0 GiB  foreign (eve)  blender",
                "  0: 1.0 GiB held by nobody who can be seen",
            ]
        );
        assert!(details[4].contains("12 s old") && details[5].contains("3 uncorrected"), "{details:?}");
        assert!(details[6].contains("memory rows") && details[7].contains("XID 79"), "{details:?}");

        device.unusable =
            Some(api_types::Message { code: "gpu-lost".into(), zh: "丢失".into(), en: "it is lost".into() });
        assert_eq!((held_by(&device).as_str(), troubles(&device)[0].as_str()), ("unusable", "it is lost"));
    }
}
