//! Holds memory of one GPU, through whatever `libcuda.so.1` the loader finds, until its standard input ends or it is
//! killed.

use std::{
    env,
    io::{self, Read, Write},
    process::ExitCode,
};

use clap::Parser;
use fakegpu::driver::Driver;

#[derive(Parser)]
#[command(about = "Hold memory of a GPU until standard input ends")]
struct Hold {
    /// UUID of a GPU or a MIG instance
    #[arg(long)]
    device: String,
    /// How much: 1000000, 500MB, 61GB, 24GiB
    #[arg(long, value_parser = fakegpu::parse_bytes)]
    bytes: u64,
}

fn main() -> ExitCode {
    let hold = Hold::parse();
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var("CUDA_VISIBLE_DEVICES", &hold.device) };
    match hold.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fakegpu-hold: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Hold {
    fn run(&self) -> Result<(), String> {
        let driver = Driver::load()?;
        driver.allocate(0, self.bytes)?;
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "holding").and_then(|()| stdout.flush()).map_err(|error| error.to_string())?;
        let until_the_end = io::stdin().lock().read_to_end(&mut Vec::new());
        until_the_end.map(drop).map_err(|error| error.to_string())
    }
}
