use domain::{
    Adjustment, Attempt, Basis, Breakdown, Demand, DeviceGrant, DeviceId, Estimate, Failure, FineTune, Grant,
    Measurement, Priority, Progress, Recipe, StateKind, Task, TaskId, TaskState, WaitCause, WaitReason, Warning,
};
use jiff::Timestamp;
use store::{Change, Filter, Reader, Revision, StoreError, Ticket, Transition, Writer};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn queued(number: u64) -> Task {
    Task {
        id: TaskId::new(1_760_000_000, number),
        name: None,
        owner: "guest".into(),
        created_at: at(0),
        time_limit: 21_600,
        recipe: Recipe::FineTune(FineTune::default()),
        warnings: vec![],
        priority: Priority::Normal,
        after: vec![],
        terms: domain::Terms::default(),
        estimate: None,
        adjustments: vec![],
        state: TaskState::Queued { reason: WaitReason::new(1, WaitCause::Detecting) },
    }
}

fn attempt() -> Attempt {
    let device = DeviceId("GPU-0".into());
    Attempt {
        number: 1,
        grant: Grant { devices: vec![DeviceGrant { device, bytes: None }] },
        started_at: at(1),
        pid: None,
    }
}

fn create(number: u64) -> Change {
    Change::Create { task: Box::new(queued(number)), who: "guest".into(), log: vec!["[00:00:00] queued".into()] }
}

fn moves(number: u64, from: StateKind, to: TaskState) -> Change {
    Change::Transition(Box::new(Transition {
        task: TaskId::new(1_760_000_000, number),
        from,
        to,
        at: at(2),
        who: "studio".into(),
        why: "test".into(),
        progress: Progress::default(),
        log: vec![],
    }))
}

fn fails() -> TaskState {
    TaskState::Failed { failure: Failure::SupervisorLost, started_at: None, ended_at: at(3) }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    let mut writer = Writer::open(&path).unwrap();
    assert_eq!(writer.commit(&[create(1), create(2), create(3)]).unwrap(), [1, 2, 3]);
    let begin = Change::BeginAttempt { task: queued(1).id, attempt: attempt() };
    let seqs =
        writer.commit(&[moves(1, StateKind::Queued, TaskState::Preparing { attempt: attempt() }), begin]).unwrap();
    assert_eq!(seqs, [4]);
    writer
        .commit(&[
            moves(2, StateKind::Queued, fails()),
            Change::Remove { task: queued(2).id, from: StateKind::Failed, who: "guest".into(), at: at(4) },
        ])
        .unwrap();
    drop(writer);

    let writer = Writer::open(&path).unwrap();
    assert_eq!(writer.last_number().unwrap(), 3, "a removed task's number is not used again");
    assert_eq!(writer.queued().unwrap(), [Ticket::of(&queued(3), &Progress::default())]);
    let live = writer.live_attempts().unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].record.task.id, &live[0].attempt, live[0].record.attempts), (queued(1).id, &attempt(), 1));

    let reader = Reader::open(&path).unwrap();
    let listed: Vec<u64> = reader.tasks(Filter::default()).unwrap().iter().map(|t| t.task.id.number).collect();
    assert_eq!(listed, [3, 1], "newest first, without the removed one");
    let one = Filter { kind: Some(StateKind::Queued), before: Some(queued(3).id), limit: Some(5), ..Filter::default() };
    assert!(reader.tasks(one).unwrap().is_empty());
    assert_eq!(
        reader.counts().unwrap().into_iter().collect::<Vec<_>>(),
        [(StateKind::Queued, 1), (StateKind::Preparing, 1)]
    );
    let history: Vec<String> =
        reader.journal(queued(2).id).unwrap().into_iter().map(|row| format!("{:?} -> {}", row.from, row.to)).collect();
    assert_eq!(history, ["None -> queued", "Some(\"queued\") -> failed", "Some(\"failed\") -> removed"]);
    assert_eq!(reader.journal_after(4, 10).unwrap().len(), 2);
}

#[test]
fn a_batch_with_one_bad_change_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    let mut writer = Writer::open(&path).unwrap();
    writer.commit(&[create(1)]).unwrap();
    let bad = writer.commit(&[create(2), moves(1, StateKind::Training, fails())]);
    assert!(matches!(bad, Err(StoreError::Corrupt { .. })), "{bad:?}");
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.last_seq().unwrap(), 1);
    assert_eq!(reader.tasks(Filter::default()).unwrap().len(), 1);
}

#[test]
fn the_journal_only_grows_and_a_newer_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    Writer::open(&path).unwrap().commit(&[create(1)]).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    assert!(raw.execute("DELETE FROM journal", []).is_err());
    assert!(raw.execute("UPDATE journal SET who = 'nobody'", []).is_err());
    raw.pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(Writer::open(&path), Err(StoreError::Newer { found: 999, .. })));
}

#[test]
fn what_is_learnt_of_a_tasks_needs_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    let mut writer = Writer::open(&path).unwrap();
    let estimate = Estimate {
        allocated_bytes: 5,
        footprint_bytes: 6,
        footprint_low_bytes: 4,
        footprint_high_bytes: 7,
        grant_bytes: 8,
        seconds_per_step: Some(0.5),
        total_seconds: Some(100.0),
        basis: Basis::History { runs: 2 },
        breakdown: Breakdown { weights: 6, ..Breakdown::default() },
    };
    let mut task = queued(1);
    task.warnings = vec![Warning { code: "foreign-use".into(), zh: "占用".into(), en: "use".into() }];
    task.estimate = Some(estimate);
    task.adjustments = vec![Adjustment::HalveMicroBatch];
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
    let measured = Change::Measured { task: task.id, at: at(1), measurement: measurement.clone() };
    writer.commit(&[create(1), Change::Revise(Box::new(Revision::of(&task))), measured]).unwrap();

    assert_eq!(writer.queued().unwrap(), [Ticket::of(&task, &Progress::default())]);
    let mut again = moves(1, StateKind::Queued, task.state.clone());
    let Change::Transition(transition) = &mut again else { unreachable!() };
    transition.progress.percent = 60.0;
    writer.commit(&[again]).unwrap();
    let progress = Progress { percent: 60.0, ..Progress::default() };
    assert_eq!(writer.queued().unwrap(), [Ticket::of(&task, &progress)], "with what is left of it");
    assert_eq!(Ticket::of(&task, &Progress::default()).demand, Demand { devices: 1, memory: Some(8), shares: true });
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.task(task.id).unwrap().unwrap().task, task);
    assert_eq!(reader.measurements(10).unwrap(), [measurement]);
}

#[test]
fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("studio.db");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(include_str!("../src/migrations/0001_initial.sql")).unwrap();
    let recipe = r#"{"kind":"fine_tune","model_name":"m","dataset_file":"/d.json","num_epochs":2}"#;
    let state = r#"{"state":"queued","reason":{"position":1,"cause":{"code":"detecting"}}}"#;
    raw.execute(
        "INSERT INTO task VALUES (7, 1760000000, NULL, 'guest', 1760000000000, 60, ?1, '[]', 'queued', ?2,
            '{\"percent\":0.0,\"epoch\":0.0,\"total_epochs\":0,\"step\":0,\"total_steps\":0,\"fetch\":null}', '[]', NULL)",
        [recipe, state],
    )
    .unwrap();
    raw.pragma_update(None, "user_version", 1).unwrap();
    drop(raw);

    let writer = Writer::open(&path).unwrap();
    let tickets = writer.queued().unwrap();
    assert_eq!((tickets.len(), &tickets[0].demand), (1, &Demand { devices: 1, memory: None, shares: true }));
    let task = Reader::open(&path).unwrap().task(queued(7).id).unwrap().unwrap().task;
    let Recipe::FineTune(recipe) = &task.recipe else { panic!("{task:?}") };
    assert_eq!((recipe.num_epochs, recipe.trainer, recipe.gradient_checkpointing), (2, None, true));
}
