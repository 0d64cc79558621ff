//! How answers are shown in a terminal.

use std::{
    io::{self, Write},
    path::Path,
};

use console::measure_text_width;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    error::{CliError, Result},
    text::text,
};

/// Prints what `--json` promises: one value, indented.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).expect("views are plain data");
    text.push('\n');
    print(&text)
}

/// To stdout. Whoever reads it may have seen enough, which is no error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(CliError::file(Path::new("stdout"), &error)),
        Ok(()) => Ok(()),
    }
}

/// Columns as wide as their content, two blanks apart.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Table {
        Table { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).to_vec());
    }

    pub fn print(&self) -> Result<()> {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width + 2 - measure_text_width(cell)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        print(&text)
    }
}

/// One line that moves no cursor: what others named may hold anything.
pub fn plain(text: &str) -> String {
    text.replace(|letter: char| letter.is_control(), " ")
}

/// `12884901888` → `12.0 GiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut figure = bytes as f64;
    let mut unit = 0;
    while figure >= 1024.0 && unit + 1 < units.len() {
        figure /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{figure:.1} {}", units[unit]) }
}

/// `5025.0` → `1 h 24 min`, rounded up to minutes.
pub fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match minutes {
        0..60 => text(format!("{minutes} 分钟"), format!("{minutes} min")),
        _ => text(
            format!("{} 小时 {} 分钟", minutes / 60, minutes % 60),
            format!("{} h {} min", minutes / 60, minutes % 60),
        ),
    }
}

/// What is unknown is a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// An ISO 8601 time in the machine's time zone, such as `2026-11-23 20:00:00`.
pub fn local_time(iso: &str) -> String {
    match iso.parse::<Timestamp>() {
        Ok(time) => time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => iso.to_owned(),
    }
}

pub fn parse_time(iso: Option<&str>) -> Option<Timestamp> {
    iso?.parse().ok()
}

/// Local time of day, with the day where it is another.
pub fn clock(iso: Option<&str>) -> String {
    or_dash(parse_time(iso).map(clock_of))
}

pub fn clock_of(at: Timestamp) -> String {
    let zone = TimeZone::system();
    let at = at.to_zoned_datetime(zone.clone());
    let today = Timestamp::now().to_zoned_datetime(zone).date() == at.date();
    at.strftime(if today { "%H:%M" } else { "%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(12 << 30), "12.0 GiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(5025.0), "1 h 24 min");
        assert_eq!((duration(1.0), duration(0.0)), ("1 min".into(), "0 min".into()));
    }
}
