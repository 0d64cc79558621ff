//! Main memory: what this process takes, what there is, what a training takes at the least. All in bytes.

use std::fs;
use std::path::Path;

use crate::adapter::Projection;
use crate::decoder;
use crate::model_config::ModelConfig;
use crate::weights::Weights;
use crate::{LoraConfig, TrainError, cpu};

/// Resident memory of this process; none where the system does not say.
pub fn resident() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// The most that was ever resident. Loading counts, because a grant has to cover it too.
pub fn peak() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// Refuses a training that cannot fit, before it drives the machine into swapping and is killed.
///
/// What it needs is a lower bound: weights, adapter with optimizer and gradients, and what the longest micro-batch
/// keeps for the way back. Says nothing where the system does not tell what is free.
pub fn check(
    config: &ModelConfig,
    weights: &Weights,
    lora: &LoraConfig,
    longest: [usize; 2],
) -> Result<(), TrainError> {
    let needed = needed(config, weights, lora, longest);
    match available(Path::new("/")) {
        Some(available) if available < needed => Err(TrainError::OutOfHostMemory { needed, available }),
        _ => Ok(()),
    }
}

/// `tokens` and `targets` of the longest micro-batch.
fn needed(config: &ModelConfig, weights: &Weights, lora: &LoraConfig, [tokens, targets]: [usize; 2]) -> u64 {
    let is_used = |name: &&str| name.starts_with("model.") || (*name == "lm_head.weight" && !config.tied);
    let held: u64 = weights.names().filter(is_used).map(|name| weights.held_bytes(name)).sum();
    let adapted = Projection::ALL.into_iter().filter(|p| lora.targets.iter().any(|target| target == p.name()));
    let sides: usize = adapted.map(|p| p.shape(config).iter().sum::<usize>()).sum();
    // The parameters and what is computed with, both means of the optimizer, the gradient.
    let layers = config.layers as u128;
    let adapter = 5 * 4 * layers * lora.rank as u128 * sides as u128;
    let full = decoder::kept_layers(config, held, tokens) as u128;
    let inputs = (layers - full) * config.hidden as u128;
    let kept = 4 * tokens as u128 * (full * decoder::kept_numbers(config) as u128 + inputs);
    let logits = 4 * (targets as u128 * config.vocab as u128).min(cpu::LOGITS as u128);
    // A configuration may state what no machine has.
    u64::try_from(u128::from(held) + adapter + kept + logits).unwrap_or(u64::MAX)
}

/// Memory that this process may still take, swap included: of the machine, and of the cgroups (v2) around it.
fn available(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let swap = field(&machine, "SwapFree").unwrap_or(0);
    let machine = field(&machine, "MemAvailable")? + swap;
    let cgroups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let groups = Path::new(cgroup).ancestors().map(|group| root.join("sys/fs/cgroup").join(group));
    Some(groups.filter_map(|group| left(&group, swap)).fold(machine, u64::min))
}

/// What a cgroup's limit leaves; none without a limit. Cached files make room when memory is short.
fn left(group: &Path, swap: u64) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let stat = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let files = stat("inactive_file ").unwrap_or(0) + stat("active_file ").unwrap_or(0);
    let swap = number("memory.swap.max")
        .map_or(swap, |most| swap.min(most.saturating_sub(number("memory.swap.current").unwrap_or(0))));
    Some(limit.saturating_sub(used.saturating_sub(files)) + swap)
}

/// `VmRSS:    1024 kB`
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts() {
        const MIB: u64 = 1 << 20;
        let root = std::env::temp_dir().join(format!("trainer-memory-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available(&root), None);
        write("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable:    1024000 kB\nSwapFree:  102400 kB\n");
        assert_eq!(available(&root), Some(1100 * MIB));
        write("proc/self/cgroup", "4:memory:/old\n0::/outer/inner\n");
        write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
        write("sys/fs/cgroup/outer/memory.max", &(800 * MIB).to_string());
        write("sys/fs/cgroup/outer/memory.current", &(600 * MIB).to_string());
        write(
            "sys/fs/cgroup/outer/memory.stat",
            &format!("anon 5\ninactive_file {}\nactive_file {}\n", 50 * MIB, 50 * MIB),
        );
        assert_eq!(available(&root), Some(400 * MIB), "300 of the group, 100 of swap");
        write("sys/fs/cgroup/outer/memory.swap.max", "0\n");
        assert_eq!(available(&root), Some(300 * MIB));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn this_process_has_memory() {
        if cfg!(target_os = "linux") {
            let now = resident();
            assert!(now > Some(1 << 20) && peak() >= now);
        }
    }
}
