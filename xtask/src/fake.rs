//! `cargo xtask fake`: the studio, or any command, on GPUs that are not there.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
};

use clap::Args;
use fakegpu::{Folder, State, parse_bytes};

use crate::{root, run};

#[derive(Args)]
pub struct Fake {
    /// Which GPUs: 8xH100, 1xRTX3060, 2xA100-40+1xL4, ...
    #[arg(value_name = "GPUS")]
    spec: String,
    /// Split the last GPU into N MIG instances
    #[arg(long, value_name = "N")]
    mig: Option<usize>,
    /// A foreign process, vllm, holds so much of the first device: 61GB, 24GiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    external: Option<u64>,
    /// Every call about the first GPU takes so long
    #[arg(long, value_name = "SECONDS")]
    hang: Option<f64>,
    /// Home of the studio [default: target/fake/GPUS/home]
    #[arg(long, value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// Port of the studio; 0: any free one [default: the studio's own]
    #[arg(long, value_name = "N", conflicts_with = "command")]
    port: Option<u16>,
    /// Run this instead of the studio
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub fn run(fake: &Fake) -> bool {
    match fake.run() {
        Ok(succeeded) => succeeded,
        Err(message) => {
            eprintln!("{message}");
            false
        }
    }
}

type Result<T> = std::result::Result<T, String>;

impl Fake {
    fn run(&self) -> Result<bool> {
        let state = self.state()?;
        let sage = self.build()?;
        // One folder for every machine, so that two can run side by side.
        let folder = root().join("target/fake").join(&self.spec);
        let folder = Folder::create(&folder, &state).map_err(at(&folder))?;
        let home = self.home.clone().unwrap_or_else(|| folder.path().join("home"));
        fs::create_dir_all(&home).map_err(at(&home))?;
        let home = home.canonicalize().map_err(at(&home))?;
        let environment = environment(&folder, &home, &sage)?;
        let _foreign = self.foreign_process(&folder)?;

        let mut command = match self.command.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            None => {
                explain(&folder, &environment);
                let mut command = Command::new(&sage);
                command.args(["studio", "start", "--foreground"]);
                if let Some(port) = self.port {
                    command.args(["--port", &port.to_string()]);
                }
                command
            }
        };
        // Ctrl-C is the command's to answer; this waits for it and then ends the foreign process.
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)))
            .map_err(|error| error.to_string())?;
        for variable in ["SAGE_DISABLE_NVML", "SAGE_GPU_MOCK_COUNT", "SAGE_GPU_MOCK_MEMORY_GB", "CUDA_VISIBLE_DEVICES"]
        {
            command.env_remove(variable);
        }
        // With the new PATH in force the program itself is looked up in it.
        let status = command.envs(environment).status();
        Ok(status.map_err(|error| format!("{}: {error}", command.get_program().display()))?.success())
    }

    fn state(&self) -> Result<State> {
        let mut state: State = self.spec.parse().map_err(|error: fakegpu::UnknownCard| error.to_string())?;
        if let Some(instances) = self.mig {
            let gpu = state.gpus.last_mut().ok_or("there is no GPU that could be split")?;
            if !gpu.split(instances) {
                let name = &gpu.name;
                return Err(format!("{name} cannot be split into {instances}: A100, H100, H200 and B200 can, into 7"));
            }
        }
        if let Some(seconds) = self.hang {
            state.gpus.first_mut().ok_or("there is no GPU that could hang")?.hang_seconds = seconds;
        }
        Ok(state)
    }

    /// Answers the studio's binary: `$SAGE_BIN`, else a release build.
    fn build(&self) -> Result<PathBuf> {
        let mut builds = Vec::new();
        if self.external.is_some() {
            builds.push(vec!["build", "--quiet", "-p", "fakegpu", "--bin", "fakegpu-hold"]);
        }
        let sage = match env::var_os("SAGE_BIN") {
            Some(sage) => PathBuf::from(&sage).canonicalize().map_err(at(Path::new(&sage)))?,
            None => {
                builds.push(vec!["build", "--release", "-p", "studio"]);
                root().join("target/release/sage")
            }
        };
        for arguments in builds {
            let built = run::in_root("cargo", &arguments).status().map_err(|error| format!("cargo: {error}"))?;
            if !built.success() {
                return Err("the build failed; its messages are above".into());
            }
        }
        Ok(sage)
    }

    /// Holds memory under a well-known name until this program ends or somebody kills it.
    fn foreign_process(&self, folder: &Folder) -> Result<Option<Foreign>> {
        let Some(bytes) = self.external else { return Ok(None) };
        let state = folder.state().map_err(at(&folder.state_file()))?;
        let gpu = state.gpus.first().ok_or("there is no GPU that a foreign process could use")?;
        let device = gpu.instances().first().map_or(&gpu.uuid, |instance| &instance.uuid);
        let name = folder.path().join("vllm");
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&name)(error)),
            _ => symlink(root().join("target/debug/fakegpu-hold"), &name).map_err(at(&name))?,
        }
        let mut command = Command::new(&name);
        command.args(["--device", device, "--bytes", &bytes.to_string()]).envs(folder.env());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(at(&name))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).map_err(at(&name))?;
        let foreign = Foreign(child);
        if line.is_empty() {
            return Err(format!("{bytes} bytes do not fit on {device}"));
        }
        println!("foreign process: vllm, pid {}, {bytes} bytes on {device}; kill it to free them", foreign.0.id());
        Ok(Some(foreign))
    }
}

struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        // Somebody may have ended it already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `sage` is found by its name.
fn environment(folder: &Folder, home: &Path, sage: &Path) -> Result<Vec<(&'static str, OsString)>> {
    let old = env::var_os("PATH").unwrap_or_default();
    let folders = sage.parent().map(Path::to_owned).into_iter().chain(env::split_paths(&old));
    let path = env::join_paths(folders).map_err(|error| error.to_string())?;
    let mut environment = folder.env();
    environment.extend([("SAGE_HOME", home.into()), ("PATH", path)]);
    Ok(environment)
}

fn explain(folder: &Folder, environment: &[(&str, OsString)]) {
    println!("The machine is {}.", folder.state_file().display());
    println!("Edit it while the studio runs: utilisation, processes, unattributed, lost, xids, hang_seconds, ...");
    println!("For other terminals:");
    for (name, value) in environment.iter().filter(|(name, _)| *name != "PATH") {
        println!("  export {name}='{}'", value.display());
    }
    println!();
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
