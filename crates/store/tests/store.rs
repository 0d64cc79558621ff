use domain::{
    Attempt, DeviceGrant, DeviceId, Failure, FineTune, Grant, Progress, Recipe, StateKind, Task, TaskId, TaskState,
    WaitCause, WaitReason,
};
use jiff::Timestamp;
use store::{Change, Filter, Reader, StoreError, Transition, Writer};

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
        state: TaskState::Queued { reason: WaitReason { position: 1, cause: WaitCause::Detecting } },
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
    assert_eq!(writer.queued().unwrap(), [queued(3).id]);
    let live = writer.live_attempts().unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].record.task.id, &live[0].attempt, live[0].record.attempts), (queued(1).id, &attempt(), 1));

    let reader = Reader::open(&path).unwrap();
    let listed: Vec<u64> = reader.tasks(Filter::default()).unwrap().iter().map(|t| t.task.id.number).collect();
    assert_eq!(listed, [3, 1], "newest first, without the removed one");
    let one = Filter { kind: Some(StateKind::Queued), before: Some(queued(3).id), limit: Some(5) };
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
