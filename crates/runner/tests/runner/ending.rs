use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use runner::{End, Exit};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::fixture::{Fixture, Studio, Watched};

pub async fn death_by_signal(f: Fixture) {
    assert_eq!(f.run(&f.spec("kill -SEGV $$")).await, End::Signaled { signal: 11 });
}

pub async fn time_limit(f: Fixture) {
    let mut spec = f.spec("trap 'exit 9' TERM; sleep 1000 & wait");
    spec.time_limit = Some(Duration::from_millis(200));
    f.launcher.launch(&spec).unwrap();
    let record = f.end().await;
    assert_eq!(record.end, End::TimedOut { exit: Exit::Code(9) });
    assert!((0.2..30.0).contains(&record.seconds), "{}", record.seconds);
}

/// A time server may set the clock while a task runs; that neither ends it early nor lets it run for ever.
pub async fn the_wall_clock_jumps(f: Fixture) {
    let program = std::env::current_exe().unwrap();
    let library = program.ancestors().nth(2).unwrap().join("examples/libmoved_clock.so");
    if !library.exists() {
        eprintln!("SKIPPED the_wall_clock_jumps: build its library first: cargo build -p runner --examples");
        return;
    }
    let moved = f.path("moved");
    let set = |seconds: i64| fs::write(&moved, seconds.to_string()).unwrap();
    set(0);
    let mut studio = Studio::start_with("timeless", &[("LD_PRELOAD", &library), ("MOVED_CLOCK", &moved)]);
    let mut spec = f.spec("echo began; while :; do sleep 0.05; done");
    (spec.time_limit, spec.grace) = (Some(Duration::from_millis(1500)), Duration::from_secs(1));
    studio.send(&spec);
    studio.wait_until_launched();
    f.line("began").await;
    set(7 * 86_400);
    let mut date = std::process::Command::new("date");
    date.arg("+%s").env("LD_PRELOAD", &library).env("MOVED_CLOCK", &moved);
    let in_a_week: i64 = String::from_utf8(date.output().unwrap().stdout).unwrap().trim().parse().unwrap();
    assert!(in_a_week > jiff::Timestamp::now().as_second() + 6 * 86_400, "the clock has not moved");
    tokio::time::sleep(Duration::from_millis(300)).await;
    set(-7 * 86_400);
    let record = f.end().await;
    studio.kill();
    assert!(matches!(record.end, End::TimedOut { .. }), "{record:?}");
    assert!((1.5..10.0).contains(&record.seconds), "{}", record.seconds);
    assert!(record.ended_at < record.started_at, "it ended last week, by the clock: {record:?}");
}

pub async fn processes_left_behind_end_too(f: Fixture) {
    let mut gate = f.gate("gate");
    let mut spec = f.spec(
        "(setsid sh -c 'echo obedient $$; exec sleep 1000' &)
         (setsid sh -c 'trap \"\" TERM; echo deaf $$; while :; do sleep 1000; done' &)
         read _ < gate; exit 4",
    );
    spec.grace = Duration::from_millis(100);
    f.start(&spec).await;
    let left = [Watched::new(&f.line("obedient").await), Watched::new(&f.line("deaf").await)];
    gate.open();
    assert_eq!(f.end().await.end, End::Exited { exit_code: 4 });
    assert!(left.iter().all(Watched::has_ended));
}

pub async fn record_survives_a_full_disk(f: Fixture) {
    let disk = f.path("disk");
    fs::create_dir(&disk).unwrap();
    if let Err(error) = mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), c"size=256k") {
        eprintln!("SKIPPED record_survives_a_full_disk: no disk to fill, mount: {error}");
        return;
    }
    let mounted = Mounted(&disk);
    let mut gate = f.gate("gate");
    let mut spec = f.spec("read _ < gate; exit 5");
    spec.attempt_dir = disk.join("attempt");
    f.start(&spec).await;
    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    assert!(fs::write(disk.join("more"), [1; 4096]).is_err(), "the disk is not full");
    gate.open();
    let end = runner::wait_end(&spec.attempt_dir).await.unwrap();
    let runner::AttemptEnd::Ended(record) = end else { panic!("{end:?}") };
    assert_eq!(record.end, End::Exited { exit_code: 5 });

    // A launch that cannot be recorded does not happen.
    spec.attempt_dir = disk.join("next");
    assert!(matches!(f.launcher.launch(&spec), Err(runner::LaunchError::Refused(_))));
    drop(mounted);
}

/// Nobody but the task can be told that there is no room for its output; what it makes of that is its own affair.
pub async fn a_log_on_a_full_disk_does_not_end_the_task(f: Fixture) {
    let disk = f.path("disk");
    fs::create_dir(&disk).unwrap();
    if let Err(error) = mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), c"size=256k") {
        eprintln!("SKIPPED a_log_on_a_full_disk_does_not_end_the_task: no disk to fill, mount: {error}");
        return;
    }
    let mounted = Mounted(&disk);
    let (mut full, mut free) = (f.gate("full"), f.gate("free"));
    let mut spec = f.spec("echo before; read _ < full; echo lost; read _ < free; echo after; exit 6");
    (spec.attempt_dir, spec.log) = (disk.join("attempt"), disk.join("log"));
    f.start(&spec).await;
    crate::fixture::until(|| fs::metadata(&spec.log).unwrap().len() == 7);
    let filler = disk.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    // Up to the end of the page that the log's first line lies in.
    while file.write_all(&[1; 4096]).is_ok() {}
    let mut log = fs::File::options().append(true).open(&spec.log).unwrap();
    while log.write_all(b".").is_ok() {}
    full.open();
    // The shell has said "lost" to nobody once it waits at the next gate.
    let shell = runner::observe(&spec.attempt_dir).unwrap();
    let runner::Observed::Running(shell) = shell else { panic!("{shell:?}") };
    let opened = format!("/proc/{}/fd", shell.task.pid);
    let waits_at = f.path("free");
    crate::fixture::until(|| {
        let mut files = fs::read_dir(&opened).unwrap().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == waits_at))
    });
    drop(file);
    fs::remove_file(&filler).unwrap();
    free.open();
    let end = runner::wait_end(&spec.attempt_dir).await.unwrap();
    let runner::AttemptEnd::Ended(record) = end else { panic!("{end:?}") };
    assert_eq!(record.end, End::Exited { exit_code: 6 });
    let said = fs::read_to_string(&spec.log).unwrap();
    assert!(said.starts_with("before\n.") && said.ends_with("after\n") && !said.contains("lost"), "{said}");
    drop(mounted);
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).expect("an unmounted disk");
    }
}

pub async fn out_of_host_memory(f: Fixture) {
    let Some(group) = MemoryGroup::new(32 << 20) else {
        eprintln!("SKIPPED out_of_host_memory: no memory cgroup can be made here");
        return;
    };
    // Everything that tail reads is one line, which it has to hold.
    let spec = f.spec(&format!("echo $$ > {}/cgroup.procs && head -c 256M /dev/zero | tail -n 1 > /dev/null", group.0));
    assert_eq!(f.run(&spec).await, End::OutOfHostMemory);
}

struct MemoryGroup(String);

impl MemoryGroup {
    fn new(limit: u64) -> Option<MemoryGroup> {
        let name = format!("runner-test-{}", std::process::id());
        for (root, file) in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")] {
            let group = MemoryGroup(format!("{root}/{name}"));
            let limit_file = format!("{}/{file}", group.0);
            // In a folder that is no cgroup the file would not exist yet.
            if fs::create_dir(&group.0).is_ok()
                && Path::new(&limit_file).exists()
                && fs::write(limit_file, limit.to_string()).is_ok()
            {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
