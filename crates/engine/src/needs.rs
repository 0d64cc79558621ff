//! What an attempt taught about the needs of its recipe.

use domain::{DeviceId, Estimate, FineTune, Grant, Home, Inventory, Measurement, Progress, Recipe, Task};
use recipes::{
    estimate::{Configuration, Context, probed},
    ladder,
    models::HubCache,
};
use store::Reader;

use crate::message::Outcome;

/// Finished runs that estimates look back on.
pub const MEASUREMENTS: u32 = 500;

/// Failures that a recipe with smaller needs could avoid.
const LACKED_MEMORY: [&str; 2] = ["out-of-device-memory", "out-of-host-memory"];

/// Turns a failure for lack of memory into what to change next, and the attempt into a measurement. Reads files.
pub fn learn(
    task: &Task,
    grant: &Grant,
    outcome: Outcome,
    progress: &Progress,
    home: &Home,
    inventory: Option<&Inventory>,
    reader: &Reader,
) -> (Outcome, Option<Measurement>) {
    let Recipe::FineTune(asked) = &task.recipe else { return (outcome, None) };
    let lacked_memory = matches!(&outcome, Outcome::Failed(failure) if LACKED_MEMORY.contains(&failure.code()));
    if !lacked_memory && outcome != Outcome::Completed {
        return (outcome, None);
    }
    let measurements = reader.measurements(MEASUREMENTS).unwrap_or_default();
    let cache = HubCache::from_env();
    let context = Context { home, cache: &cache, inventory, measurements: &measurements };

    let recipe = ladder::adjusted(asked, &task.adjustments);
    let granted = grant.devices.first();
    let device = granted.and_then(|granted| name(inventory?, &granted.device)).unwrap_or_default();
    let measurement = if lacked_memory {
        // On the CPU there is no grant; how much the machine had free is not a figure of the recipe.
        let too_little = granted.and_then(|granted| granted.bytes);
        too_little.and_then(|bytes| context.measurement(&recipe, &device, Some(bytes), None, true))
    } else {
        measure(&recipe, progress, &device, &context)
    };
    let outcome = match outcome {
        Outcome::Failed(failure) if lacked_memory => {
            let next = ladder::next(asked, &task.adjustments).map(|adjustment| {
                let made = [&task.adjustments[..], &[adjustment]].concat();
                (adjustment, context.estimate(&ladder::adjusted(asked, &made), None))
            });
            Outcome::OutOfMemory { failure, next }
        }
        outcome => outcome,
    };
    (outcome, measurement)
}

/// A run on shorter examples than the recipe allows is remembered as one of a recipe for that length: it says nothing
/// of what full length needs.
fn measure(recipe: &FineTune, progress: &Progress, device: &str, context: &Context<'_>) -> Option<Measurement> {
    let length = progress.longest_batch?.div_ceil(u64::from(recipe.batch_size.max(1)));
    let length = u32::try_from(length).ok()?.clamp(1, recipe.max_length);
    let run = FineTune { max_length: length, ..recipe.clone() };
    context.measurement(&run, device, Some(progress.peak_bytes?), progress.seconds_per_step, false)
}

fn name(inventory: &Inventory, device: &DeviceId) -> Option<String> {
    Some(inventory.get(device)?.device.name.clone())
}

/// The task's estimate after its first steps were measured, `peak_bytes` at the most.
pub fn after_probe(task: &Task, peak_bytes: u64, seconds_per_step: Option<f64>) -> Option<Estimate> {
    let Recipe::FineTune(asked) = &task.recipe else { return None };
    let configuration = Configuration::of(&ladder::adjusted(asked, &task.adjustments));
    Some(probed(task.estimate.clone()?, &configuration, peak_bytes, seconds_per_step))
}
