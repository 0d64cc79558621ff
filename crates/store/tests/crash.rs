//! A commit that is cut off, at any write and after any statement, leaves the state before it or the one after it.

mod common;

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use common::{content, create, fails, moves, turn};
use domain::StateKind;
use rustix::process::{Resource, Rlimit, setrlimit};
use store::{StoreError, Writer, recover};

/// The mode of the child that is to be cut off.
const MODE: &str = "STORE_TEST_MODE";

/// Writes more than this far into a file fail or kill; which, the parent has decided.
fn limit_files(bytes: Option<u64>) {
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

/// Not a test: what the others run and cut off.
#[test]
fn child() {
    let Ok(mode) = env::var(MODE) else { return };
    let database = env::var("STORE_TEST_DATABASE").unwrap();
    let limit: u64 = env::var("STORE_TEST_LIMIT").unwrap().parse().unwrap();
    let mut writer = Writer::open(Path::new(&database)).unwrap();
    if mode == "close" {
        writer.commit(&turn(10)).unwrap();
        println!("committed");
        limit_files(Some(limit));
        drop(writer);
        return;
    }
    limit_files(Some(limit));
    let committed = writer.commit(&turn(10)).is_ok();
    println!("{}", if committed { "committed" } else { "refused" });
    limit_files(None);
    // Whatever went wrong, the next turn can be saved once there is room.
    writer.commit(&[create(20)]).unwrap();
    println!("went on");
}

/// Runs the child to wherever the limit lets it get.
fn cut_off(database: &Path, mode: &str, limit: u64) -> Output {
    let mut command = Command::new("sh");
    // An ignored SIGXFSZ makes the write fail, as on a full disk; else it kills.
    let script = if mode == "error" { "trap '' XFSZ; exec \"$@\"" } else { "exec \"$@\"" };
    command.args(["-c", script, "sh"]).arg(env::current_exe().unwrap()).args(["--exact", "child", "--nocapture"]);
    command.env(MODE, mode).env("STORE_TEST_DATABASE", database).env("STORE_TEST_LIMIT", limit.to_string());
    command.output().unwrap()
}

struct Template {
    folder: tempfile::TempDir,
    before: String,
    after: String,
    size: u64,
}

impl Template {
    fn new() -> Template {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("studio.db");
        Writer::open(&template).unwrap().commit(&[create(1), create(2), create(3)]).unwrap();
        let before = content(&template);
        let committed = folder.path().join("after.db");
        fs::copy(&template, &committed).unwrap();
        Writer::open(&committed).unwrap().commit(&turn(10)).unwrap();
        let (after, size) = (content(&committed), fs::metadata(&template).unwrap().len());
        Template { folder, before, after, size }
    }

    fn fresh(&self) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("studio.db");
        fs::copy(self.folder.path().join("studio.db"), &database).unwrap();
        (folder, database)
    }
}

/// The database as the next start finds it.
fn reopened(database: &Path) -> String {
    assert_eq!(recover(database, common::at(100)).unwrap(), None, "nothing is damaged");
    drop(Writer::open(database).unwrap());
    content(database)
}

#[test]
fn a_process_killed_at_any_write_of_a_commit_leaves_the_state_before_or_after() {
    let template = Template::new();
    let (mut before, mut after) = (0, 0);
    for limit in (0..96 << 10).step_by(1024) {
        let (_folder, database) = template.fresh();
        let output = cut_off(&database, "kill", limit);
        let found = reopened(&database);
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("committed") {
            // It went on to another commit then.
            assert!(output.status.success(), "{limit}: {said}");
            after += 1;
            continue;
        }
        assert!(!output.status.success(), "{limit}: {said}");
        assert!(found == template.before || found == template.after, "{limit}: between:\n{found}");
        before += 1;
    }
    println!("killed in {before} commits, {after} were through");
    assert!(before >= 8 && after >= 8, "{before} and {after}: the limits miss the commit");
}

#[test]
fn a_write_that_fails_anywhere_in_a_commit_leaves_the_state_before_and_the_next_one_goes_through() {
    let template = Template::new();
    let (mut refused, mut committed) = (0, 0);
    for limit in (0..96 << 10).step_by(1024) {
        let (_folder, database) = template.fresh();
        let output = cut_off(&database, "error", limit);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("went on"), "{limit}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let found = reopened(&database);
        let (_other, expected) = template.fresh();
        let mut writer = Writer::open(&expected).unwrap();
        if said.contains("refused") {
            refused += 1;
        } else {
            committed += 1;
            writer.commit(&turn(10)).unwrap();
        }
        writer.commit(&[create(20)]).unwrap();
        drop(writer);
        assert_eq!(found, content(&expected), "{limit}");
    }
    println!("{refused} commits refused, {committed} went through");
    assert!(refused >= 8 && committed >= 8, "{refused} and {committed}: the limits miss the commit");
}

/// When the write-ahead log goes into the database itself.
#[test]
fn a_process_killed_at_any_write_of_a_checkpoint_loses_nothing() {
    let template = Template::new();
    let mut killed = 0;
    for limit in (0..=template.size).step_by(4096) {
        let (_folder, database) = template.fresh();
        let output = cut_off(&database, "close", limit);
        assert!(String::from_utf8_lossy(&output.stdout).contains("committed"));
        killed += u32::from(!output.status.success());
        assert_eq!(reopened(&database), template.after, "{limit}");
    }
    println!("killed in {killed} checkpoints");
    assert!(killed >= 8, "{killed}: the limits miss the checkpoint");
}

#[test]
fn a_statement_that_fails_takes_all_before_it_back() {
    let template = Template::new();
    for place in 0..=turn(10).len() {
        let (_folder, database) = template.fresh();
        let mut changes = turn(10);
        changes.insert(place, moves(3, StateKind::Training, fails()));
        let refused = Writer::open(&database).unwrap().commit(&changes);
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{place}: {refused:?}");
        assert_eq!(reopened(&database), template.before, "{place}");
    }
}
