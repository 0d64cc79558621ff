//! `logs/studio.log`: `2026-11-23 20:00:00 INFO text`.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// A log of this size, in bytes, is put aside.
const ROTATE_AT: u64 = 10 << 20;
const KEPT: u32 = 3;

pub fn start(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let log = RotatingLog::open(path, ROTATE_AT)?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .event_format(Line)
        .with_max_level(LevelFilter::INFO)
        .with_writer(Arc::new(log))
        .init();
    Ok(())
}

/// Takes at most `rotate_at` bytes and a line, times `KEPT` + 1.
struct RotatingLog {
    path: PathBuf,
    rotate_at: u64,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    /// Bytes in it.
    length: u64,
}

impl RotatingLog {
    fn open(path: &Path, rotate_at: u64) -> io::Result<RotatingLog> {
        let mut open = Open::append(path)?;
        if open.length >= rotate_at {
            put_aside(path)?;
            open = Open::append(path)?;
        }
        Ok(RotatingLog { path: path.to_owned(), rotate_at, open: Mutex::new(open) })
    }
}

impl Open {
    fn append(path: &Path) -> io::Result<Open> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Open { file, length })
    }
}

/// Whole lines.
impl io::Write for &RotatingLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.length >= self.rotate_at {
            // Where it cannot be put aside, as on a read-only disk, a longer log is better than none.
            match put_aside(&self.path).and_then(|()| Open::append(&self.path)) {
                Ok(fresh) => *open = fresh,
                Err(_) => open.length = 0,
            }
        }
        open.file.write_all(line)?;
        open.length += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `studio.log.1` is the newest of those put aside.
fn put_aside(path: &Path) -> io::Result<()> {
    let aside = |number: u32| path.with_extension(format!("log.{number}"));
    for number in (1..KEPT).rev().filter(|number| aside(*number).exists()) {
        fs::rename(aside(number), aside(number + 1))?;
    }
    fs::rename(path, aside(1))
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system());
        write!(writer, "{} {} ", now.strftime("%Y-%m-%d %H:%M:%S"), event.metadata().level())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// While it is written to, and when it was left too long by somebody else.
    #[test]
    fn a_long_log_is_put_aside_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("studio.log");
        let log = RotatingLog::open(&path, 30).unwrap();
        for number in 10..22 {
            (&log).write_all(format!("line {number}...\n").as_bytes()).unwrap();
        }
        let aside = |number: u32| folder.path().join(format!("studio.log.{number}"));
        let numbers = |path: PathBuf| -> Vec<u32> {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().map(|line| line[5..7].parse().unwrap()).collect()
        };
        assert_eq!(numbers(path.clone()), [19, 20, 21]);
        assert_eq!([1, 2, 3].map(|number| numbers(aside(number))), [[16, 17, 18], [13, 14, 15], [10, 11, 12]]);
        drop(log);

        (&RotatingLog::open(&path, 30).unwrap()).write_all(b"line 22...\n").unwrap();
        assert_eq!(numbers(path), [22]);
        assert_eq!([1, 2, 3].map(|number| numbers(aside(number))[0]), [19, 16, 13]);
        assert!(!aside(4).exists());
    }
}
