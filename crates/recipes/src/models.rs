//! Which model a name means, and which models are on this machine.

use std::path::{Path, PathBuf};

use domain::Home;

/// A model found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// A folder with config.json and weights.
    Local(PathBuf),
    /// To be fetched from a hub; `id` is `<organisation>/<name>`.
    Hub { id: String },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error(
        "{name:?} is neither a model folder, nor a model on this machine, nor a hub id such as Qwen/Qwen2.5-0.5B-Instruct. `sage model list` shows what there is"
    )]
    Unknown { name: String },
    #[error(
        "{folder} has no config.json, so it is not a model. Give the folder that holds config.json and the weights"
    )]
    NoConfig { folder: PathBuf },
    #[error("{folder} has no *.safetensors weights. Export the model in safetensors format, or fetch it again")]
    NoWeights { folder: PathBuf },
}

impl ModelError {
    pub fn code(&self) -> &'static str {
        match self {
            ModelError::Unknown { .. } => "model-unknown",
            ModelError::NoConfig { .. } => "model-without-config",
            ModelError::NoWeights { .. } => "model-without-weights",
        }
    }
}

/// Where models are looked for besides `$SAGE_HOME/models`, from the variables of Hugging Face's own tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubCache {
    /// Folder of `models--<organisation>--<name>` folders.
    pub root: Option<PathBuf>,
}

impl HubCache {
    /// `HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub fn from_env() -> HubCache {
        todo!()
    }
}

/// Where on this machine a model lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `$SAGE_HOME/models`.
    Home,
    /// Hugging Face's cache.
    HubCache,
}

/// A model that is complete on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalModel {
    /// What to call it in a recipe.
    pub name: String,
    pub source: Source,
    pub path: PathBuf,
    /// On disk.
    pub bytes: u64,
    /// As config.json names it, such as `Qwen2ForCausalLM`.
    pub architecture: Option<String>,
}

/// Finds what `name` means: a folder, a name under `$SAGE_HOME/models`, something in the hub cache, or a hub id.
pub fn resolve(name: &str, home: &Home, cache: &HubCache) -> Result<ModelRef, ModelError> {
    let _ = (name, home, cache);
    todo!()
}

/// All models on this machine, by name.
pub fn list(home: &Home, cache: &HubCache) -> Vec<LocalModel> {
    let _ = (home, cache);
    todo!()
}

/// Folder under `$SAGE_HOME/models` for a model from a hub: `<organisation>--<name>`.
pub fn folder_of(id: &str, home: &Home) -> PathBuf {
    home.models().join(id.replace('/', "--"))
}

#[allow(unused)]
fn unused(_: &Path) {}
