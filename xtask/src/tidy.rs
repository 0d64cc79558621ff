//! What no compiler checks: files that grow too long, errors without a page, leftovers.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::dependencies;

/// Past this many lines there is a seam to be found.
const LONG: usize = 500;

#[derive(Default)]
pub struct Report {
    /// Must be mended.
    pub faults: Vec<String>,
    /// Should be looked at.
    pub warnings: Vec<String>,
}

impl Report {
    pub fn print(&self) {
        self.warnings.iter().for_each(|warning| println!("warning: {warning}"));
        self.faults.iter().for_each(|fault| println!("fault: {fault}"));
        println!("tidy: {} faults, {} warnings", self.faults.len(), self.warnings.len());
    }
}

pub fn check(root: &Path) -> Report {
    let mut report = Report::default();
    let sources = sources(root);
    for path in &sources {
        let text = fs::read_to_string(path).unwrap_or_default();
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        let lines = text.lines().count();
        if lines > LONG {
            report.warnings.push(format!("{name} has {lines} lines"));
        }
        // This file names them all.
        if !name.ends_with("xtask/src/tidy.rs") {
            leftovers(&name, &text, &mut report);
        }
    }
    for readme in ["README.md", "README.zh-CN.md"] {
        if !root.join(readme).exists() {
            report.faults.push(format!("{readme} is missing"));
        }
    }
    error_pages(root, &sources, &mut report);
    report.faults.extend(unsafe_code(root));
    report.faults.extend(dependencies::faults(root));
    report
}

/// The crates that talk to drivers and to the kernel; each of their unsafe blocks says why it is sound.
const UNSAFE: [&str; 3] = ["gpu", "runner", "fakegpu"];

/// The compiler refuses unsafe code wherever the workspace's lints hold, so they have to hold.
fn unsafe_code(root: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut faults = Vec::new();
    if !read("Cargo.toml").contains("\nunsafe_code = \"forbid\"\n") {
        faults.push("Cargo.toml does not forbid unsafe code".into());
    }
    let crates = fs::read_dir(root.join("crates")).into_iter().flatten().flatten();
    let names = crates.filter_map(|entry| Some(format!("crates/{}", entry.file_name().to_str()?)));
    for name in names.chain(["xtask".into()]) {
        let wanted = match UNSAFE.iter().any(|free| name == format!("crates/{free}")) {
            true => "\nundocumented_unsafe_blocks = \"deny\"\n",
            false => "\n[lints]\nworkspace = true\n",
        };
        if !read(&format!("{name}/Cargo.toml")).contains(wanted) {
            faults.push(format!("{name}/Cargo.toml has to have {:?}", wanted.trim()));
        }
    }
    faults
}

fn leftovers(name: &str, text: &str, report: &mut Report) {
    for (line, content) in text.lines().enumerate() {
        for word in ["TODO", "FIXME", "XXX", "dbg!(", "todo!(", "unimplemented!(", "console.log("] {
            let script = name.contains("/e2e/") || name.contains("/dev/");
            if content.contains(word) && !(script && word == "console.log(") {
                report.faults.push(format!("{name}:{}: {word}", line + 1));
            }
        }
    }
}

/// Every error that people can meet has a page, and every page an error.
fn error_pages(root: &Path, sources: &[PathBuf], report: &mut Report) {
    let folder = root.join("docs/errors");
    let pages: BTreeSet<String> = files(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "README")
        .collect();
    if pages.is_empty() {
        report.warnings.push("docs/errors has no pages".into());
        return;
    }
    let mut codes = BTreeSet::new();
    let mut everything = String::new();
    for path in sources.iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs" || ending == "py")) {
        let text = fs::read_to_string(path).unwrap_or_default();
        // Tests make up errors of their own.
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        let tests = path.components().any(|part| part.as_os_str() == "tests") || path.starts_with(root.join("xtask"));
        if !tests {
            codes.extend(error_codes(product));
            everything.push_str(product);
        }
    }
    for code in codes.difference(&pages) {
        report.faults.push(format!("docs/errors/{code}.md is missing"));
    }
    for page in pages.iter().filter(|page| !everything.contains(&format!("\"{page}\""))) {
        report.faults.push(format!("docs/errors/{page}.md is about an error that nobody reports"));
    }
}

/// The codes named where errors are made: first argument of an error's constructor, or an arm of a `fn code`.
fn error_codes(text: &str) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (start, name) in text.match_indices("TrainingError(") {
        codes.extend(first_word(&text[start + name.len()..]));
    }
    for name in ["CliError::", "ApiError::", "DatasetError::"] {
        for (start, _) in text.match_indices(name) {
            let Some((function, arguments)) = text[start + name.len()..].split_once('(') else { continue };
            if function.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') {
                codes.extend(first_word(arguments));
            }
        }
    }
    for (start, _) in text.match_indices("fn code(") {
        let body = &text[start..];
        let body = &body[..body.find("\n    }\n").or_else(|| body.find("\n}\n")).unwrap_or(body.len())];
        for (arm, _) in body.match_indices("=>") {
            codes.extend(first_word(&body[arm + 2..]));
        }
    }
    codes
}

/// `"dataset-empty", …` → `dataset-empty`.
fn first_word(text: &str) -> Option<String> {
    let word = text.trim_start().strip_prefix('"')?.split('"').next()?;
    let kebab = !word.is_empty()
        && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    kebab.then(|| word.to_owned())
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let folders = ["crates", "trainers", "xtask/src", "web/src", "web/e2e", "web/tests"];
    let mut found: Vec<PathBuf> = folders.iter().flat_map(|folder| files(&root.join(folder))).collect();
    found.retain(|path| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        // Generated from openapi.json.
        ["rs", "ts", "tsx", "mjs", "py"].contains(&ending) && !path.ends_with("web/src/api/schema.d.ts")
    });
    found.sort();
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !["node_modules", "target", "dist"].iter().any(|skipped| name == *skipped) {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_takes_back_the_ban_on_unsafe_code_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n");
        write("xtask/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n");
        write("crates/gpu/Cargo.toml", "[lints.clippy]\nundocumented_unsafe_blocks = \"deny\"\n");
        assert_eq!(unsafe_code(folder.path()), [""; 0]);
        write("crates/store/Cargo.toml", "[package]\n");
        let [fault] = &unsafe_code(folder.path())[..] else { panic!("one fault") };
        assert!(fault.starts_with("crates/store/Cargo.toml"), "{fault}");
    }

    #[test]
    fn codes_are_found_where_errors_are_made() {
        let text = r#"
            Err(CliError::usage(
                "time-limit-invalid",
                text,
            ));
            ApiError::bad_request("name-taken", "..."); ApiError::internal(reason);
            impl X {
    pub fn code(&self) -> &'static str {
        match self {
            X::A => "disk-full",
            X::B { code } => code,
        }
    }
            }
            raise TrainingError(
                "peft-broken", "...", "..."
            )
            let other = "not-a-code";
        "#;
        let codes: Vec<String> = error_codes(text).into_iter().collect();
        assert_eq!(codes, ["disk-full", "name-taken", "peft-broken", "time-limit-invalid"]);
    }
}
