//! `cargo xtask fuzz`: changed inputs for every parser of what others hand us. A panic, more memory or time than an input
//! may cost, or an answer that blames us, is a finding.
//!
//! Each target runs in a process of its own with a limit on its memory, so that nothing it does ends the hunt. It keeps
//! what leads to a result not seen before as a base for further changes. Inputs to begin with lie in `fuzz/<target>/`;
//! every finding is put there too, so that it stays found.

mod http;
mod mutate;
mod targets;

use std::{
    fs,
    io::{BufRead, BufReader},
    panic,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::root;
use mutate::Mutator;

#[derive(Args)]
pub struct Fuzz {
    /// For each target
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only this one
    #[arg(long, value_enum)]
    target: Option<Target>,
    /// The same seed makes the same changes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Data sets of all formats
    Dataset,
    /// A model's config.json, and the estimate made of it
    Config,
    /// A model's config.json, as the trainer reads it
    TrainerConfig,
    /// A model's weights: the header first
    Safetensors,
    /// Recipes and submissions
    Recipe,
    /// Requests to a running studio
    Http,
}

/// Of one input, however it was made.
const SLOW: Duration = Duration::from_secs(5);
/// Without a word from a worker it is stuck.
const STUCK: Duration = Duration::from_secs(20);
/// Bytes of address space that a worker may have.
const MEMORY: u64 = 2 << 30;
/// Name of the file that holds the input under way.
const CURRENT: &str = "current";

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Target::Dataset => "dataset",
            Target::Config => "config",
            Target::TrainerConfig => "trainer-config",
            Target::Safetensors => "safetensors",
            Target::Recipe => "recipe",
            Target::Http => "http",
        }
    }

    fn corpus(self) -> PathBuf {
        root().join("fuzz").join(self.name())
    }
}

pub fn run(options: &Fuzz) -> bool {
    let targets = options.target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    let mut findings = 0;
    println!("{:<14} {:>10} {:>8} {:>9}  findings", "target", "inputs", "results", "seconds");
    for target in targets {
        let began = Instant::now();
        let outcome = match target {
            Target::Http => http::hunt(options.seed, time),
            _ => hunt(target, options.seed, time),
        };
        let Outcome { inputs, results, found } = outcome;
        let seconds = began.elapsed().as_secs();
        println!("{:<14} {inputs:>10} {results:>8} {seconds:>9}  {}", target.name(), found.len());
        for (what, input) in &found {
            findings += 1;
            println!("  {what}: {}", keep(target, input).display());
        }
    }
    findings == 0
}

/// What came of one target.
#[derive(Default)]
pub struct Outcome {
    pub inputs: u64,
    /// Different ones.
    pub results: usize,
    pub found: Vec<(String, Vec<u8>)>,
}

/// Puts a finding beside the inputs to begin with.
fn keep(target: Target, input: &[u8]) -> PathBuf {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    input.iter().for_each(|byte| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let path = target.corpus().join(format!("finding-{hash:016x}"));
    let _ = fs::write(&path, input);
    path
}

/// One worker after the other, until the time is up.
fn hunt(target: Target, seed: u64, time: Duration) -> Outcome {
    let end = Instant::now() + time;
    let mut outcome = Outcome::default();
    let mut seed = seed;
    while Instant::now() < end && outcome.found.len() < 10 {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let seconds = end.saturating_duration_since(Instant::now()).as_secs_f64();
        let mut worker = Command::new(std::env::current_exe().expect("this program"))
            .args(["fuzz-worker", target.name(), &seed.to_string(), &seconds.to_string()])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program can be run");
        seed += 1;
        // Inputs so far, results so far; or a finding by name.
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(worker.stdout.take().expect("it is piped"));
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let before = outcome.inputs;
        let mut stuck = false;
        loop {
            match lines.recv_timeout(STUCK) {
                Ok(line) => match line.split_once(' ') {
                    Some(("finding", what)) => {
                        let input = fs::read(folder.path().join(CURRENT)).unwrap_or_default();
                        outcome.found.push((what.to_owned(), input));
                    }
                    Some((inputs, results)) => {
                        outcome.inputs = before + inputs.parse::<u64>().unwrap_or(0);
                        outcome.results = outcome.results.max(results.parse().unwrap_or(0));
                    }
                    None => {}
                },
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    stuck = true;
                    let _ = worker.kill();
                    break;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = worker.wait();
        if stuck || !status.as_ref().is_ok_and(|status| status.success()) {
            let what = if stuck { "stuck".to_owned() } else { format!("died: {status:?}") };
            outcome.found.push((what, fs::read(folder.path().join(CURRENT)).unwrap_or_default()));
        }
    }
    outcome
}

/// The other half: `xtask fuzz-worker TARGET SEED SECONDS FOLDER`. Ends after its first finding, because a parser that
/// panicked may have left anything behind.
pub fn worker(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut next = || arguments.next().expect("fuzz-worker TARGET SEED SECONDS FOLDER");
    let target = Target::from_str(&next(), false).expect("a target");
    let (seed, seconds): (u64, f64) = (next().parse().expect("a seed"), next().parse().expect("seconds"));
    let folder = PathBuf::from(next());
    let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    setrlimit(Resource::As, limit).expect("a limit can be lowered");
    panic::set_hook(Box::new(|_| {}));

    let mut hunt = targets::Hunt::new(target, &folder);
    let mut bases = corpus(target);
    bases.extend(hunt.whole_one());
    let mut mutator = Mutator::new(seed, bases, targets::words(target));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut said = Instant::now();
    let mut inputs = 0u64;
    // The inputs to begin with come first as they are.
    let mut unchanged = mutator.bases();
    while Instant::now() < end {
        let input = unchanged.pop().unwrap_or_else(|| mutator.next());
        fs::write(folder.join(CURRENT), &input).expect("the folder can be written");
        let began = Instant::now();
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| hunt.try_input(&input)));
        inputs += 1;
        match result {
            Err(panic) => {
                let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                println!("finding panic: {}", message.replace('\n', " "));
                return ExitCode::SUCCESS;
            }
            Ok(_) if began.elapsed() > SLOW => {
                println!("finding took {:.1} s", began.elapsed().as_secs_f64());
                return ExitCode::SUCCESS;
            }
            Ok(result) => mutator.learn(&result, input),
        }
        if said.elapsed() > Duration::from_secs(1) {
            println!("{inputs} {}", mutator.results());
            said = Instant::now();
        }
    }
    println!("{inputs} {}", mutator.results());
    ExitCode::SUCCESS
}

/// Inputs to begin with, in the order of their names.
fn corpus(target: Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(target.corpus()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let corpus: Vec<_> = paths.iter().filter_map(|path: &PathBuf| fs::read::<&Path>(path).ok()).collect();
    if corpus.is_empty() { vec![Vec::new()] } else { corpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests are replayed by the server's own tests.
    #[test]
    fn no_kept_input_breaks_a_parser() {
        for target in Target::value_variants().iter().filter(|target| **target != Target::Http) {
            let folder = tempfile::tempdir().unwrap();
            let mut hunt = targets::Hunt::new(*target, folder.path());
            let kept = corpus(*target);
            assert!(kept.iter().all(|input| !input.is_empty()), "{} has a corpus", target.name());
            let results: std::collections::HashSet<_> = kept.iter().map(|input| hunt.try_input(input)).collect();
            assert!(results.len() > 1, "{}: all went the same way: {results:?}", target.name());
        }
    }
}
