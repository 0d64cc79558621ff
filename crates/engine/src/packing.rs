//! Who may join a training on its GPU: nobody whose pace counts before it was measured alone, or it could not be judged
//! later whether the two get more done together.

use std::{collections::BTreeMap, time::Duration};

use domain::{DeviceId, TaskId, WaitCause, WaitReason};
use scheduler::Plan;

/// A training that makes no steps does not keep others away for longer.
pub const LONGEST: Duration = Duration::from_secs(300);

/// Takes starts back that would put a training beside one that is being measured; `measured` are those by device. Tasks
/// without a pace join at once.
pub fn hold_up(plan: &mut Plan, mut measured: BTreeMap<DeviceId, TaskId>, has_pace: impl Fn(TaskId) -> bool) -> bool {
    let mut held = Vec::new();
    plan.starts.retain(|start| {
        if !has_pace(start.task) {
            return true;
        }
        let devices = || start.grant.devices.iter().map(|granted| &granted.device);
        if let Some(task) = devices().find_map(|device| measured.get(device)) {
            held.push((start.task, WaitReason::new(1, WaitCause::Measuring { task: *task })));
            return false;
        }
        for device in devices() {
            measured.insert(device.clone(), start.task);
        }
        true
    });
    let any = !held.is_empty();
    if any {
        plan.waits.splice(0..0, held);
        for ((_, reason), position) in plan.waits.iter_mut().zip(1..) {
            reason.position = position;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{DeviceGrant, Grant};
    use scheduler::Start;

    #[test]
    fn a_training_joins_another_only_when_that_was_measured_and_commands_join_at_once() {
        let [training, second, third, command, waiting] = [1, 2, 3, 4, 5].map(|number| TaskId::new(0, number));
        let gpu = |name: &str| DeviceId(name.into());
        let start = |task, device: &str| {
            let devices = vec![DeviceGrant { device: gpu(device), bytes: Some(1) }];
            Start { task, grant: Grant { devices } }
        };
        let mut plan = Plan {
            starts: vec![start(second, "a"), start(command, "a"), start(training, "b"), start(third, "b")],
            waits: vec![(waiting, WaitReason::new(1, WaitCause::Planning))],
            ..Plan::default()
        };
        let measured = BTreeMap::from([(gpu("a"), TaskId::new(0, 9))]);
        assert!(hold_up(&mut plan, measured, |task| task != command));
        let started: Vec<TaskId> = plan.starts.iter().map(|start| start.task).collect();
        assert_eq!(started, [command, training], "two never start together on one");
        let told: Vec<_> = plan.waits.iter().map(|(task, reason)| (*task, reason.code(), reason.position)).collect();
        assert_eq!(told, [(second, "measuring", 1), (third, "measuring", 2), (waiting, "planning", 3)]);
        assert!(!hold_up(&mut plan, BTreeMap::new(), |task| task != command));
    }
}
