use std::time::{Duration, Instant};

use client::testing::Studio;
use domain::Home;

use super::{Figure, Sample, options, seed};

const ROUNDS: usize = 20;

/// From exec to the first answered `/health`.
pub fn measure() -> Vec<Figure> {
    let fresh = (0..ROUNDS).map(|_| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        time_start(folder).0
    });
    let fresh = Sample::new(fresh.collect());

    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    seed::half_completed_half_queued(&Home::new(folder.path()), 10_000);
    let mut folder = Some(folder);
    let full = (0..ROUNDS).map(|_| {
        let (time, studio) = time_start(folder.take().expect("it comes back"));
        folder = Some(studio.into_folder());
        time
    });
    let full = Sample::new(full.collect());
    vec![
        Figure::new("start to first /health, fresh home", fresh.p50(), "ms").at_most(100.0).note(fresh.note()),
        Figure::new("start to first /health, 10,000 tasks", full.p50(), "ms").at_most(200.0).note(full.note()),
    ]
}

fn time_start(folder: tempfile::TempDir) -> (Duration, Studio) {
    let began = Instant::now();
    let studio = Studio::start_in(folder, options());
    studio.client().health().expect("the studio is healthy");
    (began.elapsed(), studio)
}
