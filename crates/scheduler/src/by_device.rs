//! What each device says to one waiting task.

use domain::{DeviceId, DeviceState, Inventory, Language, MemoryHolder, TaskId, WaitCause, WaitReason, gib};
use jiff::Timestamp;

use crate::{
    Policy, Queue, Waiting,
    batch::Batch,
    explain,
    ledger::{Account, Ledger},
    order,
    pass::Pass,
    place,
    reserve::Reservation,
};

/// Whether a task could have this device now.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub device: DeviceId,
    /// As people call it: `GPU 0`, `GPU 0 (MIG 1g.10gb)`.
    pub label: String,
    /// Bytes that the task needs here; `None`: unknown, or the device is not shared.
    pub needed: Option<u64>,
    /// Bytes free by measurement and promised to nobody; `None`: not measured.
    pub free: Option<u64>,
    /// `None`: it fits now.
    pub refusal: Option<Refusal>,
}

/// The first thing in the way on one device. Sizes are bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Nothing may be placed here.
    Unusable {
        code: String,
        zh: String,
        en: String,
    },
    /// Even empty it would not do.
    TooSmall {
        needed: u64,
        total: u64,
    },
    /// One of several devices that train together cannot be a slice of a GPU.
    OneMigInstance,
    /// Other programs use it, and the policy is to leave it alone then.
    ForeignUse {
        holders: Vec<MemoryHolder>,
    },
    /// As many tasks have it as may, or one has it to itself; or this one wants it to itself.
    Taken {
        tasks: Vec<TaskId>,
    },
    /// A trial allocation failed here a moment ago.
    Refused {
        cause: WaitCause,
    },
    Memory {
        needed: u64,
        free: u64,
        holders: Vec<MemoryHolder>,
    },
    /// Wants it to itself, and too much of it is in use.
    NotFreeEnough {
        free: u64,
        total: u64,
        holders: Vec<MemoryHolder>,
    },
    /// It fits, but the one that has it is measured alone first.
    Measuring {
        task: TaskId,
    },
    /// It fits, but would delay a task before it, which gets the device at that time.
    Reserved {
        task: TaskId,
        at: Timestamp,
    },
}

/// What stands between a waiting task and each device, when those before it have had their chance. Empty if the task
/// does not wait.
pub fn by_device(
    policy: &Policy,
    inventory: &Inventory,
    queue: Queue<'_>,
    task: TaskId,
    now: Timestamp,
) -> Vec<Verdict> {
    let batch = Batch::of(policy, inventory, queue.waiting, queue.running, now);
    let mut pass = Pass::new(policy, inventory, queue, batch.as_ref(), now);
    for waiting in order::rank(policy, queue, batch.as_ref(), now) {
        if waiting.task == task {
            let verdict = |(index, account)| verdict(&pass.ledger, index, account, pass.reservation.as_ref(), waiting);
            return pass.ledger.accounts.iter().enumerate().map(verdict).collect();
        }
        pass.serve(waiting);
    }
    Vec::new()
}

fn verdict(
    ledger: &Ledger<'_>,
    index: usize,
    account: &Account<'_>,
    reservation: Option<&Reservation>,
    waiting: &Waiting,
) -> Verdict {
    let refusal = refusal(ledger, account, waiting).or_else(|| {
        let kept = reservation.filter(|kept| !kept.leaves(index, ledger, waiting))?;
        Some(Refusal::Reserved { task: kept.task, at: kept.at })
    });
    let refusal = refusal.or_else(|| account.measures(ledger.policy, waiting).map(|task| Refusal::Measuring { task }));
    let whole = account.promises.iter().any(|promise| promise.granted.is_none() || !account.is_shared());
    Verdict {
        device: account.id().clone(),
        label: explain::label(account.reading),
        needed: waiting.demand.memory.filter(|_| account.is_shared()),
        free: account.reading.memory.map(|_| if whole { 0 } else { account.free() }),
        refusal,
    }
}

/// `None` exactly where [`place::fits`].
fn refusal(ledger: &Ledger<'_>, account: &Account<'_>, waiting: &Waiting) -> Option<Refusal> {
    if let DeviceState::Unusable { code, zh, en } = &account.reading.state {
        return Some(Refusal::Unusable { code: code.clone(), zh: zh.clone(), en: en.clone() });
    }
    let (free, total) = (account.free(), account.allocatable());
    if !place::can_ever(account, waiting) {
        return Some(match waiting.demand.memory {
            Some(needed) if account.is_shared() && needed > total => Refusal::TooSmall { needed, total },
            _ => Refusal::OneMigInstance,
        });
    }
    if place::fits(ledger, account, waiting) {
        return None;
    }
    if account.is_left_alone(ledger.policy) {
        return Some(Refusal::ForeignUse { holders: account.foreign_holders() });
    }
    let alone = waiting.demand.memory.is_none();
    if account.is_taken(ledger, waiting) || (alone && !account.promises.is_empty()) {
        return Some(Refusal::Taken { tasks: account.promises.iter().map(|promise| promise.task).collect() });
    }
    if let Some((_, cause)) = waiting.refused.iter().find(|(device, _)| device == account.id()) {
        return Some(Refusal::Refused { cause: cause.clone() });
    }
    let holders = account.memory_holders();
    Some(match waiting.demand.memory {
        Some(needed) => Refusal::Memory { needed, free, holders },
        None => Refusal::NotFreeEnough { free, total, holders },
    })
}

impl Verdict {
    /// `fits_now`, or what is in the way; of an unusable device the code of what ails it.
    pub fn code(&self) -> &str {
        match &self.refusal {
            None => "fits_now",
            Some(Refusal::Unusable { code, .. }) => code,
            Some(Refusal::TooSmall { .. }) => "too_large",
            Some(Refusal::OneMigInstance) => "one_mig_instance",
            Some(Refusal::ForeignUse { .. }) => "foreign_use",
            Some(Refusal::Taken { .. }) => "taken_by_tasks",
            Some(Refusal::Refused { .. }) => "trial_failed",
            Some(Refusal::Memory { .. }) => "device_memory",
            Some(Refusal::NotFreeEnough { .. }) => "whole_device",
            Some(Refusal::Measuring { .. }) => "measuring",
            Some(Refusal::Reserved { .. }) => "reserved",
        }
    }

    pub fn holders(&self) -> &[MemoryHolder] {
        match &self.refusal {
            Some(
                Refusal::ForeignUse { holders }
                | Refusal::Memory { holders, .. }
                | Refusal::NotFreeEnough { holders, .. },
            ) => holders,
            _ => &[],
        }
    }

    /// One sentence for people, without the device's name.
    pub fn sentence(&self, language: Language) -> String {
        let zh = language == Language::Zh;
        let Some(refusal) = &self.refusal else {
            return if zh { "现在放得下" } else { "fits now" }.into();
        };
        match refusal {
            Refusal::Unusable { zh: sentence, .. } if zh => format!("不可用：{sentence}"),
            Refusal::Unusable { en, .. } => format!("unusable: {en}"),
            Refusal::TooSmall { needed, total } if zh => {
                format!("太小：需要 {}，全部空闲时也只有 {}", gib(*needed), gib(*total))
            }
            Refusal::TooSmall { needed, total } => {
                format!("too small: needs {}, has {} even when it is empty", gib(*needed), gib(*total))
            }
            Refusal::OneMigInstance if zh => "是 MIG 实例，不能与其他设备共同训练".into(),
            Refusal::OneMigInstance => "is a MIG instance, which cannot train together with other devices".into(),
            Refusal::ForeignUse { holders } if zh => {
                format!("其他程序正在使用{}，按设置不与其共用", held(holders, language))
            }
            Refusal::ForeignUse { holders } => {
                format!("other programs use it{}, and by the settings it is not shared", held(holders, language))
            }
            Refusal::Taken { tasks } => {
                let names: Vec<String> = tasks.iter().map(TaskId::to_string).collect();
                match (zh, names.len()) {
                    (true, 1) => format!("被 {} 占用", names[0]),
                    (true, count) => format!("被 {count} 个任务占用：{}", names.join("、")),
                    (false, 1) => format!("taken by {}", names[0]),
                    (false, count) => format!("taken by {count} tasks: {}", names.join(", ")),
                }
            }
            Refusal::Refused { cause: WaitCause::TrialFailed { needed, free, .. }, .. } => {
                let left = free.map_or_else(String::new, |free| {
                    if zh { format!("，只有 {} 可用", gib(free)) } else { format!(", {} was free", gib(free)) }
                });
                if zh {
                    format!("刚才试分配 {} 失败{left}；稍后重试", gib(*needed))
                } else {
                    format!("allocating {} failed a moment ago{left}; it will be tried again", gib(*needed))
                }
            }
            Refusal::Refused { cause } => WaitReason::new(1, cause.clone()).sentence(language),
            Refusal::Memory { needed, free, holders } => {
                let (short, held) = (gib(needed.saturating_sub(*free)), held(holders, language));
                let (needed, free) = (gib(*needed), gib(*free));
                if zh {
                    format!("显存还差 {short}：需要 {needed}，可用 {free}{held}")
                } else {
                    format!("{short} of memory short: needs {needed}, {free} is free{held}")
                }
            }
            Refusal::NotFreeEnough { free, total, holders } => {
                let (free, total, held) = (gib(*free), gib(*total), held(holders, language));
                if zh {
                    format!("任务需要独占，而 {total} 中只有 {free} 可用{held}")
                } else {
                    format!("the task wants it to itself, and {free} of {total} is free{held}")
                }
            }
            Refusal::Measuring { task } if zh => format!("放得下，但 {task} 的最初几步正在此单独测速"),
            Refusal::Measuring { task } => {
                format!("it would fit, but {task} is measured alone here for its first steps")
            }
            Refusal::Reserved { task, .. } if zh => format!("放得下，但已为 {task} 预留"),
            Refusal::Reserved { task, .. } => format!("it would fit, but is reserved for {task}"),
        }
    }
}

fn held(holders: &[MemoryHolder], language: Language) -> String {
    let said: Vec<String> = holders.iter().map(|holder| holder.describe(language)).collect();
    match language {
        _ if said.is_empty() => String::new(),
        Language::Zh => format!("（{}）", said.join("；")),
        Language::En => format!(" ({})", said.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{
        Demand, Device, DeviceGrant, DeviceKind, DeviceMemory, Finding, Grant, MigInstance, Priority, ProcessUse,
        Reading,
    };
    use jiff::SignedDuration;

    use super::*;
    use crate::Running;

    const GIB: u64 = 1 << 30;
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn card(index: u32, total: u64, used: u64) -> Reading {
        let device = Device::new(format!("GPU-{index}"), DeviceKind::Nvidia, index, "Card");
        let (total, used) = (total * GIB, used * GIB);
        Reading::usable(device, DeviceMemory { total, reserved: None, used, free: total - used }, NOW)
    }

    fn inventory(devices: Vec<Reading>) -> Inventory {
        Inventory { taken_at: NOW, devices, findings: Vec::new(), detection_error: None }
    }

    fn task(number: u64) -> TaskId {
        TaskId::new(1, number)
    }

    fn waiting(number: u64, devices: u32, memory: Option<u64>) -> Waiting {
        Waiting {
            task: task(number),
            owner: "ana".into(),
            priority: Priority::Normal,
            urgency: 0,
            since: NOW,
            expected: None,
            deadline: None,
            demand: Demand { devices, memory: memory.map(|memory| memory * GIB), shares: true },
            blocked: None,
            refused: Vec::new(),
            timed: false,
        }
    }

    fn running(number: u64, index: u32, granted: u64, minutes: i64) -> Running {
        Running {
            task: task(number),
            owner: "ana".into(),
            pace: None,
            measuring: false,
            grant: Grant {
                devices: vec![DeviceGrant { device: DeviceId(format!("GPU-{index}")), bytes: Some(granted * GIB) }],
            },
            used: vec![Some(0)],
            priority: Priority::Normal,
            started_at: NOW,
            ends_at: NOW.checked_add(SignedDuration::from_mins(minutes)).ok(),
            shares: true,
            loss: None,
            stopping: false,
        }
    }

    fn verdicts(policy: &Policy, devices: Vec<Reading>, running: &[Running], waiting: &[Waiting]) -> Vec<Verdict> {
        let usage = BTreeMap::new();
        let last = waiting.last().unwrap().task;
        let queue = Queue { waiting, running, usage: &usage, closed: None, quotas: &BTreeMap::new() };
        by_device(policy, &inventory(devices), queue, last, NOW)
    }

    fn said(verdicts: &[Verdict]) -> Vec<String> {
        verdicts.iter().map(|verdict| format!("{} {}", verdict.code(), verdict.sentence(Language::En))).collect()
    }

    #[test]
    fn every_device_names_the_first_thing_in_the_way() {
        let policy = Policy { tasks_per_gpu: 2, ..Policy::fifo() };
        let mut devices: Vec<Reading> = vec![card(0, 24, 0), card(1, 24, 0), card(2, 24, 18), card(3, 8, 0)];
        devices[2].processes = vec![ProcessUse { name: Some("vllm".into()), ..ProcessUse::new(42, Some(18 * GIB)) }];
        devices.extend([card(4, 24, 0), card(5, 24, 0), card(6, 24, 0)]);
        let lost = Finding { code: "gpu-lost".into(), zh: "已断开".into(), en: "it fell off the bus".into() };
        devices[4] = Reading::unusable(devices[4].device.clone(), lost, NOW);
        let trial = WaitCause::TrialFailed {
            device: "GPU 5".into(),
            needed: 10 * GIB,
            free: Some(9 * GIB),
            holder: None,
            message: String::new(),
        };
        let mut asks = waiting(9, 1, Some(10));
        asks.refused = vec![(DeviceId("GPU-5".into()), trial)];
        let held = [running(1, 1, 2, 5), running(2, 1, 2, 5)];

        let verdicts = verdicts(&policy, devices, &held, &[asks]);
        assert_eq!(
            said(&verdicts),
            [
                "fits_now fits now",
                "taken_by_tasks taken by 2 tasks: finetune_1_1, finetune_1_2",
                "device_memory 4.0 GiB of memory short: needs 10.0 GiB, 6.0 GiB is free (vllm, pid 42, holds 18.0 GiB)",
                "too_large too small: needs 10.0 GiB, has 8.0 GiB even when it is empty",
                "gpu-lost unusable: it fell off the bus",
                "trial_failed allocating 10.0 GiB failed a moment ago, 9.0 GiB was free; it will be tried again",
                "fits_now fits now",
            ]
        );
        assert_eq!((verdicts[2].label.as_str(), verdicts[2].free), ("GPU 2", Some(6 * GIB)));
        assert_eq!((verdicts[2].needed, verdicts[2].holders().len()), (Some(10 * GIB), 1));
        for verdict in &verdicts {
            let chinese = verdict.sentence(Language::Zh);
            assert!(!chinese.is_ascii() && !chinese.contains("short"), "{chinese}");
        }
    }

    #[test]
    fn who_wants_a_device_alone_hears_who_is_on_it() {
        let policy = Policy { exclusive: true, ..Policy::fifo() };
        let mut slice = card(2, 24, 0);
        slice.device.mig = Some(MigInstance {
            parent: DeviceId("GPU-9".into()),
            profile: None,
            gpu_instance: None,
            compute_instance: None,
        });
        let devices = vec![card(0, 24, 0), card(1, 24, 10), slice];
        let told = verdicts(&policy, devices.clone(), &[running(1, 0, 2, 5)], &[waiting(9, 2, None)]);
        let codes: Vec<&str> = told.iter().map(Verdict::code).collect();
        assert_eq!(codes, ["taken_by_tasks", "foreign_use", "one_mig_instance"]);

        let shares = Policy { exclusive: false, ..policy };
        let told = verdicts(&shares, devices, &[], &[waiting(9, 2, None)]);
        assert_eq!(said(&told[1..2]), ["whole_device the task wants it to itself, and 14.0 GiB of 24.0 GiB is free"]);
    }

    #[test]
    fn those_before_have_their_chance_first() {
        let policy = Policy { backfill: true, ..Policy::fifo() };
        // The first starts on GPU 0; the second wants 20 GiB of both, once the first has ended.
        let ahead = [waiting(7, 1, Some(18)), waiting(8, 2, Some(20))];
        let hours = Some(SignedDuration::from_hours(2));
        let asks = Waiting { expected: hours, ..waiting(9, 1, Some(5)) };
        let told = |asks: &Waiting| {
            let queue = [ahead[0].clone(), ahead[1].clone(), asks.clone()];
            said(&verdicts(&policy, vec![card(0, 24, 0), card(1, 24, 0)], &[running(1, 1, 18, 5)], &queue))
        };
        let reserved = "reserved it would fit, but is reserved for finetune_1_8";
        assert_eq!(told(&asks), [reserved; 2], "5 GiB do not fit beside 20");
        let short = Waiting { expected: Some(SignedDuration::from_mins(30)), ..asks.clone() };
        assert_eq!(told(&short), ["fits_now fits now"; 2], "it is over before the first");
        // One that has left the queue hears nothing.
        let usage = BTreeMap::new();
        let nobody = Queue { waiting: &[], running: &[], usage: &usage, closed: None, quotas: &BTreeMap::new() };
        assert_eq!(by_device(&policy, &inventory(vec![card(0, 24, 0)]), nobody, asks.task, NOW), []);
    }

    #[test]
    fn a_device_fits_exactly_where_the_plan_would_place() {
        let policy = Policy { tasks_per_gpu: 2, ..Policy::fifo() };
        for used in [0, 3, 7, 12, 20] {
            for memory in [None, Some(1), Some(6), Some(13), Some(30)] {
                for held in [vec![], vec![running(1, 0, 5, 5)], vec![running(1, 0, 1, 5), running(2, 0, 1, 5)]] {
                    let asks = [waiting(9, 1, memory)];
                    let told = verdicts(&policy, vec![card(0, 24, used)], &held, &asks);
                    let usage = BTreeMap::new();
                    let queue =
                        Queue { waiting: &asks, running: &held, usage: &usage, closed: None, quotas: &BTreeMap::new() };
                    let plan = crate::plan(&policy, Some(&inventory(vec![card(0, 24, used)])), queue, NOW);
                    assert_eq!(told[0].refusal.is_none(), !plan.starts.is_empty(), "{used} {memory:?} {held:?}");
                }
            }
        }
    }
}
