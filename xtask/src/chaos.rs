//! `cargo xtask chaos`: the release studio with real trainings, while everything that can break does.

mod check;
mod faults;
mod work;
mod world;

use std::time::{Duration, Instant};

use clap::Args;

use crate::run;
use faults::Faults;
use work::Work;
use world::World;

#[derive(Args)]
pub struct Chaos {
    /// How long faults are injected; what was accepted may then end in peace
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Which faults come when; the same seed makes the same plan, though not the same moments
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print every fault
    #[arg(long)]
    verbose: bool,
}

/// What was accepted may take so long to end once nothing breaks any more.
const CALM: Duration = Duration::from_secs(180);

pub fn run(chaos: &Chaos) -> bool {
    let builds = [
        vec!["build", "--release", "-p", "studio"],
        vec!["build", "-p", "fakegpu", "--bins"],
        vec!["build", "-p", "runner", "--examples"],
    ];
    let given = std::env::var_os("SAGE_BIN").is_some();
    for arguments in builds.iter().skip(usize::from(given)) {
        if !run::in_root("cargo", arguments).status().is_ok_and(|status| status.success()) {
            return false;
        }
    }

    let mut dice = Dice(chaos.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::new();
    println!("seed {}, {} min; {}", chaos.seed, chaos.minutes, world.describe());
    let mut work = Work::default();
    let mut faults = Faults::new(chaos.verbose);
    let watch = check::Watch::start(&world);
    let end = Instant::now() + Duration::from_secs_f64(chaos.minutes * 60.0);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20 + dice.below(300)));
        work.step(&world, &mut dice);
        faults.step(&mut world, &mut dice);
    }
    faults.heal(&mut world);
    println!("no more faults; waiting for what was accepted");
    let calm = Instant::now() + CALM;
    while work.active(&world) > 0 && Instant::now() < calm {
        std::thread::sleep(Duration::from_millis(200));
    }

    let mut violations = watch.stop();
    violations.extend(check::tasks(&world, &mut work));
    violations.extend(check::end(world));
    work.print();
    faults.print();
    for violation in &violations {
        println!("VIOLATION {violation}");
    }
    println!("seed {}: {} violations", chaos.seed, violations.len());
    violations.is_empty()
}

/// Xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    fn of<T>(&mut self, all: &[T]) -> Option<usize> {
        (!all.is_empty()).then(|| self.below(all.len() as u64) as usize)
    }
}
