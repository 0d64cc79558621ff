//! Which files make a model, from the hub's own list.

use serde_json::Value;
use ureq::http::HeaderMap;

use super::download::Downloader;
use super::{HubError, HubKind};

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Without folders.
    pub name: String,
    pub size: u64,
    pub hash: Option<Hash>,
    pub url: String,
}

/// In hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256(String),
    /// What git calls a file: the SHA-1 of its length and content.
    GitBlob(String),
}

impl Hash {
    pub fn hex(&self) -> &str {
        match self {
            Hash::Sha256(hex) | Hash::GitBlob(hex) => hex,
        }
    }
}

/// Most pages of a list; a model's own folder has far fewer files.
const MOST_PAGES: usize = 20;

/// The files of the model, small ones first. A model has a configuration and safetensors weights.
pub(super) fn list(download: &Downloader<'_>) -> Result<Vec<RemoteFile>, HubError> {
    let all = match &download.options.kind {
        HubKind::HuggingFace => hugging_face(download)?,
        HubKind::ModelScope => model_scope(download)?,
        HubKind::Unknown(value) => return Err(HubError::UnknownHub { value: value.clone() }),
    };
    let id = &download.options.id;
    let has = |name: &str| all.iter().any(|file| file.name == name);
    if !has("config.json") {
        return Err(HubError::NotAModel { id: id.clone() });
    }
    let sharded = has("model.safetensors.index.json");
    let mut files: Vec<_> = all.into_iter().filter(|file| is_part_of_model(&file.name, sharded)).collect();
    if !files.iter().any(|file| file.name.ends_with(".safetensors")) {
        return Err(HubError::NoWeights { id: id.clone() });
    }
    files.sort_by_key(|file| (file.name.ends_with(".safetensors"), file.name.clone()));
    Ok(files)
}

/// Hubs keep the same weights in several formats side by side; these are the ones that are trained on.
fn is_part_of_model(name: &str, sharded: bool) -> bool {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_plain || name.starts_with('.') || name.len() > 128 {
        return false;
    }
    if name.ends_with(".safetensors") {
        return if sharded { name.contains("-of-") } else { name == "model.safetensors" };
    }
    let exact = [
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
    ];
    exact.contains(&name)
        || (name.starts_with("tokenizer") && name.ends_with(".json"))
        || (name.starts_with("chat_template") && (name.ends_with(".json") || name.ends_with(".jinja")))
}

/// The list of one commit, so that all files are of the same one even if the branch moves meanwhile.
fn hugging_face(download: &Downloader<'_>) -> Result<Vec<RemoteFile>, HubError> {
    let options = download.options;
    let (endpoint, id) = (&options.endpoint, &options.id);
    let revision = encode(&options.revision);
    let (info, _) = download.json(&format!("{endpoint}/api/models/{id}/revision/{revision}"))?;
    let commit = info["sha"].as_str().filter(|sha| is_hex(sha)).ok_or_else(|| download.unexpected())?;

    let mut files = Vec::new();
    let mut page = Some(format!("{endpoint}/api/models/{id}/tree/{commit}"));
    for _ in 0..MOST_PAGES {
        let Some(url) = page else { break };
        let (list, headers) = download.json(&url)?;
        for entry in list.as_array().ok_or_else(|| download.unexpected())? {
            let (Some("file"), Some(name)) = (entry["type"].as_str(), entry["path"].as_str()) else { continue };
            let large = entry.get("lfs").filter(|lfs| lfs.is_object());
            let hash = match large {
                Some(lfs) => lfs["oid"].as_str().map(|oid| Hash::Sha256(oid.trim_start_matches("sha256:").into())),
                None => entry["oid"].as_str().map(|oid| Hash::GitBlob(oid.into())),
            };
            files.push(RemoteFile {
                name: name.to_owned(),
                size: size(large.unwrap_or(entry), "size").ok_or_else(|| download.unexpected())?,
                hash: hash.filter(|hash| is_hex(hash.hex())),
                url: format!("{endpoint}/{id}/resolve/{commit}/{name}"),
            });
        }
        page = next_page(&headers);
    }
    Ok(files)
}

fn model_scope(download: &Downloader<'_>) -> Result<Vec<RemoteFile>, HubError> {
    let options = download.options;
    let base = format!("{}/api/v1/models/{}/repo", options.endpoint, options.id);
    let revision = encode(&options.revision);
    let (answer, _) = download.json(&format!("{base}/files?Revision={revision}&Recursive=false"))?;
    let list = answer["Data"]["Files"].as_array().ok_or_else(|| download.unexpected())?;
    let files = list.iter().filter(|entry| entry["Type"] != "tree");
    let file = |entry: &Value| {
        let name = entry["Path"].as_str().or_else(|| entry["Name"].as_str())?;
        let hash = entry["Sha256"].as_str().filter(|hash| is_hex(hash)).map(|hash| Hash::Sha256(hash.into()));
        let url = format!("{base}?Revision={revision}&FilePath={}", encode(name));
        Some(RemoteFile { name: name.to_owned(), size: size(entry, "Size")?, hash, url })
    };
    files.map(|entry| file(entry).ok_or_else(|| download.unexpected())).collect()
}

fn size(entry: &Value, name: &str) -> Option<u64> {
    entry[name].as_u64()
}

fn is_hex(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The address in `Link: <…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// As one part of a path or query.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_trained_on_is_fetched() {
        for name in
            ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
        {
            assert!(is_part_of_model(name, false), "{name}");
        }
        assert!(is_part_of_model("model-00001-of-00002.safetensors", true));
        assert!(!is_part_of_model("model.safetensors", true), "the index names the shards");
        for name in [
            "pytorch_model.bin",
            "consolidated.safetensors",
            "model.fp16.safetensors",
            "README.md",
            "model.gguf",
            ".gitattributes",
            "onnx/model.safetensors",
            "../config.json",
            "tokenizer.json/../x.json",
            "modeling_qwen.py",
            "",
            ".config.json",
        ] {
            assert!(!is_part_of_model(name, false), "{name}");
        }
    }

    #[test]
    fn names_become_parts_of_addresses() {
        assert_eq!(encode("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encode("模 型"), "%E6%A8%A1%20%E5%9E%8B");
    }
}
