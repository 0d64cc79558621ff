//! The hours in which tasks may start.

use jiff::{
    Timestamp, ToSpan,
    civil::{DateTime, Weekday},
    tz::TimeZone,
};

/// Times of the week, in the studio's own time zone, in which tasks may start; none: always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartHours {
    windows: Vec<Window>,
}

/// From `from` on each of `days` for `length`, which may reach into the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    days: Vec<Weekday>,
    /// Minutes after midnight.
    from: i16,
    minutes: i16,
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const DAY_MINUTES: i16 = 24 * 60;

impl StartHours {
    /// Of lines such as `22:00-08:00`, `sat-sun` or `mon-fri 19:00-07:00`. The error says what is expected.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<StartHours, String> {
        let windows = lines.into_iter().map(|line| {
            let expected = "write it like `22:00-08:00`, `sat-sun` or `mon-fri 19:00-07:00`";
            window(line).ok_or_else(|| format!("{line:?} is no time of the week; {expected}"))
        });
        Ok(StartHours { windows: windows.collect::<Result<_, _>>()? })
    }

    /// `None` while tasks may start, else when they may again.
    pub fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = TimeZone::system();
        let here = now.to_zoned_datetime(zone.clone()).datetime();
        if self.windows.is_empty() || self.windows.iter().any(|window| window.holds(here)) {
            return None;
        }
        let next = self.windows.iter().filter_map(|window| window.next(here)).min()?;
        zone.to_ambiguous_timestamp(next).compatible().ok()
    }
}

impl Window {
    fn holds(&self, at: DateTime) -> bool {
        let minute = i16::from(at.hour()) * 60 + i16::from(at.minute());
        let today = minute - self.from;
        let began_today = self.days.contains(&at.weekday()) && (0..self.minutes).contains(&today);
        let yesterday = today + DAY_MINUTES;
        began_today || (self.days.contains(&at.weekday().previous()) && (0..self.minutes).contains(&yesterday))
    }

    fn next(&self, after: DateTime) -> Option<DateTime> {
        (0..=7).find_map(|days| {
            let date = after.date().checked_add(days.days()).ok()?;
            let begins = date.at((self.from / 60) as i8, (self.from % 60) as i8, 0, 0);
            (self.days.contains(&date.weekday()) && begins > after).then_some(begins)
        })
    }
}

fn window(line: &str) -> Option<Window> {
    let line = line.trim().to_lowercase();
    let (days, times) = match line.split_once(char::is_whitespace) {
        Some((days, times)) => (Some(days), Some(times.trim())),
        None if line.contains(':') => (None, Some(line.as_str())),
        None => (Some(line.as_str()), None),
    };
    let days = match days {
        Some(days) => parse_days(days)?,
        None => DAYS.map(|(_, day)| day).to_vec(),
    };
    let Some(times) = times else { return Some(Window { days, from: 0, minutes: DAY_MINUTES }) };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (parse_time(from)?, parse_time(to)?);
    let minutes = if to > from { to - from } else { to + DAY_MINUTES - from };
    (from < DAY_MINUTES).then_some(Window { days, from, minutes })
}

/// `sat`, `mon-fri`, `mon,wed,fri`.
fn parse_days(text: &str) -> Option<Vec<Weekday>> {
    let index = |name: &str| DAYS.iter().position(|(word, _)| *word == name);
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        let span = (last + 7 - first) % 7;
        days.extend((0..=span).map(|step| DAYS[(first + step) % 7].1));
    }
    Some(days)
}

/// Minutes after midnight; `24:00` is the end of the day.
fn parse_time(text: &str) -> Option<i16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (i16, i16) = (hour.parse().ok()?, minute.parse().ok()?);
    ((0..60).contains(&minute) && (0..24).contains(&hour) || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn tasks_start_within_the_hours_only() {
        let hours = StartHours::parse(["mon-fri 22:00-08:00", "sat-sun"]).unwrap();
        let open = |day, hour| hours.windows.iter().any(|window| window.holds(date(2026, 11, day).at(hour, 30, 0, 0)));
        // The 23rd is a Monday.
        assert!(!open(23, 21) && open(23, 22) && open(24, 7) && !open(24, 8), "over midnight");
        assert!(!open(23, 7), "Sunday night is not Monday's");
        assert!(open(28, 0) && open(28, 12) && open(29, 23), "the weekend");
        let monday = date(2026, 11, 23).at(9, 0, 0, 0);
        let next = hours.windows.iter().filter_map(|window| window.next(monday)).min();
        assert_eq!(next, Some(date(2026, 11, 23).at(22, 0, 0, 0)));
        for bad in ["22-8", "foo 22:00-08:00", "25:00-26:00", ""] {
            assert!(StartHours::parse([bad]).is_err(), "{bad:?}");
        }
        assert_eq!(StartHours::default().closed_until(Timestamp::UNIX_EPOCH), None);
    }
}
