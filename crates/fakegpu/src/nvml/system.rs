//! Library and driver.

use std::ffi::{c_char, c_int, c_uint};

use super::{
    code::{Code, Result},
    exports,
    handle::{self, state},
};
use crate::ffi::Out;

exports! {
    fn nvmlInit() { handle::initialise() }
    fn nvmlInit_v2() { handle::initialise() }
    fn nvmlInitWithFlags(_flags: c_uint) { handle::initialise() }
    fn nvmlShutdown() { handle::shut_down() }
    fn nvmlSystemGetDriverVersion(version: Out<c_char>, length: c_uint) {
        text(version, length, &state()?.driver_version)
    }
    fn nvmlSystemGetNVMLVersion(version: Out<c_char>, length: c_uint) {
        let state = state()?;
        text(version, length, &format!("{}.{}", state.cuda_version / 1000, state.driver_version))
    }
    fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) { Ok(version.set(state()?.cuda_version)?) }
    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) { Ok(version.set(state()?.cuda_version)?) }
    /// Of processes that the state names, and of those that run here.
    fn nvmlSystemGetProcessName(pid: c_uint, name: Out<c_char>, length: c_uint) {
        let state = state()?;
        let mut processes = state.gpus.iter().flat_map(|gpu| &gpu.processes);
        if let Some(process) = processes.find(|process| process.pid == pid) {
            return text(name, length, &process.name);
        }
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).map_err(|_| Code::NOT_FOUND)?;
        text(name, length, command.split('\0').next().unwrap_or_default())
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: Code) -> *const c_char {
    code.text().as_ptr()
}

pub fn text(to: Out<c_char>, length: c_uint, text: &str) -> Result<()> {
    if to.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    if to.set_text(length as usize, text) { Ok(()) } else { Err(Code::INSUFFICIENT_SIZE) }
}
