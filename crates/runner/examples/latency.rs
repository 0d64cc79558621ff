//! Measures a launch (spec handed over → program executed) and the notice of an end (program ends → record in hand).
//!
//! `cargo run -p runner --release --example latency [rounds]`

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use runner::{AttemptEnd, LaunchSpec, Launcher, Started, wait_end, wait_started};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("supervise") => runner::supervise(),
        Some("task") => task(&PathBuf::from(arguments.next().expect("a folder"))),
        rounds => match measure(rounds.map_or(200, |rounds| rounds.parse().expect("a number of rounds"))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Tells the time at which it runs, waits to be told to end, tells the time again.
fn task(dir: &Path) -> ExitCode {
    println!("{}", now());
    let mut end = String::new();
    OpenOptions::new()
        .read(true)
        .open(dir.join("end"))
        .and_then(|mut pipe| pipe.read_to_string(&mut end))
        .expect("pipe");
    println!("{}", now());
    ExitCode::SUCCESS
}

/// Nanoseconds of the clock that all processes share.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[tokio::main(flavor = "current_thread")]
async fn measure(rounds: usize) -> Result<(), Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let home = std::env::temp_dir().join(format!("runner-latency-{}", std::process::id()));
    let launcher = Launcher::new(vec![program.clone().into(), "supervise".into()]);
    let (mut launches, mut known, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut resident = 0;
    for round in 0..rounds {
        let dir = home.join(round.to_string());
        std::fs::create_dir_all(&dir)?;
        if !Command::new("mkfifo").arg(dir.join("end")).status()?.success() {
            return Err("mkfifo failed".into());
        }
        let spec = LaunchSpec {
            attempt_dir: dir.join("attempt"),
            argv: vec![program.display().to_string(), "task".into(), dir.display().to_string()],
            cwd: dir.clone(),
            env: BTreeMap::new(),
            log: dir.join("log"),
            log_cap: 64 << 20,
            grace: Duration::from_secs(5),
            time_limit: None,
            limits: runner::Limits::default(),
        };
        // As the studio does it.
        runner::prepare(&spec.attempt_dir)?;
        std::fs::File::create(&spec.log)?;
        // The pause between two launches, in which the next supervisor warms up.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let handed_over = now();
        launcher.launch(&spec)?;
        launches.push(now() - handed_over);
        let Started::Running(running) = wait_started(&spec.attempt_dir).await? else { return Err("no start".into()) };
        known.push(now() - handed_over);
        resident = resident_kib(running.supervisor.pid)?;
        let end = tokio::spawn({
            let dir = spec.attempt_dir.clone();
            async move { (wait_end(&dir).await, now()) }
        });
        tokio::task::yield_now().await;
        let pipe = dir.join("end");
        // Opening a pipe for writing waits for its reader, so this is also the proof that the task runs.
        drop(OpenOptions::new().write(true).open(&pipe)?);
        let (AttemptEnd::Ended(_), noticed) = end.await.map(|(end, at)| end.map(|end| (end, at)))?? else {
            return Err("the attempt did not end".into());
        };
        let log = std::fs::read_to_string(&spec.log)?;
        let mut times = log.lines().map(|line| line.parse::<u64>());
        let (began, ended) = times.next().zip(times.next()).ok_or("the log is short")?;
        starts.push(began? - handed_over);
        ends.push(noticed - ended?);
    }
    std::fs::remove_dir_all(home)?;
    report("launch: spec handed over -> attempt claimed", launches);
    report("launch: spec handed over -> program executed, and known here", known);
    report("launch: spec handed over -> first line of the program", starts);
    report("end:    last line of the program -> record in hand", ends);
    println!("supervisor resident: {resident} KiB");
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

fn report(what: &str, mut nanoseconds: Vec<u64>) {
    nanoseconds.sort_unstable();
    let at = |part: f64| nanoseconds[(part * (nanoseconds.len() - 1) as f64) as usize] as f64 / 1e6;
    println!("{what}: p50 {:.3} ms, p99 {:.3} ms", at(0.5), at(0.99));
}
