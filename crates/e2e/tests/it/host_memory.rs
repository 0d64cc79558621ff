//! A machine that runs out of memory: what starts, what is paused, and what each task says.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use client::testing::{Options, Studio, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    PATIENCE, fine_tune, held_open, script, since_launch, tiny, wait_reason, wait_status, wait_until,
};

const GIB: u64 = 1 << 30;

/// As the kernel would tell it; never half written.
fn set_available(meminfo: &Path, bytes: u64) {
    let text = format!("MemTotal: {} kB\nMemFree: 1 kB\nMemAvailable: {} kB\n", 16 * GIB / 1024, bytes / 1024);
    let draft = meminfo.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, meminfo).unwrap();
}

#[test]
fn short_of_memory_nothing_starts_the_youngest_pauses_first_and_all_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let meminfo = folder.path().join("meminfo");
    set_available(&meminfo, 8 * GIB);
    let config = "[tasks]\ngrace = \"30s\"\n[memory]\nmin_free = \"1GiB\"\n".into();
    let options = Options { config, ..Options::default() }.env("SAGE_GPU_MOCK_COUNT", "4");
    let studio = Studio::start_with(options.env("SAGE_MEMINFO", &meminfo.display().to_string()));
    let client = studio.client();
    let tiny = tiny(&studio);
    let train = || {
        let mut task = fine_tune(&tiny, 1000);
        task.fine_tune.as_mut().unwrap().batch_size = Some(1);
        let id = client.submit(&task).unwrap().task_id;
        wait_status(&client, &id, "training");
        id
    };
    let (elder, younger) = (train(), train());
    let command = client.submit(&held_open(&studio, "release")).unwrap().task_id;
    wait_status(&client, &command, "training");

    set_available(&meminfo, GIB / 2);
    let first = first_to_wait(&studio);
    assert_eq!(client.task(&younger).unwrap().status, "training", "what runs goes on");

    set_available(&meminfo, GIB / 8);
    for id in [&younger, &elder] {
        let wait = wait_reason(&client, id, "to wait for memory", |wait| wait.code == "host_memory");
        assert!(wait.en.contains("short of memory") && wait.zh.contains("主机内存不足"), "{wait:#?}");
        let checkpoints = studio.home().task(id.parse().unwrap()).join("checkpoints");
        assert!(fs::read_dir(checkpoints).unwrap().count() > 0, "it was paused at a checkpoint");
    }
    let paused = |id: &str| {
        let journal = client.journal(id).unwrap();
        journal.into_iter().find(|entry| entry.why.starts_with("paused")).expect("it was paused").seq
    };
    assert!(paused(&younger) < paused(&elder), "the youngest first");
    assert_eq!(client.task(&command).unwrap().status, "training", "it could not go on later");

    set_available(&meminfo, 8 * GIB);
    wait_status(&client, &first, "completed");
    for id in [&younger, &elder] {
        wait_status(&client, id, "training");
        assert_eq!(since_launch(&client, id)[..5], ["preparing", "training", "queued", "preparing", "training"]);
        client.cancel(id).unwrap();
    }
    fs::write(studio.home().root().join("release"), "").unwrap();
    wait_status(&client, &command, "completed");
}

#[test]
fn why_it_pauses_and_the_time_it_has_had_outlive_the_studio() {
    let folder = tempfile::tempdir().unwrap();
    let meminfo = folder.path().join("meminfo");
    set_available(&meminfo, 8 * GIB);
    let config = "[tasks]\ngrace = \"30s\"\n[memory]\nmin_free = \"1GiB\"\n".into();
    let options = Options { config, ..Options::default() }.env("SAGE_GPU_MOCK_COUNT", "1");
    let mut studio = Studio::start_with(options.env("SAGE_MEMINFO", &meminfo.display().to_string()));
    let mut task = fine_tune(&tiny(&studio), 1000);
    task.fine_tune.as_mut().unwrap().batch_size = Some(1);
    task.time_limit_seconds = Some(3600);
    let id = studio.client().submit(&task).unwrap().task_id;
    let pid = wait_status(&studio.client(), &id, "training").attempt.unwrap().pid.unwrap();
    let since = Instant::now();
    wait_for("it to have run for more than a second", PATIENCE, || {
        (since.elapsed() > Duration::from_millis(1100)).then_some(())
    });
    let terms = |studio: &Studio| -> serde_json::Value {
        let database = rusqlite::Connection::open(studio.home().database()).unwrap();
        let terms: String = database.query_row("SELECT terms FROM task", [], |row| row.get(0)).unwrap();
        serde_json::from_str(&terms).unwrap()
    };

    // The supervisor cannot carry it out before the studio is gone.
    let supervisor = supervisor_of(pid);
    kill_process(supervisor, Signal::STOP).unwrap();
    set_available(&meminfo, GIB / 8);
    wait_for("the decision to be written down", PATIENCE, || {
        (terms(&studio)["paused"]["code"] == "host_memory").then_some(())
    });
    studio.kill();
    kill_process(supervisor, Signal::CONT).unwrap();
    studio.launch();
    wait_reason(&studio.client(), &id, "to wait for memory", |wait| wait.code == "host_memory");
    assert_eq!(since_launch(&studio.client(), &id), ["preparing", "training", "queued"]);
    assert_eq!(terms(&studio)["retried"], 0, "it was no failure");
    assert!(terms(&studio)["used"].as_u64().unwrap() > 0, "{}", terms(&studio));

    // As if it had had almost all of its time.
    studio.stop();
    let database = rusqlite::Connection::open(studio.home().database()).unwrap();
    database.execute("UPDATE task SET terms = json_set(terms, '$.used', 3599)", []).unwrap();
    drop(database);
    set_available(&meminfo, 8 * GIB);
    studio.launch();
    let failed = wait_status(&studio.client(), &id, "failed");
    assert_eq!(failed.failure.unwrap().code, "timed-out");
    let warned = failed.warnings.iter().filter(|warning| warning.code == "time-limit-near").count();
    assert_eq!(warned, 1, "{:?}", failed.warnings);
}

fn supervisor_of(pid: u32) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    Pid::from_raw(parent).unwrap()
}

/// Submits until one waits for memory; those before it were started by the reading before.
fn first_to_wait(studio: &Studio) -> String {
    let client = studio.client();
    loop {
        let id = client.submit(&script(studio, "true")).unwrap().task_id;
        let task = wait_until(&client, &id, "to wait or end", |task| {
            task.status == "completed" || task.wait.as_ref().is_some_and(|wait| wait.code == "host_memory")
        });
        if let Some(wait) = task.wait {
            assert_eq!((wait.used, wait.limit), (Some(GIB / 2), Some(GIB + GIB / 10)), "{wait:#?}");
            return id;
        }
    }
}
