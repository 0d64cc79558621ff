//! What is left of a queue, and of what it runs, when its daemon is killed or asked to end.

use std::{thread, time::Duration};

use rustix::process::Signal;

use super::{
    Peer, Result,
    job::{Job, wait_for},
    report::{Better, Cell, Row},
    speed::block,
    stage::{Stage, is_alive, signal},
};

const LOST: &str = "kill -9 just after 5 accepted jobs: lost";
const KILLED: &str = "running job after kill -9";
const STOPPED: &str = "running job on a SIGTERM stop";

pub const ROWS: &[Row] = &[Row(LOST, Better::Less), Row(KILLED, Better::More), Row(STOPPED, Better::More)];

const ACCEPTED: usize = 5;
const WAITING: usize = 3;

pub fn measure(peer: &mut dyn Peer) -> Vec<Cell> {
    if !peer.has_daemon() {
        return ROWS.iter().map(|Row(row, _)| Cell::said(row, "no daemon")).collect();
    }
    let mut cells = Vec::new();
    for row in [LOST, KILLED, STOPPED] {
        let stage = Stage::new();
        let found = peer.start(&stage).and_then(|()| match row {
            LOST => lost(peer, &stage),
            KILLED => running(peer, &stage, row, Signal::KILL),
            _ => running(peer, &stage, row, Signal::TERM),
        });
        cells.push(found.unwrap_or_else(|reason| Cell::said(row, reason)));
        peer.stop(&stage);
    }
    cells
}

fn lost(peer: &mut dyn Peer, stage: &Stage) -> Result<Cell> {
    block(peer, stage)?;
    let before = peer.known(stage)?;
    for _ in 0..ACCEPTED {
        peer.submit(stage, &Job::new(&["true"]))?;
    }
    end_daemon(peer, stage, Signal::KILL)?;
    peer.start(stage)?;
    thread::sleep(Duration::from_secs(2));
    let lost = (before + ACCEPTED).saturating_sub(peer.known(stage)?).min(ACCEPTED);
    Ok(Cell::said(LOST, lost.to_string()).worth(lost as f64))
}

/// One job runs and three wait while the daemon ends; then it is started again.
fn running(peer: &mut dyn Peer, stage: &Stage, row: &'static str, how: Signal) -> Result<Cell> {
    let log = stage.log();
    peer.submit(stage, &Job::noted(&log, "running", Duration::from_secs(12)))?;
    for number in 0..WAITING {
        peer.submit(stage, &Job::noted(&log, &format!("waiting-{number}"), Duration::from_millis(100)))?;
    }
    if !wait_for(Duration::from_secs(30), || !log.runs().is_empty()) {
        return Err("the job did not start within 30 s".into());
    }
    let pid = log.runs()[0].pid;
    thread::sleep(Duration::from_secs(2));
    end_daemon(peer, stage, how)?;
    thread::sleep(Duration::from_secs(2));
    let lives = is_alive(pid);
    peer.start(stage)?;
    // Long enough for the job to be run a second time by a queue that looks every ten seconds.
    wait_for(Duration::from_secs(50), || log.ended() > WAITING);

    let runs = log.runs();
    let of_running: Vec<_> = runs.iter().filter(|run| run.tag == "running").collect();
    let again = of_running.len() > 1;
    let others: Vec<_> = runs.iter().filter(|run| run.tag != "running").collect();
    let end = of_running[0].end.map_or(f64::MAX, |(at, _)| at);
    let beside = others.iter().any(|run| run.begin < end) && lives;
    let (text, worth) = match (lives, again) {
        (true, false) if others.is_empty() => ("lives, but the queue stands still", 2.0),
        (true, false) if beside => ("lives, but the next starts beside it", 2.0),
        (true, false) => ("lives, the queue goes on after it", 4.0),
        (true, true) => ("lives, and is run a second time", 1.0),
        (false, true) => ("killed, run again", 3.0),
        (false, false) if others.is_empty() => ("killed, and the queue stands still", 0.0),
        (false, false) => ("killed", 0.5),
    };
    let partly = if !others.is_empty() && others.len() < WAITING { "; waiting jobs lost" } else { "" };
    Ok(Cell::said(row, format!("{text}{partly}")).worth(worth))
}

fn end_daemon(peer: &dyn Peer, stage: &Stage, how: Signal) -> Result<()> {
    let daemon = *peer.processes(stage).first().ok_or("its daemon is not there")?;
    signal(daemon, how);
    if wait_for(Duration::from_secs(20), || !is_alive(daemon)) {
        Ok(())
    } else {
        Err(format!("its daemon did not end within 20 s of {how:?}"))
    }
}
