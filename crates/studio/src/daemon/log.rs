//! `logs/studio.log`: `2026-11-23 20:00:00 INFO text`.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    path::Path,
    sync::Arc,
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// A log of this size, in bytes, is put aside at the next start.
const ROTATE_AT: u64 = 10 << 20;
const KEPT: u32 = 3;

pub fn start(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    rotate(path)?;
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .event_format(Line)
        .with_max_level(LevelFilter::INFO)
        .with_writer(Arc::new(file))
        .init();
    Ok(())
}

/// `studio.log.1` is the newest of those put aside.
fn rotate(path: &Path) -> io::Result<()> {
    if !fs::metadata(path).is_ok_and(|log| log.len() >= ROTATE_AT) {
        return Ok(());
    }
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
    use super::*;

    #[test]
    fn a_large_log_is_put_aside_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("studio.log");
        for round in 0..5 {
            let file = fs::File::create(&log).unwrap();
            file.set_len(ROTATE_AT + round).unwrap();
            rotate(&log).unwrap();
            assert!(!log.exists());
        }
        let size =
            |number: u32| fs::metadata(folder.path().join(format!("studio.log.{number}"))).map(|log| log.len()).ok();
        assert_eq!([1, 2, 3, 4].map(size), [Some(ROTATE_AT + 4), Some(ROTATE_AT + 3), Some(ROTATE_AT + 2), None]);
        fs::write(&log, "small").unwrap();
        rotate(&log).unwrap();
        assert!(log.exists());
    }
}
