use std::collections::BTreeMap;

use domain::{QuotaKind, WaitCause};
use scheduler::{Plan, Policy, Queue, Quota, Running, Waiting, plan};

use crate::build::{NOW, gpu, holding, id, inventory, lasting, started, waiting};

const RUNNING: Quota = Quota { running: Some(2), gpus: None };
const GPUS: Quota = Quota { running: None, gpus: Some(3) };

fn with_quota(policy: &Policy, gpus: u32, quota: Quota, running: &[Running], waiting: &[Waiting]) -> Plan {
    let (usage, quotas) = (BTreeMap::new(), BTreeMap::from([("ana".to_owned(), quota)]));
    let queue = Queue { waiting, running, usage: &usage, closed: None, quotas: &quotas };
    plan(policy, Some(&inventory((0..gpus).map(|index| gpu(index, 24, 0)).collect())), queue, NOW)
}

fn of_bo(waiting: Waiting) -> Waiting {
    Waiting { owner: "bo".into(), ..waiting }
}

#[test]
fn who_has_as_much_as_one_may_have_waits_and_holds_up_nobody() {
    let running = [holding(1, "GPU-0", Some(20), Some(20))];
    let queue = [waiting(2, 1, None), waiting(3, 1, None), of_bo(waiting(4, 1, None)), waiting(5, 1, None)];
    for policy in [Policy::fifo(), Policy::default()] {
        let plan = with_quota(&policy, 8, RUNNING, &running, &queue);
        assert_eq!(started(&plan), [2, 4]);
        let cause = WaitCause::Quota { kind: QuotaKind::Running, used: 2, limit: 2 };
        assert!(plan.waits.iter().all(|(_, reason)| *reason.cause == cause), "{:?}", plan.waits);
    }
}

#[test]
fn a_quota_of_gpus_counts_each_of_a_gang_and_lets_smaller_ones_pass() {
    let queue = [waiting(2, 2, None), waiting(3, 2, None), waiting(4, 1, None), waiting(5, 4, None)];
    let plan = with_quota(&Policy::fifo(), 8, GPUS, &[], &queue);
    assert_eq!(started(&plan), [2, 4]);
    let causes: Vec<_> = plan.waits.iter().map(|(task, reason)| (*task, (*reason.cause).clone())).collect();
    let cause = |used| WaitCause::Quota { kind: QuotaKind::Gpus, used, limit: 3 };
    assert_eq!(causes, [(id(3), cause(2)), (id(5), cause(3))]);
}

#[test]
fn what_is_being_stopped_still_counts() {
    let running = [1, 2].map(|task| Running { stopping: true, ..holding(task, &format!("GPU-{task}"), None, None) });
    assert_eq!(started(&with_quota(&Policy::fifo(), 4, RUNNING, &running, &[waiting(3, 1, None)])), []);
}

#[test]
fn nothing_is_reserved_for_who_is_at_the_quota() {
    // Ana's gang would need both GPUs; without the quota, Bo's long task would have to wait for it.
    let running = [holding(1, "GPU-0", None, None)];
    let gang = Waiting { demand: waiting(2, 2, None).demand, ..lasting(2, 1) };
    let queue = [gang, of_bo(Waiting { demand: waiting(3, 1, None).demand, ..lasting(3, 9) })];
    let policy = Policy { shortest_first: false, ..Policy::default() };
    assert_eq!(started(&with_quota(&policy, 2, Quota { running: Some(9), gpus: None }, &running, &queue)), []);
    assert_eq!(started(&with_quota(&policy, 2, Quota { running: Some(1), gpus: None }, &running, &queue)), [3]);
}

#[test]
fn those_without_a_quota_may_have_all() {
    let queue: Vec<Waiting> = (1..9).map(|number| of_bo(waiting(number, 1, None))).collect();
    let plan = with_quota(&Policy::fifo(), 8, Quota { running: Some(0), gpus: Some(0) }, &[], &queue);
    assert_eq!(started(&plan).len(), 8);
}
