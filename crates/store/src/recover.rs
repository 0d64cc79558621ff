//! What the studio starts from when its database is damaged or gone.
//!
//! A recovery may be cut off at any moment, by a crash or a full disk. What it is about to do is on disk before it does it
//! (the plan, which becomes the story that people are told), so that the next start goes on with it; nothing is moved
//! before all that is needed is there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Backup, Backups, Result,
    backup::{Kind, at, copy, sync_folder},
    check::{self, beside, shm, wal},
};

/// A damaged database was found and replaced. Told until the file set aside is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub at: Timestamp,
    /// In SQLite's words.
    pub damage: String,
    /// The damaged file; where there was none, this note itself.
    pub set_aside: PathBuf,
    /// `None`: there was no good copy, and the studio started with an empty database.
    pub restored: Option<Backup>,
}

impl Recovery {
    /// Which database it was.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.set_aside)
    }

    /// There was no file, damaged or not.
    pub fn was_missing(&self) -> bool {
        is_story(&self.set_aside)
    }
}

/// Looks whether the database is damaged, or gone although there was one. If so, sets it aside and puts the newest good
/// backup in its place.
///
/// Call it before the database is opened, as the owner of its folder.
pub fn recover(database: &Path, now: Timestamp) -> Result<Option<Recovery>> {
    step_by_step(database, now, &mut || Ok(()))
}

/// `step` is called between any two steps that change something; an error ends it there.
fn step_by_step(database: &Path, now: Timestamp, step: &mut dyn FnMut() -> Result<()>) -> Result<Option<Recovery>> {
    let (suspect, incoming, plan) = (check::suspicion(database), beside(database, ".incoming"), plan(database));
    let backups = Backups::of(database);
    let recovery = match read(&plan) {
        Some(recovery) => recovery,
        None => {
            let missing = !database.exists();
            let damage = match missing && was_there(database, &backups) {
                true => Some("the file is gone".to_owned()),
                false => check::damage_at_start(database, &backups)?,
            };
            let Some(damage) = damage else {
                let _ = fs::remove_file(&suspect);
                return Ok(None);
            };
            // All that takes room comes first: on a full disk nothing was moved yet.
            let restored = backups.newest_good();
            if let Some(backup) = &restored {
                copy(&backup.path, &incoming)?;
            }
            step()?;
            let aside = check::aside(database, now);
            let set_aside = if missing { story(&aside) } else { aside };
            let recovery = Recovery { at: now, damage, set_aside, restored };
            write(&plan, &recovery)?;
            step()?;
            recovery
        }
    };
    let aside = if recovery.was_missing() { recovery.set_aside.with_extension("") } else { recovery.set_aside.clone() };
    // Once it has been moved, what lies there is what took its place.
    if !aside.exists() && !recovery.was_missing() {
        rename(database, &aside)?;
        step()?;
    }
    if !database.exists() {
        // Taken for the next database's, its write-ahead log would damage that one.
        for (from, to) in [(wal(database), wal(&aside)), (shm(database), shm(&aside))] {
            if from.exists() {
                rename(&from, &to)?;
                step()?;
            }
        }
        if let Some(backup) = &recovery.restored {
            copy(&backup.path, &incoming)?;
            step()?;
            rename(&incoming, database)?;
            step()?;
        }
    }
    let _ = fs::remove_file(&suspect);
    rename(&plan, &story(&aside))?;
    Ok(Some(recovery))
}

/// Recoveries whose damaged file is still there, the newest first.
pub fn recoveries(database: &Path) -> Vec<Recovery> {
    let files = fs::read_dir(database.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten();
    let stories = files.map(|file| file.path()).filter(|path| is_story(path));
    let mut told: Vec<Recovery> =
        stories.filter_map(|path| read(&path)).filter(|recovery| recovery.set_aside.exists()).collect();
    told.sort_by_key(|recovery| std::cmp::Reverse(recovery.at));
    told
}

/// Something beside where the database should be says that there was one.
fn was_there(database: &Path, backups: &Backups) -> bool {
    let name = database.file_name().unwrap_or_default().to_string_lossy();
    let damaged = format!("{name}.damaged-");
    let mut files = fs::read_dir(database.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten();
    wal(database).exists()
        || !backups.list().is_empty()
        || files.any(|file| file.file_name().to_string_lossy().starts_with(&damaged))
}

/// What is being done; gone when it is done.
fn plan(database: &Path) -> PathBuf {
    beside(database, ".recovery")
}

fn story(aside: &Path) -> PathBuf {
    beside(aside, ".story")
}

fn is_story(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "story")
}

fn read(path: &Path) -> Option<Recovery> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// On disk, whole, before it has its name.
fn write(path: &Path, recovery: &Recovery) -> Result<()> {
    let draft = beside(path, ".partial");
    let text = serde_json::to_vec(recovery).expect("plain data");
    let written = File::create(&draft).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(at(&draft))?;
    rename(&draft, path)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let renamed: io::Result<()> = fs::rename(from, to).and_then(|()| sync_folder(to));
    renamed.map_err(at(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreError, Why, Writer};

    const STOPPED: fn() -> StoreError =
        || StoreError::Corrupt { what: "nothing", message: "the test stops here".into() };

    fn moment(second: i64) -> Timestamp {
        Timestamp::from_second(1_760_000_000 + second).unwrap()
    }

    /// A database and what its backup says.
    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join("studio.db");
        drop(Writer::open(&database).unwrap());
        set(&database, 1);
        Backups::of(&database).make(Why::Daily, moment(0)).unwrap();
        set(&database, 2);
        (home, database)
    }

    fn set(database: &Path, value: u32) {
        let connection = rusqlite::Connection::open(database).unwrap();
        connection
            .execute("INSERT OR REPLACE INTO setting (key, value) VALUES ('mark', ?)", [value.to_string()])
            .unwrap();
    }

    fn value(database: &Path) -> Option<String> {
        let connection = rusqlite::Connection::open(database).unwrap();
        connection.query_row("SELECT value FROM setting WHERE key = 'mark'", [], |row| row.get(0)).ok()
    }

    type Break = fn(&Path);
    const DAMAGES: [(&str, Break); 3] = [
        ("garbage", |database| fs::write(database, "no database, ".repeat(1000)).unwrap()),
        ("garbage and a write-ahead log", |database| {
            fs::write(database, "no database, ".repeat(1000)).unwrap();
            fs::write(wal(database), "of the damaged one").unwrap();
        }),
        ("gone", |database| fs::remove_file(database).unwrap()),
    ];

    #[test]
    fn cut_off_at_any_step_the_next_start_ends_with_the_backup_and_tells_it() {
        for (name, damage) in DAMAGES {
            let mut cut = 0;
            for stop_at in 1.. {
                let (_home, database) = home();
                damage(&database);
                let mut steps = 0;
                let cut_off = step_by_step(&database, moment(10), &mut || {
                    steps += 1;
                    if steps == stop_at { Err(STOPPED()) } else { Ok(()) }
                });
                if cut_off.is_ok() {
                    break;
                }
                cut += 1;
                let recovery = recover(&database, moment(20)).unwrap();
                let recovery = recovery.unwrap_or_else(|| panic!("{name}, step {stop_at}: not told"));
                assert_eq!(
                    recovery.restored.as_ref().map(|backup| backup.at),
                    Some(moment(0)),
                    "{name}, step {stop_at}"
                );
                assert_eq!(value(&database).as_deref(), Some("1"), "{name}, step {stop_at}");
                assert_eq!(recoveries(&database), [recovery], "{name}, step {stop_at}: told once");
                assert_eq!(recover(&database, moment(30)).unwrap(), None, "{name}, step {stop_at}: over");
            }
            assert!(cut >= 4, "{name}: {cut} steps");
        }
    }

    #[test]
    fn a_database_that_is_gone_is_no_new_home() {
        let (home, database) = home();
        fs::remove_file(&database).unwrap();
        let recovery = recover(&database, moment(10)).unwrap().unwrap();
        assert!(recovery.was_missing() && recovery.restored.is_some(), "{recovery:?}");
        assert_eq!(value(&database).as_deref(), Some("1"));
        fs::remove_file(&recovery.set_aside).unwrap();
        assert_eq!(recoveries(&database), []);

        fs::remove_dir_all(home.path().join("backups")).unwrap();
        fs::write(&database, "no database, ".repeat(1000)).unwrap();
        assert_eq!(recover(&database, moment(20)).unwrap().unwrap().restored, None);
        assert!(!database.exists(), "an empty one is made by whoever opens it");
        assert!(recover(&database, moment(30)).unwrap().is_some_and(|recovery| recovery.was_missing()), "and told");
    }
}
