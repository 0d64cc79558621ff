//! How fast jobs get in, through and how much room they take while they wait.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Result,
    job::{Job, Log, Run, now, wait_for},
    report::{Better, Cell, Row, number},
    stage::Stage,
};
use crate::bench::Sample;

const SUBMIT: &str = "CLI submit p50";
const BURST: &str = "1000 submits through the CLI";
const GAP: &str = "gap end of a job of 100 ms → next start p50";
const NO_OP_GAP: &str = "the same between no-op jobs";
const IDLE: &str = "submit → start when idle p50";
const DRAIN: &str = "1000 no-op jobs";
const REST: &str = "resident memory, idle";
const DEEP: &str = "resident memory, 10,000 queued";
const DEEP_SUBMIT: &str = "submit p50 at that depth";

pub const ROWS: &[Row] = &[
    Row(SUBMIT, Better::Less),
    Row(BURST, Better::More),
    Row(GAP, Better::Less),
    Row(NO_OP_GAP, Better::Less),
    Row(IDLE, Better::Less),
    Row(DRAIN, Better::More),
    Row(REST, Better::Less),
    Row(DEEP, Better::Less),
    Row(DEEP_SUBMIT, Better::Less),
];

/// Samples at the start and the end of a long row of submissions, and jobs between which gaps are measured.
const FEW: usize = 60;
/// So long these jobs take: a queue has that much time to get ready for the next.
const HOLD: Duration = Duration::from_millis(100);

struct Extent {
    burst: usize,
    submitting: Duration,
    draining: Duration,
    rounds: usize,
    deep: usize,
    deepening: Duration,
}

pub fn measure(peer: &mut dyn Peer, quick: bool) -> Vec<Cell> {
    let extent = if quick {
        Extent {
            burst: 200,
            submitting: Duration::from_secs(30),
            draining: Duration::from_secs(30),
            rounds: 5,
            deep: 1000,
            deepening: Duration::from_secs(20),
        }
    } else {
        Extent {
            burst: 1000,
            submitting: Duration::from_secs(120),
            draining: Duration::from_secs(120),
            rounds: 12,
            deep: 10_000,
            deepening: Duration::from_secs(180),
        }
    };
    let mut cells = Vec::new();
    for row in [SUBMIT, GAP, IDLE, DEEP] {
        let stage = Stage::new();
        let measured = peer.start(&stage).and_then(|()| match row {
            SUBMIT => through(peer, &stage, &extent),
            GAP => gaps(peer, &stage, &extent),
            IDLE => when_idle(peer, &stage, &extent),
            _ => deep(peer, &stage, &extent),
        });
        cells.extend(measured.unwrap_or_else(|reason| vec![Cell::said(row, reason)]));
        peer.stop(&stage);
    }
    cells
}

/// A queue that is filled while its slot is taken, and then runs empty.
fn through(peer: &mut dyn Peer, stage: &Stage, extent: &Extent) -> Result<Vec<Cell>> {
    let (go, log) = (block(peer, stage)?, stage.log());
    let wanted = extent.burst.min(peer.capacity());
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < wanted && began.elapsed() < extent.submitting {
        let job = Job::noted(&log, &times.len().to_string(), Duration::ZERO);
        let at = Instant::now();
        peer.submit(stage, &job)?;
        times.push(at.elapsed());
    }
    let count = times.len();
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let mut cells = vec![
        Cell::new(SUBMIT, Sample::new(times[..count.min(FEW)].to_vec()).p50(), "ms"),
        Cell::new(BURST, rate, "/s").note(&of(count, 1000)),
    ];
    fs::write(&go, "").map_err(|error| error.to_string())?;
    // The first to begin shows that the slot is free.
    wait_for(Duration::from_secs(30), || !log.runs().is_empty());
    let done = log.wait(count, extent.draining);
    let runs = log.runs();
    cells.push(gap(NO_OP_GAP, &runs));
    let last = runs.iter().filter_map(|run| Some(run.end?.0)).fold(0.0, f64::max);
    let first = runs.first().map_or(0.0, |run| run.begin);
    cells.push(if done {
        Cell::new(DRAIN, count as f64 / (last - first), "/s").note(&of(count, 1000))
    } else {
        Cell::said(DRAIN, format!("{} of {count} in {} s", log.ended(), extent.draining.as_secs()))
    });
    Ok(cells)
}

/// Jobs that wait for the slot, one after the other.
fn gaps(peer: &mut dyn Peer, stage: &Stage, extent: &Extent) -> Result<Vec<Cell>> {
    let (go, log) = (block(peer, stage)?, stage.log());
    for number in 0..FEW {
        peer.submit(stage, &Job::noted(&log, &number.to_string(), HOLD))?;
    }
    fs::write(&go, "").map_err(|error| error.to_string())?;
    log.wait(FEW, extent.draining);
    Ok(vec![gap(GAP, &log.runs())])
}

fn gap(row: &'static str, runs: &[Run]) -> Cell {
    let gaps = runs.windows(2).filter_map(|pair| Some((pair[1].begin - pair[0].end?.0) * 1e3)).collect();
    match middle(gaps) {
        Some(gap) => Cell::new(row, gap, "ms").note(&format!("({} gaps)", runs.len() - 1)),
        None => Cell::said(row, "no two jobs ran"),
    }
}

fn when_idle(peer: &mut dyn Peer, stage: &Stage, extent: &Extent) -> Result<Vec<Cell>> {
    let mut times = Vec::new();
    for round in 0..extent.rounds {
        let log = Log(stage.file(&format!("idle-{round}.log")));
        // Not in step with anything that polls.
        thread::sleep(Duration::from_millis(330 + 37 * round as u64));
        let submitted = now();
        peer.submit(stage, &Job::noted(&log, "idle", Duration::ZERO))?;
        if !log.wait(1, Duration::from_secs(30)) {
            return Ok(vec![Cell::said(IDLE, "not started within 30 s")]);
        }
        times.push((log.runs()[0].begin - submitted) * 1e3);
    }
    Ok(middle(times).map(|time| Cell::new(IDLE, time, "ms")).into_iter().collect())
}

fn deep(peer: &mut dyn Peer, stage: &Stage, extent: &Extent) -> Result<Vec<Cell>> {
    thread::sleep(Duration::from_secs(2));
    let rest =
        if peer.has_daemon() { Cell::new(REST, memory(peer, stage), "MB") } else { Cell::said(REST, "no daemon") };
    let mut cells = vec![rest];
    block(peer, stage)?;
    let wanted = extent.deep.min(peer.capacity());
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < wanted && began.elapsed() < extent.deepening {
        let at = Instant::now();
        peer.submit(stage, &Job::new(&["true"]))?;
        times.push(at.elapsed());
    }
    thread::sleep(Duration::from_secs(2));
    let count = times.len();
    let (memory, time) = (memory(peer, stage), Sample::new(times.split_off(count.saturating_sub(FEW))).p50());
    let deep = Cell::new(DEEP, memory, "MB").note(&of(count, 10_000));
    let submit = Cell::new(DEEP_SUBMIT, time, "ms").note(&of(count, 10_000));
    // Less at a smaller depth is no better.
    let complete = count >= extent.deep;
    cells.extend([deep, submit].map(|cell| if complete { cell } else { cell.beyond_comparison() }));
    Ok(cells)
}

/// Takes the slot; answers the file whose appearance frees it.
pub fn block(peer: &mut dyn Peer, stage: &Stage) -> Result<std::path::PathBuf> {
    let (go, log) = (stage.file("go"), Log(stage.file("blocker.log")));
    let mut job = Job::blocker(&go);
    // It says that it runs.
    job.argv[2] = format!("echo blocker begin 0 $$ - >> {}; {}", log.0.display(), job.argv[2]);
    peer.submit(stage, &job)?;
    if wait_for(Duration::from_secs(30), || !log.runs().is_empty()) {
        Ok(go)
    } else {
        Err("the first job did not start within 30 s".into())
    }
}

/// Megabytes: all that is resident of the daemon, and of its other processes what they do not share.
fn memory(peer: &dyn Peer, stage: &Stage) -> f64 {
    let processes = peer.processes(stage);
    let kib = |pid: u32, file: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let daemon = processes.first().map_or(0.0, |pid| kib(*pid, "status", "VmRSS:"));
    let others: f64 = processes.iter().skip(1).map(|pid| kib(*pid, "smaps_rollup", "Pss:")).sum();
    (daemon + others) * 1024.0 / 1e6
}

fn of(count: usize, wanted: usize) -> String {
    if count == wanted { String::new() } else { format!("({} jobs)", number(count as f64)) }
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
