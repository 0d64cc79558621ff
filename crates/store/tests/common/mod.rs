//! Used by several test programs; none uses all of it.
#![allow(dead_code)]

use std::path::Path;

use domain::{
    Attempt, DeviceGrant, DeviceId, Failure, FineTune, Grant, Measurement, Progress, Recipe, StateKind, Task, TaskId,
    TaskState, WaitCause, WaitReason,
};
use jiff::Timestamp;
use rusqlite::{Connection, types::Value};
use store::{Change, Transition};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

pub fn id(number: u64) -> TaskId {
    TaskId::new(1_760_000_000, number)
}

pub fn queued(number: u64) -> Task {
    Task {
        id: id(number),
        name: None,
        owner: "guest".into(),
        created_at: at(0),
        time_limit: 21_600,
        recipe: Recipe::FineTune(FineTune::default()),
        warnings: vec![],
        priority: Default::default(),
        after: vec![],
        terms: Default::default(),
        estimate: None,
        adjustments: vec![],
        state: TaskState::Queued { reason: WaitReason::new(1, WaitCause::Detecting) },
    }
}

pub fn create(number: u64) -> Change {
    Change::Create { task: Box::new(queued(number)), who: "guest".into(), log: vec!["[00:00:00] queued".into()] }
}

pub fn moves(number: u64, from: StateKind, to: TaskState) -> Change {
    let (who, why) = ("studio".to_owned(), "test".to_owned());
    let log = vec!["[00:00:01] a line".to_owned(); 20];
    let (task, at, progress) = (id(number), at(2), Progress::default());
    Change::Transition(Box::new(Transition { task, from, to, at, who, why, progress, log }))
}

pub fn fails() -> TaskState {
    TaskState::Failed { failure: Failure::SupervisorLost, started_at: None, ended_at: at(3) }
}

pub fn attempt() -> Attempt {
    let device = DeviceId("GPU-0".into());
    let grant = Grant { devices: vec![DeviceGrant { device, bytes: None }] };
    Attempt { number: 1, grant, started_at: at(1), pid: None }
}

/// What a turn of the studio may do at once; tasks 1 to 3 must be queued, `new` must not exist.
pub fn turn(new: u64) -> Vec<Change> {
    let measurement = Measurement {
        key: "k".into(),
        family: "f".into(),
        device: "Card".into(),
        peak_bytes: Some(6),
        predicted_bytes: 5,
        ran_out_of_memory: false,
        seconds_per_step: Some(0.4),
        predicted_seconds_per_step: None,
    };
    vec![
        create(new),
        create(new + 1),
        moves(1, StateKind::Queued, TaskState::Preparing { attempt: attempt() }),
        Change::BeginAttempt { task: id(1), attempt: attempt() },
        moves(2, StateKind::Queued, fails()),
        Change::Measured { task: id(2), at: at(4), measurement },
        Change::Remove { task: id(2), from: StateKind::Failed, who: "guest".into(), at: at(5) },
        Change::EndAttempt { task: id(1), number: 1, at: at(6) },
    ]
}

/// Everything the database holds, table by table.
pub fn content(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut content = String::new();
    for name in names {
        let mut rows = connection.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
            content += &format!("{name} {values:?}\n");
        }
    }
    content
}
