//! What to change after a training ran out of memory: one step at a time, the least harmful first.

use domain::{Adjustment, FineTune, Method};

/// The recipe as an attempt gets it after these adjustments.
pub fn adjusted(recipe: &FineTune, adjustments: &[Adjustment]) -> FineTune {
    let mut recipe = recipe.clone();
    let halvings = adjustments.iter().filter(|made| **made == Adjustment::HalveMicroBatch).count();
    divide(&mut recipe, halvings);
    for adjustment in adjustments {
        match adjustment {
            Adjustment::HalveMicroBatch => {}
            Adjustment::GradientCheckpointing => recipe.gradient_checkpointing = true,
            Adjustment::Load8bit => recipe.load_in_8bit = true,
            Adjustment::Load4bit => recipe.load_in_4bit = true,
        }
    }
    recipe
}

/// The adjustment to make after those already made; `None` when nothing is left that the recipe allows.
pub fn next(recipe: &FineTune, made: &[Adjustment]) -> Option<Adjustment> {
    let recipe = adjusted(recipe, made);
    let may_quantise = recipe.allow_quantization && recipe.method == Method::Lora;
    if recipe.batch_size > 1 {
        Some(Adjustment::HalveMicroBatch)
    } else if !recipe.gradient_checkpointing {
        Some(Adjustment::GradientCheckpointing)
    } else if may_quantise && recipe.quantization_bits().is_none() {
        Some(Adjustment::Load8bit)
    } else if may_quantise && recipe.quantization_bits() == Some(8) {
        Some(Adjustment::Load4bit)
    } else {
        None
    }
}

/// What the last of these adjustments changed, in Chinese and in English.
pub fn describe(recipe: &FineTune, made: &[Adjustment]) -> (String, String) {
    let Some((last, before)) = made.split_last() else { return (String::new(), String::new()) };
    let (from, to) = (adjusted(recipe, before), adjusted(recipe, made));
    match last {
        Adjustment::HalveMicroBatch => {
            let (batches, accumulations) =
                ((from.batch_size, to.batch_size), (from.gradient_accumulation_steps, to.gradient_accumulation_steps));
            (
                format!("批大小 {} → {}、梯度累积 {} → {}", batches.0, batches.1, accumulations.0, accumulations.1),
                format!(
                    "batch size {} → {}, accumulation {} → {}",
                    batches.0, batches.1, accumulations.0, accumulations.1
                ),
            )
        }
        Adjustment::GradientCheckpointing => ("开启梯度检查点".into(), "gradient checkpointing on".into()),
        Adjustment::Load8bit => ("基座模型改用 8 位量化".into(), "the base model in 8 bits".into()),
        Adjustment::Load4bit => ("基座模型改用 4 位量化".into(), "the base model in 4 bits".into()),
    }
}

/// So many times the largest micro-batch that is at most half as large and divides the examples of an optimizer step,
/// whose number stays what it was: a trainer that resumes takes no other.
fn divide(recipe: &mut FineTune, halvings: usize) {
    let examples = recipe.batch_size.saturating_mul(recipe.gradient_accumulation_steps);
    for _ in 0..halvings {
        let half = recipe.batch_size / 2;
        recipe.batch_size = (1..=half).rev().find(|size| examples.is_multiple_of(*size)).unwrap_or(1);
        recipe.gradient_accumulation_steps = examples / recipe.batch_size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Adjustment::*;

    fn whole_ladder(recipe: &FineTune) -> Vec<Adjustment> {
        let mut made = Vec::new();
        while let Some(adjustment) = next(recipe, &made) {
            assert_ne!(adjusted(recipe, &made), adjusted(recipe, &[&made[..], &[adjustment]].concat()), "{made:?}");
            made.push(adjustment);
        }
        made
    }

    #[test]
    fn the_ladder_goes_from_batch_to_checkpointing_to_the_bits_that_are_allowed() {
        let plain = FineTune {
            batch_size: 4,
            gradient_accumulation_steps: 3,
            gradient_checkpointing: false,
            load_in_8bit: false,
            ..FineTune::default()
        };
        let first = [HalveMicroBatch, HalveMicroBatch, GradientCheckpointing];
        assert_eq!(whole_ladder(&plain), first);
        let allowed = FineTune { allow_quantization: true, ..plain.clone() };
        assert_eq!(whole_ladder(&allowed), [&first[..], &[Load8bit, Load4bit]].concat());
        let already8 = FineTune { load_in_8bit: true, ..allowed.clone() };
        assert_eq!(whole_ladder(&already8), [&first[..], &[Load4bit]].concat());
        let already4 = FineTune { load_in_4bit: true, ..allowed.clone() };
        assert_eq!(whole_ladder(&already4), first);
        let full = FineTune { method: Method::Full, ..allowed };
        assert_eq!(whole_ladder(&full), first);
    }

    #[test]
    fn an_optimizer_step_keeps_its_examples() {
        for batch_size in 1..=17 {
            let recipe = FineTune { batch_size, gradient_accumulation_steps: 4, ..FineTune::default() };
            let ladder = whole_ladder(&recipe);
            for made in 0..=ladder.len() {
                let step = adjusted(&recipe, &ladder[..made]);
                assert_eq!(step.batch_size * step.gradient_accumulation_steps, 4 * batch_size, "{:?}", &ladder[..made]);
            }
            assert_eq!(adjusted(&recipe, &ladder).batch_size, 1);
        }
        let halved = |batch_size, gradient_accumulation_steps| {
            let recipe = FineTune { batch_size, gradient_accumulation_steps, ..FineTune::default() };
            let once = adjusted(&recipe, &[HalveMicroBatch]);
            (once.batch_size, once.gradient_accumulation_steps)
        };
        assert_eq!(halved(6, 2), (3, 4));
        assert_eq!(halved(7, 16), (2, 56));
    }
}
