use std::io;
use std::path::{Path, PathBuf};

use domain::gib;

/// Why the environment cannot be installed, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PeftError {
    #[error(
        "the Python environment of trainer peft is not installed and UV_OFFLINE is set. Unset it, or run `sage trainer \
         install peft` while there is a network"
    )]
    Offline,
    #[error(
        "the package index {host} cannot be reached: {reason}. Check the network, or name a mirror: \
         SAGE_PYPI_INDEX=https://pypi.tuna.tsinghua.edu.cn/simple"
    )]
    Unreachable { host: String, reason: String },
    #[error(
        "{host} answered something that is no list of packages ({reason}). Check that SAGE_PYPI_INDEX is a simple \
         package index"
    )]
    UnexpectedAnswer { host: String, reason: String },
    #[error("{file} does not match its checksum. Try again, or use another index through SAGE_PYPI_INDEX")]
    Corrupt { file: String },
    #[error(
        "there is no uv for this machine ({platform}) on {host}. Install uv (https://docs.astral.sh/uv) and put it on \
         PATH, or name it in SAGE_UV"
    )]
    NoUv { platform: String, host: String },
    #[error("{} cannot be run: {source}. Name a working uv in SAGE_UV", uv.display())]
    Uv { uv: PathBuf, source: io::Error },
    #[error(
        "there is no Python 3.11 to 3.14 on this machine, and none could be fetched: {reason}. Install one, or name a \
         mirror in UV_PYTHON_INSTALL_MIRROR"
    )]
    NoPython { reason: String },
    #[error(
        "the Python environment of trainer peft could not be installed: {reason}. The lines above say more; \
         `sage trainer install peft` tries again"
    )]
    Install { reason: String },
    #[error(
        "the disk of {} has {} free and the Python environment of trainer peft needs {}. Free some space, or put \
         SAGE_HOME on a larger disk",
        folder.display(), gib(*available), gib(*needed)
    )]
    DiskFull { folder: PathBuf, needed: u64, available: u64 },
    #[error("cannot write {}: {source}. Check the folder's permissions", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the installation was stopped; what is fetched is kept")]
    Stopped,
}

impl PeftError {
    pub fn code(&self) -> &'static str {
        match self {
            PeftError::Offline => "peft-offline",
            PeftError::Unreachable { .. } => "peft-index-unreachable",
            PeftError::UnexpectedAnswer { .. } => "peft-index-unexpected-answer",
            PeftError::Corrupt { .. } => "peft-corrupt-file",
            PeftError::NoUv { .. } | PeftError::Uv { .. } => "peft-no-uv",
            PeftError::NoPython { .. } => "peft-no-python",
            PeftError::Install { .. } => "peft-install-failed",
            PeftError::DiskFull { .. } => "disk-full",
            PeftError::Write { .. } => "file-unwritable",
            PeftError::Stopped => "stopped",
        }
    }

    /// As the error's own text, which is in English.
    pub fn message_zh(&self) -> String {
        match self {
            PeftError::Offline => {
                "训练器 peft 的 Python 环境尚未安装，且设置了 UV_OFFLINE。请取消该设置，或在有网络时运行 \
                                   sage trainer install peft"
                    .into()
            }
            PeftError::Unreachable { host, reason } => format!(
                "无法连接软件包索引 {host}：{reason}。请检查网络，或指定镜像：\
                 SAGE_PYPI_INDEX=https://pypi.tuna.tsinghua.edu.cn/simple"
            ),
            PeftError::UnexpectedAnswer { host, reason } => {
                format!("{host} 返回的不是软件包列表（{reason}）。请检查 SAGE_PYPI_INDEX 是否为 simple 索引")
            }
            PeftError::Corrupt { file } => {
                format!("{file} 的校验和不一致。请重试，或通过 SAGE_PYPI_INDEX 使用其他索引")
            }
            PeftError::NoUv { platform, host } => format!(
                "{host} 上没有适用于本机（{platform}）的 uv。请安装 uv（https://docs.astral.sh/uv）并加入 PATH，或用 \
                 SAGE_UV 指定"
            ),
            PeftError::Uv { uv, source } => {
                format!("无法运行 {}：{source}。请用 SAGE_UV 指定可用的 uv", uv.display())
            }
            PeftError::NoPython { reason } => format!(
                "本机没有 Python 3.11 至 3.14，也无法下载：{reason}。请安装，或用 UV_PYTHON_INSTALL_MIRROR 指定镜像"
            ),
            PeftError::Install { reason } => format!(
                "训练器 peft 的 Python 环境安装失败：{reason}。详情见上面的输出；可用 sage trainer install peft 重试"
            ),
            PeftError::DiskFull { folder, needed, available } => format!(
                "{} 所在磁盘可用空间为 {}，安装训练器 peft 的 Python 环境需要 {}。请清理，或将 SAGE_HOME 放到更大的磁盘",
                folder.display(),
                gib(*available),
                gib(*needed)
            ),
            PeftError::Write { path, source } => format!("无法写入 {}：{source}。请检查目录权限", path.display()),
            PeftError::Stopped => "安装已停止，已下载的部分会保留".into(),
        }
    }

    /// Turns a failed write of `path` into the right error.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> PeftError {
        let path = path.to_owned();
        move |source| PeftError::Write { path, source }
    }
}
