//! Homes with a history.

use std::time::Duration;

use api_types::{CommandRequest, SubmitTask};
use client::testing::{Studio, wait_for};
use domain::{Command, FineTune, Home, Recipe, StateKind, Task, TaskId, TaskState, WaitCause, WaitReason};
use jiff::Timestamp;
use store::{Change, Transition, Writer};

pub fn command(studio: &Studio, argv: &[&str]) -> SubmitTask {
    let argv = argv.iter().map(|word| word.to_string()).collect();
    let cwd = studio.home().root().display().to_string();
    SubmitTask { command: Some(CommandRequest { argv, cwd, ..CommandRequest::default() }), ..SubmitTask::default() }
}

/// Submits a task that holds the device until the file `go` appears in the home, and waits until it does.
pub fn blocker(studio: &Studio) -> String {
    let client = studio.client();
    let script = "while [ ! -e go ]; do sleep 0.02; done";
    let id = client.submit(&command(studio, &["sh", "-c", script])).expect("a task is accepted").task_id;
    wait_for("the blocker to run", Duration::from_secs(30), || {
        client.task(&id).ok().filter(|task| task.status == "training").map(drop)
    });
    id
}

/// Half of them completed fine-tunes with a log, half of them queued commands.
pub fn half_completed_half_queued(home: &Home, count: u64) {
    completed(home, count / 2, 10);
    queued(home, count / 2);
}

/// Commands of which the first takes for ever.
pub fn queued(home: &Home, count: u64) {
    let mut writer = Writer::open(&home.database()).expect("the store can be opened");
    let first = writer.last_number().expect("the store can be read") + 1;
    let changes: Vec<Change> = (first..first + count).map(|number| create(sleeper(number), Vec::new())).collect();
    writer.commit(&changes).expect("the store can be written");
}

/// Completed fine-tunes, each with so many log lines.
pub fn completed(home: &Home, count: u64, lines: usize) {
    let mut writer = Writer::open(&home.database()).expect("the store can be opened");
    let log: Vec<String> = (0..lines)
        .map(|line| format!("[20:00:00] step {line}/{lines} epoch 1.00 loss 2.3456 lr 5.00e-5 812 tokens/s"))
        .collect();
    let changes: Vec<Change> = (1..=count)
        .flat_map(|number| {
            let task = task(number, Recipe::FineTune(fine_tune()), TaskState::Queued { reason: waiting() });
            let id = task.id;
            let ended_at = Timestamp::now();
            let to = TaskState::Completed { started_at: ended_at, ended_at };
            let transition = Transition {
                task: id,
                from: StateKind::Queued,
                to,
                at: ended_at,
                who: "guest".into(),
                why: "trained".into(),
                progress: domain::Progress { percent: 100.0, ..Default::default() },
                log: log.clone(),
            };
            [create(task, Vec::new()), Change::Transition(Box::new(transition))]
        })
        .collect();
    writer.commit(&changes).expect("the store can be written");
}

fn create(task: Task, log: Vec<String>) -> Change {
    Change::Create { task: Box::new(task), who: "guest".into(), log }
}

fn sleeper(number: u64) -> Task {
    let argv = ["sleep", "100000"].map(String::from).to_vec();
    let recipe = Recipe::Command(Command {
        argv,
        cwd: "/".into(),
        env: Default::default(),
        memory_bytes: None,
        gpus: 1,
        share: false,
    });
    task(number, recipe, TaskState::Queued { reason: waiting() })
}

fn task(number: u64, recipe: Recipe, state: TaskState) -> Task {
    let created_at = Timestamp::now();
    Task {
        id: TaskId::new(created_at.as_second(), number),
        name: None,
        owner: "guest".into(),
        created_at,
        time_limit: 6 * 3600,
        recipe,
        priority: Default::default(),
        after: Vec::new(),
        terms: domain::Terms::default(),
        warnings: Vec::new(),
        estimate: None,
        adjustments: Vec::new(),
        state,
    }
}

fn fine_tune() -> FineTune {
    FineTune {
        model_name: "Qwen/Qwen2.5-0.5B-Instruct".into(),
        dataset_file: "/data/rows.jsonl".into(),
        ..FineTune::default()
    }
}

fn waiting() -> WaitReason {
    WaitReason::new(1, WaitCause::Detecting)
}
