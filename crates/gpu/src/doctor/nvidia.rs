//! NVIDIA's driver: its kernel module, its library, its device files.

use std::fs;
use std::path::PathBuf;

use super::machine::is_container;
use super::{Check, permission};
use crate::Options;

const MODULE: &str = "nvidia-module";
const LIBRARY: &str = "nvidia-library";
const DEVICES: &str = "nvidia-devices";

/// The kernel module, or what is there instead. Nothing without an NVIDIA card.
pub(super) fn module(options: &Options) -> Option<Check> {
    let nouveau = options.path("sys/module/nouveau").exists();
    if let Some(version) = module_version(options) {
        return Some(Check::ok(
            MODULE,
            format!("内核模块 nvidia {version} 已加载"),
            format!("The kernel module nvidia {version} is loaded"),
        ));
    }
    // On WSL, this device is the driver.
    if options.path("dev/dxg").exists() {
        return Some(Check::ok(MODULE, "WSL 的 GPU 设备 /dev/dxg 可用", "The GPU device of WSL, /dev/dxg, is there"));
    }
    let cards = pci_cards(options);
    if cards == 0 {
        return Some(Check::note(MODULE, "本机没有 NVIDIA 显卡", "This machine has no NVIDIA card"));
    }
    if nouveau {
        let check = Check::problem(
            MODULE,
            "NVIDIA 显卡由开源驱动 nouveau 占用，无法用于计算",
            "nouveau, the free driver, has the NVIDIA card, which cannot compute with it",
        );
        return Some(check.next(
            "安装 NVIDIA 驱动（它会停用 nouveau），然后重启机器",
            "Install NVIDIA's driver, which switches nouveau off, and restart the machine",
        ));
    }
    let check = Check::problem(
        MODULE,
        format!("有 {cards} 块 NVIDIA 显卡，但内核模块 nvidia 未加载"),
        format!("There are {cards} NVIDIA card(s), but the kernel module nvidia is not loaded"),
    );
    Some(check.next(
        "运行 sudo modprobe nvidia；若找不到模块，请安装驱动；安全启动（Secure Boot）可能需要为模块签名",
        "Run sudo modprobe nvidia; if there is no such module, install the driver; with Secure Boot the module may have \
         to be signed",
    ))
}

/// The library, and whether it is the module's.
pub(super) fn library(options: &Options) -> Option<Check> {
    let module = module_version(options);
    let needed = module.is_some() || pci_cards(options) > 0 || options.path("dev/dxg").exists();
    let Some(library) = find_library(options, "libnvidia-ml.so.1") else {
        let check = Check::problem(LIBRARY, "找不到 libnvidia-ml.so.1", "libnvidia-ml.so.1 cannot be found");
        return needed.then(|| {
            if is_container(options) {
                check.next(
                    "用 --gpus all 启动容器，并在主机上安装 nvidia-container-toolkit",
                    "Start the container with --gpus all, and install nvidia-container-toolkit on the host",
                )
            } else {
                check.next("安装或重新安装 NVIDIA 驱动", "Install or reinstall the NVIDIA driver")
            }
        });
    };
    let version = library_version(&library);
    if let (Some(module), Some(version)) = (&module, &version)
        && module != version
    {
        let check = Check::problem(
            LIBRARY,
            format!("程序库版本 {version} 与内核模块 {module} 不一致，通常是驱动刚升级"),
            format!("The library is of version {version} and the kernel module of {module}, usually after an update"),
        );
        let next_zh = if is_container(options) { "重启容器" } else { "重启机器" };
        let next_en = if is_container(options) { "Restart the container" } else { "Restart the machine" };
        return Some(check.next(next_zh, next_en));
    }
    let shown = library.display();
    let version = version.map_or(String::new(), |version| format!(" ({version})"));
    Some(Check::ok(LIBRARY, format!("程序库 {shown}{version}"), format!("The library is {shown}{version}")))
}

/// `/dev/nvidia*`, where the module is loaded.
pub(super) fn device_files(options: &Options) -> Option<Check> {
    module_version(options)?;
    let names = fs::read_dir(options.path("dev")).into_iter().flatten().flatten();
    let is_card = |name: &str| {
        name.strip_prefix("nvidia")
            .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    };
    let cards: Vec<PathBuf> =
        names.filter(|entry| entry.file_name().to_str().is_some_and(is_card)).map(|entry| entry.path()).collect();
    let control = options.path("dev/nvidiactl");
    if cards.is_empty() || !control.exists() {
        let check = Check::problem(DEVICES, "缺少 /dev/nvidia* 设备文件", "The device files /dev/nvidia* are missing");
        return Some(if is_container(options) {
            check.next("用 --gpus all 启动容器", "Start the container with --gpus all")
        } else {
            check.next("运行一次 sudo nvidia-smi，它会创建这些文件", "Run sudo nvidia-smi once, which makes them")
        });
    }
    let unified = options.path("dev/nvidia-uvm");
    if !unified.exists() {
        let check = Check::problem(
            DEVICES,
            "缺少 /dev/nvidia-uvm：GPU 可见，但 CUDA 无法启动",
            "/dev/nvidia-uvm is missing: GPUs are seen, but CUDA cannot start",
        );
        return Some(check.next("运行 sudo nvidia-modprobe -u -c 0", "Run sudo nvidia-modprobe -u -c 0"));
    }
    let count = cards.len();
    let refused =
        [control, unified].into_iter().chain(cards).find_map(|path| permission(DEVICES, options, &path).err());
    Some(refused.unwrap_or_else(|| {
        Check::ok(
            DEVICES,
            format!("{count} 个 GPU 设备文件可读写"),
            format!("The device files of {count} GPU(s) can be read and written"),
        )
    }))
}

/// `580.95.05`
fn module_version(options: &Options) -> Option<String> {
    let text = fs::read_to_string(options.path("proc/driver/nvidia/version")).ok()?;
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_ascii_whitespace().find(|word| is_version(word)).map(str::to_owned)
}

fn is_version(word: &str) -> bool {
    word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
}

/// Graphics cards and accelerators of NVIDIA on the bus, with a driver or without.
fn pci_cards(options: &Options) -> usize {
    let devices = fs::read_dir(options.path("sys/bus/pci/devices")).into_iter().flatten().flatten();
    let is = |folder: &PathBuf, file: &str, start: &str| {
        fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim().starts_with(start))
    };
    devices.map(|device| device.path()).filter(|path| is(path, "vendor", "0x10de") && is(path, "class", "0x03")).count()
}

/// Where the loader would find it, without loading it.
fn find_library(options: &Options, name: &str) -> Option<PathBuf> {
    if let Some(library) = &options.nvml_library {
        return library.exists().then(|| library.clone());
    }
    let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let named: Vec<PathBuf> = std::env::split_paths(&named).filter(|folder| !folder.as_os_str().is_empty()).collect();
    let usual = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/wsl/lib"];
    let mut folders = named.into_iter().chain(usual.iter().map(|folder| options.path(folder)));
    folders.find_map(|folder| Some(folder.join(name)).filter(|library| library.exists()))
}

/// `libnvidia-ml.so.1` is a link to `libnvidia-ml.so.580.95.05`.
fn library_version(library: &std::path::Path) -> Option<String> {
    let file = fs::canonicalize(library).ok()?;
    let (_, version) = file.file_name()?.to_str()?.split_once(".so.")?;
    is_version(version).then(|| version.to_owned())
}
