//! Disks that fill up, break or lie, machines that go down, and a studio that is killed while people submit.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use client::{
    Client, Endpoint, ProcessId, TaskFilter,
    testing::{Options, Studio, sage, wait_for},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, SetWhenDropped, fine_tune, path, script, since_launch, tiny, wait_status, wrapped};

/// What was answered before a kill -9 is there after it, runs once, and every step of it is in the journal.
#[test]
fn killed_again_and_again_while_four_people_submit() {
    let mut studio = Studio::start_with(Options::default().env("SAGE_GPU_MOCK_COUNT", "4"));
    let starts = studio.home().root().join("starts");
    let task = script(&studio, &format!("echo $SAGE_TASK_ID >> {}", starts.display()));
    let mut answered = Vec::new();
    for round in 0..10u64 {
        let (over, submits) = (AtomicBool::new(false), AtomicU32::new(0));
        let clients: Vec<_> = (0..4).map(|_| studio.client()).collect();
        thread::scope(|scope| {
            let _at_the_end = SetWhenDropped(&over);
            let people: Vec<_> = clients
                .iter()
                .map(|client| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        while !over.load(Ordering::Relaxed) {
                            match client.submit(&task) {
                                Ok(view) => {
                                    mine.push(view.task_id);
                                    submits.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(_) => break,
                            }
                        }
                        mine
                    })
                })
                .collect();
            wait_for("some to be answered", PATIENCE, || (submits.load(Ordering::Relaxed) > 1).then_some(()));
            // The planned failure, at another moment each time.
            thread::sleep(Duration::from_millis(round * 37 % 110));
            studio.kill();
            over.store(true, Ordering::Relaxed);
            answered.extend(people.into_iter().flat_map(|person| person.join().unwrap()));
        });
        studio.launch();
        let client = studio.client();
        for id in &answered {
            client.task(id).unwrap_or_else(|error| panic!("{id} was answered and is lost: {error}"));
        }
    }
    let client = studio.client();
    let mut all = Vec::new();
    let mut before = None;
    loop {
        let page = client.tasks(&TaskFilter { before: before.take(), ..TaskFilter::default() }).unwrap();
        all.extend(page.tasks.into_iter().map(|task| task.task_id));
        before = page.next_before;
        if before.is_none() {
            break;
        }
    }
    for id in &all {
        wait_status(&client, id, "completed");
        let path = path(&client, id);
        assert!(["queued", "preparing"].contains(&path[0].as_str()) && path.last().unwrap() == "completed", "{path:?}");
        assert_eq!(path.iter().filter(|state| *state == "preparing").count(), 1, "{id}: {path:?}");
    }
    let mut ran: Vec<String> = fs::read_to_string(&starts).unwrap().lines().map(str::to_owned).collect();
    let mut expected = all.clone();
    ran.sort();
    expected.sort();
    assert_eq!(ran, expected, "each ran exactly once");
    println!("{} submits answered, {} tasks in all, 10 kills", answered.len(), all.len());
    assert!(answered.len() > 10, "{}", answered.len());
}

/// A file system of its own, unmounted at the end.
struct Disk {
    at: tempfile::TempDir,
}

impl Disk {
    fn mount(arguments: &[&str]) -> Option<Disk> {
        let at = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(arguments).arg(at.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Disk { at })
    }

    fn folder(&self) -> tempfile::TempDir {
        tempfile::TempDir::new_in(self.at.path()).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.at.path()).status();
    }
}

#[test]
fn on_a_full_disk_what_cannot_be_saved_is_refused_and_nothing_else_suffers() {
    let Some(disk) = Disk::mount(&["-t", "tmpfs", "-o", "size=16m", "tmpfs"]) else {
        eprintln!("SKIPPED on_a_full_disk_…: no tmpfs can be mounted here");
        return;
    };
    let studio = Studio::start_in(disk.folder(), Options::default());
    let client = studio.client();
    let gate = tempfile::tempdir().unwrap();
    let go = gate.path().join("go");
    let running = script(&studio, &format!("while [ ! -e {} ]; do sleep 0.02; done", go.display()));
    let running = client.submit(&running).unwrap().task_id;
    wait_status(&client, &running, "training");

    let filler = disk.at.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let refused = wait_for("a submission to be refused", PATIENCE, || client.submit(&script(&studio, "true")).err());
    assert!(refused.to_string().contains("full") || refused.to_string().contains("saved"), "{refused}");
    assert_eq!(client.task(&running).unwrap().status, "training", "reading goes on, and so does the training");
    let before = client.tasks(&Default::default()).unwrap().tasks.len();
    fs::write(&go, "").unwrap();

    drop(file);
    fs::remove_file(&filler).unwrap();
    wait_status(&client, &running, "completed");
    let next = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &next, "completed");
    assert!(client.tasks(&Default::default()).unwrap().tasks.len() <= before + 1, "a refused one left nothing behind");
}

/// As a kernel does with a file system on which it has found an error.
#[test]
fn a_disk_that_turns_read_only_loses_nothing_that_was_answered() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(64 << 20).unwrap();
    let image_path = image.path().display().to_string();
    let made = Command::new("mkfs.ext4").args(["-q", &image_path]).output();
    let mount = ["-o", "loop,errors=remount-ro", &image_path];
    let Some(disk) = made.is_ok_and(|output| output.status.success()).then(|| Disk::mount(&mount)).flatten() else {
        eprintln!("SKIPPED a_disk_that_turns_read_only_…: no ext4 can be made and mounted here");
        return;
    };
    let mut studio = Studio::start_in(disk.folder(), Options::default());
    let client = studio.client();
    let done = client.submit(&script(&studio, "echo well")).unwrap().task_id;
    wait_status(&client, &done, "completed");
    let gate = tempfile::tempdir().unwrap();
    let go = gate.path().join("go");
    let running = script(&studio, &format!("while [ ! -e {} ]; do sleep 0.02; done", go.display()));
    let running = client.submit(&running).unwrap().task_id;
    let waiting = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &running, "training");

    let device = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(disk.at.path()).output().unwrap();
    let device = String::from_utf8(device.stdout).unwrap();
    let device = device.trim().rsplit('/').next().unwrap().to_owned();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    let refused = client.submit(&script(&studio, "true")).unwrap_err();
    assert!(refused.to_string().contains("saved") || refused.to_string().contains("disk"), "{refused}");
    assert_eq!(client.task(&running).unwrap().status, "training");
    assert_eq!(client.tasks(&Default::default()).unwrap().tasks.len(), 3);
    // Its end cannot be recorded either.
    fs::write(&go, "").unwrap();
    studio.kill();
    wait_for("all processes to be gone", PATIENCE, || studio.processes().is_empty().then_some(()));

    // Somebody repairs it and starts the studio again.
    assert!(Command::new("umount").arg(disk.at.path()).status().unwrap().success());
    let checked = Command::new("e2fsck").args(["-p", "-f", &image_path]).output().unwrap();
    assert!(checked.status.code().is_some_and(|code| code < 4), "{checked:?}");
    let mounted = Command::new("mount").args(["-o", "loop", &image_path]).arg(disk.at.path()).status().unwrap();
    assert!(mounted.success());
    studio.launch();
    let client = studio.client();
    assert_eq!(client.task(&done).unwrap().status, "completed");
    let ended = wait_for("the one that ended unseen", PATIENCE, || {
        let task = client.task(&running).unwrap();
        ["completed", "failed"].contains(&task.status.as_str()).then_some(task)
    });
    let code = ended.failure.map(|failure| failure.code);
    // What the check of the disk left of its records decides how much is known.
    let honest = ["supervisor-lost", "interrupted"].map(Some).contains(&code.as_deref());
    assert!(honest || ended.status == "completed", "{code:?}");
    wait_status(&client, &waiting, "completed");
    assert_eq!(client.tasks(&Default::default()).unwrap().tasks.len(), 3, "the refused one left nothing behind");
}

#[test]
fn a_damaged_database_is_replaced_by_the_newest_backup_and_everybody_is_told() {
    let mut studio = Studio::start();
    let client = studio.client();
    let kept = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &kept, "completed");
    let (succeeded, backup, _) = run(&studio, &["studio", "backup"]);
    assert!(succeeded);
    let (succeeded, _, refused) = run(&studio, &["studio", "restore", backup.trim()]);
    assert!(!succeeded && refused.contains("studio-already-running"), "{refused}");
    let lost = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &lost, "completed");
    studio.stop();

    let (database, audit) = (studio.home().database(), studio.home().audit());
    for file in [&database, &audit] {
        let settle = rusqlite::Connection::open(file).unwrap();
        settle.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0x5a);
    fs::write(&database, &bytes).unwrap();
    fs::write(&audit, vec![0x5a; 8192]).unwrap();

    studio.launch();
    let client = studio.client();
    assert_eq!(client.task(&kept).unwrap().status, "completed");
    assert!(client.task(&lost).is_err(), "it came after the backup");
    let folder = studio.home().task(lost.parse().unwrap());
    assert!(folder.exists(), "its files are still there");
    let (_, status, _) = run(&studio, &["studio", "status"]);
    assert!(status.contains("[database-damaged]") && status.contains("studio.db.damaged-"), "{status}");
    let log = fs::read_to_string(studio.home().log()).unwrap();
    assert!(log.contains("ERROR [database-damaged]"), "{log}");
    let recoveries = client.studio().unwrap().recoveries;
    let databases: Vec<&str> = recoveries.iter().map(|recovery| recovery.database.as_str()).collect();
    assert!(recoveries.iter().all(|recovery| recovery.backup_of.is_some()), "{recoveries:?}");
    assert!(databases.len() == 2 && databases.contains(&"studio") && databases.contains(&"audit"), "{databases:?}");
    let (_, chain, _) = run(&studio, &["audit", "list", "--action", "audit", "--json"]);
    assert!(chain.contains("audit.restore"), "{chain}");
    assert!(run(&studio, &["audit", "verify"]).0, "the chain goes on from the backup");
    let next = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &next, "completed");

    for entry in fs::read_dir(studio.home().root()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains(".db.damaged-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let (_, status, _) = run(&studio, &["studio", "status"]);
    assert!(!status.contains("database-damaged"), "{status}");

    // By hand, back to before the damage was noticed.
    studio.stop();
    let (succeeded, _, refused) = run(&studio, &["studio", "restore", backup.trim()]);
    assert!(succeeded, "{refused}");
    studio.launch();
    assert!(studio.client().task(&next).is_err() && studio.client().task(&kept).is_ok());
}

/// The machine goes down with everything on it and comes up with another boot id.
#[test]
fn after_a_reboot_a_training_goes_on_from_its_checkpoint_and_a_command_says_that_it_was_interrupted() {
    let wrapper = tempfile::tempdir().unwrap();
    let Some(rebooted) = on_another_boot(wrapper.path()) else {
        eprintln!("SKIPPED after_a_reboot_…: no mount namespace can be made here");
        return;
    };
    let config = "[tasks]\ngrace = \"2s\"\nretry_after = \"1s\"\n";
    let options = Options { config: config.into(), ..Options::default() }.env("SAGE_GPU_MOCK_COUNT", "2");
    let mut studio = Studio::start_with(options.clone());
    let client = studio.client();
    let mut task = fine_tune(&tiny(&studio), 200);
    task.fine_tune.as_mut().unwrap().checkpoint_every_steps = Some(20);
    let id = client.submit(&task).unwrap().task_id;
    let checkpoints = studio.home().task(id.parse().unwrap()).join("checkpoints");
    wait_for("its first checkpoint", PATIENCE, || fs::read_dir(&checkpoints).ok()?.flatten().next());
    let command = client.submit(&script(&studio, "sleep 1000")).unwrap().task_id;
    wait_status(&client, &command, "training");
    studio.kill();
    // Supervisors first, so that none sees its task die.
    for part in ["supervise", ""] {
        for pid in studio.processes() {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.contains(part) {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
            }
        }
    }
    wait_for("the machine to be down", PATIENCE, || studio.processes().is_empty().then_some(()));

    let studio = Studio::start_in(studio.into_folder(), Options { sage: rebooted, ..options });
    // Its own record of where it answers is of a boot that is not ours.
    let process = ProcessId::current().unwrap();
    let client = Client::to(&Endpoint { process, address: studio.address(), page: None, token: None });
    wait_status(&client, &id, "completed");
    assert_eq!(since_launch(&client, &id), ["preparing", "training", "queued", "preparing", "training", "completed"]);
    let metrics = client.metrics(&id).unwrap();
    assert!(metrics.train.len() < 1600, "it went on instead of beginning again: {}", metrics.train.len());
    let journal = client.journal(&command).unwrap();
    let told = journal.iter().any(|entry| entry.why.contains("interrupted"));
    assert!(told, "{journal:#?}");
}

/// A `sage` that sees another boot id than we do.
fn on_another_boot(folder: &Path) -> Option<PathBuf> {
    let boot_id = folder.join("boot_id");
    fs::write(&boot_id, "00000000-0000-4000-8000-000000000002\n").unwrap();
    let (boot_id, sage) = (boot_id.display(), sage());
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec \"$@\"' sh \"${{SAGE_UNDER_TEST:-{}}}\" \"$@\"\n",
        sage.display()
    );
    wrapped(folder, &script)
}

#[test]
fn a_drained_studio_stops_when_all_that_was_accepted_has_ended_and_opens_again() {
    let mut studio = Studio::start();
    let client = studio.client();
    let first = client.submit(&crate::support::held_open(&studio, "go")).unwrap().task_id;
    let second = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &first, "training");
    let mut stop = studio.command(["studio", "stop", "--drain"]).spawn().unwrap();
    let refused = wait_for("submissions to be refused", PATIENCE, || client.submit(&script(&studio, "true")).err());
    assert!(refused.to_string().contains("drain"), "{refused}");
    assert_eq!(stop.try_wait().unwrap(), None, "it waits for both");
    fs::write(studio.home().root().join("go"), "").unwrap();
    let status = wait_for("the drain to end", PATIENCE, || stop.try_wait().unwrap());
    assert!(status.success());
    studio.stop();

    studio.launch();
    let client = studio.client();
    for id in [&first, &second] {
        assert_eq!(client.task(id).unwrap().status, "completed");
    }
    let next = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &next, "completed");
}

#[test]
fn stopping_with_cancel_all_leaves_no_task_and_no_process() {
    let mut studio = Studio::start();
    let client = studio.client();
    let deaf =
        client.submit(&script(&studio, "trap '' TERM; touch deaf; while :; do sleep 0.05; done")).unwrap().task_id;
    wait_for("the trap", PATIENCE, || studio.home().root().join("deaf").exists().then_some(()));
    let waiting = client.submit(&script(&studio, "true")).unwrap().task_id;
    let mut held = script(&studio, "true");
    held.hold = true;
    let held = client.submit(&held).unwrap().task_id;
    let output = studio.command(["studio", "stop", "--cancel-all"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_for("every process of this home to be gone", PATIENCE, || studio.processes().is_empty().then_some(()));
    studio.stop();
    studio.launch();
    for id in [&deaf, &waiting, &held] {
        assert_eq!(studio.client().task(id).unwrap().status, "cancelled", "{id}");
    }
}

/// Whether the command succeeded, and what it said.
fn run(studio: &Studio, arguments: &[&str]) -> (bool, String, String) {
    let output = studio.command(arguments.iter().copied()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Nobody could cancel it any more, and it would keep its GPU.
#[test]
fn what_runs_and_is_not_in_a_restored_database_is_stopped() {
    let mut studio = Studio::start();
    let client = studio.client();
    let known = client.submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&client, &known, "completed");
    let (succeeded, backup, error) = run(&studio, &["studio", "backup"]);
    assert!(succeeded, "{error}");
    let unknown = client.submit(&script(&studio, "sleep 1000")).unwrap().task_id;
    let pid = wait_status(&client, &unknown, "training").attempt.unwrap().pid.unwrap();
    studio.stop();
    let (succeeded, _, error) = run(&studio, &["studio", "restore", backup.trim()]);
    assert!(succeeded, "{error}");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    studio.launch();
    wait_for("it to be stopped", PATIENCE, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    let log = fs::read_to_string(studio.home().log()).unwrap();
    assert!(log.lines().any(|line| line.contains(&unknown) && line.contains("is stopped")), "{log}");
    let next = studio.client().submit(&script(&studio, "true")).unwrap().task_id;
    wait_status(&studio.client(), &next, "completed");
}

/// A pause is neither ended nor forgotten by a stop, and who waits for it is told what it waits for.
#[test]
fn a_paused_queue_stays_paused_through_a_drain_and_through_cancel_all() {
    let mut studio = Studio::start();
    let client = studio.client();
    client.pause_queue().unwrap();
    let mark = |name: &str| client.submit(&script(&studio, &format!("touch {name}"))).unwrap().task_id;
    let waiting = mark("started");
    let mut drain = studio.command(["studio", "stop", "--drain"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(drain.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = said.find(|line| line.contains(&waiting)).expect("what it waits for is told");
    assert!(told.contains("the queue was paused by"), "{told}");
    drain.kill().and_then(|()| drain.wait()).unwrap();
    assert!(client.submit(&script(&studio, "true")).unwrap_err().to_string().contains("drain"));
    assert_eq!(client.resume_queue().unwrap().mode, "paused", "it ends the drain, and then the pause");
    let held = client.submit(&script(&studio, "touch started")).unwrap().task_id;

    let output = studio.command(["studio", "stop", "--cancel-all"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!studio.home().root().join("started").exists(), "nothing started before it was cancelled");
    studio.stop();
    studio.launch();
    let client = studio.client();
    for id in [&waiting, &held] {
        assert_eq!(path(&client, id), ["queued", "cancelled"], "{id}");
    }
    assert_eq!(client.queue().unwrap().control.mode, "paused");
    client.submit(&script(&studio, "true")).unwrap();
}

/// Below the limit nothing new starts, and every waiting task says so with the figures.
#[test]
fn a_disk_that_runs_full_lets_nothing_start_and_says_so() {
    let Some(disk) = Disk::mount(&["-t", "tmpfs", "-o", "size=256m", "tmpfs"]) else {
        eprintln!("SKIPPED a_disk_that_runs_full_…: no tmpfs can be mounted here");
        return;
    };
    // The guard as it is by default; other tests leave it out.
    let config = "[tasks]\ngrace = \"2s\"\n[disk]\nmin_free = \"5GiB\"\n".into();
    let options = Options { config, ..Options::default() };
    let studio = Studio::start_in(disk.folder(), options);
    let client = studio.client();
    let mut long = fine_tune(&tiny(&studio), 1000);
    long.fine_tune.as_mut().unwrap().batch_size = Some(1);
    let long = client.submit(&long).unwrap().task_id;
    wait_status(&client, &long, "training");
    // A tenth of the disk is the limit, a quarter of that pauses what runs.
    let filler = disk.at.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let free = || rustix::fs::statvfs(disk.at.path()).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
    while free() > 5 << 20 {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
    let waits = |id: &str| {
        crate::support::wait_until(&client, id, "to wait for the disk", |task| {
            assert!(!["completed", "failed"].contains(&task.status.as_str()), "{task:#?}");
            task.wait.as_ref().is_some_and(|wait| wait.code == "disk_full")
        })
    };
    let paused = waits(&long);
    println!("{}", paused.wait.unwrap().en);
    let checkpoints = studio.home().task(long.parse().unwrap()).join("checkpoints");
    assert!(fs::read_dir(checkpoints).unwrap().count() > 0, "it was paused at a checkpoint");
    let new = client.submit(&script(&studio, "true")).unwrap().task_id;
    waits(&new);
    drop(file);
    fs::remove_file(&filler).unwrap();
    wait_status(&client, &long, "training");
    client.cancel(&long).unwrap();
    wait_status(&client, &new, "completed");
    assert_eq!(since_launch(&client, &long)[..5], ["preparing", "training", "queued", "preparing", "training"]);
}
