//! The two hidden commands of `sage` as a program of their own, for this crate's tests: `gpu-helper gpu-worker` and
//! `gpu-helper gpu-trial …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("gpu-worker") => gpu::worker_main(),
        Some("gpu-trial") => gpu::trial_main(arguments),
        _ => ExitCode::from(2),
    }
}
