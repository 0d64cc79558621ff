//! `cargo xtask <job>`: the only script runner of this repository.

mod bench;
mod chaos;
mod contract;
mod dependencies;
mod fake;
mod fuzz;
mod run;
mod test;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Job {
    /// Run every test there is: format, lints, page, Rust, browser
    Test(test::Test),
    /// Measure what the studio promises: startup submit dispatch memory api load pressure trainer estimate schedule peers
    Bench(bench::Bench),
    /// Run the studio, or a command, on GPUs that are not there
    Fake(fake::Fake),
    /// Break everything that can break while trainings run, then check that nothing was lost
    Chaos(chaos::Chaos),
    /// Hold the running studio to its API's description, with requests that schemathesis makes up
    Contract(contract::Contract),
    /// Hand changed inputs to every parser of what others send
    Fuzz(fuzz::Fuzz),
    /// Check what no compiler checks
    Tidy,
    /// Rewrite openapi.json from the routes
    Openapi,
}

fn main() -> ExitCode {
    // A process of its own for each target of `fuzz`.
    if std::env::args().nth(1).as_deref() == Some("fuzz-worker") {
        return fuzz::worker(std::env::args().skip(2));
    }
    let succeeded = match Job::parse() {
        Job::Test(options) => test::run(&options),
        Job::Bench(options) => bench::run(&options),
        Job::Fake(options) => fake::run(&options),
        Job::Chaos(options) => chaos::run(&options),
        Job::Contract(options) => contract::run(&options),
        Job::Fuzz(options) => fuzz::run(&options),
        Job::Tidy => {
            let report = tidy::check(&root());
            report.print();
            report.faults.is_empty()
        }
        Job::Openapi => run::in_root("cargo", &["test", "--quiet", "-p", "server", "--test", "server", "openapi"])
            .env("SAGE_UPDATE_OPENAPI", "1")
            .status()
            .is_ok_and(|status| status.success()),
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The repository.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the repository").to_owned()
}
