use std::{path::PathBuf, process::Child, time::Duration};

use super::{
    Peer, Result, install,
    job::{Job, wait_for},
    stage::{self, Stage, output},
};

const VERSION: &str = "4.0.4";

pub struct Pueue {
    programs: PathBuf,
    daemon: Option<Child>,
}

impl Pueue {
    pub fn install() -> Result<Pueue> {
        Ok(Pueue { programs: install::from_crates_io("pueue", VERSION)?, daemon: None })
    }

    fn client(&self, stage: &Stage, arguments: &[&str]) -> Result<String> {
        output(stage.command(self.programs.join("pueue")).args(arguments))
    }
}

impl Peer for Pueue {
    fn title(&self) -> String {
        format!("pueue {VERSION}")
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        self.daemon = Some(stage.daemon(&mut stage.command(self.programs.join("pueued")))?);
        let ready = wait_for(Duration::from_secs(20), || self.client(stage, &["status"]).is_ok());
        if ready { Ok(()) } else { Err("pueued does not answer".into()) }
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        let argv = job.argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        output(stage.command(self.programs.join("pueue")).args(["add", "--", &argv])).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        let status: serde_json::Value =
            serde_json::from_str(&self.client(stage, &["status", "--json"])?).map_err(|error| error.to_string())?;
        Ok(status["tasks"].as_object().map_or(0, |tasks| tasks.len()))
    }

    fn processes(&self, _: &Stage) -> Vec<u32> {
        self.daemon.iter().map(Child::id).collect()
    }

    fn stop(&mut self, stage: &Stage) {
        let _ = self.client(stage, &["shutdown"]);
        if let Some(mut daemon) = self.daemon.take() {
            stage::end(&mut daemon);
        }
    }
}

/// For the shell that runs it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
