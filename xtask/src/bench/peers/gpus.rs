//! GPUs that other programs use too, on a driver that is not there: two cards of 24 GB, four in the last.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Gpus, Peer, Result,
    job::{Job, Log, Run, now, wait_for},
    report::{Better, Cell, Row, number},
    stage::Stage,
};

const BIG: &str = "outside process holds 20 of 24 GB on GPU 0, two 10 GB jobs";
const NOTEBOOKS: &str = "1 GB notebook on each GPU, four 10 GB jobs";
const BESIDE: &str = "shared job, then an outside process, then another shared job";
const IDLE: &str = "GPU idle between jobs p50";
const WHOLE: &str = "16 jobs of 4 s, one to a GPU (ideal 32 s)";
const PACKED: &str = "16 jobs of 4 s, shared (ideal 8 s)";
const WIDE: &str = "4-GPU job among small ones (ideal 18 s)";

pub const ROWS: &[Row] = &[
    Row(BIG, Better::Less),
    Row(NOTEBOOKS, Better::Less),
    Row(BESIDE, Better::Less),
    Row(IDLE, Better::Less),
    Row(WHOLE, Better::Less),
    Row(PACKED, Better::Less),
    Row(WIDE, Better::Less),
];

const MIB: u64 = 1 << 20;
const JOB: u64 = 10_000 * MIB;

pub fn measure(peer: &mut dyn Peer, quick: bool) -> Vec<Cell> {
    if peer.gpus() == Gpus::None {
        return ROWS.iter().map(|Row(row, _)| Cell::said(row, "knows no GPUs")).collect();
    }
    let mut cells = Vec::new();
    for Row(row, _) in ROWS {
        if peer.gpus() == Gpus::Whole && [BESIDE, PACKED].contains(row) {
            cells.push(Cell::said(row, "one job to a GPU"));
            continue;
        }
        if quick && *row == WHOLE {
            continue;
        }
        let stage = Stage::with_gpus(match *row {
            WIDE => 4,
            IDLE => 1,
            _ => 2,
        });
        let found = match *row {
            BIG => outsiders(peer, &stage, row, &[20_000 * MIB], 2),
            NOTEBOOKS => outsiders(peer, &stage, row, &[1000 * MIB; 2], 4),
            BESIDE => beside(peer, &stage),
            IDLE => idle(peer, &stage),
            WHOLE => pack(peer, &stage, row, false),
            PACKED => pack(peer, &stage, row, true),
            _ => wide(peer, &stage),
        };
        cells.push(found.unwrap_or_else(|reason| Cell::said(row, reason)));
        peer.stop(&stage);
    }
    cells
}

/// Processes that were there first hold so much of each GPU.
fn outsiders(peer: &mut dyn Peer, stage: &Stage, row: &'static str, held: &[u64], jobs: usize) -> Result<Cell> {
    let _outsiders: Vec<_> =
        held.iter().enumerate().map(|(gpu, bytes)| stage.outsider(gpu, *bytes)).collect::<Result<_>>()?;
    peer.start(stage)?;
    thread::sleep(Duration::from_secs(1));
    let (began, log) = (now(), stage.log());
    for number in 0..jobs {
        peer.submit(stage, &Job::on_gpus(&log, &number.to_string(), 1, JOB, Duration::from_secs(2)))?;
    }
    log.wait(jobs, Duration::from_secs(60));
    Ok(verdict(row, &log, began, jobs))
}

fn beside(peer: &mut dyn Peer, stage: &Stage) -> Result<Cell> {
    peer.start(stage)?;
    thread::sleep(Duration::from_secs(1));
    let log = stage.log();
    let shared = |tag, hold| Job::on_gpus(&log, tag, 1, 8000 * MIB, Duration::from_secs(hold)).shared();
    peer.submit(stage, &shared("first", 40))?;
    if !wait_for(Duration::from_secs(30), || !log.runs().is_empty()) {
        return Err("the first job did not start within 30 s".into());
    }
    thread::sleep(Duration::from_secs(1));
    let _outsider = stage.outsider(stage.gpu_of(&log.runs()[0]), 14_000 * MIB)?;
    // Whoever looks from time to time has seen it now.
    thread::sleep(Duration::from_secs(11));
    let began = now();
    peer.submit(stage, &shared("second", 2))?;
    let second = || log.runs().into_iter().find(|run| run.tag == "second");
    wait_for(Duration::from_secs(40), || second().is_some_and(|run| run.end.is_some()));
    Ok(match second() {
        Some(run) if run.was_out_of_memory() => Cell::said(BESIDE, "out of memory"),
        Some(run) if run.succeeded() => Cell::new(BESIDE, run.end.map_or(0.0, |(at, _)| at) - began, "s").note("ok"),
        _ => Cell::said(BESIDE, "not done in 40 s"),
    })
}

fn idle(peer: &mut dyn Peer, stage: &Stage) -> Result<Cell> {
    const JOBS: usize = 8;
    peer.start(stage)?;
    thread::sleep(Duration::from_secs(1));
    let log = stage.log();
    for number in 0..JOBS {
        peer.submit(stage, &Job::on_gpus(&log, &number.to_string(), 1, JOB, Duration::from_millis(1500)))?;
    }
    let done = log.wait(JOBS, Duration::from_secs(120));
    let runs = log.runs();
    let mut gaps: Vec<f64> = runs.windows(2).filter_map(|pair| Some((pair[1].begin - pair[0].end?.0) * 1e3)).collect();
    gaps.sort_by(f64::total_cmp);
    let Some(gap) = gaps.get(gaps.len() / 2) else { return Err(format!("{} of {JOBS} jobs ran", runs.len())) };
    let stalled = if done { String::new() } else { format!("({} of {JOBS} in 120 s)", log.ended()) };
    Ok(Cell::new(IDLE, *gap, "ms").note(&stalled))
}

fn pack(peer: &mut dyn Peer, stage: &Stage, row: &'static str, share: bool) -> Result<Cell> {
    const JOBS: usize = 16;
    peer.start(stage)?;
    thread::sleep(Duration::from_secs(1));
    let (began, log) = (now(), stage.log());
    for number in 0..JOBS {
        let job = Job::on_gpus(&log, &number.to_string(), 1, 6000 * MIB, Duration::from_secs(4));
        peer.submit(stage, &if share { job.shared() } else { job })?;
    }
    log.wait(JOBS, Duration::from_secs(150));
    Ok(verdict(row, &log, began, JOBS))
}

/// Twelve small jobs wait before it, and one more comes every 1.2 s.
fn wide(peer: &mut dyn Peer, stage: &Stage) -> Result<Cell> {
    const BEFORE: usize = 12;
    peer.start(stage)?;
    thread::sleep(Duration::from_secs(1));
    let log = stage.log();
    let small = |number: usize| Job::on_gpus(&log, &number.to_string(), 1, 8000 * MIB, Duration::from_secs(6));
    for number in 0..BEFORE {
        peer.submit(stage, &small(number))?;
    }
    let (began, start) = (now(), Instant::now());
    peer.submit(stage, &Job::on_gpus(&log, "wide", 4, 8000 * MIB, Duration::from_secs(2)))?;
    let wide = || log.runs().into_iter().find(|run| run.tag == "wide");
    let (mut submitted, mut next) = (BEFORE, start);
    while wide().is_none() && start.elapsed() < Duration::from_secs(150) {
        if Instant::now() >= next && start.elapsed() < Duration::from_secs(60) {
            peer.submit(stage, &small(submitted))?;
            submitted += 1;
            next += Duration::from_millis(1200);
        }
        thread::sleep(Duration::from_millis(50));
    }
    let Some(run) = wide() else { return Ok(Cell::said(WIDE, "not started in 150 s")) };
    let is_later = |small: &Run| small.tag.parse::<usize>().is_ok_and(|number| number >= BEFORE);
    let overtook = log.runs().iter().filter(|small| small.begin < run.begin && is_later(small)).count();
    let after = submitted - BEFORE;
    Ok(Cell::new(WIDE, run.begin - began, "s").note(&format!("({overtook} of {after} later ones overtook)")))
}

/// Seconds until all were done, or what went wrong.
fn verdict(row: &'static str, log: &Log, began: f64, jobs: usize) -> Cell {
    let runs = log.runs();
    let out_of_memory = runs.iter().filter(|run| run.was_out_of_memory()).count();
    let done = runs.iter().filter(|run| run.succeeded()).count();
    let last = runs.iter().filter_map(|run| Some(run.end?.0)).fold(began, f64::max) - began;
    if out_of_memory > 0 {
        let rest = if done == jobs { ", all done in the end" } else { "" };
        return Cell::said(row, format!("{out_of_memory} out of memory{rest}"));
    }
    if done < jobs {
        return Cell::said(row, format!("{done} of {jobs} done after {} s", number(now() - began)));
    }
    Cell::new(row, last, "s")
}
