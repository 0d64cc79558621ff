//! The driver's errors in words, with what to do next.

use std::path::Path;
use std::time::Duration;

use domain::{Device, Finding};
use nvml_wrapper::error::NvmlError;

use crate::backend::finding;
use crate::card::Vendor;

/// Why the driver could not be asked at all.
pub(crate) fn detection(error: &NvmlError) -> Finding {
    match error {
        NvmlError::DriverNotLoaded => finding(
            "nvidia-driver-not-loaded",
            "NVIDIA 驱动未加载，改用 CPU。请运行 sudo modprobe nvidia；仍然失败时请重启机器或重新安装驱动。",
            "The NVIDIA driver is not loaded, so the CPU is used. Run sudo modprobe nvidia; if that fails, restart the \
             machine or reinstall the driver.",
        ),
        NvmlError::LibRmVersionMismatch => finding(
            "nvidia-driver-mismatch",
            "NVIDIA 驱动与其程序库版本不一致（通常是驱动刚升级），改用 CPU。请重启机器。",
            "The NVIDIA driver and its library have different versions (usually after an update), so the CPU is used. \
             Restart the machine.",
        ),
        NvmlError::NoPermission | NvmlError::OperatingSystem => finding(
            "nvidia-no-permission",
            "没有访问 NVIDIA 设备的权限，改用 CPU。请检查 /dev/nvidia* 的权限，或将当前用户加入 video 组后重新登录。",
            "There is no permission to use the NVIDIA devices, so the CPU is used. Check the permissions of \
             /dev/nvidia*, or add the user to the group video and sign in again.",
        ),
        NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_) => finding(
            "nvml-broken",
            format!("无法加载 NVIDIA 程序库（{error}），改用 CPU。请重新安装驱动。"),
            format!("The NVIDIA library cannot be loaded ({error}), so the CPU is used. Reinstall the driver."),
        ),
        _ => finding(
            "nvml-failed",
            format!("NVIDIA 驱动返回错误（{error}），改用 CPU。请运行 nvidia-smi 查看详情，必要时重启机器。"),
            format!(
                "The NVIDIA driver answers with an error ({error}), so the CPU is used. Run nvidia-smi for details and \
                 restart the machine if it fails too."
            ),
        ),
    }
}

/// Why one device could not be read.
pub(crate) fn device(error: &NvmlError) -> Finding {
    match error {
        NvmlError::GpuLost => finding(
            "gpu-lost",
            "GPU 已从总线上断开。请检查供电和散热，然后重启机器。",
            "the GPU fell off the bus. Check its power and cooling, then restart the machine.",
        ),
        NvmlError::ResetRequired => finding(
            "gpu-needs-reset",
            "GPU 需要复位。请结束使用它的程序后运行 sudo nvidia-smi --gpu-reset，或重启机器。",
            "the GPU needs a reset. End the programs that use it and run sudo nvidia-smi --gpu-reset, or restart the \
             machine.",
        ),
        NvmlError::InsufficientPower => finding(
            "gpu-no-power",
            "GPU 的外接供电未接好。请关机后检查供电线。",
            "the GPU's power cables are not attached properly. Switch the machine off and check them.",
        ),
        NvmlError::NoPermission | NvmlError::OperatingSystem => finding(
            "gpu-no-permission",
            "没有读取该 GPU 的权限。请检查 /dev/nvidia* 的权限或容器的设备设置。",
            "there is no permission to read this GPU. Check the permissions of /dev/nvidia* or the container's devices.",
        ),
        _ => finding(
            "gpu-unreadable",
            format!("无法读取该 GPU（{error}）。请运行 nvidia-smi 查看详情，必要时重启机器。"),
            format!(
                "the GPU cannot be read ({error}). Run nvidia-smi for details and restart the machine if it fails too."
            ),
        ),
    }
}

/// The memory of a GPU that otherwise answers.
pub(crate) fn memory_unknown(error: &dyn std::fmt::Display) -> Finding {
    finding(
        "gpu-memory-unknown",
        format!("驱动不提供该 GPU 的显存用量（{error}），因此不会分配任务。请更新驱动；在 WSL 中请运行 wsl --update。"),
        format!(
            "the driver does not tell this GPU's memory ({error}), so no task is placed on it. Update the driver; on \
             WSL, run wsl --update."
        ),
    )
}

/// Only root sees the memory of all processes, and the driver has no sum.
pub(crate) fn intel_memory_unknown() -> Finding {
    finding(
        "intel-memory-unknown",
        "Intel 驱动只向 root 显示所有程序的显存用量，因此不会在该 GPU 上分配任务，改用 CPU。以 root 运行 Studio 即可使用该 GPU。",
        "Intel's driver shows only root how much memory all programs use, so no task is placed on this GPU and the CPU \
         is used. Run the studio as root to use the GPU.",
    )
}

/// The device file that programs compute through cannot be opened.
pub(crate) fn no_render_permission(path: &Path) -> Finding {
    let path = path.display();
    finding(
        "gpu-no-permission",
        format!(
            "没有使用该 GPU 的权限（{path}）。请将当前用户加入 render 组后重新登录；在容器中请传入 --device=/dev/dri 和 /dev/kfd。"
        ),
        format!(
            "there is no permission to use this GPU ({path}). Add the user to the group render and sign in again; in a \
             container, pass --device=/dev/dri and /dev/kfd."
        ),
    )
}

pub(crate) fn mig_without_instances() -> Finding {
    finding(
        "mig-without-instances",
        "GPU 已启用 MIG，但没有可用的实例。请用 nvidia-smi mig -cgi … -C 创建实例，或用 nvidia-smi -mig 0 关闭 MIG。",
        "MIG is on but the GPU has no instances. Create some with nvidia-smi mig -cgi … -C, or switch MIG off with \
         nvidia-smi -mig 0.",
    )
}

/// Asked and silent for that long. `None`: the drivers as a whole, before any device was found.
pub(crate) fn not_answering(age: Duration, vendor: Option<Vendor>) -> Finding {
    let seconds = age.as_secs();
    let (look_zh, look_en) = match vendor {
        Some(Vendor::Amd | Vendor::Intel) => ("请用 dmesg 查看内核日志", "Look into the kernel log with dmesg"),
        Some(Vendor::Nvidia) | None => ("请运行 nvidia-smi 检查", "Run nvidia-smi to check"),
    };
    let (what_zh, what_en) = match vendor {
        Some(_) => ("显示的是当时的数据", "the figures are from then"),
        None => ("尚不知道有哪些 GPU", "it is not known yet which GPUs there are"),
    };
    finding(
        "gpu-not-answering",
        format!(
            "GPU 驱动已有 {seconds} 秒没有应答，{what_zh}。{look_zh}；若同样无响应，请结束使用该 GPU 的程序或重启机器。\
             恢复应答后会自动继续使用。"
        ),
        format!(
            "the GPU driver has not answered for {seconds} s; {what_en}. {look_en}; if it hangs too, end the programs \
             that use the GPU or restart the machine. It is used again as soon as it answers."
        ),
    )
}

/// The process that reads the GPUs is gone; `how` it ended.
pub(crate) fn worker_died(how: &str) -> Finding {
    finding(
        "gpu-worker-died",
        format!(
            "读取 GPU 的进程意外结束（{how}），将自动重启。若反复出现，请更新或重新安装驱动（WSL 中请运行 wsl --update），\
             或设置 SAGE_DISABLE_NVML=1 并重启以使用 CPU。"
        ),
        format!(
            "the process that reads the GPUs ended unexpectedly ({how}) and is started again. If that repeats, update \
             or reinstall the driver (on WSL, run wsl --update), or set SAGE_DISABLE_NVML=1 and restart to use the CPU."
        ),
    )
}

/// Instead of a card that never told who it is.
pub(crate) fn unnamed() -> Finding {
    finding("gpu-unreadable", "尚未读取到该 GPU。", "the GPU has not been read yet.")
}

pub(crate) fn row_remap_pending(Device { name, id, .. }: &Device) -> Finding {
    finding(
        "gpu-row-remap-pending",
        format!(
            "{name}（{id}）的部分显存出错，等待替换。GPU 仍可使用；请在空闲时运行 sudo nvidia-smi --gpu-reset 或重启机器。"
        ),
        format!(
            "{name} ({id}) has bad memory that waits to be replaced. It can still be used; when it is idle, run sudo \
             nvidia-smi --gpu-reset or restart the machine."
        ),
    )
}

pub(crate) fn vgpu(Device { name, id, .. }: &Device) -> Finding {
    finding(
        "gpu-is-virtual",
        format!(
            "{name}（{id}）是虚拟 GPU（vGPU）：算力与其他虚拟机共享，部分数据可能缺失。若无法使用，请向管理员确认许可证。"
        ),
        format!(
            "{name} ({id}) is a virtual GPU (vGPU): its processors are shared with other machines and some figures may \
             be missing. If it cannot be used, ask the administrator about the licence."
        ),
    )
}
