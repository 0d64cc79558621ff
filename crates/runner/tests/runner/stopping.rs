use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runner::{End, Exit, Observed, observe};

use crate::fixture::{Fixture, Watched, until, watch, write_json};
use crate::stranger::Stranger;

pub async fn an_obedient_task(f: Fixture) {
    f.start(&f.spec("trap 'echo checkpoint; exit 3' TERM; echo ready; sleep 1000 & wait")).await;
    f.line("ready").await;
    runner::stop(&f.attempt()).unwrap();
    assert_eq!(f.end().await.end, End::Cancelled { exit: Some(Exit::Code(3)) });
    assert!(f.log().ends_with("checkpoint\n"));
    // Over is over.
    runner::stop(&f.attempt()).unwrap();
}

/// A worker that was started while the task wound down has not got the SIGTERM, and nobody waits an hour for it.
pub async fn a_late_worker_does_not_keep_the_grace(f: Fixture) {
    f.start(&f.spec("trap 'sleep 1000 & exit 3' TERM; echo ready; while :; do sleep 0.01; done")).await;
    f.line("ready").await;
    runner::stop(&f.attempt()).unwrap();
    assert_eq!(f.end().await.end, End::Cancelled { exit: Some(Exit::Code(3)) });
}

pub async fn a_deaf_task_is_killed_after_the_grace(f: Fixture) {
    let mut spec = f.spec("trap '' TERM; echo ready; while :; do sleep 1000; done");
    spec.grace = Duration::from_millis(300);
    let running = f.start(&spec).await;
    assert_eq!(observe(&f.attempt()).unwrap(), Observed::Running(running));
    f.line("ready").await;
    runner::stop(&f.attempt()).unwrap();
    let record = f.end().await;
    assert_eq!(record.end, End::Cancelled { exit: Some(Exit::Signal(9)) });
    assert!(record.seconds >= 0.3, "{}", record.seconds);
}

pub async fn kill_now_skips_the_grace(f: Fixture) {
    f.start(&f.spec("trap '' TERM; echo ready; while :; do sleep 1000; done")).await;
    f.line("ready").await;
    // The grace of an hour has begun, and is cut short.
    runner::stop(&f.attempt()).unwrap();
    runner::kill_now(&f.attempt()).unwrap();
    assert_eq!(f.end().await.end, End::Cancelled { exit: Some(Exit::Signal(9)) });
}

pub async fn escaped_processes_are_killed_too(f: Fixture) {
    let mut spec = f.spec(
        "trap '' TERM
         (setsid sh -c 'trap \"\" TERM; (setsid sh -c \"echo escaped \\$\\$; while :; do sleep 1000; done\" &) ' &)
         while :; do sleep 1000; done",
    );
    spec.grace = Duration::from_millis(100);
    f.start(&spec).await;
    let escaped = Watched::new(&f.line("escaped").await);
    runner::stop(&f.attempt()).unwrap();
    assert_eq!(f.end().await.end, End::Cancelled { exit: Some(Exit::Signal(9)) });
    assert!(escaped.has_ended());
}

pub async fn an_attempt_stopped_before_its_launch_never_runs(f: Fixture) {
    runner::stop(&f.attempt()).unwrap();
    f.launcher.launch(&f.spec("echo run")).unwrap();
    assert_eq!(f.end().await.end, End::Cancelled { exit: None });
    assert_eq!(f.log(), "");
}

pub async fn a_stranger_with_the_same_pid_is_left_alone(f: Fixture) {
    // It ends at any signal that a stop sends, and answers as long as it got none.
    let mut stranger = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = stranger.id();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let earlier = format!(r#"{{"boot_id":"{}","pid":{pid},"start_time":1}}"#, boot_id.trim());
    let attempt = f.attempt();
    write_json(&attempt.join("claim"), &format!(r#"{{"supervisor":{earlier}}}"#));
    let record = format!(
        r#"{{"supervisor":{earlier},"task":{earlier},"started_at":"2026-01-01T00:00:00Z","grace":{{"secs":0,"nanos":0}}}}"#
    );
    write_json(&attempt.join("running"), &record);

    assert_eq!(observe(&attempt).unwrap(), Observed::SupervisorLost { task: None });
    runner::stop(&attempt).unwrap();
    runner::kill_now(&attempt).unwrap();
    assert_eq!(runner::wait_end(&attempt).await.unwrap(), runner::AttemptEnd::SupervisorLost);

    let mut answer = [0; 6];
    stranger.stdin.take().unwrap().write_all(b"alive\n").unwrap();
    stranger.stdout.take().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"alive\n");
    assert!(stranger.wait().unwrap().success());
}

/// The pid of a task that is gone belongs to somebody else, for certain and not by a hand-written record.
pub async fn a_reused_pid_is_left_alone(f: Fixture) {
    let started = Instant::now();
    // Without a child, whose process group would keep the number taken.
    let running = f.start(&f.spec("exec sleep 1000")).await;
    let (supervisor, task) = (watch(&running.supervisor), watch(&running.task));
    supervisor.kill();
    supervisor.wait();
    task.kill();
    task.wait();
    let pid = running.task.pid;
    until(|| !std::path::Path::new(&format!("/proc/{pid}")).exists());
    // Start times are told in clock ticks of 10 ms.
    until(|| started.elapsed() > Duration::from_millis(30));
    let stranger = match Stranger::with_pid(pid) {
        Ok(stranger) => stranger,
        Err(error) => {
            eprintln!("SKIPPED a_reused_pid_is_left_alone: no process can be given a chosen pid, clone3: {error}");
            return;
        }
    };

    assert_eq!(observe(&f.attempt()).unwrap(), Observed::SupervisorLost { task: None });
    runner::stop(&f.attempt()).unwrap();
    runner::kill_now(&f.attempt()).unwrap();
    let end = runner::wait_end(&f.attempt()).await.unwrap();
    assert_eq!(end, runner::AttemptEnd::SupervisorLost, "the stranger's life is not the task's");
    assert!(stranger.lives(), "a stranger was signalled");
}
