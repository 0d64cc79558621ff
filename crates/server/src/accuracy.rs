//! How far off the times were that tasks were told.

use api_types::ForecastAccuracy;
use jiff::{SignedDuration, Timestamp};
use store::{ForecastRow, Reader};

use crate::error::Result;

/// Forecasts that are looked back on.
const DAYS: i64 = 30;
const MOST: u32 = 10_000;

/// `None` while no forecast can be judged. May block.
pub fn of_late(reader: &Reader, now: Timestamp) -> Result<Option<ForecastAccuracy>> {
    let since = now - SignedDuration::from_hours(24 * DAYS);
    Ok(accuracy(&reader.forecasts(since, MOST)?))
}

fn accuracy(forecasts: &[ForecastRow]) -> Option<ForecastAccuracy> {
    let off = |told: Timestamp, was: Timestamp| was.duration_since(told).as_secs_f64().abs();
    let starts = sorted(forecasts.iter().map(|row| off(row.starts_at, row.started_at)));
    let ends = sorted(forecasts.iter().filter_map(|row| Some(off(row.ends_at, row.ended_at?))));
    Some(ForecastAccuracy {
        tasks: starts.len() as u64,
        start_median_seconds: share(&starts, 0.5)?,
        start_p90_seconds: share(&starts, 0.9)?,
        end_median_seconds: share(&ends, 0.5),
        end_p90_seconds: share(&ends, 0.9),
    })
}

fn sorted(errors: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut errors: Vec<f64> = errors.collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// The smallest of them that so large a share does not exceed.
fn share(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_and_late_are_equally_wrong() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        // Started so many seconds later than told; every other one has ended, twice as late.
        let row = |late: i64| ForecastRow {
            made_at: at(0),
            starts_at: at(1000),
            ends_at: at(2000),
            started_at: at(1000 + late),
            ended_at: (late % 2 == 0).then(|| at(2000 + 2 * late)),
        };
        assert_eq!(accuracy(&[]), None);
        let alone = accuracy(&[row(-7)]).unwrap();
        assert_eq!((alone.tasks, alone.start_median_seconds, alone.end_median_seconds), (1, 7.0, None));
        let all: Vec<ForecastRow> = (-5..5).map(row).collect();
        let told = accuracy(&all).unwrap();
        assert_eq!((told.tasks, told.start_median_seconds, told.start_p90_seconds), (10, 2.0, 4.0));
        assert_eq!((told.end_median_seconds, told.end_p90_seconds), (Some(4.0), Some(8.0)));
    }
}
