//! What must hold for every queue and every machine.

use std::collections::BTreeSet;

use domain::{Device, DeviceGrant, DeviceId, DeviceKind, DeviceState, Grant, Inventory, Reading, TaskId, WaitCause};
use proptest::prelude::*;
use scheduler::{Plan, Queue, Running, plan};

fn device(index: u32, usable: bool) -> Reading {
    Reading {
        device: Device {
            id: DeviceId(format!("GPU-{index}")),
            kind: DeviceKind::Simulated,
            index,
            name: format!("GPU {index}"),
            pci_bus_id: None,
        },
        state: if usable {
            DeviceState::Usable
        } else {
            DeviceState::Unusable { code: "lost".into(), zh: "丢失".into(), en: "lost".into() }
        },
        memory: None,
        utilisation: None,
        temperature: None,
        power: None,
        processes: vec![],
    }
}

fn inventory(usable: &[bool]) -> Inventory {
    Inventory {
        taken_at: jiff::Timestamp::UNIX_EPOCH,
        devices: usable.iter().zip(0..).map(|(usable, index)| device(index, *usable)).collect(),
        findings: vec![],
        detection_error: None,
    }
}

fn holding(task: u64, device: &str) -> Running {
    let device = DeviceId(device.into());
    Running { task: TaskId::new(0, task), grant: Grant { devices: vec![DeviceGrant { device, bytes: None }] } }
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<TaskId> {
    numbers.into_iter().map(|number| TaskId::new(0, number)).collect()
}

#[derive(Debug, Clone)]
struct Moment {
    inventory: Option<Inventory>,
    waiting: Vec<TaskId>,
    running: Vec<Running>,
}

impl Moment {
    fn plan(&self) -> Plan {
        plan(self.inventory.as_ref(), Queue { waiting: &self.waiting, running: &self.running })
    }
}

/// Waiting tasks in any order; running tasks on some of the devices, one of them possibly gone from the inventory.
fn moments() -> impl Strategy<Value = Moment> {
    let waiting = proptest::collection::btree_set(100u64..200, 0..12).prop_map(ids).prop_shuffle();
    (proptest::option::weighted(0.9, proptest::collection::vec(any::<bool>(), 0..6)), waiting, any::<u8>()).prop_map(
        |(usable, waiting, held)| Moment {
            inventory: usable.as_deref().map(inventory),
            waiting,
            running: (0..7).filter(|n| held & (1 << n) != 0).map(|n| holding(n, &format!("GPU-{n}"))).collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn holds_for_every_moment(moment in moments()) {
        let plan = moment.plan();
        prop_assert_eq!(&plan, &moment.plan(), "equal inputs, equal plans");

        let planned: BTreeSet<TaskId> =
            plan.starts.iter().map(|start| start.task).chain(plan.waits.iter().map(|(task, _)| *task)).collect();
        prop_assert_eq!(planned.len(), plan.starts.len() + plan.waits.len(), "no task is planned twice");
        prop_assert_eq!(planned, moment.waiting.iter().copied().collect(), "every queued task starts or has a reason");

        let mut held: BTreeSet<DeviceId> =
            moment.running.iter().flat_map(|r| r.grant.devices.iter().map(|g| g.device.clone())).collect();
        for start in &plan.starts {
            for grant in &start.grant.devices {
                prop_assert!(held.insert(grant.device.clone()), "a device is granted once");
                let reading = moment.inventory.as_ref().and_then(|inventory| inventory.get(&grant.device));
                prop_assert_eq!(reading.map(|r| &r.state), Some(&DeviceState::Usable));
            }
        }

        let last_start = plan.starts.iter().map(|start| start.task).max();
        let first_wait = plan.waits.first().map(|(task, _)| *task);
        if let (Some(start), Some(wait)) = (last_start, first_wait) {
            prop_assert!(start < wait, "first in, first out");
        }
        for ((_, reason), position) in plan.waits.iter().zip(1..) {
            prop_assert_eq!(reason.position, position);
        }
        if let (Some(inventory), false) = (&moment.inventory, plan.waits.is_empty()) {
            let free = inventory.devices.iter().any(|r| r.state == DeviceState::Usable && !held.contains(&r.device.id));
            prop_assert!(!free, "nobody waits while a usable device is free");
        }
    }
}

#[test]
fn the_reason_names_what_is_waited_for() {
    let cause = |usable: Option<&[bool]>, running: &[Running]| {
        let inventory = usable.map(inventory);
        let waiting = ids([8, 9]);
        plan(inventory.as_ref(), Queue { waiting: &waiting, running }).waits.remove(0).1.cause
    };
    assert_eq!(cause(None, &[]), WaitCause::Detecting);
    assert_eq!(
        cause(Some(&[true]), &[holding(3, "GPU-0")]),
        WaitCause::DevicesBusy { running: TaskId::new(0, 3), busy: 1 }
    );
    assert_eq!(
        cause(Some(&[true]), &[]),
        WaitCause::DevicesBusy { running: TaskId::new(0, 8), busy: 1 },
        "a task waits for the one that starts in the same plan"
    );
    assert_eq!(
        cause(Some(&[false]), &[]),
        WaitCause::NoUsableDevice { zh: "GPU 0：丢失".into(), en: "GPU 0: lost".into() }
    );
}
