//! What a fine-tune needs, whether that fits this machine, and what would.

use api_types::{EstimateAnswer, Recommendations, TrainerChoice, VerdictView};
use domain::FineTune;

use crate::{app::App, error::Result};

pub fn answer(_app: &App, _recipe: FineTune) -> Result<EstimateAnswer> {
    Ok(EstimateAnswer {
        trainer: TrainerChoice { name: "builtin".into(), zh: String::new(), en: String::new() },
        estimate: None,
        verdict: VerdictView { code: "unknown".into(), zh: String::new(), en: String::new() },
        largest_max_length: None,
        largest_batch_size: None,
        alternatives: Vec::new(),
        warnings: Vec::new(),
    })
}

pub fn recommend(_app: &App, _dataset: Option<&str>) -> Result<Recommendations> {
    Ok(Recommendations { detecting: true, recommendations: Vec::new() })
}
