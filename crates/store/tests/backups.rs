//! Damaged databases are replaced by the newest good backup; backups are made while the studio writes.

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use common::{at, content, create, fails, moves};
use domain::StateKind;
use jiff::{SignedDuration, Timestamp};
use store::{
    Audit, Backups, Chain, Due, Entry, Kind, Reader, Recovery, StoreError, Why, Writer, back_up, recover, recoveries,
    restore, suspected, verify,
};

/// A home with 200 tasks, a backup of 100 of them, and a database that was closed.
fn home() -> (tempfile::TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let database = home.path().join("studio.db");
    let mut writer = Writer::open(&database).unwrap();
    writer.commit(&(1..=100).map(create).collect::<Vec<_>>()).unwrap();
    Backups::of(&database).make(Why::Daily, at(1000)).unwrap();
    writer.commit(&(101..=200).map(create).collect::<Vec<_>>()).unwrap();
    drop(writer);
    (home, database)
}

fn tasks(database: &Path) -> usize {
    Writer::open(database).unwrap().queued().unwrap().len()
}

fn overwrite(path: &Path, from: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, from).unwrap();
}

#[test]
fn every_kind_of_damage_is_found_and_the_newest_good_backup_takes_over() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 5] = [
        ("the header is gone", |path| overwrite(path, 0, &[0xff; 100])),
        ("pages in the middle are garbage", |path| {
            let size = fs::metadata(path).unwrap().len();
            overwrite(path, size / 2 / 4096 * 4096, &[0x5a; 16 << 10]);
        }),
        ("the second half is missing", |path| {
            let size = fs::metadata(path).unwrap().len();
            fs::File::options().write(true).open(path).unwrap().set_len(size / 2 / 4096 * 4096).unwrap();
        }),
        ("the file is empty", |path| fs::write(path, "").unwrap()),
        ("the file is something else", |path| fs::write(path, "not a database at all, ".repeat(1000)).unwrap()),
    ];
    for (name, damage) in damages {
        let (_home, database) = home();
        // One that is damaged itself is passed over.
        let newer = Backups::of(&database).make(Why::Daily, at(2000)).unwrap();
        overwrite(&newer.path, 8192, &[0x5a; 32 << 10]);
        damage(&database);
        let damaged = fs::read(&database).unwrap();

        let recovery = recover(&database, at(3000)).unwrap().unwrap_or_else(|| panic!("{name}: not noticed"));
        assert_eq!(recovery.restored.as_ref().map(|backup| backup.at), Some(at(1000)), "{name}: {recovery:?}");
        assert_eq!(fs::read(&recovery.set_aside).unwrap(), damaged, "{name}: the damaged file is kept as it was");
        assert_eq!(tasks(&database), 100, "{name}");
        // It is told until somebody has deleted the file.
        assert_eq!(recover(&database, at(3001)).unwrap(), None, "{name}");
        assert_eq!(recoveries(&database), std::slice::from_ref(&recovery), "{name}");
        fs::remove_file(&recovery.set_aside).unwrap();
        assert_eq!(recoveries(&database), Vec::<Recovery>::new(), "{name}");
    }
}

#[test]
fn without_a_backup_the_damaged_file_is_kept_and_a_new_database_begun() {
    let (home, database) = home();
    fs::remove_dir_all(home.path().join("backups")).unwrap();
    overwrite(&database, 0, &[0xff; 100]);
    let recovery = recover(&database, at(3000)).unwrap().unwrap();
    assert_eq!(recovery.restored, None);
    assert!(recovery.set_aside.exists());
    assert_eq!(tasks(&database), 0);
}

#[test]
fn what_is_found_while_the_studio_runs_is_told_until_the_next_start_repairs_it() {
    let (_home, database) = home();
    assert_eq!((verify(&database).unwrap(), suspected(&database)), (None, None));
    overwrite(&database, fs::metadata(&database).unwrap().len() / 2 / 4096 * 4096, &[0x5a; 16 << 10]);
    let found = verify(&database).unwrap();
    assert!(found.is_some());
    assert_eq!(suspected(&database), found);
    assert!(recover(&database, at(3000)).unwrap().is_some());
    assert_eq!(suspected(&database), None);
}

#[test]
fn a_healthy_database_is_left_alone_and_a_new_home_has_none() {
    let (home, database) = home();
    let before = fs::read(&database).unwrap();
    assert_eq!(recover(&database, at(3000)).unwrap(), None);
    assert_eq!(verify(&database).unwrap(), None);
    assert_eq!(fs::read(&database).unwrap(), before);
    assert_eq!(recover(&home.path().join("new/studio.db"), at(1)).unwrap(), None);
}

#[test]
fn a_backup_made_while_the_studio_writes_is_one_moment_of_it() {
    let home = tempfile::tempdir().unwrap();
    let database = home.path().join("studio.db");
    let mut writer = Writer::open(&database).unwrap();
    writer.commit(&[create(1), create(2)]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Each commit makes one task and ends the one before, so two are never both queued or both ended.
            for number in 3..100_000 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                writer.commit(&[create(number), moves(number - 1, StateKind::Queued, fails())]).unwrap();
            }
        });
        for round in 0..10 {
            let copy = home.path().join(format!("copy-{round}.db"));
            back_up(&database, &copy).unwrap();
            let counts = Reader::open(&copy).unwrap().counts().unwrap();
            assert_eq!(counts[&StateKind::Queued], 2, "{counts:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn three_of_each_kind_are_kept() {
    let (_home, database) = home();
    let backups = Backups::of(&database);
    for day in 1..=5 {
        backups.make(Why::Daily, at(1000 + day * 86_400)).unwrap();
    }
    backups.make(Why::BeforeMigration, at(7)).unwrap();
    let kept: Vec<_> = backups.list().into_iter().map(|backup| (backup.why, backup.at)).collect();
    let daily = |day: i64| (Why::Daily, at(1000 + day * 86_400));
    assert_eq!(kept, [daily(5), daily(4), daily(3), (Why::BeforeMigration, at(7))]);
}

#[test]
fn a_backup_is_due_every_day_and_every_hour_in_which_something_changed() {
    let (_home, database) = home();
    let backups = Backups::of(&database);
    // A backup's name has its time in milliseconds.
    let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
    let minute = SignedDuration::from_mins(1);
    assert_eq!(backups.due(now), Due::Now(Why::Daily), "the last is older than a day");
    backups.make(Why::Daily, now - 61 * minute).unwrap();
    assert_eq!(backups.due(now), Due::Now(Why::Hourly));
    backups.make(Why::Hourly, now + minute).unwrap();
    assert_eq!(backups.due(now + 31 * minute), Due::In(Duration::from_secs(30 * 60)));
    assert_eq!(backups.due(now + 61 * minute), Due::In(Duration::from_secs(3600)), "nothing was written since");
    assert_eq!(backups.due(now - 600 * minute), Due::In(Duration::from_secs(3600)), "the clock was set back");
    assert_eq!(backups.due(now + 24 * 60 * minute), Due::Now(Why::Daily));
}

#[test]
fn restoring_keeps_what_was_there_and_refuses_what_it_does_not_understand() {
    let (home, database) = home();
    let now = content(&database);
    let old = Backups::of(&database).list().remove(0).path;
    restore(&old, &database, at(5000)).unwrap();
    assert_eq!(tasks(&database), 100);
    let kept = Backups::of(&database).list().into_iter().find(|backup| backup.why == Why::BeforeRestore).unwrap();
    assert_eq!(content(&kept.path), now, "what was there can be restored in turn");
    restore(&kept.path, &database, at(5001)).unwrap();
    assert_eq!(content(&database), now);

    let newer = home.path().join("newer.db");
    back_up(&database, &newer).unwrap();
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(restore(&newer, &database, at(1)), Err(StoreError::Newer { found: 999, .. })));
    let text = home.path().join("text");
    fs::write(&text, "hello ".repeat(1000)).unwrap();
    let other = home.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE a (b); PRAGMA user_version = 2").unwrap();
    assert!(matches!(restore(&other, &database, at(1)), Err(StoreError::NotOurs { .. })));
    for bad in [text, home.path().join("missing.db")] {
        let refused = restore(&bad, &database, at(1));
        assert!(matches!(refused, Err(StoreError::Open { .. })), "{refused:?}");
    }
    assert_eq!(content(&database), now, "a refused restore changes nothing");
}

/// Its rows since the backup are lost, and the chain goes on from there.
#[test]
fn a_damaged_audit_log_is_replaced_too_and_its_copies_are_kept_apart() {
    let (_home, database) = home();
    let path = database.with_file_name("audit.db");
    let entry = |number: i64| Entry {
        at: at(number),
        who: "ana".into(),
        address: "local".into(),
        action: "task.submit".into(),
        target: None,
        outcome: "ok".into(),
        detail: None,
    };
    let audit = Audit::open(&path).unwrap();
    audit.append(&[entry(1), entry(2)]).unwrap();
    let backup = Backups::of(&path).make(Why::Daily, at(1000)).unwrap();
    assert_eq!(fs::metadata(&backup.path).unwrap().permissions().mode() & 0o777, 0o600);
    audit.append(&[entry(3)]).unwrap();
    drop(audit);
    assert!(matches!(restore(&backup.path, &database, at(1500)).unwrap_err(), StoreError::NotOurs { .. }));

    overwrite(&path, 0, &[0xff; 100]);
    let recovery = recover(&path, at(2000)).unwrap().unwrap();
    assert_eq!((recovery.kind(), &recovery.restored), (Kind::Audit, &Some(backup)));
    let audit = Audit::open(&path).unwrap();
    audit.append(&[entry(4)]).unwrap();
    assert!(matches!(audit.verify().unwrap(), Chain::Whole { rows: 3, .. }));
    assert_eq!(recoveries(&database), [recovery]);
    assert_eq!((Backups::of(&path).list().len(), Backups::of(&database).list().len()), (1, 1));
    assert!(recover(&database, at(2000)).unwrap().is_none());
}
