//! Device memory that runs out: burn's back ends panic, here it becomes an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::TrainError;

/// What burn, cubecl and wgpu call it, in lower case. A buffer that is too big for the device is the same to people.
const SIGNS: [&str; 6] = [
    "out of device memory",
    "out-of-memory",
    "outofmemory",
    "out of memory",
    "can't allocate buffer",
    "not enough memory left",
];

/// Runs the work; a panic for want of device memory becomes [`TrainError::OutOfDeviceMemory`], any other goes on.
pub fn guard<T>(work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    // Nothing of the run is used after a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| match reason(&*panic) {
        Some(reason) => Err(TrainError::OutOfDeviceMemory { reason }),
        None => resume_unwind(panic),
    })
}

/// The line that says so.
fn reason(panic: &(dyn Any + Send)) -> Option<String> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied())?;
    let says_so = |line: &&str| SIGNS.iter().any(|sign| line.to_lowercase().contains(sign));
    text.lines().find(says_so).map(|line| line.trim().chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_panics_about_memory_become_errors() {
        let reason = |text: &'static str| match guard::<()>(|| resume_unwind(Box::new(text))) {
            Err(TrainError::OutOfDeviceMemory { reason }) => reason,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            reason("Caused by:\n  out of device memory allocating 512 bytes\n at x"),
            "out of device memory allocating 512 bytes"
        );
        reason("An out-of-memory error happened during launch");
        reason("can't allocate buffer of size: 99999999999");
        reason("wgpu error: Out of Memory");
        reason("called `Result::unwrap()` on an `Err` value: OutOfMemory");
        assert_eq!(guard(|| Ok(3)).unwrap(), 3);
        let other = catch_unwind(|| guard::<()>(|| resume_unwind(Box::new("index out of bounds".to_string()))));
        assert_eq!(*other.unwrap_err().downcast::<String>().unwrap(), "index out of bounds");
    }
}
