//! Two trainings on one card, while it pays.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use client::testing::wait_for;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    machine::Machine,
    support::{PATIENCE, SetWhenDropped, fine_tune, since_launch, tiny, wait_status, wait_until},
};

#[test]
fn trainings_that_slow_each_other_down_too_much_are_taken_apart() {
    let machine = Machine::configured("1xRTX3060", "[gpus]\npacking_trial = \"2s\"\n", |_| {});
    let client = machine.client();
    let tiny = tiny(&machine.studio);
    let first = machine.submit(&fine_tune(&tiny, 1000));
    wait_until(&client, &first, "to train alone", |task| task.progress.step > 200);
    let second = machine.submit(&fine_tune(&tiny, 1000));
    let pid = |id: &str| {
        let task = wait_until(&client, id, "to train", |task| task.progress.step > 0);
        Pid::from_raw(task.attempt.unwrap().pid.unwrap() as i32).unwrap()
    };
    let pids = [pid(&first), pid(&second)];

    // As on a card that only one can use at a time, and which loses most of its time in between: far too slow also where
    // the machine of the test was busy while the first was measured alone.
    let taken_apart = AtomicBool::new(false);
    let waiting = thread::scope(|scope| {
        // Also when a wait below fails, or the scope would wait for the thread for ever.
        let _at_the_end = SetWhenDropped(&taken_apart);
        scope.spawn(|| {
            while !taken_apart.load(Ordering::Relaxed) {
                for pid in pids {
                    let _ = kill_process(pid, Signal::CONT);
                    thread::sleep(Duration::from_millis(10));
                    let _ = kill_process(pid, Signal::STOP);
                    thread::sleep(Duration::from_millis(40));
                }
            }
            for pid in pids {
                let _ = kill_process(pid, Signal::CONT);
            }
        });
        wait_for("the younger one to be paused", PATIENCE, || {
            client.task(&second).ok().filter(|task| task.status == "queued")
        })
    });
    println!("{:?}", waiting.wait);
    let why = client.journal(&second).unwrap().into_iter().rfind(|entry| entry.to == "queued").unwrap().why;
    assert!(why.contains("did not pay") && why.contains(&first), "{why}");
    assert_eq!(client.task(&first).unwrap().status, "training");

    client.cancel(&first).unwrap();
    wait_until(&client, &second, "to go on alone", |task| task.status == "training");
    assert_eq!(since_launch(&client, &second), ["preparing", "training", "queued", "preparing", "training"]);
    let third = machine.submit(&fine_tune(&tiny, 1));
    assert_eq!(wait_status(&client, &third, "queued").status, "queued", "it keeps its card to itself");
    client.cancel(&second).unwrap();
    wait_status(&client, &third, "completed");
}
