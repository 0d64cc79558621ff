use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use clap::Args;
use domain::Home;

use crate::{
    error::{CliError, Result},
    text::text,
};

#[derive(Args)]
pub struct Logs {
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

pub fn run(home: &Home, command: &Logs) -> Result<()> {
    let path = home.log();
    if !path.exists() {
        let name = path.display();
        return Err(CliError::new("no-log", text(format!("还没有日志 {name}"), format!("there is no log {name} yet")))
            .next(text("启动 Studio：sage studio start", "start the studio: sage studio start")));
    }
    match print(&path, command) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::file(&path, &error)),
        Ok(()) => Ok(()),
    }
}

fn print(path: &Path, command: &Logs) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut file = File::open(path)?;
    if let Some(lines) = command.lines {
        let start = last_lines(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    loop {
        io::copy(&mut file, &mut stdout)?;
        stdout.flush()?;
        if !command.follow {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
        // A start may have put the log aside and begun another.
        let changed = fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|old| now.ino() != old.ino()));
        if changed {
            io::copy(&mut file, &mut stdout)?;
            file = File::open(path)?;
        }
    }
}

/// Where the last lines begin; the log is rotated, so it is small enough to be read.
fn last_lines(file: &mut File, lines: usize) -> io::Result<u64> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let ends = text.iter().enumerate().rev().skip(1).filter(|(_, byte)| **byte == b'\n');
    let start = match lines {
        0 => text.len(),
        lines => ends.map(|(index, _)| index + 1).nth(lines - 1).unwrap_or(0),
    };
    Ok(start as u64)
}
