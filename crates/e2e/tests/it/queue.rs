//! One task per device, first in, first out, and every end of a task starts the next.

use std::{fs, time::SystemTime};

use client::testing::{Options, Studio, wait_for};

use crate::support::{
    PATIENCE, fine_tune, held_open, path, script, since_launch, tiny, wait_reason, wait_status, wait_until,
};

#[test]
fn three_tasks_one_runs_two_wait_and_each_end_starts_the_next() {
    let studio = Studio::start();
    let client = studio.client();
    let [first, second, third] =
        ["one", "two", "three"].map(|release| client.submit(&held_open(&studio, release)).unwrap().task_id);

    wait_status(&client, &first, "training");
    for (id, position) in [(&second, 1), (&third, 2)] {
        let wait = wait_reason(&client, id, &format!("to wait at {position}"), |wait| {
            (wait.position, wait.running.as_deref()) == (position, Some(first.as_str()))
        });
        assert!(wait.zh.contains(&first) && wait.en.contains(&first), "{wait:?}");
    }

    let cancelled = client.cancel(&second).unwrap();
    assert_eq!((cancelled.status.as_str(), cancelled.wait), ("cancelled", None));
    wait_reason(&client, &third, "to be the next", |wait| wait.position == 1);

    fs::write(studio.home().root().join("one"), "").unwrap();
    wait_status(&client, &first, "completed");
    wait_status(&client, &third, "training");
    let log = fs::read_to_string(studio.home().log()).unwrap();
    assert!(log.contains(&format!("[FinetuneManager] 启动排队任务: {third}")), "{log}");

    client.cancel(&third).unwrap();
    assert_eq!(since_launch(&client, &first), ["preparing", "training", "completed"]);
    assert_eq!(path(&client, &second), ["queued", "cancelled"]);
    assert_eq!(path(&client, &third), ["queued", "preparing", "training", "cancelled"]);
}

#[test]
fn every_way_to_end_has_its_reason_and_frees_the_device() {
    let studio = Studio::start();
    let client = studio.client();
    let submit = |task| client.submit(&task).unwrap().task_id;
    let fails = submit(script(&studio, "echo out of luck; exit 3"));
    let killed = submit(script(&studio, "kill -9 $$"));
    let missing = submit({
        let mut task = script(&studio, "");
        task.command.as_mut().unwrap().argv = vec!["/no/such/program".into()];
        task
    });
    let endless = submit({
        let mut task = held_open(&studio, "never");
        task.time_limit_seconds = Some(1);
        task
    });
    let stubborn = submit(script(&studio, "trap '' TERM; touch stubborn; while :; do sleep 0.05; done"));
    let last = submit(script(&studio, "echo done"));

    let failure = |id: &str| wait_status(&client, id, "failed").failure.expect("a failed task has a reason");
    let exit = failure(&fails);
    assert_eq!(exit.code, "exit-code");
    assert!(exit.en.contains("exit code 3") && exit.en.contains("out of luck"), "{exit:?}");
    assert!(exit.zh.contains("退出码 3"), "{exit:?}");
    assert_eq!(failure(&killed).code, "signal");
    assert_eq!(failure(&missing).code, "exec-failed");
    assert_eq!(failure(&endless).code, "timed-out");

    wait_status(&client, &stubborn, "training");
    wait_for("the trap", PATIENCE, || studio.home().root().join("stubborn").exists().then_some(()));
    let pid = client.task(&stubborn).unwrap().attempt.unwrap().pid.unwrap();
    client.cancel(&stubborn).unwrap();
    wait_status(&client, &last, "completed");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "killed after the grace, before the next started");
    assert_eq!(client.task(&stubborn).unwrap().status, "cancelled", "its end does not overwrite the cancel");
}

#[test]
fn a_long_queue_warns_and_a_held_task_waits_for_its_release() {
    let studio = Studio::start();
    let client = studio.client();
    let running = client.submit(&held_open(&studio, "go")).unwrap().task_id;
    wait_status(&client, &running, "training");
    let mut held = script(&studio, "true");
    held.hold = true;
    let held = client.submit(&held).unwrap();
    assert_eq!(held.status, "pending");

    let warned = |task: &api_types::TaskView| task.warnings.iter().any(|warning| warning.code == "queue-long");
    let waiting: Vec<_> = (0..6).map(|_| client.submit(&script(&studio, "true")).unwrap()).collect();
    assert!(waiting[..5].iter().all(|task| !warned(task)));
    assert!(warned(&waiting[5]), "{:#?}", waiting[5]);

    let released = client.release(&held.task_id).unwrap();
    assert_eq!(released.status, "queued");
    // Held, it did not wait.
    wait_until(&client, &held.task_id, "to be last in line", |task| {
        task.wait.as_ref().is_some_and(|wait| wait.position == 7)
    });
    fs::write(studio.home().root().join("go"), "").unwrap();
    for task in waiting.iter().chain([&held]) {
        wait_status(&client, &task.task_id, "completed");
    }
}

#[test]
fn two_devices_take_two_tasks_and_simulated_ones_say_so() {
    let options = Options::default().env("SAGE_GPU_MOCK_COUNT", "2");
    let studio = Studio::start_with(options);
    let client = studio.client();
    let ids: Vec<String> = (0..3).map(|_| client.submit(&held_open(&studio, "go")).unwrap().task_id).collect();
    let first = wait_status(&client, &ids[0], "training").attempt.unwrap().devices;
    let second = wait_status(&client, &ids[1], "training").attempt.unwrap().devices;
    assert_ne!(first, second);
    wait_reason(&client, &ids[2], "to wait for a device", |wait| wait.code == "devices_busy");
    let devices = client.devices().unwrap();
    assert!(devices.simulated && devices.devices.iter().all(|device| device.kind == "simulated"), "{devices:#?}");
    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_status(&client, &ids[2], "completed");
}

#[test]
fn a_fine_tune_leaves_an_adapter_that_can_be_downloaded_and_its_files_go_with_it() {
    let studio = Studio::start();
    let client = studio.client();
    let task = client.submit(&fine_tune(&tiny(&studio), 2)).unwrap();
    let done = wait_status(&client, &task.task_id, "completed");
    assert_eq!((done.progress.percent, done.progress.total_steps), (100.0, 8));
    assert!(done.downloadable && done.progress.loss.is_some(), "{done:#?}");
    assert_eq!(since_launch(&client, &task.task_id), ["preparing", "training", "completed"]);
    let metrics = client.metrics(&task.task_id).unwrap();
    assert_eq!(metrics.train.len(), 8);

    let saved = studio.home().root().join("adapter.tar.gz");
    let command = ["task", "download", &task.task_id, "-o", &saved.display().to_string()];
    let output = studio.command(command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = std::process::Command::new("tar").arg("tzf").arg(&saved).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("adapter_model.safetensors") && listed.contains("adapter_config.json"), "{listed}");

    client.delete(&task.task_id).unwrap();
    assert!(client.task(&task.task_id).is_err());
    wait_for("the files to be removed", PATIENCE, || {
        (!studio.home().task(task.task_id.parse().unwrap()).exists()).then_some(())
    });
}

/// Closed on every day but one that is days away.
#[test]
fn in_quiet_hours_nothing_starts_and_each_task_says_until_when() {
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let today = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / (24 * 3600);
    let away = days[(today as usize + 3) % 7];
    let config = format!("[queue]\nstart_hours = [\"{away}\"]\nwarn_above = 1\n[tasks]\ngrace = \"2s\"\n");
    let options = Options { config, ..Options::default() };
    let mut studio = Studio::start_with(options);
    let client = studio.client();
    let first = client.submit(&script(&studio, "true")).unwrap().task_id;
    let wait = wait_reason(&client, &first, "to wait for its hours", |wait| wait.code == "quiet_hours");
    assert!(wait.en.contains("quiet hours until") && wait.at.is_some(), "{wait:?}");
    let queue = client.queue().unwrap();
    assert_eq!((queue.long, queue.control.start_hours_closed_until), (false, wait.at));
    let second = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_for("the queue to be long", PATIENCE, || client.queue().unwrap().long.then_some(()));

    studio.stop();
    let config = fs::read_to_string(studio.home().config()).unwrap();
    fs::write(studio.home().config(), config.replace(away, "mon-sun")).unwrap();
    studio.launch();
    for id in [&first, &second] {
        wait_status(&studio.client(), id, "completed");
    }
}

#[test]
fn a_log_that_outgrew_its_cap_says_what_was_given_up() {
    let config = "[tasks]\nlog_cap_mb = 1\n".into();
    let studio = Studio::start_with(Options { config, ..Options::default() });
    let client = studio.client();
    let id = client.submit(&script(&studio, "yes | head -c 8388608")).unwrap().task_id;
    wait_status(&client, &id, "completed");
    let database = rusqlite::Connection::open(studio.home().database()).unwrap();
    let notes: String = database.query_row("SELECT log_tail FROM task", [], |row| row.get(0)).unwrap();
    assert!(notes.contains("were given up") && notes.contains("已丢弃"), "{notes}");
}
