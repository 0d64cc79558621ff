//! Device memory: what was measured, what is promised, what is left.

use std::collections::BTreeMap;

use domain::{Demand, DeviceId, Grant, Inventory, MemoryHolder, Reading, TaskId};
use jiff::{SignedDuration, Timestamp};

use crate::{Policy, Running, Waiting, batch::Batch, place};

/// A task of unknown need gets a device that has at least this share of its memory free: a desktop may run there, an
/// inference server not.
const MOSTLY_FREE: f64 = 0.75;
/// Up to this share of a GPU's memory in foreign hands is a desktop's; above it the GPU is in use.
const DESKTOP_SHARE: f64 = 0.05;

/// The devices in the inventory's order with what is promised on each, the starts of this plan included.
pub struct Ledger<'a> {
    pub policy: &'a Policy,
    pub now: Timestamp,
    /// See [`Batch::long`].
    long: Option<SignedDuration>,
    pub accounts: Vec<Account<'a>>,
    /// All that hold something, on devices that are gone too, the one that has held it longest first.
    pub holders: Vec<TaskId>,
    /// How many were made in this plan.
    pub promises: usize,
    /// Those of them that are being stopped, by decisions of this plan too.
    pub leaving: Vec<TaskId>,
}

/// The least that anybody who waits asks for.
pub struct Least {
    /// Of a device, where that is known; `None`: all want devices to themselves.
    pub bytes: Option<u64>,
    /// The shortest of those that want so many devices, where lengths are known.
    lengths: BTreeMap<u32, SignedDuration>,
}

/// One device.
#[derive(Clone)]
pub struct Account<'a> {
    pub reading: &'a Reading,
    pub promises: Vec<Promise>,
    /// One that goes first waits until nobody is on it.
    is_awaited: bool,
    /// Bytes that the promised tasks still have to take.
    unused: u64,
    /// Bytes that other programs have.
    foreign: u64,
    /// Bytes that tasks use which are taken to have ended.
    freed: u64,
}

/// A grant on one device.
#[derive(Clone)]
pub struct Promise {
    pub task: TaskId,
    /// Bytes; `None`: the whole device.
    pub granted: Option<u64>,
    /// `None`: unknown.
    pub used: Option<u64>,
    pub shares: bool,
    /// How fast it goes alone is still to be found out.
    pub measuring: bool,
    /// Where it is unknown, a guess.
    pub ends_at: Timestamp,
    /// It starts in this plan.
    pub is_new: bool,
    /// It is being stopped.
    pub is_leaving: bool,
    /// The task is not there yet.
    pub is_kept: bool,
}

impl<'a> Ledger<'a> {
    pub fn new(
        policy: &'a Policy,
        inventory: &'a Inventory,
        running: &[Running],
        batch: Option<&Batch>,
        now: Timestamp,
    ) -> Ledger<'a> {
        let end = |running: &Running| {
            // One that has outlived what unknown lengths count as is taken to need as long again.
            let length = policy.unknown_length.max(now.duration_since(running.started_at) * 2);
            running.ends_at.unwrap_or(running.started_at.checked_add(length).unwrap_or(Timestamp::MAX))
        };
        let mut accounts: Vec<Account<'a>> =
            inventory.devices.iter().map(|reading| Account::new(reading, running, end)).collect();
        let long = batch.map(|batch| batch.long);
        for promise in accounts.iter_mut().flat_map(|account| &mut account.promises) {
            promise.shares &= !ends_last(long, promise.ends_at.duration_since(now));
        }
        let mut holders: Vec<TaskId> = running.iter().map(|running| running.task).collect();
        holders.sort_unstable();
        let leaving = running.iter().filter(|running| running.stopping).map(|running| running.task).collect();
        Ledger { policy, now, long, accounts, holders, promises: 0, leaving }
    }

    /// Books the grant of a task that starts in this plan; it uses nothing yet.
    pub fn promise(&mut self, waiting: &Waiting, grant: &Grant) {
        self.book(waiting, grant, false);
    }

    /// Keeps the place of a task that waits for a moment, so that nobody behind it takes it.
    pub fn keep(&mut self, waiting: &Waiting, grant: &Grant) {
        self.book(waiting, grant, true);
    }

    /// The task goes first and found no device: nobody joins others any more where it could be.
    pub fn wait_for_empty(&mut self, waiting: &Waiting) {
        for account in &mut self.accounts {
            account.is_awaited |= place::can_ever(account, waiting);
        }
    }

    /// Whose steps are [timed alone](Account::measures) on one of the granted devices.
    pub fn measured(&self, waiting: &Waiting, grant: &Grant) -> Option<TaskId> {
        let is_granted = |account: &&Account<'_>| grant.devices.iter().any(|granted| granted.device == *account.id());
        self.accounts.iter().filter(is_granted).find_map(|account| account.measures(self.policy, waiting))
    }

    fn book(&mut self, waiting: &Waiting, grant: &Grant, is_kept: bool) {
        let (ends_at, shares) = (self.end_of(waiting), self.shares(waiting));
        self.holders.push(waiting.task);
        self.promises += 1;
        for granted in &grant.devices {
            let account = self.accounts.iter_mut().find(|account| account.reading.device.id == granted.device);
            if let Some(account) = account {
                let (task, granted) = (waiting.task, granted.bytes);
                let measuring = waiting.timed && account.promises.is_empty();
                account.add(Promise {
                    task,
                    granted,
                    used: Some(0),
                    shares,
                    measuring,
                    ends_at,
                    is_new: true,
                    is_leaving: false,
                    is_kept,
                });
            }
        }
    }

    /// From here on the task counts as being stopped.
    pub fn let_go(&mut self, task: TaskId) {
        self.leaving.push(task);
        let promises = self.accounts.iter_mut().flat_map(|account| &mut account.promises);
        promises.filter(|promise| promise.task == task).for_each(|promise| promise.is_leaving = true);
    }

    /// What runs until then is one of the last of its batch to end.
    pub fn ends_last(&self, ends_at: Timestamp) -> bool {
        ends_last(self.long, ends_at.duration_since(self.now))
    }

    /// The task may have others beside it on a device.
    pub fn shares(&self, waiting: &Waiting) -> bool {
        waiting.demand.shares && !ends_last(self.long, self.policy.length(waiting))
    }

    /// When the task would end if it started now.
    pub fn end_of(&self, waiting: &Waiting) -> Timestamp {
        self.now.checked_add(self.policy.length(waiting)).unwrap_or(Timestamp::MAX)
    }
}

/// Where what takes so long does.
fn ends_last(long: Option<SignedDuration>, left: SignedDuration) -> bool {
    long.is_some_and(|long| left >= long)
}

impl Least {
    pub fn of(waiting: &[Waiting]) -> Least {
        let mut least = Least { bytes: None, lengths: BTreeMap::new() };
        for waiting in waiting {
            let Demand { devices, memory, .. } = waiting.demand;
            least.bytes = least.bytes.into_iter().chain(memory).min();
            if let Some(expected) = waiting.expected {
                let shortest = least.lengths.entry(devices).or_insert(expected);
                *shortest = expected.min(*shortest);
            }
        }
        least
    }

    /// The shortest of those that want no more devices than that; `None`: their lengths are unknown.
    pub fn length(&self, devices: usize) -> Option<SignedDuration> {
        let narrow = self.lengths.iter().filter(|(wanted, _)| **wanted as usize <= devices);
        narrow.map(|(_, length)| *length).min()
    }
}

impl Promise {
    /// Bytes that it still has to take.
    pub fn unused(&self) -> u64 {
        self.granted.map_or(0, |granted| granted.saturating_sub(self.used.unwrap_or(0)))
    }

    /// What is being stopped counts as gone.
    pub fn end(&self, now: Timestamp) -> Timestamp {
        if self.is_leaving { now } else { self.ends_at }
    }
}

impl<'a> Account<'a> {
    fn new(reading: &'a Reading, running: &[Running], end: impl Fn(&Running) -> Timestamp) -> Account<'a> {
        let mut account = Account { reading, promises: Vec::new(), is_awaited: false, unused: 0, foreign: 0, freed: 0 };
        for running in running {
            for (granted, used) in running.grant.devices.iter().zip(&running.used) {
                if granted.device == reading.device.id {
                    account.add(Promise {
                        task: running.task,
                        granted: granted.bytes,
                        used: *used,
                        shares: running.shares,
                        measuring: running.measuring,
                        ends_at: end(running),
                        is_new: false,
                        is_leaving: running.stopping,
                        is_kept: false,
                    });
                }
            }
        }
        account.foreign = account.foreign();
        account
    }

    /// Bytes in use that are not this studio's tasks'. In a container the driver does not say whose a process is: then what
    /// tasks say of themselves counts.
    fn foreign(&self) -> u64 {
        self.reading.memory.map_or(0, |memory| memory.used.saturating_sub(attributed(self.reading) + self.hidden()))
    }

    /// Bytes that tasks say they use beyond what the driver says of them.
    fn hidden(&self) -> u64 {
        let said: u64 = self.promises.iter().filter_map(|promise| promise.used).sum();
        said.saturating_sub(attributed(self.reading))
    }

    fn add(&mut self, promise: Promise) {
        self.unused += promise.unused();
        self.promises.push(promise);
    }

    /// As if these had ended and given back what they use.
    pub fn without(&self, tasks: &[TaskId]) -> Account<'a> {
        let mut later = Account {
            reading: self.reading,
            promises: Vec::new(),
            is_awaited: self.is_awaited,
            unused: 0,
            foreign: self.foreign,
            freed: self.freed,
        };
        for promise in &self.promises {
            if tasks.contains(&promise.task) {
                later.freed += promise.used.unwrap_or(0);
            } else {
                later.add(promise.clone());
            }
        }
        later
    }

    /// Promises that will still be held at that time.
    fn lasting(&self, at: Timestamp) -> impl Iterator<Item = &Promise> {
        self.promises.iter().filter(move |promise| !promise.is_leaving && promise.ends_at > at)
    }

    /// When the last of those will have ended that have by then; now, if there is none.
    pub fn free_from(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        self.promises.iter().map(|promise| promise.end(now)).filter(|end| *end <= at).max().unwrap_or(now)
    }

    pub fn left_at(&self, at: Timestamp) -> usize {
        self.lasting(at).count()
    }

    pub fn shares_at(&self, at: Timestamp) -> bool {
        self.lasting(at).all(|promise| promise.shares && promise.granted.is_some())
    }

    /// Bytes that will be free and not promised, if other programs keep what they have.
    pub fn free_at(&self, at: Timestamp) -> u64 {
        // Who has more than its grant keeps that.
        let held = |promise: &Promise| promise.granted.map(|granted| granted.max(promise.used.unwrap_or(0)));
        let promised: u64 = self.lasting(at).filter_map(held).sum();
        self.allocatable().saturating_sub(self.foreign + promised)
    }

    /// Free enough for a task of unknown need if none of ours is on it.
    pub fn is_roomy_without_ours(&self) -> bool {
        let free = self.allocatable().saturating_sub(self.foreign);
        !self.is_shared() || free as f64 >= MOSTLY_FREE * self.allocatable() as f64
    }

    pub fn id(&self) -> &DeviceId {
        &self.reading.device.id
    }

    /// Its memory is measured and can be shared. The CPU and simulated GPUs take one task at a time.
    pub fn is_shared(&self) -> bool {
        self.reading.device.kind.is_real_gpu() && self.reading.memory.is_some()
    }

    /// Free by measurement and not promised to anybody, in bytes.
    pub fn free(&self) -> u64 {
        self.reading.memory.map_or(0, |memory| (memory.free + self.freed).saturating_sub(self.unused))
    }

    /// Bytes promised but not yet in use that are no longer there. `None` while every promise can be kept, or where a use is
    /// unknown: then the whole grant counts as unused, which proves nothing.
    pub fn shortfall(&self) -> Option<u64> {
        let measured = self.promises.iter().all(|promise| promise.granted.is_none() || promise.used.is_some());
        let free = self.reading.memory?.free + self.freed;
        (self.is_shared() && measured && self.unused > free).then(|| self.unused - free)
    }

    pub fn allocatable(&self) -> u64 {
        self.reading.memory.map_or(0, |memory| memory.allocatable())
    }

    /// This task cannot be added, whatever its size.
    pub fn is_taken(&self, ledger: &Ledger<'_>, waiting: &Waiting) -> bool {
        if self.promises.is_empty() {
            return false;
        }
        let most =
            if self.is_shared() && ledger.shares(waiting) { ledger.policy.tasks_per_gpu.max(1) as usize } else { 1 };
        self.is_awaited
            || self.promises.len() >= most
            || self.promises.iter().any(|promise| promise.granted.is_none() || !promise.shares)
    }

    /// Nobody who waits can have it now.
    pub fn is_closed(&self, policy: &Policy, least: &Least) -> bool {
        let has_room = || least.bytes.is_some_and(|bytes| self.free() >= bytes);
        let may_share = || {
            self.is_shared()
                && !self.is_awaited
                && self.promises.len() < policy.tasks_per_gpu.max(1) as usize
                && self.promises.iter().all(|promise| promise.granted.is_some() && promise.shares)
                && has_room()
        };
        !self.reading.is_usable()
            || self.is_left_alone(policy)
            || if self.promises.is_empty() { !self.is_mostly_free() && !has_room() } else { !may_share() }
    }

    /// How many tasks are there, or start in this plan.
    pub fn present(&self) -> usize {
        self.promises.iter().filter(|promise| !promise.is_kept).count()
    }

    /// Whose steps are timed alone here, so that this task must not join it yet: or it could not be judged later whether the two
    /// get more done together.
    pub fn measures(&self, policy: &Policy, waiting: &Waiting) -> Option<TaskId> {
        let mut here = self.promises.iter().filter(|promise| !promise.is_kept);
        let (first, second) = (here.next()?, here.next());
        // With a neighbour there is nothing left to measure.
        let measures = first.measuring && second.is_none();
        (measures && waiting.timed && policy.preemption.is_some()).then_some(first.task)
    }

    /// Other programs keep it from being used at all.
    pub fn is_left_alone(&self, policy: &Policy) -> bool {
        policy.exclusive && self.is_shared() && self.foreign as f64 > DESKTOP_SHARE * self.allocatable() as f64
    }

    pub fn is_mostly_free(&self) -> bool {
        !self.is_shared() || self.free() as f64 >= MOSTLY_FREE * self.allocatable() as f64
    }

    pub fn foreign_holders(&self) -> Vec<MemoryHolder> {
        foreign_holders(self.reading, self.hidden())
    }

    /// Who has its memory, the largest first: other programs, unknown ones, and tasks with what they were promised.
    pub fn memory_holders(&self) -> Vec<MemoryHolder> {
        let mut holders = self.foreign_holders();
        holders.extend(self.promises.iter().map(|promise| MemoryHolder {
            pid: None,
            name: None,
            bytes: promise.granted,
            task: Some(promise.task),
        }));
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
        holders
    }
}

/// Bytes that the driver says tasks of this studio use.
fn attributed(reading: &Reading) -> u64 {
    reading.processes.iter().filter(|process| process.task.is_some()).filter_map(|process| process.bytes).sum()
}

/// Without so many bytes that tasks have of what nobody accounts for.
fn foreign_holders(reading: &Reading, ours: u64) -> Vec<MemoryHolder> {
    let foreign = reading.processes.iter().filter(|process| process.task.is_none());
    let mut holders: Vec<MemoryHolder> = foreign
        .map(|process| MemoryHolder {
            pid: Some(process.pid),
            name: process.service.clone().or_else(|| process.name.clone()),
            bytes: process.bytes,
            task: None,
        })
        .collect();
    let hidden = reading
        .unattributed
        .map(|bytes| bytes.saturating_sub(ours))
        .filter(|bytes| *bytes as f64 > DESKTOP_SHARE * reading_size(reading));
    holders.extend(hidden.map(|bytes| MemoryHolder { pid: None, name: None, bytes: Some(bytes), task: None }));
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
    holders
}

fn reading_size(reading: &Reading) -> f64 {
    reading.memory.map_or(0, |memory| memory.allocatable()) as f64
}

/// See [`crate::free`].
pub fn free(reading: &Reading, running: &[Running]) -> u64 {
    let account = Account::new(reading, running, |_| Timestamp::MAX);
    let whole = |promise: &Promise| promise.granted.is_none() || !account.is_shared();
    if account.promises.iter().any(whole) { 0 } else { account.free() }
}

/// See [`crate::shortfall`].
pub fn shortfall(reading: &Reading, running: &[Running]) -> Option<(u64, Vec<MemoryHolder>)> {
    let account = Account::new(reading, running, |_| Timestamp::MAX);
    Some((account.shortfall()?, account.foreign_holders()))
}
