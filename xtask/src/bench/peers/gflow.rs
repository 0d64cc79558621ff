use std::{fs, path::PathBuf, process::Child, time::Duration};

use super::{
    Gpus, Peer, Result, install,
    job::{Job, wait_for},
    stage::{self, Stage, output},
};

const VERSION: &str = "0.4.18";
const PORT: u16 = 59311;
const MIB: u64 = 1 << 20;

/// Both ways in which it can execute jobs; tmux is its default.
pub struct Gflow {
    programs: PathBuf,
    executor: &'static str,
    daemon: Option<Child>,
}

impl Gflow {
    pub fn install(executor: &'static str) -> Result<Gflow> {
        if executor == "tmux" {
            output(std::process::Command::new("tmux").arg("-V"))?;
        }
        Ok(Gflow { programs: install::from_pypi("runqd", VERSION)?, executor, daemon: None })
    }

    fn command(&self, stage: &Stage, program: &str) -> std::process::Command {
        let mut command = stage.command(self.programs.join(program));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).expect("the folder has no colon in it"));
        command
    }
}

impl Peer for Gflow {
    fn title(&self) -> String {
        format!("gflow {VERSION} {}", self.executor)
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        let folder = stage.file("config/gflow");
        let executor = self.executor;
        let config = format!("[daemon]\nhost = \"127.0.0.1\"\nport = {PORT}\n[executor]\ntype = \"{executor}\"\n");
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("gflow.toml"), config));
        written.map_err(|error| error.to_string())?;
        // Jobs in tmux report their end through gcancel, which a login shell must find.
        let profile = format!("export PATH={}:$PATH\n", self.programs.display());
        for name in [".profile", ".bashrc", ".bash_profile"] {
            fs::write(stage.file(name), &profile).map_err(|error| error.to_string())?;
        }
        self.daemon = Some(stage.daemon(&mut self.command(stage, "gflowd"))?);
        let ready = wait_for(Duration::from_secs(20), || self.known(stage).is_ok());
        if ready { Ok(()) } else { Err("gflowd does not answer".into()) }
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        let mut command = self.command(stage, "gbatch");
        if job.gpus > 0 {
            command.args(["--gpus", &job.gpus.to_string(), "--gpu-memory", &format!("{}M", job.memory / MIB)]);
            if job.share {
                command.arg("--shared");
            }
        } else {
            // More than half of the host's memory: one job at a time.
            command.args(["--memory", &format!("{}M", host_memory() / MIB * 6 / 10)]);
        }
        output(command.args(&job.argv)).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        let list = output(self.command(stage, "gqueue").args(["--all", "--user", "all", "--output", "json"]))?;
        if list.starts_with("No jobs found") {
            return Ok(0);
        }
        let list: serde_json::Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        Ok(list["jobs"].as_array().map_or(0, Vec::len))
    }

    fn processes(&self, _: &Stage) -> Vec<u32> {
        self.daemon.iter().map(Child::id).collect()
    }

    fn stop(&mut self, stage: &Stage) {
        if let Some(mut daemon) = self.daemon.take() {
            stage::end(&mut daemon);
        }
        let _ = output(stage.command("tmux").arg("kill-server"));
    }

    fn gpus(&self) -> Gpus {
        Gpus::Shared
    }
}

/// Bytes.
fn host_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}
