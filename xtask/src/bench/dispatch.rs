use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write,
    time::Duration,
};

use client::testing::wait_for;
use rustix::time::{ClockId, clock_gettime};

use super::{Figure, Sample, busy_studio, seed};

const TASKS: usize = 300;

/// How long the device stands idle between two tasks, as the tasks themselves see it.
pub fn measure() -> Vec<Figure> {
    let (studio, blocker) = busy_studio();
    let client = studio.client();
    let this = std::env::current_exe().expect("this program has a path").display().to_string();
    let task = seed::command(&studio, &[&this, "stamp", "stamps"]);
    let ids: Vec<String> = (0..TASKS).map(|_| client.submit(&task).expect("a task is accepted").task_id).collect();
    fs::write(studio.home().root().join("go"), "").expect("the home can be written");
    let last = ids.last().expect("there are tasks");
    wait_for("the last task to complete", Duration::from_secs(120), || {
        client.task(last).ok().filter(|task| task.status == "completed").map(drop)
    });
    assert_eq!(client.task(&blocker).expect("it is still known").status, "completed");

    let stamps = fs::read_to_string(studio.home().root().join("stamps")).expect("the tasks wrote it");
    let stamps: Vec<u64> = stamps.lines().map(|line| line.parse().expect("a stamp")).collect();
    assert_eq!(stamps.len(), TASKS, "every task ran once");
    assert!(stamps.is_sorted(), "one after the other");
    let gaps = stamps.windows(2).map(|pair| Duration::from_nanos(pair[1] - pair[0])).collect();
    let gaps = Sample::new(gaps);
    vec![
        Figure::new("end of a no-op task to start of the next", gaps.p50(), "ms")
            .at_most(2.0)
            .note(format!("{}; includes exit and exec of the task's own program", gaps.note())),
    ]
}

/// Body of the no-op task: it starts, notes the time and ends.
pub fn stamp(file: OsString) {
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("the file can be written");
    file.write_all(format!("{nanoseconds}\n").as_bytes()).expect("the file can be written");
}
