//! What is submitted, and what it notes about itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{root, run};

/// A command and what it needs.
#[derive(Debug, Clone, Default)]
pub struct Job {
    pub argv: Vec<String>,
    /// 0: it needs no GPU, only the slot.
    pub gpus: u32,
    /// On each GPU, in bytes.
    pub memory: u64,
    /// It may run beside others on a GPU.
    pub share: bool,
}

impl Job {
    pub fn new(argv: &[&str]) -> Job {
        Job { argv: argv.iter().map(|word| word.to_string()).collect(), ..Job::default() }
    }

    /// Notes its start and its end in the log.
    pub fn noted(log: &Log, tag: &str, hold: Duration) -> Job {
        let note = note().display().to_string();
        Job::new(&[&note, &log.0.display().to_string(), tag, &hold.as_millis().to_string()])
    }

    /// The same with memory of so many GPUs, by `fakegpu-train`.
    pub fn on_gpus(log: &Log, tag: &str, gpus: u32, memory: u64, hold: Duration) -> Job {
        let train = root().join("target/release/fakegpu-train").display().to_string();
        let (log, hold) = (log.0.display().to_string(), hold.as_millis().to_string());
        Job { gpus, memory, ..Job::new(&[&train, &log, tag, &memory.to_string(), &hold]) }
    }

    pub fn shared(self) -> Job {
        Job { share: true, ..self }
    }

    /// Holds the slot until the file is there.
    pub fn blocker(until: &Path) -> Job {
        Job::new(&["sh", "-c", &format!("while [ ! -e {} ]; do sleep 0.02; done", until.display())])
    }
}

fn note() -> PathBuf {
    root().join("target/release/note")
}

/// Makes the program of [`Job::noted`]; whether that worked.
pub fn build_note() -> bool {
    let source = root().join("xtask/src/bench/peers/note.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-o"]).arg(note()).arg(source);
    fs::create_dir_all(root().join("target/release")).is_ok() && run::watched(compiler).0
}

/// The file into which jobs write.
pub struct Log(pub PathBuf);

#[derive(Debug, Clone, Default)]
pub struct Run {
    pub tag: String,
    /// Seconds since 1970.
    pub begin: f64,
    pub pid: u32,
    pub gpus: String,
    /// Seconds since 1970, and the exit code.
    pub end: Option<(f64, i32)>,
}

impl Run {
    pub fn was_out_of_memory(&self) -> bool {
        self.end.is_some_and(|(_, code)| code == 77)
    }

    pub fn succeeded(&self) -> bool {
        self.end.is_some_and(|(_, code)| code == 0)
    }
}

impl Log {
    /// In the order in which they began. A job that was started again is there again.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for line in fs::read_to_string(&self.0).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let seconds = |word: &str| word.parse::<u128>().map_or(0.0, |nanoseconds| nanoseconds as f64 / 1e9);
            match words[..] {
                [tag, "begin", at, pid, gpus] => runs.push(Run {
                    tag: tag.into(),
                    begin: seconds(at),
                    pid: pid.parse().unwrap_or(0),
                    gpus: gpus.into(),
                    end: None,
                }),
                [tag, "end", at, code] => {
                    let run = runs.iter_mut().rev().find(|run| run.tag == tag && run.end.is_none());
                    if let Some(run) = run {
                        run.end = Some((seconds(at), code.parse().unwrap_or(-1)));
                    }
                }
                // Half a line is written now.
                _ => {}
            }
        }
        runs.sort_by(|a, b| a.begin.total_cmp(&b.begin));
        runs
    }

    pub fn ended(&self) -> usize {
        self.runs().iter().filter(|run| run.end.is_some()).count()
    }

    /// Until so many have ended; whether they did.
    pub fn wait(&self, count: usize, limit: Duration) -> bool {
        wait_for(limit, || self.ended() >= count)
    }
}

/// Asks rarely enough not to be in the way. Whether it came true in time.
pub fn wait_for(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !ready() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Seconds since 1970: the clock of the jobs' notes.
pub fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
