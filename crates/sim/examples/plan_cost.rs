//! What one plan costs: `cargo run --release -p sim --example plan_cost`.

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use domain::{
    Demand, Device, DeviceGrant, DeviceId, DeviceKind, DeviceMemory, Grant, Inventory, Priority, ProcessUse, Reading,
    TaskId,
};
use jiff::{SignedDuration, Timestamp};
use scheduler::{Policy, Queue, Running, Waiting, plan};

const GIB: u64 = 1 << 30;

fn main() {
    let now = Timestamp::from_second(1_000_000_000).expect("in range");
    for (name, free, wide_first, policy) in [
        ("full, nothing free", 0, false, Policy::default()),
        ("full, one free", 1, false, Policy::default()),
        ("full, one free, the first wants four", 1, true, Policy::default()),
        ("no fair share", 0, false, Policy { fair_share: false, ..Policy::default() }),
        ("no order at all, backfill", 0, false, Policy { backfill: true, ..Policy::fifo() }),
        ("reserved, all others too long", 3, true, Policy::default()),
        ("easy, one free, the first wants four", 1, true, Policy::easy()),
        ("fifo, one free", 1, false, Policy::fifo()),
        ("one, nothing free", 0, false, Policy::one()),
    ] {
        let devices = (0..8u32).map(|index| {
            let used = if index < free { 0 } else { 79 };
            let memory =
                DeviceMemory { total: 80 * GIB, reserved: Some(GIB), used: used * GIB, free: (79 - used) * GIB };
            let mut reading =
                Reading::usable(Device::new(format!("GPU-{index}"), DeviceKind::Nvidia, index, "Card"), memory, now);
            if used > 0 {
                reading
                    .processes
                    .push(ProcessUse { task: Some(task(index as u64)), ..ProcessUse::new(index, Some(used * GIB)) });
            }
            reading
        });
        let inventory =
            Inventory { taken_at: now, devices: devices.collect(), findings: vec![], detection_error: None };
        let running: Vec<Running> = (free..8)
            .map(|index| Running {
                task: task(index as u64),
                owner: "user0".into(),
                pace: None,
                grant: Grant {
                    devices: vec![DeviceGrant { device: DeviceId(format!("GPU-{index}")), bytes: Some(79 * GIB) }],
                },
                used: vec![Some(79 * GIB)],
                priority: Priority::Normal,
                started_at: now - SignedDuration::from_hours(2),
                ends_at: Some(now + SignedDuration::from_mins(10 * i64::from(index) + 5)),
                shares: true,
                loss: Some(SignedDuration::from_mins(1)),
                stopping: false,
            })
            .collect();
        print!("{name:<40}");
        for queued in [1_000, 10_000, 100_000] {
            let mut waiting: Vec<Waiting> = (1..=queued).map(|number| waiting(number, now)).collect();
            if wide_first {
                waiting[0] = Waiting {
                    priority: Priority::Urgent,
                    demand: Demand { devices: 4, memory: None, shares: false },
                    ..waiting[0].clone()
                };
            }
            if name.starts_with("reserved") {
                waiting.iter_mut().for_each(|waiting| {
                    waiting.expected = waiting.expected.map(|length| length + SignedDuration::from_hours(6))
                });
                waiting[0].demand.devices = 8;
            }
            let usage: BTreeMap<String, f64> =
                (0..7).map(|user| (format!("user{user}"), 5000.0 * f64::from(user))).collect();
            let once = || {
                let queue = Queue {
                    waiting: &waiting,
                    running: &running,
                    usage: &usage,
                    closed: None,
                    quotas: &BTreeMap::new(),
                };
                let clock = Instant::now();
                let plan = black_box(plan(&policy, Some(&inventory), queue, now));
                (clock.elapsed().as_secs_f64() * 1e3, plan.starts.len())
            };
            let (cost, starts) = (0..9).map(|_| once()).min_by(|a, b| a.0.total_cmp(&b.0)).expect("several");
            print!(" {queued}: {cost:.2} ms ({starts} start)");
        }
        println!();
    }
}

fn task(number: u64) -> TaskId {
    TaskId::new(0, number)
}

fn waiting(number: u64, now: Timestamp) -> Waiting {
    Waiting {
        task: task(number + 10),
        owner: format!("user{}", number % 7),
        priority: if number.is_multiple_of(10) { Priority::High } else { Priority::Normal },
        urgency: 0,
        since: now - SignedDuration::from_secs((number * 7919 % 50_000) as i64),
        expected: Some(SignedDuration::from_secs((number * 3701 % 20_000) as i64 + 60)),
        deadline: None,
        demand: Demand {
            devices: 1 + 3 * u32::from(number.is_multiple_of(50)),
            memory: (!number.is_multiple_of(20)).then_some((2 + number % 70) * GIB),
            shares: !number.is_multiple_of(5),
        },
        blocked: None,
        refused: vec![],
    }
}
