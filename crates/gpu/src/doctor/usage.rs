//! Whether the devices answer, and whether memory can be had on them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use domain::{DeviceKind, DeviceState, Inventory, Reading};

use super::{Check, Status};
use crate::trial::{Trial, TrialError, trial as try_out};
use crate::worker::examine;
use crate::{Options, TrialReport};

/// The first call of a driver that keeps nothing ready takes seconds for each GPU.
const SWEEP: Duration = Duration::from_secs(20);
const TRIAL: Duration = Duration::from_secs(30);
const TRIAL_BYTES: u64 = 64 << 20;

pub(super) fn devices(options: &Options, sweep: &[OsString], trial: &[OsString]) -> Vec<Check> {
    let (inventory, persistent) = examine(options, sweep, SWEEP);
    let mut checks: Vec<Check> = findings(&inventory);
    checks.extend(inventory.devices.iter().map(device));
    checks.extend(instances(&inventory));
    if persistent == Some(false) {
        let check = Check::note(
            "persistence",
            "GPU 空闲时驱动会卸载其状态（持久模式关闭），每次启动会慢几秒",
            "The driver puts idle GPUs away (persistence mode is off), so that each start takes seconds longer",
        );
        let next_zh = "运行 sudo systemctl enable --now nvidia-persistenced 或 sudo nvidia-smi -pm 1";
        let next_en = "Run sudo systemctl enable --now nvidia-persistenced, or sudo nvidia-smi -pm 1";
        checks.push(check.next(next_zh, next_en));
    }
    let is_nvidia = |reading: &&Reading| reading.is_usable() && reading.device.kind == DeviceKind::Nvidia;
    checks.extend(inventory.devices.iter().find(is_nvidia).map(|reading| allocation(reading, trial)));
    checks
}

/// What detection has to say: a problem if it failed.
fn findings(inventory: &Inventory) -> Vec<Check> {
    let status =
        |zh: &String| if inventory.detection_error.as_ref() == Some(zh) { Status::Problem } else { Status::Note };
    inventory
        .findings
        .iter()
        .map(|finding| Check::new("detection", status(&finding.zh), &finding.zh, &finding.en))
        .collect()
}

fn device(reading: &Reading) -> Check {
    let name = format!("{} ({})", reading.device.name, reading.device.id);
    match (&reading.state, reading.memory) {
        (DeviceState::Unusable { zh, en, .. }, _) => {
            Check::problem("device", format!("{name}：{zh}"), format!("{name}: {en}"))
        }
        (DeviceState::Usable, None) => Check::ok("device", name.clone(), name),
        (DeviceState::Usable, Some(memory)) => {
            let (free, total) = (domain::gib(memory.free), domain::gib(memory.total));
            Check::ok(
                "device",
                format!("{name}：空闲 {free}，共 {total}"),
                format!("{name}: {free} of {total} are free"),
            )
        }
    }
}

/// GPUs that are divided, with the sizes of their parts.
fn instances(inventory: &Inventory) -> Vec<Check> {
    let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for mig in inventory.devices.iter().filter_map(|reading| reading.device.mig.as_ref()) {
        parents.entry(&mig.parent.0).or_default().push(mig.profile.as_deref().unwrap_or("?"));
    }
    let check = |(parent, profiles): (&str, Vec<&str>)| {
        let profiles = profiles.join(" ");
        Check::note(
            "mig",
            format!("{parent} 已启用 MIG：{profiles}；一个任务只能使用一个实例"),
            format!("{parent} has MIG on: {profiles}; a task can use one instance only"),
        )
    };
    parents.into_iter().map(check).collect()
}

fn allocation(reading: &Reading, command: &[OsString]) -> Check {
    const SUBJECT: &str = "cuda";
    let device = &reading.device.id;
    let request = Trial { command, device, bytes: TRIAL_BYTES, free_before: None, task: None, deadline: TRIAL };
    let error = match try_out(&request) {
        Ok(TrialReport { seconds, .. }) => {
            return Check::ok(
                SUBJECT,
                format!("CUDA 可用：在 {device} 上试分配显存用时 {seconds:.1} 秒"),
                format!("CUDA works: allocating memory on {device} took {seconds:.1} s"),
            );
        }
        Err(error) => error,
    };
    let problem = |zh: String, en: String| Check::problem(SUBJECT, zh, en);
    match error {
        TrialError::NotEnough { free, .. } => {
            let free = domain::gib(free);
            Check::note(
                SUBJECT,
                format!("CUDA 可用，但 {device} 上只剩 {free} 显存"),
                format!("CUDA works, but only {free} are left on {device}"),
            )
        }
        TrialError::NoLibrary(why) => {
            problem(format!("无法加载 libcuda.so.1（{why}）"), format!("libcuda.so.1 cannot be loaded ({why})")).next(
                "重新安装驱动；在容器中请设置 NVIDIA_DRIVER_CAPABILITIES=compute,utility",
                "Reinstall the driver; in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            )
        }
        TrialError::Cuda { code, name } => {
            problem(format!("CUDA 返回错误 {name}（{code}）"), format!("CUDA answers {name} ({code})")).next(
                "运行 sudo nvidia-modprobe -u -c 0；仍然失败时请查看 dmesg 并重启机器",
                "Run sudo nvidia-modprobe -u -c 0; if that does not help, look into dmesg and restart the machine",
            )
        }
        TrialError::TimedOut(_) => problem(
            format!("CUDA 在 {} 秒内没有启动", TRIAL.as_secs()),
            format!("CUDA did not start within {} s", TRIAL.as_secs()),
        )
        .next("运行 nvidia-smi 检查；必要时重启机器", "Run nvidia-smi to check; restart the machine if needed"),
        TrialError::Died(how) => problem(
            format!("试分配显存的进程意外结束（{how}）"),
            format!("The trial allocation ended unexpectedly ({how})"),
        )
        .next("查看 dmesg；必要时重新安装驱动", "Look into dmesg; reinstall the driver if needed"),
    }
}
