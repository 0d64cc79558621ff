//! A long history.

use std::{fs, time::Instant};

use client::testing::Studio;
use domain::Home;

use super::{Figure, Sample, http::Connection, options, seed};

const TASKS: u64 = 100_000;
const STARTS: usize = 5;
const REQUESTS: usize = 500;

pub fn measure() -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    seed::completed(&Home::new(folder.path()), TASKS, 10);
    let mut studio = Studio::start_in(folder, options());
    let starts = (0..STARTS).map(|_| {
        studio.stop();
        let began = Instant::now();
        studio.launch();
        studio.client().health().expect("the studio is healthy");
        began.elapsed()
    });
    let starts = Sample::new(starts.collect());
    seed::blocker(&studio);

    let mut connection = Connection::open(&studio.address());
    let mut times = |method: &str, path: &str, body: &str| {
        connection.time(method, path, body);
        Sample::new((0..REQUESTS).map(|_| connection.time(method, path, body).0).collect())
    };
    let list = times("GET", "/api/v1/tasks", "");
    let task = serde_json::to_string(&seed::command(&studio, &["true"])).expect("requests are plain data");
    let submit = times("POST", "/api/v1/tasks", &task);
    let memory = resident(studio.pid());
    vec![
        Figure::new("100,000 tasks: start to first /health, p50", starts.p50(), "ms")
            .at_most(500.0)
            .note(starts.note()),
        Figure::new("100,000 tasks: GET /api/v1/tasks, p50", list.p50(), "ms").at_most(10.0).note(list.note()),
        Figure::new("100,000 tasks: POST /api/v1/tasks, p50", submit.p50(), "ms").at_most(5.0).note(submit.note()),
        Figure::new("100,000 tasks: resident memory", memory, "MB").at_most(120.0),
    ]
}

/// Megabytes (10^6 bytes).
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    kib * 1024.0 / 1e6
}
