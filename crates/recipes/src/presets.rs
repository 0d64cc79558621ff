use domain::FineTune;

/// A named set of hyper-parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// `safe`, `balanced` or `fast`.
    pub name: &'static str,
    pub title_zh: &'static str,
    pub title_en: &'static str,
    pub num_epochs: u32,
    /// Examples per micro-batch.
    pub batch_size: u32,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: u32,
    pub learning_rate: f64,
    /// Tokens per example at most.
    pub max_length: u32,
    pub lora_rank: u32,
    pub lora_alpha: f64,
}

impl Preset {
    pub fn find(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Puts its values into the recipe; the rest of the recipe stays.
    pub fn apply(&self, recipe: &mut FineTune) {
        recipe.num_epochs = self.num_epochs;
        recipe.batch_size = self.batch_size;
        recipe.gradient_accumulation_steps = self.gradient_accumulation_steps;
        recipe.learning_rate = self.learning_rate;
        recipe.max_length = self.max_length;
        recipe.lora_rank = self.lora_rank;
        recipe.lora_alpha = self.lora_alpha;
    }
}

/// The presets in the order in which to offer them.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

static PRESETS: [Preset; 3] = [
    Preset {
        name: "safe",
        title_zh: "稳妥：占用最少，学习最平缓",
        title_en: "Safe: least memory, gentlest learning",
        num_epochs: 3,
        batch_size: 1,
        gradient_accumulation_steps: 16,
        learning_rate: 5e-5,
        max_length: 512,
        lora_rank: 8,
        lora_alpha: 16.0,
    },
    Preset {
        name: "balanced",
        title_zh: "均衡：适合大多数数据",
        title_en: "Balanced: right for most data",
        num_epochs: 3,
        batch_size: 1,
        gradient_accumulation_steps: 16,
        learning_rate: 1e-4,
        max_length: 1024,
        lora_rank: 16,
        lora_alpha: 32.0,
    },
    Preset {
        name: "fast",
        title_zh: "快速：一轮，尽早看到结果",
        title_en: "Fast: one pass, an early result",
        num_epochs: 1,
        batch_size: 2,
        gradient_accumulation_steps: 4,
        learning_rate: 2e-4,
        max_length: 512,
        lora_rank: 8,
        lora_alpha: 16.0,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate;
    use domain::Recipe;

    #[test]
    fn every_preset_makes_a_valid_recipe_and_leaves_the_rest_alone() {
        for preset in presets() {
            assert_eq!(Preset::find(preset.name), Some(preset));
            let mut recipe =
                FineTune { model_name: "m".into(), dataset_file: "d".into(), seed: 7, ..FineTune::default() };
            preset.apply(&mut recipe);
            assert_eq!(recipe.learning_rate, preset.learning_rate);
            assert_eq!(recipe.seed, 7);
            validate(&Recipe::FineTune(recipe)).unwrap();
        }
        assert_eq!(Preset::find("reckless"), None);
    }
}
