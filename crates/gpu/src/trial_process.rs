//! The helper process of a trial allocation: it alone has a CUDA context, and gives it up by ending.

use std::process::ExitCode;
use std::time::Instant;

use crate::cuda::{Context, Cuda, CudaError, OUT_OF_MEMORY};
use crate::trial::{Outcome, TrialReport};

/// Allocated in pieces of this size where there is no room in one piece.
const PIECE: u64 = 1 << 30;
/// Contexts take a few hundred MiB. What is missing beyond this was taken by somebody else meanwhile.
const LARGEST_CONTEXT: u64 = 2 << 30;

/// Allocates, fills and frees `--bytes N` on the only device that CUDA sees, and prints what came of it.
///
/// This is the whole of the hidden command `sage gpu-trial`; [`trial`](crate::trial) starts it. `arguments` are those
/// after the command's name.
pub fn trial_main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let Some(Wanted { bytes, free_before }) = Wanted::parse(arguments) else {
        eprintln!("usage: gpu-trial --device UUID --bytes N [--free-before N], with CUDA_VISIBLE_DEVICES=UUID");
        return ExitCode::from(2);
    };
    let outcome = match Cuda::load() {
        Ok(cuda) => {
            attempt(&cuda, bytes, free_before).unwrap_or_else(|CudaError { code, name }| Outcome::Cuda { code, name })
        }
        Err(error) => Outcome::NoLibrary(error.to_string()),
    };
    println!("{}", serde_json::to_string(&outcome).expect("an outcome has a JSON form"));
    ExitCode::from(u8::from(!matches!(outcome, Outcome::Fits(_))))
}

struct Wanted {
    bytes: u64,
    free_before: Option<u64>,
}

impl Wanted {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Option<Wanted> {
        let (mut bytes, mut free_before) = (None, None);
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            match name.as_str() {
                // For people who look at the list of processes; CUDA_VISIBLE_DEVICES is what counts.
                "--device" => {}
                "--bytes" => bytes = Some(value.parse().ok()?),
                "--free-before" => free_before = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(Wanted { bytes: bytes?, free_before })
    }
}

fn attempt(cuda: &Cuda, bytes: u64, free_before: Option<u64>) -> Result<Outcome, CudaError> {
    let began = Instant::now();
    let not_enough = |free| Outcome::NotEnough { free, needed: bytes };
    let context = match cuda.context() {
        Ok(context) => context,
        // Not even the context fits.
        Err(error) if error.code == OUT_OF_MEMORY => return Ok(not_enough(free_before.unwrap_or(0))),
        Err(error) => return Err(error),
    };
    let (free, total) = context.memory()?;
    let context_bytes =
        free_before.and_then(|before| before.checked_sub(free)).filter(|taken| *taken <= LARGEST_CONTEXT);
    let available = free + context_bytes.unwrap_or(0);
    let rest = bytes.saturating_sub(context_bytes.unwrap_or(0));
    // Where memory can be moved out to the host, an allocation succeeds that should not.
    if rest > free && !context.is_integrated() {
        return Ok(not_enough(available));
    }
    match allocate(&context, rest) {
        Ok(()) => {}
        Err(error) if error.code == OUT_OF_MEMORY => {
            let (free_now, _) = context.memory()?;
            return Ok(not_enough(free_now + context_bytes.unwrap_or(0)));
        }
        Err(error) => return Err(error),
    }
    Ok(Outcome::Fits(TrialReport {
        skipped: false,
        free_bytes: free,
        total_bytes: total,
        context_bytes,
        allocated_bytes: rest,
        seconds: began.elapsed().as_secs_f64(),
    }))
}

/// In one piece, or in several if there is no hole that large.
fn allocate(context: &Context<'_>, bytes: u64) -> Result<(), CudaError> {
    if bytes == 0 {
        return context.synchronize();
    }
    let mut pieces = Vec::new();
    match context.allocate(bytes) {
        Ok(piece) => pieces.push(piece),
        Err(error) if error.code == OUT_OF_MEMORY && bytes > PIECE => {
            let mut left = bytes;
            while left > 0 {
                let piece = left.min(PIECE);
                pieces.push(context.allocate(piece)?);
                left -= piece;
            }
        }
        Err(error) => return Err(error),
    }
    context.synchronize()
}
