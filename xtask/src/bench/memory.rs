use std::{fs, thread, time::Duration};

use client::testing::Studio;

use super::{Figure, busy_studio, http::Connection, options, seed};

const QUEUED: usize = 10_000;
const IN_FLIGHT: usize = 16;

/// Resident memory of the studio's own process.
pub fn measure() -> Vec<Figure> {
    let studio = Studio::start_with(options());
    // What a page asks when it opens.
    let client = studio.client();
    client.studio().expect("the studio answers");
    client.devices().expect("the studio answers");
    client.tasks(&Default::default()).expect("the studio answers");
    let _events = client.events(None).expect("the studio answers");
    let idle = settled(studio.pid());
    let others: Vec<u32> = studio.processes().into_iter().filter(|pid| *pid != studio.pid()).collect();
    let others: f64 = others.into_iter().map(resident).sum();
    drop(studio);

    let (mut studio, _) = busy_studio();
    let body = serde_json::to_string(&seed::command(&studio, &["true"])).expect("requests are plain data");
    thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| {
                let mut connection = Connection::open(&studio.address());
                (0..QUEUED / IN_FLIGHT).for_each(|_| drop(connection.time("POST", "/api/v1/tasks", &body)));
            });
        }
    });
    let full = settled(studio.pid());
    studio.stop();
    studio.launch();
    studio.client().tasks(&Default::default()).expect("the studio answers");
    let restarted = settled(studio.pid());
    vec![
        Figure::new("resident memory, idle", idle, "MB")
            .at_most(15.0)
            .note(format!("with one page open; the waiting supervisor: {others:.1} MB")),
        Figure::new("resident memory, 10,000 queued", full, "MB")
            .at_most(25.0)
            .note(format!("after a restart: {restarted:.1} MB")),
    ]
}

/// Once it no longer falls.
fn settled(pid: u32) -> f64 {
    let mut least = resident(pid);
    loop {
        thread::sleep(Duration::from_millis(1500));
        let now = resident(pid);
        if now >= least - 0.1 {
            return now;
        }
        least = now;
    }
}

/// Megabytes (10^6 bytes).
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    kib * 1024.0 / 1e6
}
