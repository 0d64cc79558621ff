//! What breaks.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    Dice,
    world::{World, signal},
};

pub struct Faults {
    verbose: bool,
    injected: BTreeMap<&'static str, u32>,
    /// What is to be mended, and when.
    broken: Vec<(Instant, Mend)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mend {
    Launch,
    Disk,
    Gpu(usize),
}

impl Faults {
    pub fn new(verbose: bool) -> Faults {
        Faults { verbose, injected: BTreeMap::new(), broken: Vec::new() }
    }

    pub fn step(&mut self, world: &mut World, dice: &mut Dice) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.broken).into_iter().partition(|(at, _)| *at <= now);
        self.broken = later;
        for (_, mend) in due {
            self.mend(mend, world);
        }
        let down = Duration::from_millis(dice.below(3000));
        let fault = match dice.below(40) {
            0..=1 if world.up => {
                world.kill();
                self.broken.push((now + down, Mend::Launch));
                "studio killed"
            }
            2 if world.up => {
                world.stop();
                self.broken.push((now + down, Mend::Launch));
                "studio stopped"
            }
            3 if world.up && !self.is_broken(Mend::Disk) => {
                world.kill();
                self.launch(world);
                "studio killed and started at once"
            }
            4..=5 => match kill_one(world, dice, "supervise", Signal::KILL) {
                true => "supervisor killed",
                false => return,
            },
            6..=7 => match kill_one(world, dice, "SAGE_ATTEMPT=", Signal::KILL) {
                true => "training killed",
                false => return,
            },
            8 => match kill_one(world, dice, "SAGE_ATTEMPT=", Signal::TERM) {
                true => "training told to end",
                false => return,
            },
            9 => match kill_one(world, dice, "gpu-worker", Signal::KILL) {
                true => "GPU worker killed",
                false => return,
            },
            10 => {
                let gpu = dice.below(3) as usize;
                world.gpus.update(|state| state.gpus[gpu].lost = true);
                self.broken.push((now + down, Mend::Gpu(gpu)));
                "GPU lost"
            }
            11 => {
                let gpu = dice.below(3) as usize;
                world.gpus.update(|state| state.gpus[gpu].hang_seconds = 60.0);
                self.broken.push((now + down, Mend::Gpu(gpu)));
                "GPU hung"
            }
            12 if world.up && !self.is_broken(Mend::Disk) => {
                if !world.fill_disk() {
                    return;
                }
                self.broken.push((now + down, Mend::Disk));
                "disk full"
            }
            13 => {
                let seconds = dice.below(4 * 86_400) as i64 - 2 * 86_400;
                if !world.move_clock(seconds) {
                    return;
                }
                "clock moved"
            }
            _ => return,
        };
        if self.verbose {
            println!("{fault}");
        }
        *self.injected.entry(fault).or_default() += 1;
    }

    fn is_broken(&self, mend: Mend) -> bool {
        self.broken.iter().any(|(_, broken)| *broken == mend)
    }

    fn mend(&mut self, mend: Mend, world: &mut World) {
        match mend {
            Mend::Launch => self.launch(world),
            Mend::Disk => world.free_disk(),
            Mend::Gpu(gpu) => world.gpus.update(|state| {
                (state.gpus[gpu].lost, state.gpus[gpu].hang_seconds) = (false, 0.0);
            }),
        }
    }

    /// A studio refuses to start where it cannot write.
    fn launch(&mut self, world: &mut World) {
        self.broken.retain(|(_, broken)| *broken != Mend::Disk);
        world.free_disk();
        world.launch();
    }

    pub fn heal(&mut self, world: &mut World) {
        for (_, mend) in std::mem::take(&mut self.broken) {
            self.mend(mend, world);
        }
        world.launch();
    }

    pub fn print(&self) {
        let all: Vec<String> = self.injected.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        println!("faults: {} ({})", self.injected.values().sum::<u32>(), all.join(", "));
    }
}

/// Returns whether there was one.
fn kill_one(world: &World, dice: &mut Dice, mention: &str, with: Signal) -> bool {
    let found = world.processes(mention);
    let Some(index) = dice.of(&found) else { return false };
    signal(found[index], with);
    true
}
