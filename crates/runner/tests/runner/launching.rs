use std::fs::File;
use std::os::fd::AsRawFd;

use runner::{End, LaunchError, Observed, observe};

use crate::fixture::{Fixture, Studio, processes_with, until};

pub async fn exit_code_and_output_are_recorded(f: Fixture) {
    let spec = f.spec("echo to stdout; echo to stderr >&2; exit 7");
    assert_eq!(observe(&f.attempt()).unwrap(), Observed::NotStarted);
    f.launcher.launch(&spec).unwrap();
    let record = f.end().await;
    assert_eq!(record.end, End::Exited { exit_code: 7 });
    assert!(record.seconds > 0.0 && record.started_at < record.ended_at && record.lost_log_bytes == 0);
    assert_eq!(f.log(), "to stdout\nto stderr\n");
    assert_eq!(observe(&f.attempt()).unwrap(), Observed::Ended(record));
}

pub async fn task_starts_in_a_clean_state(f: Fixture) {
    // A file of the studio that is not close-on-exec, as a C library may open one.
    let leaky = File::create(f.path("leaky")).unwrap();
    // SAFETY: clears a flag of a descriptor that lives to the end of the test.
    unsafe { libc::fcntl(leaky.as_raw_fd(), libc::F_SETFD, 0) };
    let mut spec = f.spec(
        "echo set: $SET, removed: ${HOME-none}, folder: $(pwd)
         ps -o pgid=,sid= -p $$ | xargs echo pid $$ leads
         exec ls -l /proc/self/fd",
    );
    spec.env = [("SET".into(), Some("yes".into())), ("HOME".into(), None)].into();
    let mut studio = Studio::start("clean");
    studio.send(&spec);
    studio.wait_until_launched();
    assert_eq!(f.end().await.end, End::Exited { exit_code: 0 });
    studio.kill();

    let log = f.log();
    assert!(log.contains(&format!("set: yes, removed: none, folder: {}\n", f.dir.path().display())), "{log}");
    let leads: Vec<&str> = log.lines().find_map(|line| line.strip_prefix("pid ")).unwrap().split(' ').collect();
    assert_eq!((leads[2], leads[3]), (leads[0], leads[0]), "{log}");
    assert!(!log.contains("leaky") && log.contains("0 -> /dev/null"), "{log}");
    // stdin, stdout, stderr and the folder that ls reads.
    assert_eq!(log.matches(" -> ").count(), 4, "{log}");
}

pub async fn task_gets_every_signal(f: Fixture) {
    // This program ignores SIGPIPE, as every Rust program does.
    let mut spec = f.spec("");
    spec.argv = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"].map(str::to_owned).to_vec();
    assert_eq!(f.run(&spec).await, End::Exited { exit_code: 0 });
    let log = f.log();
    let masks: Vec<u64> = log.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
    // The C library keeps 32 and 33 to itself.
    assert_eq!(masks.iter().map(|mask| mask & !(3 << 31)).collect::<Vec<_>>(), [0, 0], "{log}");
}

pub async fn exec_failure_is_not_exit_127(f: Fixture) {
    let mut spec = f.spec("exit 127");
    assert_eq!(f.run(&spec).await, End::Exited { exit_code: 127 });

    let dir = &f.attempt();
    spec.attempt_dir = dir.join("no-program");
    spec.argv = vec!["no-such-trainer".into()];
    assert_eq!(message(&f, &spec).await, "no-such-trainer: No such file or directory (os error 2)");

    spec.attempt_dir = dir.join("no-folder");
    spec.argv = vec!["true".into()];
    spec.cwd = f.path("nowhere");
    let text = message(&f, &spec).await;
    assert!(text.contains("nowhere cannot be entered"), "{text}");
}

async fn message(f: &Fixture, spec: &runner::LaunchSpec) -> String {
    f.launcher.launch(spec).unwrap();
    match runner::wait_end(&spec.attempt_dir).await.unwrap() {
        runner::AttemptEnd::Ended(runner::ExitRecord { end: End::ExecFailed { message }, .. }) => message,
        end => panic!("{end:?}"),
    }
}

pub async fn a_bad_attempt_folder_is_refused(f: Fixture) {
    std::fs::write(f.attempt(), "a file").unwrap();
    let refused = f.launcher.launch(&f.spec("exit 0")).unwrap_err();
    let LaunchError::Refused(reason) = refused else { panic!("{refused}") };
    assert!(reason.contains(&f.attempt().display().to_string()), "{reason}");
}

pub async fn a_repeated_launch_runs_once(f: Fixture) {
    let mut gate = f.gate("gate");
    let spec = f.spec("echo run; read _ < gate");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| f.launcher.launch(&spec).unwrap());
        }
    });
    f.line("run").await;
    f.launcher.launch(&spec).unwrap();
    gate.open();
    f.end().await;
    f.launcher.launch(&spec).unwrap();
    assert_eq!(f.log(), "run\n");
}

pub async fn a_killed_spare_is_replaced(f: Fixture) {
    let spares = || processes_with("cmdline", "supervise\0unlucky\0");
    let mut studio = Studio::start("unlucky");
    until(|| !spares().is_empty());
    // What will be its task goes with it.
    for spare in spares() {
        let pid = spare.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    studio.send(&f.spec("echo run"));
    studio.wait_until_launched();
    assert_eq!(f.end().await.end, End::Exited { exit_code: 0 });

    until(|| !spares().is_empty());
    studio.kill();
    until(|| spares().is_empty());
}
