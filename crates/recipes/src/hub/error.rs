use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be fetched, with what to do about it. No token and no signed address is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("SAGE_HUB is {value:?}. Use huggingface or modelscope, or unset it")]
    UnknownHub { value: String },
    #[error("{id:?} is not a hub id. Write <organisation>/<name>, such as Qwen/Qwen2.5-0.5B-Instruct")]
    BadId { id: String },
    #[error("{id} is not on this machine and HF_HUB_OFFLINE is set. Unset it, or copy the model to $SAGE_HOME/models")]
    Offline { id: String },
    #[error(
        "{host} cannot be reached: {reason}. Check the network; behind a firewall set HF_ENDPOINT=https://hf-mirror.com \
         or SAGE_HUB=modelscope, or copy the model to $SAGE_HOME/models"
    )]
    Unreachable { host: String, reason: String },
    #[error("{host} has no model {id} that can be seen. Check the spelling; for a private model set HF_TOKEN")]
    NotFound { host: String, id: String },
    #[error("{id} has no revision {revision}. Use a branch, tag or commit that it has")]
    RevisionNotFound { id: String, revision: String },
    #[error("{id} asks for a sign-in. Accept its terms at {page} and set HF_TOKEN to a token of your account")]
    TokenMissing { id: String, page: String },
    #[error("the token is refused for {id}. Accept the model's terms at {page} and check that HF_TOKEN is still valid")]
    TokenRefused { id: String, page: String },
    #[error("{id} has no config.json, so it is not a model that can be trained. Choose a transformers model")]
    NotAModel { id: String },
    #[error("{id} has no safetensors weights. Choose a version of the model that has them (not GGUF, not only .bin)")]
    NoWeights { id: String },
    #[error("{host} broke off {file} again and again: {reason}. Try again later; what is fetched is kept")]
    Broken { host: String, file: String, reason: String },
    #[error("{host} answered {status} for {file}. Try again later, or use another hub through HF_ENDPOINT")]
    UnexpectedStatus { host: String, file: String, status: u16 },
    #[error("{host} answered something that is no list of files. Check that HF_ENDPOINT is a model hub")]
    UnexpectedAnswer { host: String },
    #[error(
        "{file} does not match its checksum after two downloads. Try again, or use another hub through HF_ENDPOINT"
    )]
    Corrupt { file: String },
    #[error("the disk of {} is full{}. Free some space, then submit again; what is fetched is kept", folder.display(), sizes(needed, available))]
    DiskFull { folder: PathBuf, needed: Option<u64>, available: Option<u64> },
    #[error("cannot write {}: {source}. Check the folder's permissions", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the fetch was stopped; what is fetched is kept")]
    Stopped,
}

impl HubError {
    pub fn code(&self) -> &'static str {
        match self {
            HubError::UnknownHub { .. } => "hub-unknown",
            HubError::BadId { .. } => "hub-bad-id",
            HubError::Offline { .. } => "hub-offline",
            HubError::Unreachable { .. } => "hub-unreachable",
            HubError::NotFound { .. } => "hub-model-not-found",
            HubError::RevisionNotFound { .. } => "hub-revision-not-found",
            HubError::TokenMissing { .. } => "hub-token-missing",
            HubError::TokenRefused { .. } => "hub-token-refused",
            HubError::NotAModel { .. } => "hub-not-a-model",
            HubError::NoWeights { .. } => "hub-no-weights",
            HubError::Broken { .. } => "hub-broken-off",
            HubError::UnexpectedStatus { .. } | HubError::UnexpectedAnswer { .. } => "hub-unexpected-answer",
            HubError::Corrupt { .. } => "hub-corrupt-file",
            HubError::DiskFull { .. } => "disk-full",
            HubError::Write { .. } => "hub-cannot-write",
            HubError::Stopped => "stopped",
        }
    }

    /// As the error's own text, which is in English.
    pub fn message_zh(&self) -> String {
        match self {
            HubError::UnknownHub { value } => {
                format!("SAGE_HUB 的值 {value:?} 无效。请使用 huggingface 或 modelscope，或取消设置")
            }
            HubError::BadId { id } => {
                format!("{id:?} 不是有效的模型编号。请填写 Qwen/Qwen2.5-0.5B-Instruct 这样的编号")
            }
            HubError::Offline { id } => {
                format!("本机没有 {id}，且设置了 HF_HUB_OFFLINE。请取消该设置，或将模型复制到 $SAGE_HOME/models")
            }
            HubError::Unreachable { host, reason } => format!(
                "无法连接 {host}：{reason}。请检查网络；网络受限时可设置 HF_ENDPOINT=https://hf-mirror.com 或 \
                 SAGE_HUB=modelscope，或将模型复制到 $SAGE_HOME/models"
            ),
            HubError::NotFound { host, id } => {
                format!("在 {host} 上找不到模型 {id}。请检查拼写；如果是私有模型，请设置 HF_TOKEN")
            }
            HubError::RevisionNotFound { id, revision } => {
                format!("{id} 没有版本 {revision}。请使用已有的分支、标签或提交")
            }
            HubError::TokenMissing { id, page } => {
                format!("{id} 需要登录。请在 {page} 接受使用条款，并将 HF_TOKEN 设置为您的令牌")
            }
            HubError::TokenRefused { id, page } => {
                format!("令牌无权访问 {id}。请在 {page} 接受使用条款，并确认 HF_TOKEN 仍然有效")
            }
            HubError::NotAModel { id } => format!("{id} 没有 config.json，无法训练。请选择 transformers 格式的模型"),
            HubError::NoWeights { id } => {
                format!("{id} 没有 safetensors 权重。请选择带有 safetensors 的版本（不是 GGUF，也不是只有 .bin）")
            }
            HubError::Broken { host, file, reason } => {
                format!("从 {host} 下载 {file} 时连接反复中断：{reason}。请稍后重试，已下载的部分会保留")
            }
            HubError::UnexpectedStatus { host, file, status } => {
                format!("{host} 对 {file} 返回了 {status}。请稍后重试，或通过 HF_ENDPOINT 使用其他站点")
            }
            HubError::UnexpectedAnswer { host } => {
                format!("{host} 返回的不是文件列表。请检查 HF_ENDPOINT 是否为模型站点")
            }
            HubError::Corrupt { file } => {
                format!("{file} 两次下载的校验和都不一致。请重试，或通过 HF_ENDPOINT 使用其他站点")
            }
            HubError::DiskFull { folder, needed, available } => {
                let sizes = sizes_zh(needed, available);
                format!("{} 所在磁盘空间不足{sizes}。请清理后重新提交，已下载的部分会保留", folder.display())
            }
            HubError::Write { path, source } => format!("无法写入 {}：{source}。请检查目录权限", path.display()),
            HubError::Stopped => "下载已停止，已下载的部分会保留".into(),
        }
    }

    /// Turns a failed write of `path` into the right error.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> HubError {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let folder = path.parent().unwrap_or(&path).to_owned();
                HubError::DiskFull { folder, needed: None, available: None }
            }
            _ => HubError::Write { path, source },
        }
    }
}

fn sizes(needed: &Option<u64>, available: &Option<u64>) -> String {
    match (needed, available) {
        (Some(needed), Some(available)) => {
            format!(" ({:.1} GiB needed, {:.1} GiB free)", gib(*needed), gib(*available))
        }
        _ => String::new(),
    }
}

fn sizes_zh(needed: &Option<u64>, available: &Option<u64>) -> String {
    match (needed, available) {
        (Some(needed), Some(available)) => format!("（需要 {:.1} GiB，剩余 {:.1} GiB）", gib(*needed), gib(*available)),
        _ => String::new(),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}
