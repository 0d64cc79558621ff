use jiff::Timestamp;
use store::{Audit, AuditFilter, Chain, Entry};

fn entry(who: &str, action: &str) -> Entry {
    Entry {
        at: Timestamp::from_second(1_760_000_000).unwrap(),
        who: who.into(),
        address: "127.0.0.1".into(),
        action: action.into(),
        target: None,
        outcome: "ok".into(),
        detail: Some("中文".into()),
    }
}

fn log() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let audit = Audit::open(&path).unwrap();
    audit.append(&[entry("ana", "sign-in"), entry("ana", "task.submit"), entry("ben", "task.cancel")]).unwrap();
    audit.append(&[entry("ana", "tasks")]).unwrap();
    (folder, path)
}

fn verify(path: &std::path::Path) -> Chain {
    Audit::open(path).unwrap().verify().unwrap()
}

#[test]
fn entries_are_listed_newest_first_by_account_and_kind() {
    let (_folder, path) = log();
    let audit = Audit::open(&path).unwrap();
    let list =
        |filter: AuditFilter| -> Vec<u64> { audit.list(&filter).unwrap().into_iter().map(|row| row.seq).collect() };
    let all = AuditFilter { limit: 10, ..AuditFilter::default() };
    assert_eq!(list(all.clone()), [4, 3, 2, 1]);
    assert_eq!(list(AuditFilter { limit: 2, before: Some(4), ..all.clone() }), [3, 2]);
    assert_eq!(list(AuditFilter { action: Some("task".into()), ..all.clone() }), [3, 2]);
    assert_eq!(list(AuditFilter { who: Some("ana".into()), action: Some("task.submit".into()), ..all }), [2]);
}

#[test]
fn the_database_refuses_to_change_or_delete() {
    let (_folder, path) = log();
    let connection = rusqlite::Connection::open(&path).unwrap();
    for sql in ["UPDATE audit SET who = 'eve' WHERE seq = 2", "DELETE FROM audit WHERE seq = 4"] {
        assert!(connection.execute(sql, []).unwrap_err().to_string().contains("append-only"), "{sql}");
    }
    assert!(matches!(verify(&path), Chain::Whole { rows: 4, .. }));
}

/// Whoever gets past that leaves traces.
#[test]
fn every_change_breaks_the_chain() {
    let tampered = |sql: &str| {
        let (_folder, path) = log();
        let before = verify(&path);
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch("DROP TRIGGER audit_is_append_only_update; DROP TRIGGER audit_is_append_only_delete;")
            .unwrap();
        connection.execute_batch(sql).unwrap();
        let Chain::Whole { head, .. } = before else { panic!("{before:?}") };
        (verify(&path), Audit::open(&path).unwrap().contains(&head).unwrap())
    };
    for column in
        ["who = 'eve'", "at = at + 1", "target = ''", "outcome = 'no'", "detail = NULL", "hash = zeroblob(32)"]
    {
        let (chain, _) = tampered(&format!("UPDATE audit SET {column} WHERE seq = 2"));
        assert_eq!(chain, Chain::Broken { seq: 2 }, "{column}");
    }
    // Fields do not run into each other.
    let (chain, _) = tampered("UPDATE audit SET who = 'an', address = 'a127.0.0.1' WHERE seq = 2");
    assert_eq!(chain, Chain::Broken { seq: 2 });
    assert_eq!(tampered("DELETE FROM audit WHERE seq = 2").0, Chain::Broken { seq: 3 });
    assert_eq!(tampered("DELETE FROM audit WHERE seq = 1").0, Chain::Broken { seq: 2 });
    let swapped = "UPDATE audit SET seq = 10 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 10";
    assert_eq!(tampered(swapped).0, Chain::Broken { seq: 2 });
    // Cut off at the end it is whole; that its head is gone tells.
    let (chain, head_is_there) = tampered("DELETE FROM audit WHERE seq = 4");
    assert!(matches!(chain, Chain::Whole { rows: 3, .. }) && !head_is_there, "{chain:?}");
}

#[test]
fn two_programs_make_one_chain() {
    let (_folder, path) = log();
    std::thread::scope(|scope| {
        for name in ["studio", "command line"] {
            let audit = Audit::open(&path).unwrap();
            scope.spawn(move || (0..50).for_each(|_| audit.append(&[entry(name, "sign-in")]).unwrap()));
        }
    });
    assert!(matches!(verify(&path), Chain::Whole { rows: 104, .. }));
}
