use std::time::{Duration, Instant};

use client::testing::Studio;
use domain::Home;

use super::{Figure, Sample, busy_studio, http::Connection, options, seed};

const SEQUENTIAL: usize = 2000;
const IN_FLIGHT: usize = 16;
const EACH: usize = 250;
const CLI: usize = 300;
/// Tasks that wait already.
const DEEP: u64 = 100_000;

/// Submissions that are on disk when they are answered.
pub fn measure() -> Vec<Figure> {
    let (studio, _) = busy_studio();
    let body = serde_json::to_string(&seed::command(&studio, &["true"])).expect("requests are plain data");

    let began = Instant::now();
    let sequential = Sample::new(submit(&studio, &body, SEQUENTIAL));
    let one_by_one = SEQUENTIAL as f64 / began.elapsed().as_secs_f64();

    let began = Instant::now();
    let concurrent = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..IN_FLIGHT).map(|_| scope.spawn(|| submit(&studio, &body, EACH))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a submission does not panic")).collect::<Vec<_>>()
    });
    let at_once = concurrent.len() as f64 / began.elapsed().as_secs_f64();
    let concurrent = Sample::new(concurrent);

    let began = Instant::now();
    let cli = Sample::new((0..CLI).map(|_| time_cli(&studio)).collect());
    let by_cli = CLI as f64 / began.elapsed().as_secs_f64();
    drop(studio);

    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    seed::queued(&Home::new(folder.path()), DEEP);
    let studio = Studio::start_in(folder, options());
    let deep = Sample::new((0..CLI / 3).map(|_| time_cli(&studio)).collect());
    vec![
        Figure::new("durable submits over HTTP, 16 in flight", at_once, "/s").at_least(1000.0).note(concurrent.note()),
        Figure::new("durable submits over HTTP, one by one", one_by_one, "/s").at_least(2000.0).note(format!(
            "p50 {:.2} ms, {}",
            sequential.p50(),
            sequential.note()
        )),
        Figure::new("submit through the CLI, p50", cli.p50(), "ms")
            .at_most(3.0)
            .note(format!("{by_cli:.0} /s, {}", cli.note())),
        Figure::new("the same with 100,000 queued, p50", deep.p50(), "ms").at_most(3.0).note(deep.note()),
    ]
}

fn submit(studio: &Studio, body: &str, count: usize) -> Vec<Duration> {
    let mut connection = Connection::open(&studio.address());
    (0..count).map(|_| connection.time("POST", "/api/v1/tasks", body).0).collect()
}

fn time_cli(studio: &Studio) -> Duration {
    let mut command = studio.command(["task", "submit", "--", "true"]);
    let began = Instant::now();
    let output = command.output().expect("sage can be run");
    let time = began.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    time
}
