//! Which model a name means, and which models are on this machine.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use domain::Home;
use serde_json::Value;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// No real config.json or index comes near this; a larger file is not one.
const LARGEST_JSON: u64 = 32 << 20;

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
        "{name:?} is neither a model folder, nor a model on this machine, nor a hub id such as \
         Qwen/Qwen2.5-0.5B-Instruct. `sage model list` shows what there is"
    )]
    Unknown { name: String },
    #[error("{} has no config.json, so it is not a model. Give the folder with config.json and the weights", folder.display())]
    NoConfig { folder: PathBuf },
    #[error("{} has no complete *.safetensors weights. Export the model as safetensors, or fetch it again", folder.display())]
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

    pub fn message_zh(&self) -> String {
        match self {
            ModelError::Unknown { name } => format!(
                "{name:?} 不是模型目录，不是本机已有的模型，也不是 Qwen/Qwen2.5-0.5B-Instruct 这样的模型编号。\
                 请用 sage model list 查看可用的模型"
            ),
            ModelError::NoConfig { folder } => {
                format!("{} 中没有 config.json，不是模型目录。请填写包含 config.json 和权重的目录", folder.display())
            }
            ModelError::NoWeights { folder } => {
                format!("{} 中没有完整的 safetensors 权重。请导出为 safetensors 格式，或重新下载", folder.display())
            }
        }
    }
}

/// Where Hugging Face's own tools keep models: a folder of `models--<organisation>--<name>` folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubCache {
    pub root: Option<PathBuf>,
}

impl HubCache {
    /// `HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub fn from_env() -> HubCache {
        HubCache::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> HubCache {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        let root = root.or_else(|| Some(hugging_face_home(&variable)?.join("hub")));
        HubCache { root }
    }

    /// The newest complete copy of a model.
    fn find(&self, id: &str) -> Option<PathBuf> {
        snapshot(&self.root.as_ref()?.join(format!("models--{}", id.replace('/', "--"))))
    }
}

/// `$HF_HOME`, else `huggingface` in the user's cache folder.
pub(crate) fn hugging_face_home(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    folder("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
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
    /// Size of its files.
    pub bytes: u64,
    /// As config.json names it, such as `Qwen2ForCausalLM`.
    pub architecture: Option<String>,
}

/// Finds what `name` means: a folder (absolute, or beginning with `.`), a name under `$SAGE_HOME/models`, something in
/// the hub cache, or a hub id.
pub fn resolve(name: &str, home: &Home, cache: &HubCache) -> Result<ModelRef, ModelError> {
    if name.starts_with(['/', '.']) {
        let folder = fs::canonicalize(name).unwrap_or_else(|_| PathBuf::from(name));
        return complete(folder).map(ModelRef::Local);
    }
    if is_plain_name(name) {
        let folder = home.models().join(name);
        if folder.is_dir() {
            return complete(folder).map(ModelRef::Local);
        }
    }
    if !is_hub_id(name) {
        return Err(ModelError::Unknown { name: name.chars().take(200).collect() });
    }
    // What is not complete here is fetched again.
    let in_home = complete(folder_of(name, home)).ok();
    match in_home.or_else(|| cache.find(name)) {
        Some(folder) => Ok(ModelRef::Local(folder)),
        None => Ok(ModelRef::Hub { id: name.to_owned() }),
    }
}

/// All models on this machine, by name. One that lies in both places is listed from `$SAGE_HOME/models`.
pub fn list(home: &Home, cache: &HubCache) -> Vec<LocalModel> {
    let mut models = BTreeMap::new();
    let cached = cache.root.iter().flat_map(|root| subfolders(root)).filter_map(|(folder, path)| {
        let name = hub_id_of(folder.strip_prefix("models--")?)?;
        local_model(name, Source::HubCache, snapshot(&path)?)
    });
    let own = subfolders(&home.models()).into_iter().filter_map(|(folder, path)| {
        let name = hub_id_of(&folder).unwrap_or(folder);
        local_model(name, Source::Home, complete(path).ok()?)
    });
    for model in cached.chain(own) {
        models.insert(model.name.clone(), model);
    }
    models.into_values().collect()
}

/// Folder under `$SAGE_HOME/models` for a model from a hub: `<organisation>--<name>`.
pub fn folder_of(id: &str, home: &Home) -> PathBuf {
    home.models().join(id.replace('/', "--"))
}

/// `<organisation>/<name>` as hubs allow it, and safe as a path.
pub fn is_hub_id(text: &str) -> bool {
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (1..=96).contains(&part.len())
            && part.chars().all(allowed)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    text.split_once('/').is_some_and(|(organisation, name)| is_part(organisation) && is_part(name))
}

/// One name of a folder, nothing that leads elsewhere.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0'])
}

/// `Qwen--Qwen3-4B` → `Qwen/Qwen3-4B`
fn hub_id_of(folder: &str) -> Option<String> {
    let id = folder.replacen("--", "/", 1);
    is_hub_id(&id).then_some(id)
}

/// The snapshot that `main` means, else the newest complete one.
fn snapshot(model: &Path) -> Option<PathBuf> {
    let snapshots = model.join("snapshots");
    let commit = fs::read_to_string(model.join("refs/main")).ok();
    let commit = commit.as_deref().map(str::trim).filter(|commit| is_plain_name(commit) && !commit.starts_with('.'));
    if let Some(folder) = commit.and_then(|commit| complete(snapshots.join(commit)).ok()) {
        return Some(folder);
    }
    let folders = subfolders(&snapshots).into_iter().filter_map(|(_, folder)| complete(folder).ok());
    folders.max_by_key(|folder| fs::metadata(folder).and_then(|metadata| metadata.modified()).ok())
}

/// The folder itself if it has a configuration and all weights.
pub(crate) fn complete(folder: PathBuf) -> Result<PathBuf, ModelError> {
    if !folder.join(CONFIG).is_file() {
        return Err(ModelError::NoConfig { folder });
    }
    // Sharded weights are all there, or none count.
    let is_complete = match read_json(&folder.join(INDEX)) {
        Some(index) => index["weight_map"].as_object().is_some_and(|map| {
            let shards: HashSet<&str> = map.values().filter_map(Value::as_str).collect();
            !shards.is_empty() && shards.into_iter().all(|shard| folder.join(shard).is_file())
        }),
        None => folder.join(WEIGHTS).is_file(),
    };
    if is_complete { Ok(folder) } else { Err(ModelError::NoWeights { folder }) }
}

fn local_model(name: String, source: Source, path: PathBuf) -> Option<LocalModel> {
    let sizes = fs::read_dir(&path).ok()?.flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
    let bytes = sizes.filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()).sum();
    let config = read_json(&path.join(CONFIG))?;
    let architecture = config["architectures"][0].as_str().map(str::to_owned);
    Some(LocalModel { name, source, path, bytes, architecture })
}

fn read_json(path: &Path) -> Option<Value> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST_JSON).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Folders that are not hidden, with their names.
fn subfolders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    named.filter(|(name, path)| !name.starts_with('.') && path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_two_safe_names() {
        for good in ["Qwen/Qwen2.5-0.5B-Instruct", "a/b", "01-ai/Yi_1.5"] {
            assert!(is_hub_id(good), "{good}");
        }
        let long = format!("a/{}", "x".repeat(97));
        for bad in ["", "model", "a/", "/a", "a/b/c", "../b", "a/..", "a/.b", "a/b.", "a--b/c", "a b/c", "a/b?x", &long]
        {
            assert!(!is_hub_id(bad), "{bad}");
        }
    }

    #[test]
    fn the_cache_is_found_as_hugging_face_finds_it() {
        let root = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            HubCache::from_variables(find).root.map(|path| path.display().to_string())
        };
        assert_eq!(root(&[("HOME", "/u")]).unwrap(), "/u/.cache/huggingface/hub");
        assert_eq!(root(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/c")]).unwrap(), "/c/huggingface/hub");
        assert_eq!(root(&[("HOME", "/u"), ("HF_HOME", "/h")]).unwrap(), "/h/hub");
        assert_eq!(root(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/x")]).unwrap(), "/x");
        assert_eq!(root(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]).unwrap(), "/h/hub");
        assert_eq!(root(&[]), None);
    }
}
