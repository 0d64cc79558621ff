//! What is depended on, held to deny.toml without cargo-deny: sources, licences and bans of what is built by default. Known
//! holes, and what features that are off would bring, are cargo-deny's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::run;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// As in deny.toml: what is built for others is not ours.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// What deny.toml says.
struct Policy {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

/// A sentence for each dependency that may not be.
pub fn faults(root: &Path) -> Vec<String> {
    let policy = Policy::parse(&fs::read_to_string(root.join("deny.toml")).unwrap_or_default());
    if policy.licences.is_empty() || policy.banned.is_empty() {
        return vec!["deny.toml names no licences or no bans".into()];
    }
    let mut arguments = vec!["metadata", "--format-version", "1", "--locked"];
    arguments.extend(PLATFORMS.iter().flat_map(|platform| ["--filter-platform", platform]));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let metadata = match run::in_root(&cargo, &arguments).output() {
        Ok(output) if output.status.success() => serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(),
        Ok(output) => return vec![format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim())],
        Err(error) => return vec![format!("cargo metadata: {error}")],
    };
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if packages.is_empty() {
        return vec!["cargo metadata names no packages".into()];
    }
    let reached = reached(&metadata);
    let used = packages.iter().filter(|package| package["id"].as_str().is_some_and(|id| reached.contains(id)));
    used.filter_map(|package| policy.fault(package, root)).collect()
}

/// Ids of the workspace's crates and of all that they depend on here; the lock file names more.
fn reached(metadata: &Value) -> BTreeSet<&str> {
    fn list(value: &Value) -> &[Value] {
        value.as_array().map(Vec::as_slice).unwrap_or_default()
    }
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut open: Vec<&str> = list(&metadata["workspace_members"]).iter().filter_map(Value::as_str).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            let dependencies = nodes.get(id).map_or(&[][..], |node| list(&node["deps"]));
            open.extend(dependencies.iter().filter_map(|dependency| dependency["pkg"].as_str()));
        }
    }
    reached
}

impl Policy {
    /// The two lists of deny.toml: quoted words, one or more to a line.
    fn parse(text: &str) -> Policy {
        let section = |name: &str| text.split_once(name).map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or(""));
        let list = |section: &str, key: &str| -> BTreeSet<String> {
            let list = section.split_once(key).and_then(|(_, rest)| rest.split("\n]").next()).unwrap_or_default();
            let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
            lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
        };
        Policy { licences: list(section("[licenses]"), "\nallow = ["), banned: list(section("[bans]"), "\ndeny = [") }
    }

    /// `package`: as `cargo metadata` has it.
    fn fault(&self, package: &Value, root: &Path) -> Option<String> {
        let name = package["name"].as_str().unwrap_or_default();
        let fault = |what: String| Some(format!("the dependency {name} {what} (deny.toml)"));
        match package["source"].as_str() {
            // The workspace's own crates.
            None if package["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(root)) => {
                return None;
            }
            Some(CRATES_IO) => {}
            source => return fault(format!("comes from {}", source.unwrap_or("outside of this repository"))),
        }
        if self.banned.contains(name) {
            return fault("is banned".into());
        }
        match package["license"].as_str() {
            Some(licence) if self.allows(licence) => None,
            licence => fault(format!("has the licence {}", licence.unwrap_or("none"))),
        }
    }

    /// An SPDX expression, also with the `/` of old manifests.
    fn allows(&self, licence: &str) -> bool {
        let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        self.any(&words, &mut at) && at == words.len()
    }

    fn any(&self, words: &[&str], at: &mut usize) -> bool {
        let mut allowed = self.all(words, at);
        while words.get(*at) == Some(&"OR") {
            *at += 1;
            allowed |= self.all(words, at);
        }
        allowed
    }

    fn all(&self, words: &[&str], at: &mut usize) -> bool {
        let mut allowed = self.one(words, at);
        while words.get(*at) == Some(&"AND") {
            *at += 1;
            allowed &= self.one(words, at);
        }
        allowed
    }

    fn one(&self, words: &[&str], at: &mut usize) -> bool {
        let Some(word) = words.get(*at) else { return false };
        *at += 1;
        if *word == "(" {
            let allowed = self.any(words, at);
            let closed = words.get(*at) == Some(&")");
            *at += 1;
            return allowed && closed;
        }
        if words.get(*at) == Some(&"WITH") {
            let exception = words.get(*at + 1).copied().unwrap_or_default();
            *at += 2;
            return self.licences.contains(&format!("{word} WITH {exception}")) || self.licences.contains(*word);
        }
        self.licences.contains(*word)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DENY: &str = "[licenses]\n# \"GPL-3.0\" is none\nallow = [\n    \"MIT\",\n    \"Apache-2.0\",\n    \"Zlib\",\n]\n\n[bans]\nwildcards = \
                        \"deny\"\ndeny = [\n    # \"serde\" is not\n    { crate = \"openssl-sys\" },\n]\n[sources]\nallow = [\"x\"]\n";

    #[test]
    fn licences_are_read_as_expressions() {
        let policy = Policy::parse(DENY);
        for good in
            ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Zlib", "Apache-2.0 WITH LLVM-exception"]
        {
            assert!(policy.allows(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "", "(MIT", "MIT )", "MIT Zlib", "x"] {
            assert!(!policy.allows(bad), "{bad}");
        }
    }

    #[test]
    fn what_may_not_be_is_told_with_its_reason() {
        let policy = Policy::parse(DENY);
        let package = |name: &str, source: Value, licence: Value| {
            let package =
                json!({"name": name, "source": source, "license": licence, "manifest_path": "/r/a/Cargo.toml"});
            policy.fault(&package, Path::new("/r")).unwrap_or_default()
        };
        assert_eq!(package("serde", json!(CRATES_IO), json!("MIT")), "");
        assert_eq!(package("ours", json!(null), json!(null)), "");
        assert!(package("openssl-sys", json!(CRATES_IO), json!("MIT")).contains("is banned"));
        assert!(package("x", json!(CRATES_IO), json!("GPL-3.0")).contains("has the licence GPL-3.0"));
        assert!(package("x", json!(CRATES_IO), json!(null)).contains("has the licence none"));
        assert!(package("x", json!("git+https://example.org/x"), json!("MIT")).contains("comes from git+"));
        let elsewhere = json!({"name": "x", "source": null, "license": "MIT", "manifest_path": "/other/Cargo.toml"});
        assert!(policy.fault(&elsewhere, Path::new("/r")).unwrap().contains("outside"));
    }
}
