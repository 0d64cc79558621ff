//! Our Python package, carried in the program.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{PeftError, short_hex};

/// The packages of the environment with their checksums.
pub const LOCK: &str = include_str!("../../../../trainers/peft/requirements.lock");

macro_rules! files {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../../trainers/peft/sage_peft/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "__init__.py",
    "__main__.py",
    "checkpoint.py",
    "data.py",
    "events.py",
    "launch.py",
    "loss.py",
    "memory.py",
    "model.py",
    "optimizer.py",
    "parallel.py",
    "recipe.py",
    "train.py"
];

/// The folder in the environment that holds the package, for `PYTHONPATH`. Each version of it has its own, so that
/// trainings under way keep theirs.
pub fn write(environment: &Path) -> Result<PathBuf, PeftError> {
    let mut hash = Sha256::new();
    FILES.iter().for_each(|(name, text)| hash.update(format!("{name}\n{text}\n")));
    let folder = environment.join(format!("sources-{}", short_hex(&hash.finalize())));
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = folder.with_extension(format!("{}.tmp", std::process::id()));
    let package = unfinished.join("sage_peft");
    fs::create_dir_all(&package).map_err(PeftError::write(&package))?;
    for (name, text) in FILES {
        let path = package.join(name);
        fs::write(&path, text).map_err(PeftError::write(&path))?;
    }
    match fs::rename(&unfinished, &folder) {
        // Another attempt was faster.
        Err(_) if folder.is_dir() => drop(fs::remove_dir_all(&unfinished)),
        result => result.map_err(PeftError::write(&folder))?,
    }
    Ok(folder)
}

/// The locked version of a package.
pub fn locked(package: &str) -> Option<&'static str> {
    let version = LOCK.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix("=="))?;
    version.split_whitespace().next()
}

/// The lock without PyTorch and what only its CUDA needs.
pub fn lock_without_torch() -> String {
    let mut kept = String::new();
    let mut keep = true;
    for line in LOCK.split_inclusive('\n') {
        // Checksums are indented below their package.
        if !line.starts_with(' ') {
            keep = !["torch==", "triton==", "nvidia-", "cuda-"].iter().any(|name| line.starts_with(name));
        }
        if keep {
            kept.push_str(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_package_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../trainers/peft/sage_peft");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".py")).collect();
        names.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn the_lock_has_every_direct_dependency_with_checksums() {
        let project = include_str!("../../../../trainers/peft/pyproject.toml");
        let wanted: Vec<(&str, &str)> =
            project.lines().filter_map(|line| line.trim().trim_matches(['"', ',']).split_once("==")).collect();
        assert!(wanted.len() >= 5, "{wanted:?}");
        for (package, version) in wanted {
            assert_eq!(locked(package), Some(version), "{package}: run the command in pyproject.toml");
        }
        let packages = LOCK.lines().filter(|line| line.contains("==")).count();
        assert!(LOCK.matches("--hash=sha256:").count() >= packages);

        let rest = lock_without_torch();
        assert!(rest.contains("\npeft==") && !rest.contains("nvidia-") && !rest.contains("\ntorch=="));
        assert_eq!(rest.lines().filter(|line| line.contains("==") && !line.ends_with('\\')).count(), 0);
    }

    #[test]
    fn the_package_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let written = write(folder.path()).unwrap();
        assert!(written.join("sage_peft/__main__.py").is_file());
        assert_eq!(write(folder.path()).unwrap(), written);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
