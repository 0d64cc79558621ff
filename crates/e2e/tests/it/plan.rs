//! `sage queue`, `sage explain`, `sage simulate`: the plan as people and scripts read it.

use std::{collections::BTreeSet, fs};

use client::testing::{Options, Studio};
use serde_json::Value;

use crate::support::{held_open, script, wait_reason, wait_status};

fn said(studio: &Studio, language: &str, arguments: &[&str]) -> String {
    let output =
        studio.command(arguments.iter().copied()).env("SAGE_LANG", language).output().expect("sage can be run");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(studio: &Studio, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(studio, "en", arguments)).unwrap()
}

fn has(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let missing: BTreeSet<_> = keys.iter().filter(|key| !object.contains_key(**key)).collect();
    assert!(missing.is_empty(), "{missing:?} in {value}");
}

fn in_chinese(text: &str) -> bool {
    text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter))
}

#[test]
fn the_plan_is_said_in_both_languages_and_as_json() {
    let options = Options::default().env("SAGE_GPU_MOCK_COUNT", "2").env("SAGE_GPU_MOCK_MEMORY_GB", "24");
    let studio = Studio::start_with(options);
    let client = studio.client();
    let running: Vec<String> = (0..2).map(|_| client.submit(&held_open(&studio, "go")).unwrap().task_id).collect();
    running.iter().for_each(|id| drop(wait_status(&client, id, "training")));
    let waits = client.submit(&script(&studio, "exit 3")).unwrap().task_id;
    wait_reason(&client, &waits, "to wait for a device", |wait| wait.running.is_some());

    let queue = json(&studio, &["queue", "--json"]);
    has(&queue, &["mode", "maintenance", "running", "waiting", "total", "long", "forecast_accuracy"]);
    assert_eq!(queue["running"].as_array().unwrap().len(), 2);
    has(&queue["running"][0], &["task_id", "owner", "priority", "devices", "started_at", "ends_at"]);
    has(&queue["waiting"][0], &["task_id", "owner", "priority", "gpus", "wait"]);
    assert_eq!(queue["waiting"][0]["task_id"], waits.as_str());
    let (zh, en) = (said(&studio, "zh", &["queue"]), said(&studio, "en", &["queue"]));
    assert!(zh.contains("运行中：GPU 0") && zh.contains("普通") && !zh.contains("normal"), "{zh}");
    assert!(en.contains("runs on GPU 0") && en.contains("normal") && !in_chinese(&en), "{en}");

    let explained = json(&studio, &["explain", &waits, "--json"]);
    has(&explained, &["task_id", "status", "zh", "en", "wait", "before", "devices", "attempt", "ends_at", "failure"]);
    assert_eq!(explained["devices"].as_array().unwrap().len(), 2);
    has(&explained["devices"][0], &["device", "label", "fits", "code", "needed_bytes", "free_bytes", "zh", "en"]);
    let (zh, en) = (said(&studio, "zh", &["explain", &waits]), said(&studio, "en", &["explain", &waits]));
    assert!(zh.contains("GPU 1 不可用") && zh.contains("下一步："), "{zh}");
    assert!(en.contains("GPU 1 no") && en.contains("next: ") && !in_chinese(&en), "{en}");

    // What became of it, attempt by attempt, is said in one language too.
    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_status(&client, &waits, "failed");
    let (zh, en) = (said(&studio, "zh", &["explain", &waits]), said(&studio, "en", &["explain", &waits]));
    assert!(zh.contains("程序以非零退出码结束（exit-code）"), "{zh}");
    assert!(en.contains("failed (exit-code)") && !in_chinese(&en), "{en}");

    // One's own tasks, and those of somebody who has none.
    let mine = json(&studio, &["task", "list", "--mine", "--json"]);
    assert_eq!(mine["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(json(&studio, &["task", "list", "--owner", "nobody", "--json"])["tasks"], serde_json::json!([]));
}

#[test]
fn a_replay_prints_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.csv");
    fs::write(&trace, "submit_s,duration_s,gpus\n0,600,1\n10,300,2\n20,60,1\n").unwrap();
    let studio = Studio::start();
    let trace = trace.to_str().unwrap();
    let figures = json(&studio, &["simulate", trace, "--gpus", "2", "--policy", "easy", "--json"]);
    has(&figures, &["jobs", "mean_jct_s", "p95_jct_s", "makespan_s", "utilisation", "max_wait_s"]);
    assert_eq!(figures["jobs"], 3);
    let replay = |language| said(&studio, language, &["simulate", trace, "--gpus", "2"]);
    assert!(in_chinese(&replay("zh")) && !in_chinese(&replay("en")), "{}", replay("zh"));
}

#[test]
fn status_says_what_the_machine_is_short_of_though_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    let meminfo = folder.path().join("meminfo");
    fs::write(&meminfo, "MemTotal: 67108864 kB\nMemAvailable: 1048576 kB\n").unwrap();
    let config = "[memory]\nmin_free = \"4GiB\"\n".to_owned();
    let options = Options { config, ..Options::default() }.env("SAGE_MEMINFO", meminfo.to_str().unwrap());
    let studio = Studio::start_with(options);
    let status = json(&studio, &["studio", "status", "--json"]);
    assert_eq!(status["studio"]["short_of"][0]["code"], "host-memory", "{status}");
    assert!(said(&studio, "zh", &["studio", "status"]).contains("注意：主机内存不足：可用 1.0 GiB"));
    assert!(said(&studio, "en", &["studio", "status"]).contains("short of memory: 1.0 GiB available"));
    // As soon as there is some again, nothing is said.
    fs::write(&meminfo, "MemTotal: 67108864 kB\nMemAvailable: 33554432 kB\n").unwrap();
    assert_eq!(json(&studio, &["studio", "status", "--json"])["studio"]["short_of"], serde_json::json!([]));
}
