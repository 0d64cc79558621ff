use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, RwLock},
};

use domain::{
    Allowance, Control, DeviceGrant, DeviceId, Inventory, Progress, Reading, Task, TaskId, TaskState, WaitReason,
};
use jiff::Timestamp;
use scheduler::Forecast;
use store::StoredTask;

use crate::devices;

/// Lines of a task's log that travel with it.
pub const LOG_TAIL: usize = 50;

/// What is true now and not in the database: wait reasons, readings, the progress of running attempts.
#[derive(Debug, Default)]
pub struct View {
    waits: RwLock<Arc<Waits>>,
    devices: RwLock<Option<Arc<DeviceStatus>>>,
    live: RwLock<HashMap<TaskId, Live>>,
    control: RwLock<Control>,
    allowances: RwLock<BTreeMap<String, Allowance>>,
}

/// The waiting tasks in the order in which they will start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub tasks: Vec<(TaskId, WaitReason)>,
    /// When the first of them will start and end, as far as it can be told.
    pub forecast: Vec<Forecast>,
    /// Positions in `tasks` by the tasks' ids.
    by_id: Vec<u32>,
    /// More wait than [`Settings::queue_warning`](crate::Settings::queue_warning).
    pub long: bool,
}

/// The last readings, and what running attempts were promised of the devices.
#[derive(Debug, PartialEq)]
pub struct DeviceStatus {
    pub inventory: Arc<Inventory>,
    pub holders: Vec<scheduler::Running>,
}

impl DeviceStatus {
    /// Grants on this device, the oldest task first.
    pub fn grants(&self, device: &DeviceId) -> impl Iterator<Item = (TaskId, &DeviceGrant)> {
        let grants =
            self.holders.iter().flat_map(|holder| holder.grant.devices.iter().map(|grant| (holder.task, grant)));
        grants.filter(move |(_, grant)| grant.device == *device)
    }

    /// Bytes that are free by measurement and promised to nobody; `None` where nothing may be placed.
    pub fn free(&self, reading: &Reading) -> Option<u64> {
        (reading.is_usable() && reading.memory.is_some()).then(|| scheduler::free(reading, &self.holders))
    }
}

/// A task as it stands: the durable part, and what its attempt reported since.
#[derive(Debug, Clone)]
pub struct TaskSnapshot {
    pub task: Task,
    pub progress: Progress,
    /// JSON array of the last [`LOG_TAIL`] log lines.
    pub log_tail: String,
}

impl TaskSnapshot {
    /// When a running attempt is expected to end.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let started_at = self.task.state.attempt()?.started_at;
        devices::ends_at(&self.task, started_at, &self.progress, now)
    }
}

/// What the watcher of a running attempt has seen.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Of the training's main process, once it runs.
    pub pid: Option<u32>,
    pub progress: Progress,
    /// Lines that the studio itself wrote about the task.
    pub notes: Vec<String>,
    /// The last lines of the training's own output.
    pub lines: VecDeque<String>,
}

impl Live {
    pub fn push_line(&mut self, line: String) {
        if self.lines.len() == LOG_TAIL {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub fn log_tail(&self) -> Vec<String> {
        let all = self.notes.iter().chain(&self.lines);
        all.skip((self.notes.len() + self.lines.len()).saturating_sub(LOG_TAIL)).cloned().collect()
    }
}

impl Waits {
    pub fn new(tasks: Vec<(TaskId, WaitReason)>, forecast: Vec<Forecast>, long: bool) -> Waits {
        let mut by_id: Vec<u32> = (0..tasks.len() as u32).collect();
        by_id.sort_unstable_by_key(|index| tasks[*index as usize].0);
        Waits { tasks, forecast, by_id, long }
    }

    pub fn forecast(&self, task: TaskId) -> Option<&Forecast> {
        self.forecast.iter().find(|forecast| forecast.task == task)
    }

    pub fn reason(&self, task: TaskId) -> Option<&WaitReason> {
        let place = self.by_id.binary_search_by_key(&task, |index| self.tasks[*index as usize].0).ok()?;
        Some(&self.tasks[self.by_id[place] as usize].1)
    }
}

impl View {
    pub fn waits(&self) -> Arc<Waits> {
        self.waits.read().expect("no writer panics").clone()
    }

    /// `None` while detection has not answered yet.
    pub fn devices(&self) -> Option<Arc<DeviceStatus>> {
        self.devices.read().expect("no writer panics").clone()
    }

    /// What people have switched for the whole queue.
    pub fn control(&self) -> Control {
        self.control.read().expect("no writer panics").clone()
    }

    /// The stored task with what is known beyond the database.
    pub fn snapshot(&self, stored: StoredTask) -> TaskSnapshot {
        let StoredTask { mut task, mut progress, mut log_tail } = stored;
        match &mut task.state {
            TaskState::Queued { reason } => {
                if let Some(now) = self.waits().reason(task.id) {
                    *reason = now.clone();
                }
            }
            TaskState::Preparing { attempt } | TaskState::Training { attempt } => {
                if let Some(live) = self.live.read().expect("no writer panics").get(&task.id) {
                    attempt.pid = live.pid.or(attempt.pid);
                    progress = live.progress.clone();
                    log_tail = json(&live.log_tail());
                }
            }
            _ => {}
        }
        TaskSnapshot { task, progress, log_tail }
    }

    pub(crate) fn progress(&self, task: TaskId) -> Progress {
        let live = self.live.read().expect("no writer panics");
        live.get(&task).map(|live| live.progress.clone()).unwrap_or_default()
    }

    pub(crate) fn live(&self, task: TaskId) -> Live {
        self.live.read().expect("no writer panics").get(&task).cloned().unwrap_or_default()
    }

    pub(crate) fn set_live(&self, task: TaskId, live: Live) {
        self.live.write().expect("no writer panics").insert(task, live);
    }

    pub(crate) fn update_live(&self, task: TaskId, change: impl FnOnce(&mut Live)) {
        if let Some(live) = self.live.write().expect("no writer panics").get_mut(&task) {
            change(live);
        }
    }

    pub(crate) fn forget_live(&self, task: TaskId) {
        self.live.write().expect("no writer panics").remove(&task);
    }

    /// True if that changed anything.
    pub(crate) fn set_waits(&self, waits: Waits) -> bool {
        let mut current = self.waits.write().expect("no writer panics");
        let changed = **current != waits;
        if changed {
            *current = Arc::new(waits);
        }
        changed
    }

    pub(crate) fn set_control(&self, control: Control) {
        *self.control.write().expect("no writer panics") = control;
    }

    /// What users may have; who is not named may have all.
    pub(crate) fn set_allowances(&self, allowances: BTreeMap<String, Allowance>) {
        *self.allowances.write().expect("no writer panics") = allowances;
    }

    /// Bytes that the user's data sets and tasks may take; `None`: as much as there is.
    pub fn disk_allowance(&self, user: &str) -> Option<u64> {
        self.allowances.read().expect("no writer panics").get(user)?.disk_bytes
    }

    pub(crate) fn set_devices(&self, status: DeviceStatus) -> Arc<DeviceStatus> {
        let status = Arc::new(status);
        *self.devices.write().expect("no writer panics") = Some(status.clone());
        status
    }
}

pub fn json(lines: &[String]) -> String {
    serde_json::to_string(lines).expect("strings serialise")
}
