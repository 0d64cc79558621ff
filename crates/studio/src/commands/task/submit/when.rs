//! Times as people write them: `2h`, `22:00`, `2026-01-31T22:00:00+08:00`.

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{DateTime, Time},
    tz::TimeZone,
};

use crate::{
    config::parse_duration,
    error::{CliError, Result},
    text::text,
};

/// As RFC 3339.
pub fn when(option: &str, word: &str) -> Result<String> {
    let time = parse(word, Timestamp::now(), &TimeZone::system());
    time.map(|time| time.to_string()).ok_or_else(|| {
        let sentence = text(format!("{option} 无法理解 {word:?}"), format!("{option}: {word:?} is no time"));
        CliError::usage("when-invalid", sentence).next(text(
            "例如 2h（从现在起）、22:00（下一个 22 点）、2026-01-31 22:00 或 2026-01-31T22:00:00+08:00",
            "write for example 2h (from now), 22:00 (the next time it is that late), 2026-01-31 22:00 or \
             2026-01-31T22:00:00+08:00",
        ))
    })
}

fn parse(word: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let word = word.trim();
    let at = |local: DateTime| zone.to_ambiguous_timestamp(local).compatible().ok();
    if let Ok(time) = word.parse::<Timestamp>() {
        return Some(time);
    }
    if let Some(time) = time_of_day(word) {
        let today = now.to_zoned_datetime(zone.clone()).date();
        let tomorrow = today.checked_add(1.day()).ok()?;
        return at(today.to_datetime(time)).filter(|at| *at > now).or_else(|| at(tomorrow.to_datetime(time)));
    }
    // A bare number would mean anything.
    if word.ends_with(|last: char| last.is_ascii_alphabetic())
        && let Ok(duration) = parse_duration(word)
    {
        return now.checked_add(SignedDuration::try_from(duration).ok()?).ok();
    }
    at(word.parse().ok()?)
}

/// `22:00`
fn time_of_day(word: &str) -> Option<Time> {
    let (hour, minute) = word.split_once(':')?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_from_now_of_day_or_exact() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        // 20:00 there.
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let time = |word: &str| parse(word, now, &zone).map(|at| at.to_string());
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(time("2h"), said("2026-01-01T14:00:00Z"));
        assert_eq!(time("1h30m"), said("2026-01-01T13:30:00Z"));
        assert_eq!(time("22:00"), said("2026-01-01T14:00:00Z"));
        assert_eq!(time("20:00"), said("2026-01-02T12:00:00Z"), "tomorrow");
        assert_eq!(time("2026-02-01T22:00:00+08:00"), said("2026-02-01T14:00:00Z"));
        assert_eq!(time("2026-02-01 22:00"), said("2026-02-01T14:00:00Z"));
        for bad in ["", "25:00", "2", "tomorrow", "2x", "22:61"] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
    }
}
