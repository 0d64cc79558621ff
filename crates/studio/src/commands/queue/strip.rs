//! A line for each device: what runs there, and what is expected to follow, over the next hours.

use api_types::QueueView;
use console::measure_text_width;
use jiff::{SignedDuration, Timestamp};

use crate::{
    output::{clock_of, parse_time},
    text::text,
};

/// Columns of the strip, and the hours that they stand for at most, and where no end is known.
const COLUMNS: usize = 48;
const MOST_HOURS: i64 = 12;
const HOURS: i64 = 1;

pub struct Row {
    /// UUID.
    pub id: String,
    /// As people call it.
    pub label: String,
    /// Tasks can start there.
    pub usable: bool,
}

/// One task on one device.
struct Span<'a> {
    /// The last part of the task's id.
    number: &'a str,
    from: Timestamp,
    /// `None`: nobody knows.
    to: Option<Timestamp>,
    runs: bool,
}

/// Tasks that follow one another; a device that is shared has several of these.
type Lane<'a> = Vec<Span<'a>>;

/// Empty if nothing runs and nothing is known of the next hours.
pub fn strip(queue: &QueueView, devices: &[Row], now: Timestamp) -> String {
    let lanes = lanes(queue, devices, now);
    if lanes.iter().flatten().flatten().next().is_none() {
        return String::new();
    }
    let ends = lanes.iter().flatten().flatten().filter_map(|span| span.to);
    let last = ends.max().map_or(HOURS * 3600, |last| last.duration_since(now).as_secs());
    let seconds = last.clamp(60, MOST_HOURS * 3600);
    let column = |at: Timestamp| {
        let share = at.duration_since(now).as_secs_f64() / seconds as f64;
        (share.clamp(0.0, 1.0) * COLUMNS as f64).round() as usize
    };
    let width = devices.iter().map(|device| measure_text_width(&device.label)).max().unwrap_or(0);
    let mut lines = format!("\n{}\n", text("接下来：", "from now on:"));
    for (device, lanes) in devices.iter().zip(&lanes) {
        let empty = Lane::new();
        // An idle device has a line too.
        let lanes = if lanes.is_empty() { std::slice::from_ref(&empty) } else { lanes };
        for (index, lane) in lanes.iter().enumerate() {
            let label = if index == 0 { device.label.as_str() } else { "" };
            let blanks = " ".repeat(width - measure_text_width(label));
            lines.push_str(&format!("{label}{blanks}  {}\n", bar(lane, &column)));
        }
    }
    let (from, to) = (clock_of(now), clock_of(now + SignedDuration::from_secs(seconds)));
    let gap = " ".repeat(COLUMNS.saturating_sub(from.len() + to.len()));
    lines.push_str(&format!("{}  {from}{gap}{to}\n", " ".repeat(width)));
    lines
}

fn lanes<'a>(queue: &'a QueueView, devices: &[Row], now: Timestamp) -> Vec<Vec<Lane<'a>>> {
    let mut lanes: Vec<Vec<Lane<'_>>> = devices.iter().map(|_| Vec::new()).collect();
    for task in &queue.running {
        let to = parse_time(task.ends_at.as_deref());
        for device in &task.devices {
            if let Some(index) = devices.iter().position(|row| row.id == *device) {
                lanes[index].push(vec![Span { number: number(&task.task_id), from: now, to, runs: true }]);
            }
        }
    }
    let times = |task: &'a api_types::WaitingTask| {
        let (from, to) = (task.wait.starts_at.as_deref(), task.wait.ends_at.as_deref());
        Some((parse_time(from)?, parse_time(to)?, task))
    };
    let mut waiting: Vec<_> = queue.waiting.iter().filter_map(times).collect();
    waiting.sort_by_key(|(from, ..)| *from);
    for (from, to, task) in waiting {
        // The forecast says when, not where: on those that are free first.
        let free_at = |index: &usize| lanes[*index].iter().map(end).min().unwrap_or(now);
        let mut candidates: Vec<usize> = (0..devices.len()).filter(|index| devices[*index].usable).collect();
        candidates.sort_by_key(free_at);
        for index in candidates.into_iter().take(task.gpus as usize) {
            let from = from.max(now);
            let next = lanes[index].iter_mut().min_by_key(|lane| end(lane)).filter(|lane| end(lane) <= to);
            let span = |from| Span { number: number(&task.task_id), from, to: Some(to), runs: false };
            match next {
                Some(lane) => lane.push(span(from.max(end(lane)))),
                None => lanes[index].push(vec![span(from)]),
            }
        }
    }
    lanes
}

fn end(lane: &Lane<'_>) -> Timestamp {
    lane.last().map_or(Timestamp::MIN, |span| span.to.unwrap_or(Timestamp::MAX))
}

fn number(task: &str) -> &str {
    task.rsplit('_').next().unwrap_or(task)
}

/// `12██████15▒▒▒▒····`: the number of each task where it begins.
fn bar(lane: &Lane<'_>, column: &impl Fn(Timestamp) -> usize) -> String {
    let mut bar = ['·'; COLUMNS];
    for span in lane {
        let from = column(span.from).min(COLUMNS - 1);
        let to = span.to.map_or(COLUMNS, column).max(from + 1);
        bar[from..to].fill(if span.runs { '█' } else { '▒' });
        if span.to.is_none() {
            bar[COLUMNS - 1] = '?';
        }
        if span.number.chars().count() < to - from {
            for (place, digit) in bar[from..].iter_mut().zip(span.number.chars()) {
                *place = digit;
            }
        }
    }
    bar.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::{RunningTask, WaitView, WaitingTask};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn running(id: &str, devices: &[&str], ends_at: Option<&str>) -> RunningTask {
        RunningTask {
            task_id: id.into(),
            name: None,
            owner: "ana".into(),
            priority: "normal".into(),
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
            started_at: "2026-01-01T00:00:00Z".into(),
            ends_at: ends_at.map(|hour| format!("2026-01-01T0{hour}:00:00Z")),
        }
    }

    fn waiting(id: &str, gpus: u32, from: &str, to: &str) -> WaitingTask {
        let wait = WaitView {
            code: "devices_busy".into(),
            position: 1,
            running: None,
            device: None,
            needed_bytes: None,
            free_bytes: None,
            holders: Vec::new(),
            at: None,
            by: None,
            used: None,
            limit: None,
            quota: None,
            starts_at: Some(format!("2026-01-01T0{from}:00:00Z")),
            ends_at: Some(format!("2026-01-01T0{to}:00:00Z")),
            paused: None,
            zh: String::new(),
            en: String::new(),
        };
        let (name, owner, priority) = (None, "ana".into(), "normal".into());
        WaitingTask { task_id: id.into(), name, owner, priority, gpus, wait }
    }

    fn drawn(queue: &QueueView, devices: usize) -> Vec<String> {
        let row = |index: usize| Row { id: format!("GPU-{index}"), label: format!("GPU {index}"), usable: true };
        let rows: Vec<Row> = (0..devices).map(row).collect();
        let strip = strip(queue, &rows, now());
        let lines: Vec<String> = strip.lines().skip(2).map(str::to_owned).collect();
        lines.iter().take(lines.len().saturating_sub(1)).cloned().collect()
    }

    #[test]
    fn each_device_shows_what_runs_and_what_follows() {
        let queue = QueueView {
            running: vec![running("t_1", &["GPU-0"], Some("2")), running("t_2", &["GPU-1"], Some("1"))],
            waiting: vec![waiting("t_4", 2, "2", "4"), waiting("t_3", 1, "1", "2")],
            ..QueueView::default()
        };
        // Four hours on 48 columns: twelve are one hour.
        let expected = [
            format!("GPU 0  1{}4{}", "█".repeat(23), "▒".repeat(23)),
            format!("GPU 1  2{}3{}4{}", "█".repeat(11), "▒".repeat(11), "▒".repeat(23)),
        ];
        assert_eq!(drawn(&queue, 2), expected);
    }

    #[test]
    fn a_shared_device_has_a_line_for_each_and_an_idle_one_an_empty_line() {
        let both = vec![running("t_1", &["GPU-0"], Some("2")), running("t_22", &["GPU-0"], None)];
        let lines = drawn(&QueueView { running: both, ..QueueView::default() }, 2);
        assert_eq!(lines[0], format!("GPU 0  1{}", "█".repeat(47)));
        assert_eq!(lines[1], format!("       22{}?", "█".repeat(45)), "nobody knows its end");
        assert_eq!(lines[2], format!("GPU 1  {}", "·".repeat(48)));
        let unknown = QueueView { running: vec![running("t_1", &["GPU-0"], None)], ..QueueView::default() };
        assert_eq!(drawn(&unknown, 1), [format!("GPU 0  1{}?", "█".repeat(46))]);
        assert_eq!(drawn(&QueueView::default(), 1), Vec::<String>::new());
    }
}
