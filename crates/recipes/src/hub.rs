//! Fetches models from Hugging Face, a mirror of it, or ModelScope.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use domain::Home;

/// Which API a hub speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubKind {
    HuggingFace,
    ModelScope,
}

/// What to fetch, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    pub kind: HubKind,
    /// Such as `https://huggingface.co` or `https://hf-mirror.com`.
    pub endpoint: String,
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
    /// `<organisation>/<name>`.
    pub id: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// The folder that becomes the model.
    pub dest: PathBuf,
}

impl HubOptions {
    /// By `SAGE_HUB`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the token file of Hugging Face's tools.
    pub fn from_env(id: &str, home: &Home) -> HubOptions {
        let _ = (id, home);
        todo!()
    }
}

/// How far a fetch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchProgress {
    /// The file in work.
    pub file: String,
    /// Fetched so far of all files.
    pub bytes: u64,
    /// Size of all files.
    pub total_bytes: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("stopped")]
    Stopped,
}

impl HubError {
    pub fn code(&self) -> &'static str {
        todo!()
    }
}

/// Fetches a model and answers its folder. Goes on where an earlier fetch broke off.
pub fn fetch(
    options: &HubOptions,
    on_progress: &mut dyn FnMut(FetchProgress),
    stop: &AtomicBool,
) -> Result<PathBuf, HubError> {
    let _ = (options, on_progress, stop);
    todo!()
}
