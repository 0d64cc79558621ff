//! What surrounds the drivers.

use std::fs;

use super::{Check, permission};
use crate::{Options, amd};

/// Less than this is too little for data loaders and for several GPUs.
const LEAST_SHARED_MEMORY: u64 = 1 << 30;

pub(super) fn wsl(options: &Options) -> Option<Check> {
    let version = fs::read_to_string(options.path("proc/version")).ok()?.to_lowercase();
    if !version.contains("microsoft") {
        return None;
    }
    let check = Check::note(
        "wsl",
        "在 WSL 中运行：驱动来自 Windows，看不到各进程的显存用量",
        "This is WSL: the driver is that of Windows, and what each process uses cannot be seen",
    );
    let next_zh = "保持更新：wsl --update；不要在 WSL 内安装 Linux 版 NVIDIA 驱动";
    let next_en = "Keep it up to date with wsl --update; install no NVIDIA driver for Linux in it";
    Some(check.next(next_zh, next_en))
}

pub(super) fn container(options: &Options) -> Option<Check> {
    is_container(options).then(|| {
        Check::note(
            "container",
            "在容器中运行：容器外的进程可能只显示为“未归属”的显存",
            "This is a container: processes outside may show only as memory that nobody is named for",
        )
    })
}

pub(super) fn is_container(options: &Options) -> bool {
    let marks = [".dockerenv", "run/.containerenv"];
    let cgroup = fs::read_to_string(options.path("proc/1/cgroup")).unwrap_or_default();
    let runtimes = ["docker", "kubepods", "containerd", "libpod", "/lxc/"];
    marks.iter().any(|mark| options.path(mark).exists()) || runtimes.iter().any(|runtime| cgroup.contains(runtime))
}

/// What programs compute through on AMD's cards.
pub(super) fn amd_device_files(options: &Options) -> Option<Check> {
    let cards = amd::cards(options);
    if cards.is_empty() {
        return None;
    }
    let kfd = options.path("dev/kfd");
    if !kfd.exists() {
        let check = Check::problem(
            "amd-devices",
            "缺少 /dev/kfd，ROCm 无法使用 AMD GPU",
            "/dev/kfd is missing, so ROCm cannot use the AMD GPU",
        );
        return Some(check.next(
            "请安装 ROCm 的 amdgpu 驱动；在容器中请传入 --device=/dev/kfd --device=/dev/dri",
            "Install ROCm's amdgpu driver; in a container, pass --device=/dev/kfd --device=/dev/dri",
        ));
    }
    let nodes =
        cards.iter().filter_map(|card| card.render_node.as_ref()).map(|node| options.path("dev/dri").join(node));
    let refused = std::iter::once(kfd).chain(nodes).find_map(|path| permission("amd-devices", options, &path).err());
    let count = cards.len();
    Some(refused.unwrap_or_else(|| {
        Check::ok(
            "amd-devices",
            format!("{count} 块 AMD GPU 的设备文件可用"),
            format!("The device files of {count} AMD GPU(s) can be used"),
        )
    }))
}

pub(super) fn shared_memory(options: &Options) -> Option<Check> {
    let stat = rustix::fs::statvfs(options.path("dev/shm")).ok()?;
    let bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
    let size = domain::gib(bytes);
    if bytes >= LEAST_SHARED_MEMORY {
        return Some(Check::ok("shared-memory", format!("/dev/shm 有 {size}"), format!("/dev/shm has {size}")));
    }
    let check = Check::note(
        "shared-memory",
        format!("/dev/shm 只有 {size}，多进程加载数据或多 GPU 训练可能失败"),
        format!("/dev/shm has only {size}: loading data in several processes or training on several GPUs may fail"),
    );
    Some(if is_container(options) {
        check.next("启动容器时加上 --shm-size=8g 或 --ipc=host", "Start the container with --shm-size=8g or --ipc=host")
    } else {
        check.next("运行 sudo mount -o remount,size=8G /dev/shm", "Run sudo mount -o remount,size=8G /dev/shm")
    })
}

pub(super) fn visible_devices(value: Option<&str>) -> Option<Check> {
    let value = value?;
    let check = Check::note(
        "cuda-visible-devices",
        format!("环境中设置了 CUDA_VISIBLE_DEVICES={value}；Studio 不受其限制，会为每个任务单独设置"),
        format!("CUDA_VISIBLE_DEVICES={value} is set here; the studio does not heed it and sets it for each task"),
    );
    Some(check.next("可以取消该变量：unset CUDA_VISIBLE_DEVICES", "Unset it if you like: unset CUDA_VISIBLE_DEVICES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_misleads_is_named() {
        assert_eq!(visible_devices(None), None);
        assert!(visible_devices(Some("1")).unwrap().en.contains("CUDA_VISIBLE_DEVICES=1"));
    }
}
