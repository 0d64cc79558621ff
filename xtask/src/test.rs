//! `cargo xtask test`: every test there is, in one go.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use clap::Args;

use crate::{root, run, tidy};

#[derive(Args)]
pub struct Test {
    /// Leave the browser out
    #[arg(long)]
    no_browser: bool,
    /// Leave the page and the browser out
    #[arg(long)]
    no_web: bool,
    /// Only trainer peft: install its environment (3 GB to fetch) and train a tiny model in it
    #[arg(long)]
    peft: bool,
}

/// What all steps together came to.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
}

/// How the tests inside one step are counted from what it said; `None`: the step is one test itself.
type Count = fn(&str) -> Option<(u64, u64)>;

pub fn run(options: &Test) -> bool {
    let mut tally = Tally::default();
    if options.peft {
        tally.peft();
        return tally.end();
    }
    // One way of building for all steps, so that nothing is compiled twice.
    let everything = ["--workspace", "--all-targets"];

    tally.step("format", cargo(&["fmt", "--all", "--check"]), no_count);
    tally.tidy();
    tally.dependencies();
    if !options.no_web {
        tally.step("page: packages", npm(&["ci", "--no-audit", "--no-fund"]), no_count);
        tally.step("page: check", npm(&["run", "--silent", "check"]), no_count);
        tally.step("page: tests", npm(&["run", "--silent", "test"]), vitest);
    }
    tally.step("lints", cargo(&[&["clippy"], &everything[..], &["--", "-D", "warnings"]].concat()), no_count);
    tally.step("build", cargo(&[&["build"], &everything[..]].concat()), no_count);
    if has_nextest() {
        let nextest = ["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "fail"];
        tally.step("Rust tests", cargo(&nextest), nextest_summary);
    } else {
        tally.step(
            "Rust tests",
            cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"]),
            cargo_test_summary,
        );
    }
    tally.step("trainer on Vulkan compiles", cargo(&["check", "-p", "trainer", "--features", "vulkan"]), no_count);
    if !options.no_web && !options.no_browser {
        tally.browser();
    }
    tally.end()
}

impl Tally {
    fn step(&mut self, name: &str, command: Command, count: Count) {
        println!("\n== {name}");
        let began = Instant::now();
        let (succeeded, said) = run::watched(command);
        println!(
            "-- {name}: {} in {:.1} s",
            if succeeded { "passed" } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        match count(&said) {
            // A step that fails without a failed test has failed all the same.
            Some((passed, failed)) => self.add(name, passed, if succeeded { failed } else { failed.max(1) }),
            None => self.add(name, u64::from(succeeded), u64::from(!succeeded)),
        }
    }

    fn add(&mut self, name: &str, passed: u64, failed: u64) {
        self.passed += passed;
        self.failed += failed;
        if failed > 0 {
            self.failures.push(name.to_owned());
        }
    }

    /// Says what came of it all.
    fn end(&self) -> bool {
        println!();
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }

    /// In a home of its own, which stays for the next time; `SAGE_HOME` names another.
    fn peft(&mut self) {
        self.step("build", cargo(&["build", "-p", "studio"]), no_count);
        let sage = root().join("target/debug/sage");
        let home = env::var_os("SAGE_HOME").map_or_else(|| root().join("target/peft-home"), PathBuf::from);
        let sage_in_home = |arguments: &[&str]| {
            let mut command = Command::new(&sage);
            command.args(arguments).env("SAGE_HOME", &home).env("SAGE_LANG", "en");
            command
        };
        self.step("peft: environment", sage_in_home(&["trainer", "install", "peft"]), no_count);
        // The last line is `installed: <folder>`.
        let said =
            sage_in_home(&["trainer", "install", "peft"]).output().map(|output| output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let Some(environment) = said.lines().rev().find_map(|line| line.strip_prefix("installed: ")) else { return };
        let mut tests = Command::new(Path::new(environment).join("bin/python"));
        tests.args(["-s", "-W", "ignore", "-m", "unittest", "discover", "--verbose", "--top-level-directory", "."]);
        tests.arg("tests").current_dir(root().join("trainers/peft"));
        tests.env("SAGE_BIN", &sage).env("SAGE_HOME", &home).env("SAGE_LANG", "en");
        self.step("peft: tests", tests, unittest_summary);
    }

    fn tidy(&mut self) {
        println!("\n== tidy");
        let report = tidy::check(&root());
        report.print();
        self.add("tidy", u64::from(report.faults.is_empty()), u64::from(!report.faults.is_empty()));
    }

    /// Licences, bans and sources by deny.toml; known holes where their list can be fetched.
    fn dependencies(&mut self) {
        let deny = |what: &[&str]| cargo(&[&["deny", "--log-level", "error", "check"], what].concat());
        if !cargo(&["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
            println!(
                "\n== dependencies\nSources, licences and bans are checked by tidy; there is no cargo-deny to look for known \
                 holes: cargo install --locked cargo-deny"
            );
            return;
        }
        self.step("dependencies", deny(&["licenses", "bans", "sources"]), no_count);
        let fetched = cargo(&["deny", "fetch", "db"]).output();
        if fetched.is_ok_and(|output| output.status.success()) {
            self.step("dependencies: known holes", deny(&["advisories"]), no_count);
        } else {
            println!("\n== dependencies: known holes\nThe list cannot be fetched from here, so it is not looked at.");
        }
    }

    fn browser(&mut self) {
        let Some(chromium) = chromium() else {
            println!(
                "\n== browser\nThere is no Chromium. Install it (Debian: apt-get install chromium) or set CHROMIUM to one;"
            );
            println!("`cargo xtask test --no-browser` leaves the browser out.");
            self.add("browser: there is no Chromium", 0, 1);
            return;
        };
        let mut story = run::in_root("node", &["web/e2e/story.mjs"]);
        story.env("SAGE_BIN", root().join("target/debug/sage")).env("CHROMIUM", chromium);
        self.step("browser", story, no_count);
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = run::in_root(&env::var("CARGO").unwrap_or_else(|_| "cargo".into()), arguments);
    command.env("CARGO_TERM_COLOR", "never");
    command
}

fn npm(arguments: &[&str]) -> Command {
    let mut command = run::in_root("npm", arguments);
    command.current_dir(root().join("web")).env("NO_COLOR", "1").env_remove("FORCE_COLOR");
    command
}

fn has_nextest() -> bool {
    cargo(&["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn no_count(_: &str) -> Option<(u64, u64)> {
    None
}

/// `Summary [   3.210s] 91 tests run: 90 passed (1 slow), 1 failed, 0 skipped`
fn nextest_summary(said: &str) -> Option<(u64, u64)> {
    let line = said.lines().rev().find(|line| line.trim_start().starts_with("Summary ["))?;
    let (_, counts) = line.split_once("run: ")?;
    Some((number_before(counts, " passed").unwrap_or(0), number_before(counts, " failed").unwrap_or(0)))
}

/// `test result: ok. 12 passed; 0 failed; …`, once per test program.
fn cargo_test_summary(said: &str) -> Option<(u64, u64)> {
    let results: Vec<&str> = said.lines().filter(|line| line.starts_with("test result: ")).collect();
    let sum = |word| results.iter().filter_map(|line| number_before(line, word)).sum();
    (!results.is_empty()).then(|| (sum(" passed"), sum(" failed")))
}

/// `      Tests  1 failed | 40 passed (41)`
fn vitest(said: &str) -> Option<(u64, u64)> {
    let line = said.lines().rev().find(|line| line.trim_start().starts_with("Tests  "))?;
    Some((number_before(line, " passed").unwrap_or(0), number_before(line, " failed").unwrap_or(0)))
}

/// `Ran 30 tests in 100.1s`, then `OK` or `FAILED (failures=1, errors=2)`.
fn unittest_summary(said: &str) -> Option<(u64, u64)> {
    let all = said.lines().rev().find_map(|line| number_before(line.strip_prefix("Ran ")?, " test"))?;
    let counts = said.lines().rev().find_map(|line| line.strip_prefix("FAILED (")).unwrap_or_default();
    let failed: u64 = counts
        .trim_end_matches(')')
        .split(", ")
        .filter_map(|count| count.split_once('='))
        .filter(|(what, _)| *what != "skipped")
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum();
    Some((all.saturating_sub(failed), failed))
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    let end = text.find(word)?;
    let start = text[..end].rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |index| index + 1);
    text[start..end].parse().ok()
}

/// From `CHROMIUM`, else Debian's, which is installed if it is missing and we may.
fn chromium() -> Option<PathBuf> {
    if let Some(given) = env::var_os("CHROMIUM") {
        let given = PathBuf::from(given);
        return given.exists().then_some(given);
    }
    let usual = Path::new("/usr/bin/chromium");
    if !usual.exists() && rustix::process::geteuid().is_root() {
        println!("\n== installing Chromium");
        // With fonts that have Chinese, so that the screenshots can be read.
        let packages = ["install", "--yes", "--no-install-recommends", "chromium", "fonts-noto-cjk"];
        for arguments in [&["update"][..], &packages] {
            let mut apt = run::in_root("apt-get", arguments);
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            if !run::watched(apt).0 {
                break;
            }
        }
    }
    usual.exists().then(|| usual.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted() {
        let nextest =
            "     Summary [   3.210s] 91 tests run: 90 passed (1 slow), 1 failed, 2 skipped\n error: test run failed\n";
        assert_eq!(nextest_summary(nextest), Some((90, 1)));
        assert_eq!(nextest_summary("     Summary [   0.1s] 5 tests run: 5 passed, 0 skipped"), Some((5, 0)));
        let cargo = "test result: ok. 12 passed; 0 failed; 0 ignored\ntest result: FAILED. 1 passed; 2 failed;\n";
        assert_eq!(cargo_test_summary(cargo), Some((13, 2)));
        assert_eq!(vitest("\n Test Files  2 passed (2)\n      Tests  1 failed | 40 passed (41)\n"), Some((40, 1)));
        assert_eq!(vitest("could not start"), None);
        assert_eq!(
            unittest_summary("Ran 12 tests in 3.4s\n\nFAILED (failures=1, errors=2, skipped=1)\n"),
            Some((9, 3))
        );
        assert_eq!(unittest_summary("Ran 1 test in 3.4s\n\nOK\n"), Some((1, 0)));
        assert_eq!(unittest_summary("ModuleNotFoundError"), None);
    }
}
