//! Which models these devices can train, how, and how long that takes.

use std::collections::HashMap;

use domain::{DeviceId, DeviceKind, Estimate, FineTune, Method, Parallelism, Reading, TrainerKind};

use super::{Verdict, largest_batch, largest_length, verdict_on};
use crate::estimate::{Context, ModelShape};
use crate::{Preset, catalogue, choose, models};

/// One model with one method on one device, or on all GPUs together.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// `None`: all GPUs together.
    pub device: Option<DeviceId>,
    pub gpus: u32,
    pub model_name: String,
    pub parameters: u64,
    pub method: MethodKind,
    pub verdict: Verdict,
    /// Of `recipe`, or of what was tried first where nothing fits.
    pub estimate: Estimate,
    /// Tokens per example at most with one example per micro-batch.
    pub largest_length: Option<u32>,
    /// Examples per micro-batch at most with the length tried first.
    pub largest_batch: Option<u32>,
    /// Does it, given a data set; `None` where nothing fits.
    pub recipe: Option<FineTune>,
}

/// Method and bits of the base in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodKind {
    Lora,
    Qlora8,
    Qlora4,
    Full,
}

impl MethodKind {
    pub const ALL: [MethodKind; 4] = [MethodKind::Lora, MethodKind::Qlora8, MethodKind::Qlora4, MethodKind::Full];

    pub fn as_str(self) -> &'static str {
        match self {
            MethodKind::Lora => "lora",
            MethodKind::Qlora8 => "qlora8",
            MethodKind::Qlora4 => "qlora4",
            MethodKind::Full => "full",
        }
    }

    fn recipe(self, model_name: &str) -> FineTune {
        let mut recipe = FineTune {
            model_name: model_name.to_owned(),
            method: if self == MethodKind::Full { Method::Full } else { Method::Lora },
            load_in_8bit: self == MethodKind::Qlora8,
            load_in_4bit: self == MethodKind::Qlora4,
            ..FineTune::default()
        };
        Preset::find("balanced").expect("it is shipped").apply(&mut recipe);
        recipe
    }
}

/// Every model here and in the catalogue with every method: by device in the inventory's order, then by what all GPUs do
/// together; the largest model first. Empty while nothing is known of the devices.
///
/// `examples`: of the user's data set, for the expected time. `promised`: as in [`super::verdict`].
pub fn recommend(
    context: &Context<'_>,
    examples: Option<u64>,
    promised: &dyn Fn(&DeviceId) -> u64,
) -> Vec<Recommendation> {
    let Some(inventory) = context.inventory else { return Vec::new() };
    let models = candidates(context);
    let devices: Vec<&Reading> =
        inventory.devices.iter().filter(|reading| reading.is_usable() && reading.memory.is_some()).collect();
    let mut all = Vec::new();
    // Cards of one kind need to be worked out once.
    let mut known: HashMap<(&str, u64), Vec<Plan>> = HashMap::new();
    for device in &devices {
        let budget = device.memory.map_or(0, |memory| memory.allocatable());
        let plans = known
            .entry((&device.device.name, budget))
            .or_insert_with(|| plans(context, &models, &[device], budget, examples));
        all.extend(plans.iter().map(|plan| plan.on(Some(&device.device.id), &[device], promised)));
    }
    let gpus: Vec<&Reading> = devices.iter().copied().filter(|reading| trains_torch(reading.device.kind)).collect();
    if gpus.len() > 1 {
        // They work in step: the smallest decides.
        let budget = gpus.iter().filter_map(|gpu| Some(gpu.memory?.allocatable())).min().unwrap_or(0);
        let plans = plans(context, &models, &gpus, budget, examples);
        all.extend(plans.iter().map(|plan| plan.on(None, &gpus, promised)));
    }
    all
}

/// A recommendation before anybody looks at what is free now.
struct Plan {
    gpus: u32,
    model_name: String,
    parameters: u64,
    method: MethodKind,
    estimate: Estimate,
    largest_length: Option<u32>,
    largest_batch: Option<u32>,
    recipe: Option<FineTune>,
}

impl Plan {
    fn on(&self, id: Option<&DeviceId>, devices: &[&Reading], promised: &dyn Fn(&DeviceId) -> u64) -> Recommendation {
        let verdict = verdict_on(Some(&self.estimate), self.gpus, devices, promised);
        Recommendation {
            device: id.cloned(),
            gpus: self.gpus,
            model_name: self.model_name.clone(),
            parameters: self.parameters,
            method: self.method,
            verdict,
            estimate: self.estimate.clone(),
            largest_length: self.largest_length,
            largest_batch: self.largest_batch,
            recipe: self.recipe.clone(),
        }
    }
}

fn plans(
    context: &Context<'_>,
    models: &[(String, ModelShape)],
    devices: &[&Reading],
    budget: u64,
    examples: Option<u64>,
) -> Vec<Plan> {
    let torch = trains_torch(devices[0].device.kind);
    let methods: &[MethodKind] = if torch { &MethodKind::ALL } else { &[MethodKind::Lora] };
    let each = models.iter().flat_map(|model| methods.iter().map(move |method| (model, *method)));
    each.map(|((name, shape), method)| plan(context, name, shape, method, devices, budget, examples)).collect()
}

fn plan(
    context: &Context<'_>,
    model_name: &str,
    shape: &ModelShape,
    method: MethodKind,
    devices: &[&Reading],
    budget: u64,
    examples: Option<u64>,
) -> Plan {
    let device = devices[0];
    let estimate = |recipe: &FineTune| context.estimate_on(shape, recipe, examples, Some(&device.device));
    let mut recipe = method.recipe(model_name);
    recipe.gpus = devices.len() as u32;
    let small = shape.parameters() <= choose::SMALL && recipe.gpus == 1 && choose::beyond_builtin(&recipe).is_none();
    let torch = trains_torch(device.device.kind) && !small;
    recipe.trainer = Some(if torch { TrainerKind::Peft } else { TrainerKind::Builtin });
    // Copies are faster than shares, so these are for what does not fit otherwise. Quantised weights have no shares.
    if recipe.gpus > 1 && recipe.quantization_bits().is_none() && estimate(&recipe).grant_bytes > budget {
        recipe.parallelism = Parallelism::Fsdp;
    }
    let largest_length = largest_length(&recipe, budget, &estimate);
    let largest_batch = largest_batch(&recipe, budget, &estimate);
    // What fits but shorter is better than nothing.
    if let Some(length) = largest_length.filter(|length| *length < recipe.max_length) {
        recipe.max_length = length;
    }
    let answer = estimate(&recipe);
    let fits = answer.grant_bytes <= budget;
    Plan {
        gpus: recipe.gpus,
        model_name: model_name.to_owned(),
        parameters: shape.parameters(),
        method,
        estimate: answer,
        largest_length,
        largest_batch,
        recipe: fits.then_some(recipe),
    }
}

/// What is on this machine, and what the catalogue recommends beside it; the largest first.
fn candidates(context: &Context<'_>) -> Vec<(String, ModelShape)> {
    let local = models::list(context.home, context.cache).into_iter();
    let local = local.filter_map(|model| Some((model.name, ModelShape::load(&model.path).ok()?)));
    let mut all: Vec<(String, ModelShape)> = local.collect();
    for entry in catalogue::models() {
        for id in &entry.recommend {
            if !all.iter().any(|(name, _)| name == id) {
                all.push((id.clone(), entry.shape.clone()));
            }
        }
    }
    all.sort_by(|(a, a_shape), (b, b_shape)| b_shape.parameters().cmp(&a_shape.parameters()).then_with(|| a.cmp(b)));
    all
}

fn trains_torch(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::Nvidia | DeviceKind::Amd)
}
