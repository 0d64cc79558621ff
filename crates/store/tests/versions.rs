//! Databases of every version are brought up to date, with a backup of what they were.
//!
//! `fixtures/<migration>.sql` is a dump of a home as that version left it: a completed fine-tune, a failed and a deleted
//! command, one that runs, one that waits, a held fine-tune, two accounts. They are kept for ever.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::create;
use domain::{Recipe, StateKind};
use rusqlite::Connection;
use store::{Accounts, Backups, Filter, Reader, Why, Writer};

fn folder(name: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_version_but_the_newest_has_a_fixture() {
    let names = |files: Vec<std::path::PathBuf>| files.into_iter().map(|path| path.file_name().unwrap().to_owned());
    let (migrations, fixtures) = (names(folder("src/migrations")), names(folder("tests/fixtures")));
    let missing: Vec<_> = migrations.rev().skip(1).filter(|name| !fixtures.clone().any(|made| made == *name)).collect();
    assert!(missing.is_empty(), "dump a home of that version before there is a newer one: {missing:?}");
}

#[test]
fn databases_of_every_version_are_brought_up_to_date() {
    let fixtures = folder("tests/fixtures");
    for (version, fixture) in (1u32..).zip(&fixtures) {
        let name = fixture.display();
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join("studio.db");
        let dump = Connection::open(&database).unwrap();
        dump.execute_batch(&fs::read_to_string(fixture).unwrap()).unwrap();
        let found: u32 = dump.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, version, "{name}");
        drop(dump);

        let mut writer = Writer::open(&database).unwrap_or_else(|error| panic!("{name}: {error}"));
        let backups = Backups::of(&database).list();
        let newest = folder("src/migrations").len() as u32;
        assert_eq!(backups.len(), usize::from(version < newest), "{name}: {backups:?}");
        for backup in backups {
            assert_eq!(backup.why, Why::BeforeMigration);
            let copy = Connection::open(&backup.path).unwrap();
            let kept: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(kept, version, "the backup is of before");
        }

        let reader = Reader::open(&database).unwrap();
        let kinds = BTreeMap::from([
            (StateKind::Completed, 1),
            (StateKind::Failed, 1),
            (StateKind::Training, 1),
            (StateKind::Queued, 1),
            (StateKind::Pending, 1),
        ]);
        assert_eq!(reader.counts().unwrap(), kinds, "{name}");
        let tasks = reader.tasks(Filter::default()).unwrap();
        assert_eq!(tasks.len(), 5, "{name}");
        let completed = tasks.last().unwrap();
        assert_eq!((completed.task.name.as_deref(), completed.progress.percent), (Some("first"), 100.0), "{name}");
        let Recipe::FineTune(recipe) = &completed.task.recipe else { panic!("{name}: {completed:?}") };
        assert_eq!((recipe.num_epochs, recipe.lora_rank), (2, 8), "{name}");
        let history = reader.journal(completed.task.id).unwrap();
        let history: Vec<&str> = history.iter().map(|row| row.to.as_str()).collect();
        assert_eq!(history, ["preparing", "training", "completed"], "{name}");

        assert_eq!(writer.queued().unwrap().len(), 1, "{name}");
        let live = writer.live_attempts().unwrap();
        assert_eq!((live.len(), live[0].record.task.id.number, live[0].attempt.number), (1, 4, 1), "{name}");
        let owner = Accounts::open(&database).unwrap().by_name("ana").unwrap().expect("ana is still known");
        assert!(owner.password_hash.unwrap().starts_with("$argon2id$"), "{name}");
        // It can be written as if it had always been of this version.
        assert_eq!(writer.last_number().unwrap(), 6, "{name}");
        writer.commit(&[create(7)]).unwrap();
    }
}
