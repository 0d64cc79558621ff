use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use api_types::{CommandRequest, FineTuneRequest, SubmitTask, TaskView, WaitView};
use client::{
    Client,
    testing::{Studio, wait_for},
};

/// More than any step of these tests needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the threads of a scope also when the test fails in it, or the scope would wait for them for ever.
pub struct SetWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A `sage` behind this script, which runs `$SAGE_UNDER_TEST` instead where that is set; `None` where the machine does not let
/// it.
pub fn wrapped(folder: &Path, script: &str) -> Option<PathBuf> {
    let wrapper = folder.join("sage");
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let tried = Command::new(&wrapper).env("SAGE_UNDER_TEST", "true").output();
    tried.is_ok_and(|output| output.status.success()).then_some(wrapper)
}

/// A task that runs a shell script.
pub fn script(studio: &Studio, script: &str) -> SubmitTask {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let cwd = studio.home().root().display().to_string();
    SubmitTask { command: Some(CommandRequest { argv, cwd, ..CommandRequest::default() }), ..SubmitTask::default() }
}

/// A task that runs until its `release` file appears, then ends with exit code 0.
pub fn held_open(studio: &Studio, release: &str) -> SubmitTask {
    script(studio, &format!("while [ ! -e {release} ]; do sleep 0.02; done"))
}

/// A tiny model and a small data set in the studio's home.
pub fn tiny(studio: &Studio) -> (PathBuf, PathBuf) {
    let model = studio.home().root().join("tiny");
    let made = studio.command(["model", "make-tiny", &model.display().to_string()]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let data = studio.home().root().join("data.jsonl");
    let row = |n: u32| format!("{{\"instruction\": \"What is {n} times two?\", \"output\": \"It is {}.\"}}\n", 2 * n);
    fs::write(&data, (1..=16).map(row).collect::<String>()).unwrap();
    (model, data)
}

pub fn fine_tune((model, data): &(PathBuf, PathBuf), epochs: u32) -> SubmitTask {
    let request = FineTuneRequest {
        model_name: model.display().to_string(),
        dataset_file: data.display().to_string(),
        num_epochs: Some(epochs),
        gradient_accumulation_steps: Some(1),
        batch_size: Some(4),
        max_length: Some(64),
        ..FineTuneRequest::default()
    };
    SubmitTask { fine_tune: Some(request), ..SubmitTask::default() }
}

pub fn wait_until(client: &Client, id: &str, what: &str, ready: impl Fn(&TaskView) -> bool) -> TaskView {
    wait_for(&format!("{id} {what}"), PATIENCE, || client.task(id).ok().filter(&ready))
}

pub fn wait_status(client: &Client, id: &str, status: &str) -> TaskView {
    wait_for(&format!("{id} to be {status}"), PATIENCE, || {
        let task = client.task(id).ok()?;
        let over = ["completed", "failed", "cancelled"].contains(&task.status.as_str());
        assert!(!over || task.status == status, "{id} should become {status}: {task:#?}");
        (task.status == status).then_some(task)
    })
}

/// Why it waits, once that is what `ready` says: a plan may come a moment after what made it necessary.
pub fn wait_reason(client: &Client, id: &str, what: &str, ready: impl Fn(&WaitView) -> bool) -> WaitView {
    let waits = |task: &TaskView| task.wait.as_ref().is_some_and(&ready);
    wait_until(client, id, what, waits).wait.unwrap()
}

/// The states a task went through, from its journal.
pub fn path(client: &Client, id: &str) -> Vec<String> {
    client.journal(id).unwrap().into_iter().map(|entry| entry.to).collect()
}

/// From its first launch on: where nothing has to wait, a plan may still come a moment after the submission.
pub fn since_launch(client: &Client, id: &str) -> Vec<String> {
    path(client, id).into_iter().skip_while(|state| state == "queued").collect()
}
