//! The two small ones: every waiting job is a process.

use std::{fs, path::PathBuf, process::Command};

use super::{
    Peer, Result, install,
    job::Job,
    stage::{Stage, output, signal},
};

pub struct TaskSpooler {
    program: PathBuf,
    version: String,
}

impl TaskSpooler {
    pub fn install() -> Result<TaskSpooler> {
        let system = install::from_debian(&["task-spooler"])?;
        let version = install::debian_version(&system, "task-spooler");
        Ok(TaskSpooler { program: system.join("usr/bin/tsp"), version })
    }

    fn client(&self, stage: &Stage) -> Command {
        let mut command = stage.command(&self.program);
        command.env("TS_SOCKET", stage.file("socket")).env("TS_SLOTS", "1");
        command.env("TS_MAXCONN", "1000").env("TS_MAXFINISHED", "100");
        command
    }
}

impl Peer for TaskSpooler {
    fn title(&self) -> String {
        format!("task-spooler {}", self.version)
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        // The first client starts the server.
        output(&mut self.client(stage)).map(drop)
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        output(self.client(stage).arg("-n").args(&job.argv)).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        Ok(output(&mut self.client(stage))?.lines().count().saturating_sub(1))
    }

    fn processes(&self, stage: &Stage) -> Vec<u32> {
        stage.processes_of(&self.program)
    }

    fn stop(&mut self, stage: &Stage) {
        let _ = output(self.client(stage).arg("-K"));
    }

    fn capacity(&self) -> usize {
        900
    }
}

pub struct Nq {
    program: PathBuf,
    version: String,
}

impl Nq {
    pub fn install() -> Result<Nq> {
        let system = install::from_debian(&["nq"])?;
        let version = install::debian_version(&system, "nq");
        Ok(Nq { program: system.join("usr/bin/nq"), version })
    }
}

impl Peer for Nq {
    fn title(&self) -> String {
        format!("nq {}", self.version)
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        fs::create_dir_all(stage.file("queue")).map_err(|error| error.to_string())
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        let mut command = stage.command(&self.program);
        output(command.env("NQDIR", stage.file("queue")).arg("-q").args(&job.argv)).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        Ok(fs::read_dir(stage.file("queue")).into_iter().flatten().count())
    }

    fn processes(&self, stage: &Stage) -> Vec<u32> {
        stage.processes_of(&self.program)
    }

    fn stop(&mut self, stage: &Stage) {
        self.processes(stage).into_iter().for_each(|pid| signal(pid, rustix::process::Signal::TERM));
    }

    /// Each waiting job locks the files of all before it.
    fn capacity(&self) -> usize {
        900
    }

    fn has_daemon(&self) -> bool {
        false
    }
}
