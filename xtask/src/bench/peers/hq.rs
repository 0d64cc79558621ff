use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

use super::{
    Gpus, Peer, Result,
    job::{Job, wait_for},
    stage::{self, Stage, output},
};

/// Bytes of a card.
const CARD: f64 = 24.0 * (1u64 << 30) as f64;

/// A server with a journal and one worker.
pub struct HyperQueue {
    program: PathBuf,
    version: String,
    server: Option<Child>,
    worker: Option<Child>,
}

impl HyperQueue {
    pub fn at(program: Option<&Path>) -> Result<HyperQueue> {
        let program = program.ok_or("no registry has its binary; name one with --hq PATH")?;
        let program = program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?;
        let version = output(Command::new(&program).arg("--version"))?.replace("hyperqueue ", "");
        Ok(HyperQueue { program, version, server: None, worker: None })
    }

    fn client(&self, stage: &Stage) -> Command {
        let mut command = stage.command(&self.program);
        command.env("HQ_SERVER_DIR", stage.file("server"));
        command
    }
}

impl Peer for HyperQueue {
    fn title(&self) -> String {
        format!("HyperQueue {}", self.version)
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        let journal = stage.file("journal");
        let mut server = self.client(stage);
        server.args(["server", "start", "--host", "127.0.0.1", "--journal"]).arg(journal);
        self.server = Some(stage.daemon(&mut server)?);
        output(self.client(stage).args(["server", "wait", "--timeout", "30s"]))?;
        if let Some(mut worker) = self.worker.take() {
            stage::end(&mut worker);
        }
        let mut worker = self.client(stage);
        worker.args(["worker", "start", "--detect-resources", "none"]);
        match stage.gpus() {
            0 => worker.args(["--cpus", "1"]),
            gpus => worker.args(["--cpus", "64", "--resource", &format!("gpus/nvidia=range(0-{})", gpus - 1)]),
        };
        self.worker = Some(stage.daemon(&mut worker)?);
        let ready = wait_for(Duration::from_secs(20), || {
            output(self.client(stage).args(["worker", "list"])).is_ok_and(|list| list.contains("RUNNING"))
        });
        thread::sleep(Duration::from_millis(200));
        if ready { Ok(()) } else { Err("its worker does not run".into()) }
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        let mut command = self.client(stage);
        command.args(["submit", "--stdout=none", "--stderr=none"]);
        if job.gpus > 0 {
            // It knows of no memory, so whoever submits has to say which part of a card that is.
            let part = (job.memory as f64 / CARD * 100.0).ceil() / 100.0;
            let amount = if job.share { part.to_string() } else { job.gpus.to_string() };
            command.args(["--cpus", "1", "--resource", &format!("gpus/nvidia={amount}")]);
        }
        output(command.arg("--").args(&job.argv)).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        let list = output(self.client(stage).args(["--output-mode", "json", "job", "list", "--all"]))?;
        let list: serde_json::Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        Ok(list.as_array().map_or(0, Vec::len))
    }

    fn processes(&self, _: &Stage) -> Vec<u32> {
        self.server.iter().chain(&self.worker).map(Child::id).collect()
    }

    fn stop(&mut self, stage: &Stage) {
        let _ = output(self.client(stage).args(["server", "stop"]));
        for mut child in self.worker.take().into_iter().chain(self.server.take()) {
            stage::end(&mut child);
        }
    }

    fn gpus(&self) -> Gpus {
        Gpus::Shared
    }
}
