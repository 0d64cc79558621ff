use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{
    Gpus, Peer, Result,
    job::Job,
    stage::{self, Stage, output},
};
use crate::bench;

/// The studio itself: the release binary in a home of its own.
pub struct Sage {
    program: PathBuf,
    daemon: Option<Child>,
}

impl Sage {
    pub fn new() -> Sage {
        Sage { program: bench::sage(), daemon: None }
    }

    fn command(&self, stage: &Stage) -> Command {
        let mut command = stage.command(&self.program);
        command.env("SAGE_HOME", stage.file("home")).env("SAGE_LANG", "en");
        command.env("SAGE_DISABLE_NVML", if stage.gpus() == 0 { "1" } else { "0" });
        command.env_remove("SAGE_GPU_MOCK_COUNT").env_remove("SAGE_GPU_MOCK_MEMORY_GB");
        command
    }
}

impl Peer for Sage {
    fn title(&self) -> String {
        "SAGE Studio".into()
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        let home = stage.file("home");
        // As many jobs on a card as fit; the default is three.
        let config = "[gpus]\ntasks_per_gpu = 8\n";
        let written = std::fs::create_dir_all(&home).and_then(|()| std::fs::write(home.join("config.toml"), config));
        written.map_err(|error| error.to_string())?;
        let mut command = self.command(stage);
        command.args(["studio", "start", "--foreground", "--port", "0", "--second-port", "none"]);
        let mut daemon =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        // It says so once it serves.
        let read = BufReader::new(daemon.stdout.take().expect("it is piped")).read_line(&mut line);
        self.daemon = Some(daemon);
        match read {
            Ok(bytes) if bytes > 0 => Ok(()),
            _ => Err("the studio did not start".into()),
        }
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        let mut command = self.command(stage);
        command.args(["task", "submit"]);
        if job.gpus > 0 {
            command.args(["--gpus", &job.gpus.to_string(), "--memory", &format!("{}MiB", job.memory >> 20)]);
            // What Slurm is told too.
            command.args(["--time-limit", "60s"]);
            if job.share {
                command.arg("--share");
            }
        }
        output(command.arg("--").args(&job.argv)).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        let list = output(self.command(stage).args(["task", "list", "--json"]))?;
        let list: serde_json::Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        list.as_array().or(list["tasks"].as_array()).map(Vec::len).ok_or_else(|| "it lists no tasks".into())
    }

    fn processes(&self, stage: &Stage) -> Vec<u32> {
        let Some(daemon) = self.daemon.as_ref().map(Child::id) else { return Vec::new() };
        let others = stage.processes_of(&self.program).into_iter().filter(|pid| *pid != daemon);
        std::iter::once(daemon).chain(others).collect()
    }

    fn stop(&mut self, _: &Stage) {
        if let Some(mut daemon) = self.daemon.take() {
            stage::end(&mut daemon);
        }
    }

    fn gpus(&self) -> Gpus {
        Gpus::Shared
    }
}
