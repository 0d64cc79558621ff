//! Stands in for a training: takes memory of every GPU that it may see, holds it for a while, and notes what it did.
//!
//! `fakegpu-train FILE TAG [BYTES [MILLISECONDS]]` appends two lines to FILE: `TAG begin NANOSECONDS PID GPUS` and
//! `TAG end NANOSECONDS CODE`, by the clock of `date`. Without BYTES it asks no driver. Code 77: a GPU was out of memory.

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use fakegpu::driver::Driver;

const OUT_OF_MEMORY: u8 = 77;

fn main() -> ExitCode {
    let began = now();
    // Read by hand, because the time from its start to its first line is what benches measure.
    let mut arguments = env::args().skip(1);
    let (Some(file), Some(tag)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: fakegpu-train FILE TAG [BYTES [MILLISECONDS]]");
        return ExitCode::from(2);
    };
    let mut number = || arguments.next().map_or(Ok(0), |word| word.parse::<u64>());
    let (Ok(bytes), Ok(milliseconds)) = (number(), number()) else {
        eprintln!("fakegpu-train: BYTES and MILLISECONDS are whole numbers");
        return ExitCode::from(2);
    };
    let mut file = match OpenOptions::new().append(true).create(true).open(&file) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("fakegpu-train: {file}: {error}");
            return ExitCode::from(2);
        }
    };
    let gpus = env::var("CUDA_VISIBLE_DEVICES").ok().filter(|gpus| !gpus.is_empty());
    let gpus = gpus.as_deref().unwrap_or("-");
    note(&mut file, &format!("{tag} begin {began} {} {gpus}\n", std::process::id()));
    let taken = if bytes == 0 { Ok(None) } else { take(bytes).map(Some) };
    let code = match taken {
        Ok(_held) => {
            thread::sleep(Duration::from_millis(milliseconds));
            0
        }
        Err(failure) => {
            eprintln!("fakegpu-train: {}", failure.message);
            failure.code
        }
    };
    note(&mut file, &format!("{tag} end {} {code}\n", now()));
    ExitCode::from(code)
}

struct Failure {
    code: u8,
    message: String,
}

fn take(bytes: u64) -> Result<Driver, Failure> {
    let broken = |message| Failure { code: 2, message };
    let driver = Driver::load().map_err(broken)?;
    for ordinal in 0..driver.devices().map_err(broken)? {
        let full = |message| Failure { code: OUT_OF_MEMORY, message: format!("CUDA out of memory: {message}") };
        driver.allocate(ordinal, bytes).map_err(full)?;
    }
    Ok(driver)
}

/// In one write, so that lines of programs that run beside each other stay whole.
fn note(file: &mut File, line: &str) {
    if let Err(error) = file.write_all(line.as_bytes()) {
        eprintln!("fakegpu-train: {error}");
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}
