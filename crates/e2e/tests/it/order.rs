//! Who goes first: classes, dependencies, and urgent tasks that interrupt others at a checkpoint.

use std::fs;

use client::testing::{Options, Studio, wait_for};

use crate::support::{
    PATIENCE, fine_tune, held_open, script, since_launch, tiny, wait_reason, wait_status, wait_until,
};

#[test]
fn classes_go_first_and_a_task_waits_for_those_it_depends_on() {
    let studio = Studio::start();
    let client = studio.client();
    let submit = |task: api_types::SubmitTask, priority: &str, after: Vec<String>| {
        let task = api_types::SubmitTask { priority: Some(priority.into()), after, ..task };
        client.submit(&task).unwrap().task_id
    };
    let first = submit(held_open(&studio, "one"), "normal", vec![]);
    wait_status(&client, &first, "training");
    let low = submit(script(&studio, "date +%s%N > low"), "low", vec![]);
    let fails = submit(script(&studio, "exit 3"), "normal", vec![]);
    let after_any = submit(script(&studio, "date +%s%N > any"), "normal", vec![format!("{fails},any")]);
    let after_ok = submit(script(&studio, "true"), "normal", vec![fails.clone()]);
    let high = submit(script(&studio, "date +%s%N > high"), "high", vec![first.clone()]);
    wait_reason(&client, &high, "to wait for the first", |wait| {
        (wait.code.as_str(), wait.running.as_deref()) == ("dependency", Some(first.as_str()))
    });

    fs::write(studio.home().root().join("one"), "").unwrap();
    for id in [&first, &low, &after_any, &high] {
        wait_status(&client, id, "completed");
    }
    let failure = wait_status(&client, &after_ok, "failed").failure.unwrap();
    assert_eq!(failure.code, "dependency-failed");
    assert!(failure.en.contains(&fails), "{}", failure.en);
    let time =
        |name: &str| -> u64 { fs::read_to_string(studio.home().root().join(name)).unwrap().trim().parse().unwrap() };
    assert!(time("high") < time("any") && time("any") < time("low"), "high, then normal, then low");

    let unknown = api_types::SubmitTask { after: vec!["finetune_1_999".into()], ..script(&studio, "true") };
    assert!(client.submit(&unknown).unwrap_err().to_string().contains("finetune_1_999"));
}

#[test]
fn an_urgent_task_interrupts_a_training_which_then_ends_as_if_nothing_had_happened() {
    let config = "[tasks]\ngrace = \"20s\"\n[queue]\npreempt_after = \"0s\"\n";
    let studio = Studio::start_with(Options { config: config.into(), ..Options::default() });
    let client = studio.client();
    let tiny = tiny(&studio);
    let long = || {
        let mut task = fine_tune(&tiny, 150);
        task.fine_tune.as_mut().unwrap().seed = Some(7);
        task
    };
    let last_loss = |id: &str| client.metrics(id).unwrap().train.last().expect("it made steps").loss;

    let undisturbed = client.submit(&long()).unwrap().task_id;
    wait_status(&client, &undisturbed, "completed");

    let victim = client.submit(&long()).unwrap().task_id;
    wait_until(&client, &victim, "to make some steps", |task| task.progress.step > 20);
    let urgent = api_types::SubmitTask { priority: Some("urgent".into()), ..held_open(&studio, "go") };
    let urgent = client.submit(&urgent).unwrap().task_id;
    wait_status(&client, &urgent, "training");
    wait_reason(&client, &victim, "to wait for another", |wait| wait.running.is_some());
    let step = wait_for("its checkpoint", PATIENCE, || {
        let folder = studio.home().task(victim.parse().unwrap()).join("checkpoints");
        fs::read_dir(folder).ok()?.flatten().next()
    });
    println!("stopped at {}", step.file_name().display());

    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_status(&client, &urgent, "completed");
    wait_status(&client, &victim, "completed");
    let history = since_launch(&client, &victim);
    assert_eq!(history, ["preparing", "training", "queued", "preparing", "training", "completed"]);
    let (with, without) = (last_loss(&victim), last_loss(&undisturbed));
    assert!((with - without).abs() < 1e-6, "{with} instead of {without}");
}
