//! What people switch for the whole queue, and what time switches by itself.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use domain::{Allowance, Closing, DeviceState, Inventory, QueueMode, Switched, Task, TaskId, WaitCause, Warning};
use jiff::{SignedDuration, Timestamp};
use scheduler::Quota;
use store::Change;

use crate::{
    disk::{self, Verdict},
    machine::Machine,
    message::Switch,
    turn::Turn,
};

/// Code of the warning that most of a task's time is used up.
pub const LIMIT_NEAR: &str = "time-limit-near";
/// Of its time, after which it is warned.
const MOST: f64 = 0.9;
/// So often disk and memory are looked at while there is something to do.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(2);

impl Machine {
    pub fn switch(&mut self, switch: Switch, who: String, turn: &mut Turn) {
        let switched = Switched { by: who, at: Timestamp::now() };
        match switch {
            Switch::Pause => {
                self.control.mode = QueueMode::Paused(switched);
                self.control.pause = None;
            }
            Switch::Drain => match std::mem::replace(&mut self.control.mode, QueueMode::Draining(switched)) {
                QueueMode::Paused(pause) => self.control.pause = Some(pause),
                QueueMode::Open | QueueMode::Draining(_) => {}
            },
            Switch::Close { starts } => self.control.closing = Some(Closing { by: switched, starts }),
            Switch::Resume if self.control.closing.is_some() => self.control.closing = None,
            Switch::Resume => (self.control.mode, self.control.pause) = (QueueMode::Open, None),
            Switch::Maintain(device) => drop(self.control.maintenance.insert(device, switched)),
            Switch::Restore(device) => drop(self.control.maintenance.remove(&device)),
        }
        self.take_in_maintenance();
        self.outbox.view.set_control(self.control.clone());
        // The page shows it at once, also where no task's place changes.
        self.publish_queue_at = Some(Instant::now());
        turn.changes.push(Change::Control(Box::new(self.control.clone())));
    }

    pub fn allow(&mut self, allowances: BTreeMap<String, Allowance>) {
        let quota = |allowance: &Allowance| Quota { running: allowance.running, gpus: allowance.gpus };
        self.quotas = allowances.iter().map(|(user, allowance)| (user.clone(), quota(allowance))).collect();
        self.allowances = allowances;
    }

    /// The inventory as the planner and everybody else is to see it.
    pub fn take_in_maintenance(&mut self) {
        let Some(measured) = &self.measured else { return };
        if self.control.maintenance.is_empty() {
            self.inventory = Some(measured.clone());
            return;
        }
        let mut inventory = Inventory::clone(measured);
        for reading in inventory.devices.iter_mut().filter(|reading| reading.is_usable()) {
            if let Some(Switched { by, .. }) = self.control.maintenance.get(&reading.device.id) {
                reading.state = DeviceState::Unusable {
                    code: "maintenance".into(),
                    zh: format!("维护中（由 {by} 设置）：不会启动新任务。"),
                    en: format!("in maintenance (set by {by}): nothing new starts here."),
                };
            }
        }
        self.inventory = Some(Arc::new(inventory));
    }

    /// Why nothing may start at all.
    pub fn closed(&mut self, now: Timestamp) -> Option<WaitCause> {
        if let Some(switched) = self.control.pauses() {
            return Some(WaitCause::QueuePaused { by: switched.by.clone() });
        }
        if let Verdict::NothingNew { free, limit } | Verdict::PauseRunning { free, limit } = self.disk_verdict {
            return Some(WaitCause::DiskFull { free, limit });
        }
        if let Verdict::NothingNew { free, limit } | Verdict::PauseRunning { free, limit } = self.memory.verdict() {
            return Some(WaitCause::HostMemory { free, limit });
        }
        let until = self.settings.start_hours.closed_until(now)?;
        self.wake(until, now);
        Some(WaitCause::QuietHours { until })
    }

    /// Before the disk is full, what can go on later is stopped while there is room for its checkpoint.
    pub fn look_at_disk(&mut self, turn: &mut Turn, now: Timestamp) {
        if !self.running.is_empty() || !self.queue.is_empty() {
            self.wake(now + LOOK_EVERY, now);
        }
        let (Ok(room), grace) = (disk::read(&self.home), self.settings.grace) else { return };
        let before = self.disk_verdict;
        self.disk_verdict = self.disk.look(room, self.settings.min_free, grace, Instant::now());
        if (before == Verdict::Enough) != (self.disk_verdict == Verdict::Enough) {
            tracing::warn!("room on the disk: {:?}", self.disk_verdict);
        }
        let Verdict::PauseRunning { free, limit } = self.disk_verdict else { return };
        for running in self.running.values_mut().filter(|running| running.can_pause()) {
            running.pause(WaitCause::DiskFull { free, limit }, turn);
        }
    }

    /// Before the machine has no memory left and the kernel ends something, the youngest training that can go on later is
    /// stopped; the next only when that was not enough.
    pub fn look_at_memory(&mut self, turn: &mut Turn, now: Timestamp) {
        if !self.running.is_empty() || !self.queue.is_empty() {
            self.wake(now + LOOK_EVERY, now);
        }
        let (before, at) = (self.memory.verdict(), Instant::now());
        let verdict = self.memory.look(at);
        if (before == Verdict::Enough) != (verdict == Verdict::Enough) {
            tracing::warn!("memory of the machine: {verdict:?}");
        }
        let Verdict::PauseRunning { free, limit } = verdict else { return };
        let is_for_memory = |paused: &WaitCause| matches!(paused, WaitCause::HostMemory { .. });
        if self.running.values().any(|running| running.task.terms.paused.as_ref().is_some_and(is_for_memory)) {
            return;
        }
        let youngest = self.running.values_mut().filter(|running| running.can_pause());
        let Some(running) = youngest.max_by_key(|running| (running.attempt.started_at, running.task.id)) else {
            return;
        };
        running.pause(WaitCause::HostMemory { free, limit }, turn);
        self.memory.pausing(free, at);
    }

    /// Tells those whose time is almost up, once.
    pub fn warn_of_limits(&mut self, turn: &mut Turn, now: Timestamp) {
        let mut near: Vec<(TaskId, Warning)> = Vec::new();
        let mut next = None;
        for (id, running) in &mut self.running {
            if running.warned_of_limit || running.task.state.kind().is_final() {
                continue;
            }
            let at = warned_at(&running.task, running.attempt.started_at);
            if at > now {
                next = Some(next.map_or(at, |earlier: Timestamp| earlier.min(at)));
                continue;
            }
            running.warned_of_limit = true;
            near.push((*id, limit_near(running.task.time_limit)));
        }
        if let Some(at) = next {
            self.wake(at, now);
        }
        for (id, warning) in near {
            self.warn(id, warning, turn);
        }
    }
}

/// When most of the time of all its attempts will be used up.
fn warned_at(task: &Task, started_at: Timestamp) -> Timestamp {
    let most = task.time_limit as f64 * MOST - task.terms.used as f64;
    let most = SignedDuration::try_from_secs_f64(most).unwrap_or(SignedDuration::MAX);
    started_at.checked_add(most).unwrap_or(Timestamp::MAX)
}

fn limit_near(limit: u64) -> Warning {
    let limit = domain::duration(limit);
    Warning {
        code: LIMIT_NEAR.into(),
        zh: format!("⚠️ 已用去时间限制（{limit}）的 90%，到时会保存检查点并停止。下次提交时可用 --time-limit 提高限制"),
        en: format!(
            "90 % of the time limit of {limit} is used up; at the limit the task is stopped. Submit with a higher \
             --time-limit next time"
        ),
    }
}
