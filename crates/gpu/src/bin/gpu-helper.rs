//! The hidden commands of `sage` as a program of their own, for this crate's tests.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("gpu-worker") => gpu::worker_main(),
        Some("gpu-trial") => gpu::trial_main(arguments),
        // Measures until it is killed: a line for each inventory, with the number of GPUs.
        Some("studio") => {
            let own = std::env::current_exe().expect("Linux knows it");
            let command: Vec<OsString> = vec![own.into(), "gpu-worker".into()];
            let print = |inventory: domain::Inventory| println!("{}", inventory.gpus().count());
            let every = Duration::from_millis(50);
            let _worker = gpu::Worker::start(gpu::Options::default(), command, every, print).expect("a thread");
            loop {
                std::thread::park();
            }
        }
        _ => ExitCode::from(2),
    }
}
