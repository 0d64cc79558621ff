//! Builds `web/` with npm and vite into `$OUT_DIR/dist`, which the library embeds.
//!
//! Without npm, or with `SAGE_SKIP_WEB=1`, a plain page that says how to get the real one takes its place: the API works
//! either way. npm that is there and fails is an error, so that no release carries the plain page by accident.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const SOURCES: [&str; 6] = ["src", "public", "index.html", "package.json", "package-lock.json", "vite.config.ts"];

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let web = manifest_dir.join("../../web");
    let dist = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("dist");

    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=fallback");
    println!("cargo:rerun-if-env-changed=SAGE_SKIP_WEB");
    // As long as one of these is missing, cargo runs this on every build: the page is noticed when it appears.
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", web.join(source).display());
    }

    let skip = env::var_os("SAGE_SKIP_WEB").is_some_and(|value| !value.is_empty() && value != "0");
    let reason = if skip {
        "SAGE_SKIP_WEB is set"
    } else if !web.join("package-lock.json").exists() {
        "web/ is not part of this source tree"
    } else if !npm_answers() {
        "npm was not found; install Node.js 20.19 or newer and build again"
    } else {
        if let Err(problem) = build_page(&web, &dist) {
            eprintln!("{problem}");
            eprintln!("\nThe page could not be built. To build without it, set SAGE_SKIP_WEB=1.");
            std::process::exit(1);
        }
        return;
    };
    println!("cargo:warning=the page is not built in: {reason}");
    replace_with_fallback(&manifest_dir.join("fallback"), &dist).expect("OUT_DIR is writable");
}

fn npm() -> Command {
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

fn npm_answers() -> bool {
    npm().arg("--version").output().is_ok_and(|output| output.status.success())
}

fn build_page(web: &Path, dist: &Path) -> Result<(), String> {
    let lock_path = web.join("package-lock.json");
    // Builds with other target folders share node_modules; they take turns.
    let turn = fs::File::open(&lock_path).map_err(|e| format!("{}: {e}", lock_path.display()))?;
    turn.lock().map_err(|e| format!("{}: cannot be locked: {e}", lock_path.display()))?;

    let lock = fs::read(&lock_path).map_err(|e| format!("{}: {e}", lock_path.display()))?;
    let stamp = web.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).ok().as_ref() != Some(&lock) {
        let mut install = npm();
        install.args(["ci", "--no-audit", "--no-fund"]).current_dir(web);
        // The build needs no test tools; but whoever has them keeps them.
        if !web.join("node_modules/vitest").exists() {
            install.arg("--omit=dev");
        }
        run(&mut install)?;
        fs::write(&stamp, &lock).map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    run(npm()
        .args(["exec", "--offline", "--", "vite", "build", "--emptyOutDir", "--outDir"])
        .arg(dist)
        .current_dir(web)
        .env("NODE_ENV", "production"))
}

/// Runs to the end; the error is all that was printed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Err(format!("{command:?}: {}\n{printed}", output.status))
}

fn replace_with_fallback(fallback: &Path, dist: &Path) -> io::Result<()> {
    if dist.exists() {
        fs::remove_dir_all(dist)?;
    }
    fs::create_dir_all(dist)?;
    fs::copy(fallback.join("index.html"), dist.join("index.html"))?;
    Ok(())
}
