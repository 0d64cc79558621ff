//! What a fine-tune needs, whether that fits this machine, and what would.

use std::sync::Arc;

use api_types::{AlternativeView, EstimateAnswer, Message, Recommendations, TrainerChoice, VerdictView};
use domain::{DeviceId, Estimate, FineTune, Inventory, Measurement};
use engine::DeviceStatus;
use recipes::{
    choose::{self, Choice},
    estimate::{Context, ModelShape},
    fit::{self, Alternative, Fit, Verdict},
};

use crate::{
    app::App,
    devices,
    error::Result,
    v1::recipe::{patch, request},
};

/// Finished runs that estimates look back on.
const MEASUREMENTS: u32 = 500;

/// What is known of this machine at one moment.
pub struct Situation<'a> {
    app: &'a App,
    pub inventory: Arc<Inventory>,
    /// `None` while detection has not answered yet.
    devices: Option<Arc<DeviceStatus>>,
    measurements: Vec<Measurement>,
}

/// A fine-tune with its trainer decided, and what it needs.
pub struct Needs {
    pub recipe: FineTune,
    pub choice: Choice,
    pub shape: Option<ModelShape>,
    pub estimate: Option<Estimate>,
    pub verdict: Verdict,
}

impl<'a> Situation<'a> {
    /// May block.
    pub fn now(app: &'a App) -> Result<Situation<'a>> {
        let devices = app.engine.view().devices();
        Ok(Situation {
            app,
            inventory: devices.as_ref().map_or_else(|| app.inventory(), |status| status.inventory.clone()),
            devices,
            measurements: app.engine.reader().measurements(MEASUREMENTS)?,
        })
    }

    /// `examples`: of the data set, where there is one, for the whole training's time.
    pub fn needs(&self, recipe: FineTune, examples: Option<u64>) -> Needs {
        let context = self.context();
        let shape = context.shape(&recipe.model_name);
        let choice = choose::trainer(&recipe, &self.inventory, shape.as_ref());
        let recipe = FineTune { trainer: Some(choice.trainer), ..recipe };
        let estimate = shape.as_ref().map(|shape| context.estimate_shape(shape, &recipe, examples));
        let verdict = self.verdict(estimate.as_ref(), recipe.gpus);
        Needs { recipe, choice, shape, estimate, verdict }
    }

    /// The nearest configurations that fit; empty where it fits as it is, or nothing does.
    pub fn alternatives(&self, needs: &Needs, examples: Option<u64>) -> Vec<Alternative> {
        match (&needs.shape, needs.verdict.fit) {
            (Some(shape), Fit::Never) => {
                let estimate = |recipe: &FineTune| self.context().estimate_shape(shape, recipe, examples);
                fit::nearest(&needs.recipe, self.budget(needs.recipe.gpus), &estimate)
            }
            _ => Vec::new(),
        }
    }

    pub fn alternative(&self, asked: &FineTune, alternative: &Alternative) -> AlternativeView {
        let Alternative { changes_zh, changes_en, recipe, estimate } = alternative;
        AlternativeView {
            changes_zh: changes_zh.clone(),
            changes_en: changes_en.clone(),
            patch: patch(asked, recipe),
            estimate: estimate.into(),
            verdict: verdict(self.verdict(Some(estimate), recipe.gpus)),
        }
    }

    /// Length and micro-batch that would fit, each with the rest as it is.
    fn largest(&self, needs: &Needs) -> Option<(Option<u32>, Option<u32>)> {
        let shape = needs.shape.as_ref()?;
        let estimate = |recipe: &FineTune| self.context().estimate_shape(shape, recipe, None);
        let budget = self.budget(needs.recipe.gpus);
        let Needs { recipe, .. } = needs;
        Some((fit::largest_length(recipe, budget, &estimate), fit::largest_batch(recipe, budget, &estimate)))
    }

    fn context(&self) -> Context<'_> {
        Context {
            home: self.app.engine.home(),
            cache: &self.app.hub_cache,
            inventory: Some(&self.inventory),
            measurements: &self.measurements,
        }
    }

    fn verdict(&self, estimate: Option<&Estimate>, gpus: u32) -> Verdict {
        fit::verdict(estimate, gpus, &self.inventory, &|device| self.promised(device))
    }

    fn promised(&self, device: &DeviceId) -> u64 {
        self.devices.as_ref().map_or(0, |status| devices::promised(status, device))
    }

    /// Bytes that each of so many devices can give at most; 0 where there are fewer.
    fn budget(&self, gpus: u32) -> u64 {
        let usable = self.inventory.devices.iter().filter(|reading| reading.is_usable());
        let mut most: Vec<u64> = usable.filter_map(|reading| Some(reading.memory?.allocatable())).collect();
        most.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
        most.get(gpus.max(1) as usize - 1).copied().unwrap_or(0)
    }
}

/// Answer of `POST /api/v1/estimate`. May block.
pub fn answer(app: &App, asked: FineTune, examples: Option<u64>, warnings: Vec<Message>) -> Result<EstimateAnswer> {
    let situation = Situation::now(app)?;
    let needs = situation.needs(asked.clone(), examples);
    let alternatives = situation.alternatives(&needs, examples);
    let (largest_max_length, largest_batch_size) = situation.largest(&needs).unwrap_or_default();
    let Choice { trainer, zh, en } = &needs.choice;
    Ok(EstimateAnswer {
        trainer: TrainerChoice { name: trainer.as_str().into(), zh: zh.clone(), en: en.clone() },
        estimate: needs.estimate.as_ref().map(Into::into),
        largest_max_length,
        largest_batch_size,
        alternatives: alternatives.iter().map(|found| situation.alternative(&asked, found)).collect(),
        warnings,
        verdict: verdict(needs.verdict),
    })
}

/// Answer of `GET /api/v1/recommendations`, for a data set of so many examples. May block.
pub fn recommend(app: &App, dataset: Option<(String, u64)>) -> Result<Recommendations> {
    if app.engine.view().devices().is_none() {
        return Ok(Recommendations { detecting: true, recommendations: Vec::new() });
    }
    let situation = Situation::now(app)?;
    let (path, examples) = dataset.unzip();
    let path = path.unwrap_or_default();
    let found = fit::recommend(&situation.context(), examples, &|device| situation.promised(device));
    let view = |found: fit::Recommendation| api_types::Recommendation {
        device: found.device.map(|device| device.to_string()),
        gpus: found.gpus,
        model_name: found.model_name,
        parameters: Some(found.parameters),
        method: found.method.as_str().into(),
        verdict: verdict(found.verdict),
        estimate: Some((&found.estimate).into()),
        largest_max_length: found.largest_length,
        largest_batch_size: found.largest_batch,
        request: found.recipe.map(|recipe| request(&FineTune { dataset_file: path.clone(), ..recipe })),
    };
    Ok(Recommendations { detecting: false, recommendations: found.into_iter().map(view).collect() })
}

fn verdict(Verdict { fit, zh, en }: Verdict) -> VerdictView {
    VerdictView { code: fit.as_str().into(), zh, en }
}
