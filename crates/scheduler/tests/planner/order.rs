use std::collections::BTreeMap;

use domain::Priority;
use jiff::{SignedDuration, Timestamp};
use scheduler::{Policy, Queue, Waiting, plan};

use crate::build::{NOW, id, inventory, lasting, minutes, plan_at, plan_of, simulated, started, waiting};

/// A stream of short tasks that never ends, and one of a day: it gets its turn, after a time in proportion to its length.
#[test]
fn nobody_starves_behind_a_stream() {
    let policy = Policy::default();
    let inventory = inventory(vec![simulated(0)]);
    let short = |number: u64, since: Timestamp| Waiting {
        expected: Some(SignedDuration::from_mins(1)),
        since,
        ..waiting(number, 1, Some(1))
    };
    for (priority, days) in [(Priority::Normal, 26), (Priority::Low, 49)] {
        let mut queue = vec![Waiting { priority, ..lasting(1, 24) }, short(2, NOW), short(3, NOW)];
        let mut now = NOW;
        for number in 4.. {
            let start = plan_at(&policy, Some(&inventory), &queue, &[], now).starts[0].task;
            if start == id(1) {
                break;
            }
            queue.retain(|waiting| waiting.task != start);
            now += SignedDuration::from_mins(10);
            queue.push(short(number, now));
            assert!(now.duration_since(NOW) <= SignedDuration::from_hours(24 * days), "{days} days and no turn");
        }
    }
}

/// Ordinary fair share: who has used less of late goes first, whoever came first and whoever takes longer.
#[test]
fn the_lighter_user_goes_first() {
    let queue = [lasting(1, 1), Waiting { owner: "bo".into(), ..lasting(2, 4) }];
    let inventory = inventory(vec![simulated(0)]);
    let first = |policy: &Policy, ana: f64, bo: f64| {
        let usage = BTreeMap::from([("ana".to_owned(), ana * 3600.0), ("bo".to_owned(), bo * 3600.0)]);
        let quotas = BTreeMap::new();
        let queue = Queue { waiting: &queue, running: &[], usage: &usage, closed: None, quotas: &quotas };
        started(&plan(policy, Some(&inventory), queue, NOW))[0]
    };
    let full = Policy::default();
    assert_eq!(first(&full, 10.0, 1.0), 2);
    assert_eq!(first(&full, 1.0, 10.0), 1);
    assert_eq!(first(&full, 10.0, 9.0), 1, "of one step: the shorter");
    assert_eq!(first(&Policy { fair_share: false, ..full }, 10.0, 1.0), 1, "switched off");
}

/// Which of the two starts on the only device: 1 lasts four hours and has a deadline in so many minutes, 2 lasts one.
fn first(deadline: i64, other: impl Fn(Waiting) -> Waiting) -> u64 {
    let hurried = Waiting { deadline: Some(NOW + minutes(deadline)), ..lasting(1, 4) };
    let queue = [hurried, other(lasting(2, 1))];
    started(&plan_of(&Policy::default(), Some(&inventory(vec![simulated(0)])), &queue, &[]))[0]
}

#[test]
fn a_deadline_counts_when_it_comes_near() {
    let same = |other| other;
    assert_eq!(first(10 * 60, same), 2, "there is time for both");
    assert_eq!(first(6 * 60, same), 1, "two hours, half its length, are left to start in");
    assert_eq!(first(5 * 60, same), 1);
    assert_eq!(first(60, same), 1, "it will be late, and not by more than it must");
    assert_eq!(first(0, same), 2, "what is missed is no reason to hurry");
    assert_eq!(first(-60, same), 2);
}

#[test]
fn a_deadline_comes_before_share_and_length_only() {
    assert_eq!(first(300, |other| Waiting { urgency: 1, ..other }), 2, "chosen by hand");
    assert_eq!(first(300, |other| Waiting { priority: Priority::High, ..other }), 2, "of a higher class");
    assert_eq!(first(300, |other| Waiting { owner: "bo".into(), ..other }), 1);
    assert_eq!(
        first(300, |other| Waiting { deadline: Some(NOW + minutes(90)), ..other }),
        2,
        "both hurry, 2 is shorter"
    );
    let queue = [lasting(1, 1), Waiting { deadline: Some(NOW + minutes(300)), ..lasting(2, 4) }];
    for policy in [Policy::fifo(), Policy::easy(), Policy { deadlines: false, ..Policy::default() }] {
        let plan = plan_of(&policy, Some(&inventory(vec![simulated(0)])), &queue, &[]);
        assert_eq!(started(&plan), [1], "switched off");
    }
}
