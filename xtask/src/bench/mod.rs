//! `cargo xtask bench`: the promises, measured on the release binary in a temporary home.

mod api;
mod dispatch;
mod estimate;
mod http;
mod load;
mod memory;
mod peers;
mod planning;
mod pressure;
mod schedule;
mod seed;
mod startup;
mod submit;
mod trainer;

use std::{
    fs,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use client::testing::{Options, Studio};

use crate::{root, run};

#[derive(Args)]
pub struct Bench {
    /// What to measure; nothing named: everything but the peers, which have to be installed
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// How long each row of `pressure` is measured
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    #[command(flatten)]
    peers: peers::Peers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Startup,
    Submit,
    Dispatch,
    Memory,
    Api,
    Trainer,
    Estimate,
    Load,
    Pressure,
    Schedule,
    Peers,
}

/// One measured figure beside what was promised.
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
    /// What else was measured on the way.
    note: String,
}

#[derive(Debug, Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit, goal: None, note: String::new() }
    }

    fn at_most(mut self, goal: f64) -> Figure {
        self.goal = Some(Goal::AtMost(goal));
        self
    }

    fn at_least(mut self, goal: f64) -> Figure {
        self.goal = Some(Goal::AtLeast(goal));
        self
    }

    /// Whether the goal is met, where there is one.
    fn met(&self) -> Option<bool> {
        self.goal.map(|goal| match goal {
            Goal::AtMost(goal) => self.value <= goal,
            Goal::AtLeast(goal) => self.value >= goal,
        })
    }

    fn note(mut self, note: impl Into<String>) -> Figure {
        self.note = note.into();
        self
    }
}

pub fn run(bench: &Bench) -> bool {
    let all: Vec<Subject> =
        Subject::value_variants().iter().copied().filter(|subject| *subject != Subject::Peers).collect();
    let subjects = if bench.subjects.is_empty() { &all } else { &bench.subjects };
    let needs_sage = |subject: &&Subject| {
        !matches!(subject, Subject::Trainer | Subject::Estimate | Subject::Schedule | Subject::Peers)
    };
    if subjects.iter().any(|subject| needs_sage(&subject)) && !build_sage() {
        return false;
    }
    println!("{}\n", machine());
    let (mut figures, mut compared) = (Vec::new(), true);
    for subject in subjects {
        eprintln!("measuring {subject:?} ...");
        figures.extend(match subject {
            Subject::Startup => startup::measure(),
            Subject::Submit => submit::measure(),
            Subject::Dispatch => dispatch::measure(),
            Subject::Memory => memory::measure(),
            Subject::Api => api::measure(),
            Subject::Trainer => trainer::measure(),
            Subject::Estimate => estimate::measure(),
            Subject::Load => load::measure(),
            Subject::Pressure => pressure::measure(Duration::from_secs(bench.seconds)),
            Subject::Schedule => schedule::measure(),
            Subject::Peers => {
                compared = peers::run(&bench.peers);
                Vec::new()
            }
        });
    }
    if !figures.is_empty() {
        print(&figures);
    }
    compared
}

fn print(figures: &[Figure]) {
    let rows = figures.iter().map(|figure| {
        let number = |value: f64| match value.abs() {
            large if large >= 100.0 => format!("{value:.0}"),
            middle if middle >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        };
        let goal = match figure.goal {
            Some(Goal::AtMost(goal)) => format!("≤ {}", number(goal)),
            Some(Goal::AtLeast(goal)) => format!("≥ {}", number(goal)),
            None => String::new(),
        };
        let verdict = figure.met().map_or("", |met| if met { "met" } else { "MISSED" });
        [
            figure.name.clone(),
            format!("{} {}", number(figure.value), figure.unit),
            goal,
            verdict.into(),
            figure.note.clone(),
        ]
    });
    let head = ["figure", "measured", "goal", "verdict", "note"].map(String::from);
    let rule = ["---"; 5].map(String::from);
    for row in [head, rule].into_iter().chain(rows) {
        println!("| {} |", row.join(" | "));
    }
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("?", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib: f64 = memory.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let git = |arguments: &[&str]| {
        run::in_root("git", arguments)
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { " with changes" };
    format!(
        "{model}, {cores} cores, {:.0} GiB, Linux {}, load {}, fdatasync {:.2} ms, commit {commit}{changed}",
        kib / (1 << 20) as f64,
        kernel.trim_end(),
        load.split_ascii_whitespace().next().unwrap_or("?"),
        disk().p50(),
    )
}

/// What one durable write costs on this disk; no durable answer can be faster.
fn disk() -> Sample {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    let write = |_| {
        file.write_all(&[0; 4096]).expect("the disk can be written");
        let began = Instant::now();
        file.sync_data().expect("the disk can be written");
        began.elapsed()
    };
    Sample::new((0..100).map(write).collect())
}

/// The release binary on the CPU alone.
fn options() -> Options {
    Options { sage: sage(), ..Options::default() }
}

/// `$SAGE_BIN`, else the release build.
pub fn sage() -> PathBuf {
    std::env::var_os("SAGE_BIN").map_or_else(|| root().join("target/release/sage"), PathBuf::from)
}

pub fn build_sage() -> bool {
    std::env::var_os("SAGE_BIN").is_some()
        || run::watched(run::in_root("cargo", &["build", "--release", "-p", "studio"])).0
}

/// A studio whose only device is taken by a task that does nothing, so that every further task waits.
fn busy_studio() -> (Studio, String) {
    let studio = Studio::start_with(options());
    let blocker = seed::blocker(&studio);
    (studio, blocker)
}

struct Sample(Vec<Duration>);

impl Sample {
    fn new(mut times: Vec<Duration>) -> Sample {
        assert!(!times.is_empty(), "something was measured");
        times.sort();
        Sample(times)
    }

    /// Milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent / 100).min(self.0.len() - 1);
        self.0[index].as_secs_f64() * 1e3
    }

    fn p50(&self) -> f64 {
        self.percentile(50)
    }

    fn note(&self) -> String {
        format!("p90 {:.2} ms, p99 {:.2} ms, {} samples", self.percentile(90), self.percentile(99), self.0.len())
    }
}
