use std::{fs, time::Duration};

use client::testing::wait_for;

use super::{
    Figure, Sample, busy_studio,
    peers::job::{self, Job, Log},
    seed,
};

const TASKS: usize = 60;
const HOLD: Duration = Duration::from_millis(100);
/// The next supervisor and folder have to be made while these run.
const NO_OPS: usize = 300;

/// How long the device stands idle between two tasks, as the tasks themselves see it: the same small program that all queues
/// run in `bench peers`.
pub fn measure() -> Vec<Figure> {
    assert!(job::build_note(), "the task's program is built");
    let figure = |name: &str, gaps: Sample| {
        Figure::new(name, gaps.p50(), "ms")
            .note(format!("{}; includes exit and exec of the task's own program", gaps.note()))
    };
    vec![
        figure("end of a task of 100 ms to start of the next", gaps(TASKS, HOLD)).at_most(2.0),
        figure("end of a no-op task to start of the next", gaps(NO_OPS, Duration::ZERO)),
    ]
}

fn gaps(count: usize, hold: Duration) -> Sample {
    let (studio, blocker) = busy_studio();
    let client = studio.client();
    let log = Log(studio.home().root().join("notes"));
    let ids: Vec<String> = (0..count)
        .map(|number| {
            let argv = Job::noted(&log, &number.to_string(), hold).argv;
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            client.submit(&seed::command(&studio, &argv)).expect("a task is accepted").task_id
        })
        .collect();
    fs::write(studio.home().root().join("go"), "").expect("the home can be written");
    // Asks more rarely than the studio, which would have to answer in between.
    assert!(log.wait(count, Duration::from_secs(120)), "all tasks ran");
    let last = ids.last().expect("there are tasks");
    wait_for("the last task to complete", Duration::from_secs(120), || {
        client.task(last).ok().filter(|task| task.status == "completed").map(drop)
    });
    assert_eq!(client.task(&blocker).expect("it is still known").status, "completed");

    let runs = log.runs();
    assert_eq!(runs.len(), count, "every task ran once");
    let end = |index: usize| runs[index].end.expect("every task ended").0;
    let gaps = (1..count).map(|next| Duration::try_from_secs_f64(runs[next].begin - end(next - 1)));
    Sample::new(gaps.collect::<Result<_, _>>().expect("one after the other"))
}
