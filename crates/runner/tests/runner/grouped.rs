//! A studio that manages a subtree of control groups, as under systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runner::{End, Exit, Launcher};

use crate::fixture::{Fixture, Watched, until};

/// The group that a unit would have. Launchers of it are dropped before it is.
struct Unit(PathBuf);

impl Unit {
    fn new() -> Option<Unit> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("runner-unit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find_map(|root| {
            let unit = Path::new(root).join(&name);
            fs::create_dir(&unit).ok()?;
            let unit = Unit(unit);
            // In a folder that is no cgroup the file would not exist; members may not be ours to move.
            let made = unit.0.join("cgroup.kill").exists() && fs::create_dir(unit.0.join("studio")).is_ok();
            made.then_some(unit)
        })
    }

    fn launcher(&self) -> Launcher {
        let program = std::env::current_exe().unwrap();
        let enter = format!("echo 0 > {}/studio/cgroup.procs && exec \"$0\" supervise", self.0.display());
        Launcher::new(vec!["/bin/sh".into(), "-c".into(), enter.into(), program.into()])
    }

    fn group_of(&self, supervisor: u32) -> PathBuf {
        self.0.join(format!("attempt-{supervisor}"))
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // The last supervisor has no attempt and ends with its launcher.
        let start = Instant::now();
        while self.0.exists() && start.elapsed() < Duration::from_secs(10) {
            let _ = fs::remove_dir(self.0.join("studio"));
            if fs::remove_dir(&self.0).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn own_group(pid: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

pub async fn a_task_has_a_control_group_of_its_own(mut f: Fixture) {
    let Some(unit) = Unit::new() else {
        eprintln!("SKIPPED a_task_has_a_control_group_of_its_own: no control group (version 2) can be made here");
        return;
    };
    // As a killed supervisor leaves it.
    let left_behind = unit.0.join("attempt-0");
    fs::create_dir(&left_behind).unwrap();
    f.launcher = unit.launcher();
    let mut spec = f.spec(
        "trap '' TERM
         (setsid sh -c 'trap \"\" TERM; (setsid sh -c \"echo escaped \\$\\$; while :; do sleep 1000; done\" &) ' &)
         while :; do sleep 1000; done",
    );
    spec.grace = Duration::from_millis(100);
    let running = f.start(&spec).await;
    let escaped = f.line("escaped").await;
    let group = unit.group_of(running.supervisor.pid);
    assert!(group.ends_with(own_group(&running.task.pid.to_string()).trim_start_matches('/')), "{group:?}");
    assert_eq!(own_group(&escaped), own_group(&running.task.pid.to_string()));
    assert!(own_group(&running.supervisor.pid.to_string()).ends_with("/studio"));
    assert!(!left_behind.exists());
    let escaped = Watched::new(&escaped);
    runner::stop(&f.attempt()).unwrap();
    assert_eq!(f.end().await.end, End::Cancelled { exit: Some(Exit::Signal(9)) });
    assert!(escaped.has_ended());
    until(|| !group.exists());
    drop(f);
}

pub async fn how_it_ends_is_told_as_without_a_group(mut f: Fixture) {
    let Some(unit) = Unit::new() else {
        eprintln!("SKIPPED how_it_ends_is_told_as_without_a_group: no control group (version 2) can be made here");
        return;
    };
    f.launcher = unit.launcher();
    assert_eq!(f.run(&f.spec("exit 7")).await, End::Exited { exit_code: 7 });
    let mut nothing = f.spec("");
    nothing.attempt_dir = f.path("nothing");
    nothing.argv = vec!["/no/such/program".into()];
    f.launcher.launch(&nothing).unwrap();
    let runner::AttemptEnd::Ended(record) = runner::wait_end(&nothing.attempt_dir).await.unwrap() else { panic!() };
    assert!(matches!(&record.end, End::ExecFailed { message } if message.contains("No such file")), "{record:?}");
    // The next one's group has a member already, so nobody can remove it meanwhile, and is gone with its launcher.
    let groups = || {
        let all = fs::read_dir(&unit.0).unwrap().flatten().map(|group| group.path());
        all.filter(|group| group.file_name().unwrap().to_string_lossy().starts_with("attempt-")).collect::<Vec<_>>()
    };
    until(|| {
        groups().len() == 1 && fs::read_to_string(groups()[0].join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
    });
    assert!(fs::remove_dir(&groups()[0]).is_err());
    f.launcher = Launcher::new(vec!["/no/such/program".into()]);
    until(|| groups().is_empty());
    drop(f);
}

pub async fn out_of_memory_in_a_group_is_exact_and_ends_all_of_it(mut f: Fixture) {
    let unit = Unit::new().filter(|unit| fs::write(unit.0.join("memory.max"), (64 << 20).to_string()).is_ok());
    let Some(unit) = unit else {
        eprintln!(
            "SKIPPED out_of_memory_in_a_group_…: no control group (version 2) with a memory limit can be made here"
        );
        return;
    };
    let _ = fs::write(unit.0.join("memory.swap.max"), "0");
    f.launcher = unit.launcher();
    // Everything that tail reads is one line, which it has to hold; the shell itself would go on.
    let spec = f.spec("sleep 1000 & echo other $!; head -c 256M /dev/zero | tail -n 1 > /dev/null; wait");
    let running = f.start(&spec).await;
    assert_eq!(f.end().await.end, End::OutOfHostMemory);
    let group = unit.group_of(running.supervisor.pid);
    until(|| !group.exists());
    drop(f);
}
