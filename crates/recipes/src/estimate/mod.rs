//! Memory and time of a fine-tune before it runs: by formula, corrected by what was measured here.

mod configuration;
mod context;
mod history;
mod memory;
mod rate;
mod shape;

pub use configuration::{Allocator, Attention, Configuration, Engine, LossKind, Optimizer, Quantization, Upcast};
pub use context::{Context, total_seconds};
pub use history::{Key, probed, refine};
pub use rate::{Rate, flops_per_step};
pub use shape::{Family, ModelShape, Projection, ShapeError};

use domain::{Basis, Estimate};

const GIB: u64 = 1 << 30;

/// What the formula says of this model in this configuration, on each device of it.
///
/// `rate`: of one device; without one the seconds are unknown.
pub fn estimate(shape: &ModelShape, configuration: &Configuration, rate: Option<&Rate>) -> Estimate {
    let memory::Memory { breakdown, dynamic } = memory::peak(shape, configuration);
    let footprint = breakdown.total();
    let allocated = footprint - breakdown.slack - breakdown.context;
    let hard = allocated + breakdown.context;
    let most = match configuration.allocator {
        Allocator::AnyBlocks => footprint.max(hard + (memory::VARIED * dynamic as f64) as u64),
        _ => footprint,
    };
    let high = most + most / 10;
    let seconds_per_step = rate.map(|rate| rate.seconds_per_step(shape, configuration));
    Estimate {
        allocated_bytes: allocated,
        footprint_bytes: footprint,
        footprint_low_bytes: hard.min(footprint - footprint / 20),
        footprint_high_bytes: high,
        grant_bytes: high + reserve(configuration.engine),
        seconds_per_step,
        total_seconds: None,
        basis: Basis::Formula,
        breakdown,
    }
}

/// The estimate on a card of so many bytes that it has to itself: near its end the allocator gives back what nothing
/// uses. One that does not fit even so stays as it is.
pub fn within(estimate: &Estimate, card: u64) -> Estimate {
    let mut estimate = estimate.clone();
    let hard = estimate.footprint_bytes - estimate.breakdown.slack;
    if hard > card {
        return estimate;
    }
    estimate.footprint_bytes = estimate.footprint_bytes.min(card);
    estimate.breakdown.slack = estimate.footprint_bytes - hard;
    estimate.footprint_high_bytes = estimate.footprint_high_bytes.min(card);
    if hard + hard / 10 + reserve(Engine::Torch) <= card {
        estimate.grant_bytes = estimate.grant_bytes.min(card);
    }
    estimate
}

/// Granted beyond the upper bound, for what a formula overlooks.
fn reserve(engine: Engine) -> u64 {
    match engine {
        Engine::Torch => GIB,
        // It allocates with its own hands.
        Engine::Processor => GIB / 4,
    }
}
