use std::path::Path;

use api_types::{FineTuneRequest, LoraTargets};
use clap::Args;

use crate::{
    error::{CliError, Result},
    text::text,
};

/// What to train, and how.
#[derive(Args)]
pub struct FineTune {
    /// A folder, a name from `sage model list`, or a hub id
    #[arg(long)]
    model: Option<String>,
    /// The data set, see `sage dataset check`
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Fills what is not given: safe, balanced or fast
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// The program that trains: builtin or peft [default: the one that suits model and machine]
    #[arg(long, value_name = "WORD")]
    trainer: Option<String>,
    /// Train adapters beside the model, or the model itself: lora or full
    #[arg(long, value_name = "WORD")]
    method: Option<String>,
    /// Learn from preferences (chosen and rejected answers) instead of answers
    #[arg(long)]
    dpo: bool,
    /// Passes over the data
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Examples per micro-batch
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Micro-batches per optimizer step
    #[arg(long, value_name = "N")]
    gradient_accumulation_steps: Option<u32>,
    /// Peak learning rate
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Tokens per example at most
    #[arg(long, value_name = "N")]
    max_length: Option<u32>,
    /// Load the model in 8 bits, where the trainer can
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    load_in_8bit: Option<bool>,
    /// Load the model in 16 bits
    #[arg(long, conflicts_with = "load_in_8bit")]
    no_8bit: bool,
    /// Load the model in 4 bits (QLoRA)
    #[arg(long = "4bit")]
    four_bit: bool,
    /// After an out-of-memory, allow fewer bits than asked for
    #[arg(long)]
    allow_quantization: bool,
    /// Keep activations instead of computing them again: faster, more memory
    #[arg(long)]
    no_checkpointing: bool,
    /// How the loss is computed: hf, fused or chunked [default: the trainer's choice]
    #[arg(long, value_name = "WORD")]
    loss: Option<String>,
    /// Inner dimension of the adapter
    #[arg(long, value_name = "N")]
    lora_rank: Option<u32>,
    /// The adapter is scaled by alpha / rank
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,
    /// Projections that get an adapter: all, qv, or names such as q_proj,v_proj
    #[arg(long, value_name = "WHICH")]
    lora_targets: Option<String>,
    /// Share of the steps spent warming up, 0 to 1
    #[arg(long, value_name = "X")]
    warmup_ratio: Option<f64>,
    /// How the learning rate falls: cosine, linear or constant
    #[arg(long, value_name = "WORD")]
    schedule: Option<String>,
    /// Decoupled weight decay of AdamW
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// Clips the gradient to this norm; 0: never
    #[arg(long, value_name = "X")]
    max_grad_norm: Option<f64>,
    /// Decides order, initialisation and split
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Share of the examples kept for validation, 0 to 0.5
    #[arg(long, value_name = "X")]
    validation_split: Option<f64>,
    /// Optimizer steps between checkpoints
    #[arg(long, value_name = "N")]
    checkpoint_every_steps: Option<u64>,
    /// Newest checkpoints to keep, the best besides
    #[arg(long, value_name = "N")]
    keep_checkpoints: Option<u32>,
    /// How several GPUs share the work: ddp (each holds the model) or fsdp (each holds a part)
    #[arg(long, value_name = "WORD")]
    parallelism: Option<String>,
}

impl FineTune {
    pub fn request(self, gpus: Option<u32>) -> Result<FineTuneRequest> {
        let (Some(model), Some(data)) = (&self.model, &self.data) else {
            return Err(CliError::usage(
                "nothing-to-submit",
                text("微调需要 --model 和 --data", "a fine-tune needs --model and --data"),
            )
            .next(text(
                "或在 -- 之后写任意命令：sage task submit -- python train.py",
                "or put any command after --: sage task submit -- python train.py",
            )));
        };
        let dataset_file = match std::fs::canonicalize(data) {
            Ok(path) => path.to_string_lossy().into_owned(),
            Err(error) => return Err(CliError::file(Path::new(data), &error)),
        };
        // A folder here has another name for the studio, which works elsewhere.
        let model_name = match std::fs::canonicalize(model) {
            Ok(path) if path.is_dir() => path.to_string_lossy().into_owned(),
            _ => model.clone(),
        };
        Ok(FineTuneRequest {
            model_name,
            dataset_file,
            preset: self.preset,
            trainer: self.trainer,
            method: self.method,
            objective: self.dpo.then(|| "dpo".into()),
            num_epochs: self.epochs,
            batch_size: self.batch_size,
            gradient_accumulation_steps: self.gradient_accumulation_steps,
            learning_rate: self.learning_rate,
            max_length: self.max_length,
            load_in_8bit: self.no_8bit.then_some(false).or(self.load_in_8bit),
            load_in_4bit: self.four_bit.then_some(true),
            allow_quantization: self.allow_quantization.then_some(true),
            gradient_checkpointing: self.no_checkpointing.then_some(false),
            loss: self.loss,
            lora_rank: self.lora_rank,
            lora_alpha: self.lora_alpha,
            lora_targets: self.lora_targets.map(|words| lora_targets(&words)),
            warmup_ratio: self.warmup_ratio,
            schedule: self.schedule,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            seed: self.seed,
            validation_split: self.validation_split,
            checkpoint_every_steps: self.checkpoint_every_steps,
            keep_checkpoints: self.keep_checkpoints,
            gpus,
            parallelism: self.parallelism,
        })
    }

    /// An option that was given and means nothing for a command.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--model", self.model.is_some()),
            ("--data", self.data.is_some()),
            ("--preset", self.preset.is_some()),
            ("--trainer", self.trainer.is_some()),
            ("--method", self.method.is_some()),
            ("--dpo", self.dpo),
            ("--epochs", self.epochs.is_some()),
            ("--batch-size", self.batch_size.is_some()),
            ("--gradient-accumulation-steps", self.gradient_accumulation_steps.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
            ("--max-length", self.max_length.is_some()),
            ("--load-in-8bit", self.load_in_8bit.is_some()),
            ("--no-8bit", self.no_8bit),
            ("--4bit", self.four_bit),
            ("--allow-quantization", self.allow_quantization),
            ("--no-checkpointing", self.no_checkpointing),
            ("--loss", self.loss.is_some()),
            ("--lora-rank", self.lora_rank.is_some()),
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-targets", self.lora_targets.is_some()),
            ("--warmup-ratio", self.warmup_ratio.is_some()),
            ("--schedule", self.schedule.is_some()),
            ("--weight-decay", self.weight_decay.is_some()),
            ("--max-grad-norm", self.max_grad_norm.is_some()),
            ("--seed", self.seed.is_some()),
            ("--validation-split", self.validation_split.is_some()),
            ("--checkpoint-every-steps", self.checkpoint_every_steps.is_some()),
            ("--keep-checkpoints", self.keep_checkpoints.is_some()),
            ("--parallelism", self.parallelism.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// A word for a usual set, or the names themselves.
fn lora_targets(words: &str) -> LoraTargets {
    if words.contains("_proj") || words.contains(',') {
        LoraTargets::Names(words.split(',').map(|name| name.trim().to_owned()).collect())
    } else {
        LoraTargets::Word(words.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_word_or_names() {
        assert_eq!(lora_targets("qv"), LoraTargets::Word("qv".into()));
        assert_eq!(lora_targets("q_proj"), LoraTargets::Names(vec!["q_proj".into()]));
        let names = ["q_proj".into(), "v_proj".into()];
        assert_eq!(lora_targets("q_proj, v_proj"), LoraTargets::Names(names.into()));
    }
}
