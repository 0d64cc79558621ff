//! From a recipe to its estimate: which model it names, where it would run, what ran before.

use domain::{Device, Estimate, FineTune, Home, Inventory, Measurement};

use super::configuration::Configuration;
use super::history::{Key, refine};
use super::rate::Rate;
use super::shape::ModelShape;
use crate::models::{HubCache, ModelRef, resolve};
use crate::{catalogue, choose};

/// What an estimate is made from beside the recipe.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub home: &'a Home,
    pub cache: &'a HubCache,
    /// `None` while detection has not answered.
    pub inventory: Option<&'a Inventory>,
    pub measurements: &'a [Measurement],
}

impl Context<'_> {
    /// Shape of the model that a recipe names: from its config.json, or the shipped catalogue while it is not here.
    pub fn shape(&self, model_name: &str) -> Option<ModelShape> {
        match resolve(model_name, self.home, self.cache) {
            Ok(ModelRef::Local(folder)) => {
                ModelShape::load(&folder).ok().or_else(|| catalogue::shape(model_name).cloned())
            }
            Ok(ModelRef::Hub { id }) => catalogue::shape(&id).cloned(),
            Err(_) => None,
        }
    }

    /// The recipe with its trainer decided.
    pub fn with_trainer(&self, recipe: &FineTune, shape: Option<&ModelShape>) -> FineTune {
        let trainer = recipe.trainer.or_else(|| Some(choose::trainer(recipe, self.inventory?, shape).trainer));
        FineTune { trainer, ..recipe.clone() }
    }

    /// The estimate of a recipe; `None` where its model is unknown to the estimator.
    ///
    /// `examples`: of the data set, where known, for the whole training's time.
    pub fn estimate(&self, recipe: &FineTune, examples: Option<u64>) -> Option<Estimate> {
        let shape = self.shape(&recipe.model_name)?;
        Some(self.estimate_shape(&shape, recipe, examples))
    }

    /// The same for a model whose shape is known already.
    pub fn estimate_shape(&self, shape: &ModelShape, recipe: &FineTune, examples: Option<u64>) -> Estimate {
        self.estimate_on(shape, recipe, examples, self.fastest())
    }

    /// The same on this device.
    pub(crate) fn estimate_on(
        &self,
        shape: &ModelShape,
        recipe: &FineTune,
        examples: Option<u64>,
        device: Option<&Device>,
    ) -> Estimate {
        let recipe = self.with_trainer(recipe, Some(shape));
        let configuration = configuration(&recipe, device);
        let key = Key::of(shape, &configuration);
        let name = device.map(|device| device.name.as_str());
        let formula = super::estimate(shape, &configuration, name.and_then(Rate::of).as_ref());
        let mut estimate = refine(formula, &configuration, &key, name, self.measurements);
        estimate.total_seconds = total_seconds(&estimate, &recipe, examples);
        estimate
    }

    /// What to remember of an attempt that has ended, or `None` where the model is unknown to the estimator.
    ///
    /// `peak_bytes`: the footprint measured; of an attempt that ran out of memory the grant that was too little.
    pub fn measurement(
        &self,
        recipe: &FineTune,
        device: &str,
        peak_bytes: Option<u64>,
        seconds_per_step: Option<f64>,
        ran_out_of_memory: bool,
    ) -> Option<Measurement> {
        let shape = self.shape(&recipe.model_name)?;
        let known = self.inventory.and_then(|inventory| {
            inventory.devices.iter().map(|reading| &reading.device).find(|known| known.name == device)
        });
        let configuration = configuration(&self.with_trainer(recipe, Some(&shape)), known);
        let Key { key, family } = Key::of(&shape, &configuration);
        let predicted = super::estimate(&shape, &configuration, Rate::of(device).as_ref());
        Some(Measurement {
            key,
            family,
            device: device.to_owned(),
            peak_bytes,
            predicted_bytes: predicted.footprint_bytes,
            ran_out_of_memory,
            seconds_per_step,
            predicted_seconds_per_step: predicted.seconds_per_step,
        })
    }

    /// The device whose speed an estimate is made for.
    fn fastest(&self) -> Option<&Device> {
        let usable = self.inventory?.devices.iter().filter(|reading| reading.is_usable());
        let flops = |device: &Device| Rate::of(&device.name).map_or(0.0, |rate| rate.flops);
        usable.map(|reading| &reading.device).max_by(|a, b| flops(a).total_cmp(&flops(b)))
    }
}

fn configuration(recipe: &FineTune, device: Option<&Device>) -> Configuration {
    let configuration = Configuration::of(recipe);
    match device {
        Some(device) => configuration.on(device),
        None => configuration,
    }
}

/// Of a training on so many examples, each as long as the recipe allows, with the estimate's time per step.
pub fn total_seconds(estimate: &Estimate, recipe: &FineTune, examples: Option<u64>) -> Option<f64> {
    let examples = examples?;
    let trained = examples - (examples as f64 * recipe.validation_split) as u64;
    let per_step = u64::from(recipe.batch_size) * u64::from(recipe.gradient_accumulation_steps);
    let steps = trained.div_ceil(per_step.max(1)) * u64::from(recipe.num_epochs);
    Some(estimate.seconds_per_step? * steps as f64)
}
