//! Tests that run in a process of their own, because a process has one environment.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fakegpu::{Folder, State};
use nvml_wrapper::{error::NvmlError, error::nvml_try};
use nvml_wrapper_sys::bindings::nvmlMemory_t;

/// Runs the test of this name again, on a machine with these GPUs. There, answers the machine; here, nothing, once the
/// test has passed there.
pub fn on_a_machine(test: &str, gpus: &str) -> Option<Folder> {
    const INSIDE: &str = "FAKEGPU_TEST_INSIDE";
    if env::var_os(INSIDE).is_some() {
        return Folder::from_env();
    }
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::create(directory.path(), &gpus.parse::<State>().unwrap()).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).envs(folder.env()).env(INSIDE, "1");
    let output = command.env_remove("CUDA_VISIBLE_DEVICES").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside: {}\n{said}\n{complained}", output.status);
    assert!(said.contains("1 passed"), "no test is called {test}: {said}");
    None
}

/// A process that holds memory.
pub struct Held(Child);

impl Held {
    /// Returns when it holds it.
    pub fn new(device: &str, bytes: u64) -> Held {
        Held::try_new(device, bytes).unwrap()
    }

    /// Fails with what the process said.
    pub fn try_new(device: &str, bytes: u64) -> Result<Held, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fakegpu-hold"));
        command.args(["--device", device, "--bytes", &bytes.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line == "holding\n" {
            return Ok(Held(child));
        }
        Err(String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Without waiting for it.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    pub fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// # Panics
/// If it does not become true within ten seconds.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The version that the wrapper does not wrap.
pub fn memory_v1(gpu: &nvml_wrapper::Device<'_>) -> Result<nvmlMemory_t, NvmlError> {
    let function = gpu.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref().unwrap();
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the handle is of the library that the function is from.
    nvml_try(unsafe { function(gpu.handle(), &mut memory) })?;
    Ok(memory)
}
