//! The driver's errors in words, with what to do next.

use domain::Finding;
use nvml_wrapper::error::NvmlError;

use crate::backend::finding;

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
