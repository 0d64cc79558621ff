//! Failures that are not a training's own are tried again; its own are not.

use std::fs;

use client::testing::{Options, Studio, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, fine_tune, path, script, tiny, wait_status, wait_until};

#[test]
fn a_training_whose_supervisor_is_killed_goes_on_from_its_checkpoint() {
    let config = "[tasks]\nretry_after = \"100ms\"\n";
    let studio = Studio::start_with(Options { config: config.into(), ..Options::default() });
    let client = studio.client();
    let mut task = fine_tune(&tiny(&studio), 60);
    task.fine_tune.as_mut().unwrap().seed = Some(7);
    let last_loss = |id: &str| client.metrics(id).unwrap().train.last().expect("it made steps").loss;
    let undisturbed = client.submit(&task).unwrap().task_id;
    wait_status(&client, &undisturbed, "completed");

    let id = client.submit(&task).unwrap().task_id;
    let checkpoints = studio.home().task(id.parse().unwrap()).join("checkpoints");
    wait_for("its first checkpoint", PATIENCE, || fs::read_dir(&checkpoints).ok()?.flatten().next());
    for pid in studio.processes().into_iter().filter(|pid| *pid != studio.pid() && mentions(*pid, &id)) {
        let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
    }
    let waiting =
        wait_until(&client, &id, "to be put back", |task| task.attempt.is_none() || task.status == "completed");
    println!("{:?}", waiting.wait);
    wait_status(&client, &id, "completed");
    assert_eq!(path(&client, &id), ["preparing", "training", "queued", "preparing", "training", "completed"]);
    let (with, without) = (last_loss(&id), last_loss(&undisturbed));
    assert!((with - without).abs() < 1e-6, "{with} instead of {without}");

    let own_fault = client.submit(&script(&studio, "exit 3")).unwrap().task_id;
    wait_status(&client, &own_fault, "failed");
    assert_eq!(path(&client, &own_fault).iter().filter(|state| *state == "preparing").count(), 1);
}

/// The process belongs to this task.
fn mentions(pid: u32, task: &str) -> bool {
    let holds = |file: &str| {
        fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(task))
    };
    holds("cmdline") || holds("environ")
}
