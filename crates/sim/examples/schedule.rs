//! What each policy makes of a trace: `cargo run --release -p sim --example schedule -- TRACE.csv`.

use std::{sync::Mutex, time::Instant};

use domain::Priority;
use scheduler::Policy;
use sim::{Options, Outcome, Trace, replay};

const SEEDS: [u64; 3] = [1, 2, 3];
const PAIR: f64 = 1.2;

/// Means over the seeds, in hours.
#[derive(Clone, Copy, Default)]
struct Row {
    mean: f64,
    p95: f64,
    makespan: f64,
    utilisation: f64,
    mean_wait: f64,
    max_wait: f64,
    high: f64,
    preemptions: f64,
}

struct Column {
    name: &'static str,
    policy: Policy,
    pack: Option<f64>,
}

fn columns() -> Vec<Column> {
    let column = |name, policy, pack| Column { name, policy, pack };
    vec![
        column("one", Policy::one(), None),
        column("fifo", Policy::fifo(), None),
        column("easy", Policy::easy(), None),
        column("full", Policy::default(), None),
        column("full+pack", Policy::default(), Some(PAIR)),
    ]
}

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "shared/data/philly_lab_3000.csv".into());
    let csv = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let trace = Trace::parse(&csv).unwrap_or_else(|error| panic!("{path}: {error}"));
    let clock = Instant::now();
    let cap_s = Options::new(1, Policy::default()).cap_s;
    let rho = 0.8;
    let table = |title: &str, gpus: u32, load: f64, high_share: f64| {
        let rows = columns().into_iter().map(|column| {
            let row = averaged(|seed| {
                let (policy, pack) = (column.policy.clone(), column.pack);
                let options = Options { pack, load: Some(load), high_share, seed, ..Options::new(gpus, policy) };
                replay(&trace, &options)
            });
            (column.name, row)
        });
        let rows: Vec<(&str, Row)> = rows.collect();
        print(title, &rows);
        rows.into_iter().map(|(_, row)| row).collect::<Vec<Row>>()
    };

    let mut goals = Vec::new();
    let mut goal = |what: String, found: f64, least: f64| {
        goals.push(format!("{} {what}: {found:.2}x (goal {least}x)", if found >= least { "met   " } else { "MISSED" }));
    };

    let rows = table("1 GPU, load 0.8", 1, rho, 0.0);
    goal("1 GPU, load 0.8, mean, full against one".into(), rows[0].mean / rows[3].mean, 4.0);
    goal("1 GPU, load 0.8, mean, full+pack against one".into(), rows[0].mean / rows[4].mean, 4.0);
    for (gpus, least) in [(4, 20.0), (8, 38.0)] {
        // Two readings of "a load that one at a time can carry": it is busy 0.8 of the time, and 0.8 of one GPU is
        // asked for.
        let one = trace.load_of_one_at_a_time(rho, gpus, cap_s);
        for (how, load) in [("0.8 of one's time", one), ("0.8 of one GPU", rho / f64::from(gpus))] {
            let rows = table(&format!("{gpus} GPUs, light load {load:.4} ({how})"), gpus, load, 0.0);
            for (name, index) in [("full", 3), ("full+pack", 4)] {
                let what = format!("{gpus} GPUs, light ({how}), mean, {name} against one");
                goal(what, rows[0].mean / rows[index].mean, least);
            }
        }
    }
    for gpus in [4, 8] {
        let rows = table(&format!("{gpus} GPUs, load 0.8"), gpus, rho, 0.0);
        for (name, index) in [("full", 3), ("full+pack", 4)] {
            let (fifo, full) = (rows[1], rows[index]);
            goal(format!("{gpus} GPUs, load 0.8, mean, {name} against fifo"), fifo.mean / full.mean, 4.5);
            goal(format!("{gpus} GPUs, load 0.8, p95, {name} against fifo"), fifo.p95 / full.p95, 3.0);
            goal(format!("{gpus} GPUs, load 0.8, makespan, {name} against fifo"), fifo.makespan / full.makespan, 1.0);
        }
        let rows = table(&format!("{gpus} GPUs, load 0.8, a tenth has high priority"), gpus, rho, 0.1);
        for (name, index) in [("full", 3), ("full+pack", 4)] {
            goal(
                format!("{gpus} GPUs, load 0.8, high priority, {name} against fifo"),
                rows[1].high / rows[index].high,
                12.0,
            );
        }
    }
    for (gpus, least) in [(4, 3.6), (8, 6.0)] {
        let rows: Vec<(&str, Row)> = columns()
            .iter()
            .map(|column| {
                let row = averaged(|seed| {
                    let (policy, pack) = (column.policy.clone(), column.pack);
                    replay(&trace.burst(200, seed), &Options { pack, seed, ..Options::new(gpus, policy) })
                });
                (column.name, row)
            })
            .collect();
        print(&format!("{gpus} GPUs, 200 jobs at once"), &rows);
        for (name, index) in [("full", 3), ("full+pack", 4)] {
            let what = format!("{gpus} GPUs, 200 jobs at once, makespan, {name} against one");
            goal(what, rows[0].1.makespan / rows[index].1.makespan, least);
        }
    }
    for goal in goals {
        println!("{goal}");
    }
    println!("\n{:.1} s in all", clock.elapsed().as_secs_f64());
}

fn averaged(outcome: impl Fn(u64) -> Outcome + Sync) -> Row {
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for seed in SEEDS {
            let (rows, outcome) = (&rows, &outcome);
            scope.spawn(move || {
                let row = of(&outcome(seed));
                rows.lock().expect("no panic").push(row);
            });
        }
    });
    let rows = rows.into_inner().expect("no panic");
    let mean = |figure: fn(&Row) -> f64| rows.iter().map(figure).sum::<f64>() / rows.len() as f64;
    Row {
        mean: mean(|row| row.mean),
        p95: mean(|row| row.p95),
        makespan: mean(|row| row.makespan),
        utilisation: mean(|row| row.utilisation),
        mean_wait: mean(|row| row.mean_wait),
        max_wait: mean(|row| row.max_wait),
        high: mean(|row| row.high),
        preemptions: mean(|row| row.preemptions),
    }
}

fn of(outcome: &Outcome) -> Row {
    let hours = |seconds: f64| seconds / 3600.0;
    let figures = outcome.figures;
    Row {
        mean: hours(figures.mean_jct_s),
        p95: hours(figures.p95_jct_s),
        makespan: hours(outcome.makespan_s),
        utilisation: outcome.utilisation,
        mean_wait: hours(figures.mean_wait_s),
        max_wait: hours(figures.max_wait_s),
        high: hours(outcome.of_priority(Priority::High).mean_jct_s),
        preemptions: outcome.preemptions as f64,
    }
}

fn print(title: &str, rows: &[(&str, Row)]) {
    println!("{title}");
    println!(
        "  {:<10} {:>8} {:>7} {:>8} {:>9} {:>6} {:>8} {:>9} {:>9} {:>8} {:>7}",
        "policy", "mean h", "ratio", "p95 h", "makespan", "util", "wait h", "max wait", "max/mean", "high h", "stops"
    );
    for (name, row) in rows {
        println!(
            "  {name:<10} {:>8.2} {:>6.1}x {:>8.1} {:>9.0} {:>6.3} {:>8.2} {:>9.1} {:>9.1} {:>8.2} {:>7.0}",
            row.mean,
            rows[0].1.mean / row.mean,
            row.p95,
            row.makespan,
            row.utilisation,
            row.mean_wait,
            row.max_wait,
            row.max_wait / row.mean_wait.max(1e-9),
            row.high,
            row.preemptions
        );
    }
    println!();
}
