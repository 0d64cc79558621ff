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
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    match (needed, available) {
        (Some(needed), Some(available)) => {
            format!(" ({:.1} GiB needed, {:.1} GiB free)", gib(*needed), gib(*available))
        }
        _ => String::new(),
    }
}
