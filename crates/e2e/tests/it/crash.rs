//! The studio dies at any moment; the trainings do not notice, and nothing that was answered is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use api_types::SubmitTask;
use client::testing::{Options, Studio, sage, wait_for};

use crate::support::{
    PATIENCE, fine_tune, held_open, path, script, since_launch, tiny, wait_reason, wait_status, wait_until, wrapped,
};

/// Xorshift: the same moments in every run.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn killed_twenty_times_at_random_moments() {
    let mut studio = Studio::start_with(Options::default().env("SAGE_GPU_MOCK_COUNT", "2"));
    let mut moments = Moments(0x5a6e);
    let mut long = fine_tune(&tiny(&studio), 1000);
    long.fine_tune.as_mut().unwrap().batch_size = Some(1);
    let long = studio.client().submit(&long).unwrap().task_id;
    let started = wait_status(&studio.client(), &long, "training").attempt.unwrap();

    let starts = studio.home().root().join("starts");
    let mut accepted = Vec::new();
    for _ in 0..20 {
        let client = studio.client();
        for _ in 0..moments.next(4) {
            let seconds = moments.next(200) as f64 / 1000.0;
            let task = script(&studio, &format!("echo $SAGE_TASK_ID >> {}; sleep {seconds}", starts.display()));
            accepted.push(client.submit(&task).unwrap().task_id);
        }
        // The planned failure itself, at a random moment.
        thread::sleep(Duration::from_millis(moments.next(120)));
        studio.kill();
        studio.launch();

        let client = studio.client();
        let now = client.task(&long).unwrap();
        assert_eq!(now.status, "training");
        assert_eq!(now.attempt.as_ref().unwrap().number, 1);
        for id in &accepted {
            client.task(id).unwrap_or_else(|error| panic!("{id} was answered and is lost: {error}"));
        }
    }

    let client = studio.client();
    let log = fs::read_to_string(studio.home().log()).unwrap();
    let adoptions = log.lines().filter(|line| line.ends_with(&format!("重新接管任务: {long}"))).count();
    assert_eq!(adoptions, 20, "{log}");
    let adopted = wait_until(&client, &long, "to have its pid again", |task| {
        task.attempt.as_ref().is_some_and(|attempt| attempt.pid.is_some())
    });
    assert_eq!(adopted.attempt.unwrap().pid, started.pid, "the very same process trains on");
    let step = client.task(&long).unwrap().progress.step;
    wait_until(&client, &long, "to go on", |task| task.progress.step > step);

    for id in &accepted {
        wait_status(&client, id, "completed");
        let launches = path(&client, id).iter().filter(|state| *state == "preparing").count();
        assert_eq!(launches, 1, "{id} was launched once: {:?}", path(&client, id));
    }
    let mut ran: Vec<String> = fs::read_to_string(&starts).unwrap().lines().map(str::to_owned).collect();
    ran.sort();
    let mut expected = accepted.clone();
    expected.sort();
    assert_eq!(ran, expected, "each accepted task ran exactly once");

    client.cancel(&long).unwrap();
    assert_eq!(since_launch(&client, &long), ["preparing", "training", "cancelled"]);
    studio.stop();
    wait_for("every process of this home to be gone", PATIENCE, || studio.processes().is_empty().then_some(()));
}

#[test]
fn what_ends_while_the_studio_is_away_is_known_when_it_is_back() {
    let mut studio = Studio::start_with(Options::default().env("SAGE_GPU_MOCK_COUNT", "3"));
    let gate = "while [ ! -e go ]; do sleep 0.02; done";
    let client = studio.client();
    let submit = |text: String| client.submit(&script(&studio, &text)).unwrap().task_id;
    let fine = submit(format!("{gate}; echo fine; touch fine"));
    let bad = submit(format!("{gate}; echo bad luck; touch bad; exit 7"));
    let long = submit("touch long; while [ ! -e end ]; do sleep 0.02; done".into());
    let next = submit("true".into());
    for id in [&fine, &bad, &long] {
        wait_status(&client, id, "training");
    }
    let root = studio.home().root().to_owned();
    studio.stop();
    fs::write(root.join("go"), "").unwrap();
    wait_for("both to end", PATIENCE, || (root.join("fine").exists() && root.join("bad").exists()).then_some(()));

    studio.launch();
    let client = studio.client();
    wait_status(&client, &fine, "completed");
    let failure = wait_status(&client, &bad, "failed").failure.unwrap();
    assert!(failure.en.contains("exit code 7") && failure.en.contains("bad luck"), "{failure:?}");
    wait_status(&client, &next, "completed");
    assert_eq!(client.task(&long).unwrap().status, "training");
    assert!(client.log(&fine, 0).unwrap().contains("fine"));

    // A cancel that the studio could only just write down is carried out by the next one.
    client.cancel(&long).unwrap();
    studio.kill();
    studio.launch();
    assert_eq!(studio.client().task(&long).unwrap().status, "cancelled");
    studio.stop();
    wait_for("every process of this home to be gone", PATIENCE, || studio.processes().is_empty().then_some(()));
}

#[test]
fn a_lost_supervisor_ends_the_task_with_a_reason_and_the_next_one_starts() {
    let studio = Studio::start();
    let client = studio.client();
    let task = client.submit(&script(&studio, "while [ ! -e end ]; do sleep 0.02; done; exit 5")).unwrap().task_id;
    let next = client.submit(&script(&studio, "true")).unwrap().task_id;
    let pid = wait_status(&client, &task, "training").attempt.unwrap().pid.unwrap();
    let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent: i32 = parent.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(parent).unwrap(), rustix::process::Signal::KILL)
        .unwrap();

    assert_eq!(client.task(&next).unwrap().status, "queued", "the training lives and holds its device");
    fs::write(studio.home().root().join("end"), "").unwrap();
    let failure = wait_status(&client, &task, "failed").failure.unwrap();
    // Newer kernels tell a stranger's exit code; on older ones it is said that nobody knows.
    assert!(["exit-code", "supervisor-lost"].contains(&failure.code.as_str()), "{failure:?}");
    wait_status(&client, &next, "completed");
}

/// Its files cannot be followed any more, which says nothing about its processes.
#[test]
fn a_training_that_cannot_be_watched_is_not_taken_for_over() {
    let studio = Studio::start();
    let client = studio.client();
    let retried = |task| SubmitTask { retries: Some(3), ..task };
    let unreadable = "mkdir $SAGE_ATTEMPT/../../metrics.jsonl; while [ ! -e go ]; do sleep 0.02; done";
    let task = client.submit(&retried(script(&studio, unreadable))).unwrap().task_id;
    let log = || fs::read_to_string(studio.home().log()).unwrap();
    wait_for("the studio to have met it", PATIENCE, || log().contains("cannot be followed").then_some(()));
    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_status(&client, &task, "completed");
    let forgetful = "while [ ! -e forget ]; do sleep 0.02; done; rm -r $SAGE_ATTEMPT; sleep 1000";
    let lost = client.submit(&retried(script(&studio, forgetful))).unwrap().task_id;
    let pid = wait_status(&client, &lost, "training").attempt.unwrap().pid;
    fs::write(studio.home().root().join("forget"), "").unwrap();
    wait_for("its folder to be gone", PATIENCE, || {
        (!studio.home().attempt(lost.parse().unwrap(), 1).exists()).then_some(())
    });
    assert_eq!(client.task(&lost).unwrap().attempt.unwrap().pid, pid);
    client.cancel(&lost).unwrap();
    let next = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &next, "completed");
    for id in [&task, &lost] {
        let launches = path(&client, id).iter().filter(|state| *state == "preparing").count();
        assert_eq!(launches, 1, "{id} was launched once: {:?}", path(&client, id));
    }
}

#[test]
fn where_the_kernel_gives_no_more_watches_tasks_run_as_ever() {
    let wrapper = tempfile::tempdir().unwrap();
    let Some(unwatched) = without_watches(wrapper.path()) else {
        eprintln!("SKIPPED where_the_kernel_gives_no_more_watches_…: no user namespace can be made here");
        return;
    };
    let studio = Studio::start_with(Options { sage: unwatched, ..Options::default() });
    let client = studio.client();
    let task = client.submit(&script(&studio, "echo said; while [ ! -e go ]; do sleep 0.02; done")).unwrap().task_id;
    wait_status(&client, &task, "training");
    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_status(&client, &task, "completed");
    assert_eq!(since_launch(&client, &task), ["preparing", "training", "completed"]);
    assert!(client.log(&task, 0).unwrap().contains("said"));
}

/// A `sage` for which inotify watches nothing.
fn without_watches(folder: &Path) -> Option<PathBuf> {
    let script = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_inotify_watches && exec \"$@\"' \
         sh \"${{SAGE_UNDER_TEST:-{}}}\" \"$@\"\n",
        sage().display()
    );
    wrapped(folder, &script)
}

/// What runs is not forgotten, so that its GPU does not look free.
#[test]
fn while_the_store_cannot_be_read_nothing_is_planned() {
    let studio = Studio::start();
    let client = studio.client();
    let running = client.submit(&held_open(&studio, "go")).unwrap().task_id;
    wait_status(&client, &running, "training");

    let intruder = rusqlite::Connection::open(studio.home().database()).unwrap();
    intruder.execute_batch("ALTER TABLE journal RENAME TO away; ALTER TABLE attempt RENAME TO gone").unwrap();
    for _ in 0..2 {
        let refused = client.submit(&script(&studio, "true")).unwrap_err().to_string();
        assert!(refused.contains("not-saved") || refused.contains("could not be saved"), "{refused}");
    }
    intruder.execute_batch("ALTER TABLE away RENAME TO journal; ALTER TABLE gone RENAME TO attempt").unwrap();
    let next = wait_for("the studio to accept tasks again", PATIENCE, || client.submit(&script(&studio, "true")).ok());
    wait_reason(&client, &next.task_id, "to wait for the GPU", |wait| wait.code == "devices_busy");
    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_status(&client, &running, "completed");
    wait_status(&client, &next.task_id, "completed");
}

#[test]
fn what_cannot_be_saved_is_refused_and_what_happened_meanwhile_is_written_down_later() {
    let studio = Studio::start();
    let client = studio.client();
    let running = client.submit(&held_open(&studio, "go")).unwrap().task_id;
    let waiting = client.submit(&script(&studio, "true")).unwrap().task_id;
    let pid = wait_status(&client, &running, "training").attempt.unwrap().pid.unwrap();

    // Nobody else can write as long as this lives.
    let intruder = rusqlite::Connection::open(studio.home().database()).unwrap();
    intruder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let refused = client.submit(&script(&studio, "true")).unwrap_err().to_string();
    assert!(refused.contains("not-saved") || refused.contains("could not be saved"), "{refused}");
    fs::write(studio.home().root().join("go"), "").unwrap();
    wait_for("the training to end", PATIENCE, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    assert_eq!(client.tasks(&Default::default()).unwrap().tasks.len(), 2, "the refused one left nothing behind");
    intruder.execute_batch("ROLLBACK").unwrap();

    wait_status(&client, &running, "completed");
    wait_status(&client, &waiting, "completed");
    let next = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &next, "completed");
}
