use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use runner::{AttemptEnd, End, Exit, LaunchSpec, Launcher, Observed, observe, wait_end};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::fixture::{Dice, Fixture, Studio, Watched, processes_with, spin, until, watch, write_json};

pub async fn the_studio_is_killed(f: Fixture) {
    let mut gate = f.gate("gate");
    let mut studio = Studio::start("mortal");
    studio.send(&f.spec("echo before; read _ < gate; echo after; exit 7"));
    studio.wait_until_launched();
    f.line("before").await;
    studio.kill();
    assert!(matches!(runner::wait_started(&f.attempt()).await.unwrap(), runner::Started::Running(_)));
    gate.open();
    assert_eq!(f.end().await.end, End::Exited { exit_code: 7 });
    assert_eq!(f.log(), "before\nafter\n");
}

/// Whatever the dead studio had got to, the next one launches the attempt again, and it runs once.
pub async fn the_studio_is_killed_at_any_moment_of_a_launch(f: Fixture) {
    let mut dice = Dice::new(1);
    let mut started = 0;
    for round in 0..30 {
        let mut spec = f.spec("echo run");
        spec.attempt_dir = f.path(&format!("attempt-{round}"));
        spec.log = f.path(&format!("log-{round}"));
        let mut studio = Studio::start("short-lived");
        studio.send(&spec);
        spin(Duration::from_micros(dice.below(40_000)));
        studio.kill();
        started += u32::from(observe(&spec.attempt_dir).unwrap() != Observed::NotStarted);
        f.launcher.launch(&spec).unwrap();
        let end = wait_end(&spec.attempt_dir).await.unwrap();
        let AttemptEnd::Ended(record) = end else { panic!("round {round}: {end:?}") };
        assert_eq!(record.end, End::Exited { exit_code: 0 }, "round {round}");
        assert_eq!(fs::read_to_string(&spec.log).unwrap(), "run\n", "round {round}");
    }
    eprintln!("{started} of 30 studios lived long enough to start their attempt");
}

pub async fn the_supervisor_is_killed(f: Fixture) {
    let mut gate = f.gate("gate");
    let running = f.start(&f.spec("(setsid sh -c 'echo left $$; exec sleep 1000' &); read _ < gate; exit 7")).await;
    let left = Watched::new(&f.line("left").await);
    let supervisor = watch(&running.supervisor);
    supervisor.kill();
    supervisor.wait();
    let lost = Observed::SupervisorLost { task: Some(running.task.clone()) };
    until(|| observe(&f.attempt()).unwrap() == lost);

    let attempt = f.attempt();
    let (end, ()) = tokio::join!(wait_end(&attempt), async { gate.open() });
    assert!(left.has_ended());
    match end.unwrap() {
        AttemptEnd::Ended(record) => {
            assert!(record.supervisor_lost);
            assert_eq!(record.end, End::Exited { exit_code: 7 });
            assert_eq!(observe(&attempt).unwrap(), Observed::Ended(record));
        }
        AttemptEnd::SupervisorLost => eprintln!("SKIPPED half of the_supervisor_is_killed: this kernel tells no exit"),
        AttemptEnd::Interrupted => panic!("nothing was interrupted"),
    }
}

pub async fn without_a_supervisor_the_time_limit_and_the_log_cap_are_kept(f: Fixture) {
    const MIB: u64 = 1 << 20;
    let script =
        "echo ready; read _ < gate; head -c 16777216 /dev/zero; echo wrote; trap 'exit 9' TERM; sleep 1000 & wait";
    let mut gate = f.gate("gate");
    let running =
        f.start(&LaunchSpec { log_cap: 2 * MIB, time_limit: Some(Duration::from_secs(3)), ..f.spec(script) }).await;
    f.line("ready").await;
    let supervisor = watch(&running.supervisor);
    supervisor.kill();
    supervisor.wait();
    let attempt = f.attempt();
    let (end, ()) = tokio::join!(wait_end(&attempt), async { gate.open() });
    let log = fs::metadata(f.path("log")).unwrap();
    assert!(log.len() > 16 * MIB && log.blocks() * 512 < 4 * MIB, "{} of {} bytes", log.blocks() * 512, log.len());
    match end.unwrap() {
        AttemptEnd::Ended(record) => {
            assert_eq!(record.end, End::TimedOut { exit: Exit::Code(9) });
            assert!(record.lost_log_bytes > 12 * MIB, "{record:?}");
        }
        AttemptEnd::SupervisorLost => eprintln!("SKIPPED half of without_a_supervisor_…: this kernel tells no exit"),
        AttemptEnd::Interrupted => panic!("nothing was interrupted"),
    }
}

/// A record that cannot be read says nothing about who lives.
pub async fn damaged_records_do_not_hide_an_attempt(f: Fixture) {
    let mut gate = f.gate("gate");
    f.start(&f.spec("read _ < gate; exit 7")).await;
    fs::write(f.attempt().join("running"), "{").unwrap();
    assert_eq!(observe(&f.attempt()).unwrap(), Observed::Starting);
    gate.open();
    assert_eq!(f.end().await.end, End::Exited { exit_code: 7 });
    fs::write(f.attempt().join("exit"), "").unwrap();
    // The supervisor may take a moment more.
    assert_eq!(wait_end(&f.attempt()).await.unwrap(), AttemptEnd::SupervisorLost);
    assert_eq!(observe(&f.attempt()).unwrap(), Observed::SupervisorLost { task: None });
}

/// Nothing is left over, nothing runs twice, and what is said about the end is true.
pub async fn the_supervisor_is_killed_at_any_moment(f: Fixture) {
    let mut dice = Dice::new(2);
    let mut ends = std::collections::BTreeMap::new();
    for round in 0..60 {
        let mut spec = f.spec("echo run; sh -c 'exit 7'; exit 8");
        spec.attempt_dir = f.path(&format!("attempt-{round}"));
        spec.log = f.path(&format!("log-{round}"));
        f.launcher.launch(&spec).unwrap();
        let claim = fs::read_to_string(spec.attempt_dir.join("claim")).unwrap();
        let claim: serde_json::Value = serde_json::from_str(&claim).unwrap();
        let pid = Pid::from_raw(claim["supervisor"]["pid"].as_i64().unwrap() as i32).unwrap();
        // It may have ended by itself already.
        let supervisor = pidfd_open(pid, PidfdFlags::empty());
        let moment = Duration::from_micros(dice.below(20_000));
        let killer = std::thread::spawn(move || {
            spin(moment);
            supervisor.and_then(|supervisor| pidfd_send_signal(supervisor, Signal::KILL))
        });
        let end = wait_end(&spec.attempt_dir).await.unwrap();
        let _ = killer.join().unwrap();
        let log = fs::read_to_string(&spec.log).unwrap();
        let word = match &end {
            AttemptEnd::Ended(record) => {
                assert_eq!((&record.end, log.as_str()), (&End::Exited { exit_code: 8 }, "run\n"), "round {round}");
                if record.supervisor_lost { "learned" } else { "recorded" }
            }
            AttemptEnd::SupervisorLost if log.is_empty() => "never ran",
            AttemptEnd::SupervisorLost => "unknown",
            AttemptEnd::Interrupted => panic!("round {round}: nothing was interrupted"),
        };
        *ends.entry(word).or_insert(0) += 1;
        let mark = format!("SAGE_ATTEMPT={}", spec.attempt_dir.display());
        assert_eq!(processes_with("environ", &mark), Vec::<String>::new(), "round {round}: {end:?}");
        f.launcher.launch(&spec).unwrap();
        assert_eq!(fs::read_to_string(&spec.log).unwrap(), log, "round {round} ran twice");
    }
    eprintln!("{ends:?}");
}

pub async fn a_task_without_supervisor_can_be_stopped(f: Fixture) {
    let mut spec = f.spec(
        "trap '' TERM
         (setsid sh -c 'echo escaped $$; while :; do sleep 1000; done' &)
         while :; do sleep 1000; done",
    );
    spec.grace = Duration::from_millis(200);
    let running = f.start(&spec).await;
    let escaped = Watched::new(&f.line("escaped").await);
    let (supervisor, task) = (watch(&running.supervisor), watch(&running.task));
    supervisor.kill();
    supervisor.wait();
    runner::stop(&f.attempt()).unwrap();
    assert!(!task.has_ended(), "no grace");
    match wait_end(&f.attempt()).await.unwrap() {
        AttemptEnd::Ended(record) => assert_eq!(record.end, End::from(Exit::Signal(9))),
        end => assert_eq!(end, AttemptEnd::SupervisorLost),
    }
    escaped.wait();
}

pub async fn the_machine_went_down(f: Fixture) {
    let attempt = f.attempt();
    let claim = r#"{"supervisor":{"boot_id":"of-another-boot","pid":1,"start_time":1}}"#;
    write_json(&attempt.join("claim"), claim);
    assert_eq!(observe(&attempt).unwrap(), Observed::Interrupted);
    assert_eq!(wait_end(&attempt).await.unwrap(), AttemptEnd::Interrupted);
    runner::stop(&attempt).unwrap();
    // It is this attempt that was interrupted; nobody may start it again.
    Launcher::launch(&f.launcher, &f.spec("echo run")).unwrap();
    assert_eq!(f.log(), "");

    // What a power cut leaves of files that were just written.
    write_json(&attempt.join("exit"), "");
    assert_eq!(observe(&attempt).unwrap(), Observed::Interrupted);
    write_json(&attempt.join("claim"), "");
    assert_eq!(observe(&attempt).unwrap(), Observed::Interrupted);

    // The end was recorded before the power cut.
    write_json(&attempt.join("claim"), claim);
    let exit = r#"{"end":{"code":"exited","exit_code":0},"started_at":"2026-01-01T00:00:00Z",
        "ended_at":"2026-01-01T00:00:01Z","seconds":1.0,"lost_log_bytes":0,"supervisor_lost":false}"#;
    write_json(&attempt.join("exit"), exit);
    let seen = observe(&attempt).unwrap();
    assert!(matches!(&seen, Observed::Ended(record) if record.end == End::Exited { exit_code: 0 }), "{seen:?}");
}
