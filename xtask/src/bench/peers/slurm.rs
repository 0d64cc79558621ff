use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use super::{
    Gpus, Peer, Result, install,
    job::{Job, wait_for},
    pueue::quoted,
    stage::{self, Stage, output},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    Default,
    /// As often as it can be made to look.
    Fast,
}

/// Controller and node on one machine, without authentication.
pub struct Slurm {
    system: PathBuf,
    version: String,
    tuning: Tuning,
    controller: Option<Child>,
    node: Option<Child>,
}

impl Slurm {
    pub fn install(tuning: Tuning) -> Result<Slurm> {
        let system = install::from_debian(&["slurm-wlm"])?;
        let version = install::debian_version(&system, "slurm-wlm");
        Ok(Slurm { system, version, tuning, controller: None, node: None })
    }

    fn command(&self, stage: &Stage, program: &str) -> Command {
        let folder = if program.starts_with("slurm") { "usr/sbin" } else { "usr/bin" };
        let mut command = stage.command(self.system.join(folder).join(program));
        let libraries = self.system.join("usr/lib/x86_64-linux-gnu");
        let libraries = [libraries.join("slurm-wlm"), libraries];
        let inherited = stage.environment().into_iter().find(|(name, _)| name == "LD_LIBRARY_PATH");
        let inherited: Vec<PathBuf> =
            inherited.map(|(_, folders)| std::env::split_paths(&folders).collect()).unwrap_or_default();
        let libraries = std::env::join_paths(libraries.into_iter().chain(inherited));
        command.env("SLURM_CONF", stage.file("slurm.conf"));
        command.env("LD_LIBRARY_PATH", libraries.expect("no folder has a colon in it"));
        command
    }

    fn configure(&self, stage: &Stage) -> std::io::Result<()> {
        let (folder, user, host) = (stage.path().display(), stage::user(), host());
        let plugins = self.system.join("usr/lib/x86_64-linux-gnu/slurm-wlm");
        let plugins = plugins.display();
        let tuning = match self.tuning {
            Tuning::Default => "",
            Tuning::Fast => {
                "SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1"
            }
        };
        let (resources, cpus) = match stage.gpus() {
            0 => (String::new(), 1),
            gpus => {
                let mut lines = String::new();
                for gpu in 0..gpus {
                    let device = stage.file(&format!("gpu{gpu}"));
                    fs::write(&device, "")?;
                    lines += &format!("Name=gpu File={}\n", device.display());
                }
                fs::write(stage.file("gres.conf"), lines)?;
                (format!(" Gres=gpu:{gpus}"), 64)
            }
        };
        let gres = if resources.is_empty() { "" } else { "GresTypes=gpu\nSlurmdParameters=config_overrides" };
        fs::create_dir_all(stage.file("state"))?;
        fs::create_dir_all(stage.file("spool"))?;
        let config = format!(
            "ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
PluginDir={plugins}
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
{tuning}
{gres}
MaxJobCount=100000
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000{resources} State=UNKNOWN
PartitionName=p Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"
        );
        fs::write(stage.file("slurm.conf"), config)
    }
}

impl Peer for Slurm {
    fn title(&self) -> String {
        let tuned = if self.tuning == Tuning::Fast { " tuned" } else { "" };
        format!("Slurm {}{tuned}", self.version)
    }

    fn start(&mut self, stage: &Stage) -> Result<()> {
        self.configure(stage).map_err(|error| error.to_string())?;
        let stepd = self.system.join("usr/sbin/slurmstepd-wlm").display().to_string();
        self.controller = Some(stage.daemon(self.command(stage, "slurmctld-wlm").args(["-D", "-i"]))?);
        // The node outlives a controller that was killed.
        if !self.node.as_mut().is_some_and(|node| matches!(node.try_wait(), Ok(None))) {
            let mut node = self.command(stage, "slurmd-wlm");
            self.node = Some(stage.daemon(node.args(["-D", "-N", &host(), "-d", &stepd]))?);
        }
        let ready = wait_for(Duration::from_secs(40), || {
            let state = output(self.command(stage, "sinfo").args(["-h", "-o", "%T"]));
            state.is_ok_and(|state| ["idle", "mixed", "allocated"].contains(&state.as_str()))
        });
        if ready {
            return Ok(());
        }
        let log = fs::read_to_string(stage.file("slurmctld.log")).unwrap_or_default();
        let error = log.lines().rev().find(|line| line.contains("error") || line.contains("fatal")).unwrap_or("");
        Err(format!("its node is not ready: {error}"))
    }

    fn submit(&self, stage: &Stage, job: &Job) -> Result<()> {
        let argv = job.argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let mut command = self.command(stage, "sbatch");
        command.args(["-Q", "-n1", "-o", "/dev/null"]);
        if job.gpus > 0 {
            command.args([&format!("--gres=gpu:{}", job.gpus), "-t", "1"]);
        }
        output(command.args(["--wrap", &argv])).map(drop)
    }

    fn known(&self, stage: &Stage) -> Result<usize> {
        Ok(output(self.command(stage, "squeue").args(["-h", "-t", "all"]))?.lines().count())
    }

    fn processes(&self, _: &Stage) -> Vec<u32> {
        self.controller.iter().chain(&self.node).map(Child::id).collect()
    }

    fn stop(&mut self, stage: &Stage) {
        let _ = output(self.command(stage, "scancel").args(["-u", &stage::user()]));
        for mut child in self.node.take().into_iter().chain(self.controller.take()) {
            stage::end(&mut child);
        }
    }

    fn gpus(&self) -> Gpus {
        Gpus::Whole
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or("localhost").to_owned()
}
