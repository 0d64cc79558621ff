//! `cargo xtask bench peers`: the studio beside other job queues, in one run on one machine.

mod crash;
mod gflow;
mod gpus;
mod hq;
mod install;
pub mod job;
mod pueue;
mod report;
mod sage;
mod slurm;
mod speed;
mod spooler;
mod stage;

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};

use self::{job::Job, report::Report, stage::Stage};
use crate::run;

#[derive(Args)]
pub struct Peers {
    /// Peers: only this one; repeat for more [default: all]
    #[arg(long = "peer", value_enum, value_name = "NAME")]
    peers: Vec<Name>,
    /// Peers: only this table; repeat for more
    #[arg(long = "table", value_enum, value_name = "TABLE")]
    tables: Vec<Table>,
    /// Peers: fewer jobs and shorter waits
    #[arg(long)]
    quick: bool,
    /// Peers: write every figure with the load beside it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Peers: the binary of HyperQueue, which no registry has
    #[arg(long, value_name = "PATH")]
    hq: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    Sage,
    Hq,
    Gflow,
    GflowTmux,
    Pueue,
    Slurm,
    SlurmTuned,
    // The last, because hundreds of their processes wake up at once and the load takes minutes to be forgotten.
    TaskSpooler,
    Nq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    Speed,
    Crash,
    Gpu,
}

/// What went wrong, for the table.
type Result<T> = std::result::Result<T, String>;

/// A job queue with its command line client.
pub trait Peer {
    fn title(&self) -> String;

    /// Starts it with an empty queue and one slot, or with the stage's GPUs; a second call starts it again on what it
    /// has kept.
    fn start(&mut self, stage: &Stage) -> Result<()>;

    /// Runs the client once; returns when that has.
    fn submit(&self, stage: &Stage, job: &Job) -> Result<()>;

    /// Jobs that it knows of, in whatever state.
    fn known(&self, stage: &Stage) -> Result<usize>;

    /// The daemon first, then what else runs for the queue. Empty: it has no daemon.
    fn processes(&self, stage: &Stage) -> Vec<u32>;

    fn stop(&mut self, stage: &Stage);

    /// Jobs that it can hold.
    fn capacity(&self) -> usize {
        usize::MAX
    }

    fn has_daemon(&self) -> bool {
        true
    }

    /// Whether it hands out GPUs, and whether several jobs can share one.
    fn gpus(&self) -> Gpus {
        Gpus::None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpus {
    None,
    Whole,
    Shared,
}

pub fn run(options: &Peers) -> bool {
    let wanted = |table| options.tables.is_empty() || options.tables.contains(&table);
    let names = if options.peers.is_empty() { Name::value_variants() } else { &options.peers };
    let helpers = ["build", "--release", "-p", "fakegpu", "--bin", "fakegpu-train", "--bin", "fakegpu-hold"];
    if !super::build_sage() || !run::watched(run::in_root("cargo", &helpers)).0 || !job::build_note() {
        return false;
    }
    let mut report = Report::default();
    for name in names {
        let mut peer = match make(*name, options) {
            Ok(peer) => peer,
            Err(reason) => {
                eprintln!("{name:?}: {reason}");
                report.missing(&format!("{name:?}").to_lowercase(), &reason);
                continue;
            }
        };
        let title = peer.title();
        if wanted(Table::Speed) {
            eprintln!("{title}: speed ...");
            report.add(&title, speed::measure(peer.as_mut(), options.quick));
        }
        if wanted(Table::Crash) {
            eprintln!("{title}: crash ...");
            report.add(&title, crash::measure(peer.as_mut()));
        }
        if wanted(Table::Gpu) {
            eprintln!("{title}: gpu ...");
            report.add(&title, gpus::measure(peer.as_mut(), options.quick));
        }
        if let Some(file) = &options.json
            && let Err(error) = fs::write(file, report.json())
        {
            eprintln!("{}: {error}", file.display());
            return false;
        }
    }
    for (table, rows) in [(Table::Speed, speed::ROWS), (Table::Crash, crash::ROWS), (Table::Gpu, gpus::ROWS)] {
        if wanted(table) {
            println!("{}", report.table(rows));
        }
    }
    true
}

/// Installs it first, where that is needed.
fn make(name: Name, options: &Peers) -> Result<Box<dyn Peer>> {
    Ok(match name {
        Name::Sage => Box::new(sage::Sage::new()),
        Name::Gflow => Box::new(gflow::Gflow::install("process")?),
        Name::GflowTmux => Box::new(gflow::Gflow::install("tmux")?),
        Name::Pueue => Box::new(pueue::Pueue::install()?),
        Name::TaskSpooler => Box::new(spooler::TaskSpooler::install()?),
        Name::Nq => Box::new(spooler::Nq::install()?),
        Name::Hq => Box::new(hq::HyperQueue::at(options.hq.as_deref())?),
        Name::Slurm => Box::new(slurm::Slurm::install(slurm::Tuning::Default)?),
        Name::SlurmTuned => Box::new(slurm::Slurm::install(slurm::Tuning::Fast)?),
    })
}
