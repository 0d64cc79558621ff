use std::fmt::Display;

use jiff::{Timestamp, tz::TimeZone};

/// A line of a task's log as the first generation wrote it: `[HH:MM:SS] text`, local time.
pub fn stamped(at: Timestamp, text: impl Display) -> String {
    format!("{} {text}", at.to_zoned_datetime(TimeZone::system()).strftime("[%H:%M:%S]"))
}

/// The line itself when it is stamped already, as our own trainer's lines are.
pub fn ensure_stamped(at: Timestamp, line: &str) -> String {
    if is_stamped(line) { line.to_owned() } else { stamped(at, line) }
}

fn is_stamped(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.len() > 10 && bytes[0] == b'[' && bytes[3] == b':' && bytes[6] == b':' && &bytes[9..11] == b"] "
}
