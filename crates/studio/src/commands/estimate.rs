use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use api_types::EstimateView;
use clap::{Args, ValueEnum};
use domain::{Estimate as Figures, FineTune, Home, Loss, Method, Parallelism, Recipe, TrainerKind};
use recipes::{
    catalogue,
    estimate::{Configuration, ModelShape, Projection, Rate, estimate, total_seconds, within},
    fit,
};
use serde::Serialize;

use crate::{
    error::{CliError, Result},
    output::{self, Table, bytes},
    text::text,
};

const GIB: f64 = (1u64 << 30) as f64;

#[derive(Args)]
pub struct Estimate {
    /// A model's folder or config.json, or a hub id from the catalogue
    #[arg(long, value_name = "DIR_OR_FILE")]
    config: PathBuf,
    /// lora, qlora (a quantised base) or full
    #[arg(long, value_enum, default_value = "lora", hide_possible_values = true)]
    method: Kind,
    /// Bits per weight of the base: 4 or 8 [default: 4 with qlora]
    #[arg(long, value_name = "4|8")]
    bits: Option<u32>,
    /// Examples per micro-batch
    #[arg(long, value_name = "N", default_value = "1")]
    batch: u32,
    /// Tokens per example
    #[arg(long, value_name = "N", default_value = "1024")]
    seq: u32,
    /// Micro-batches per optimizer step
    #[arg(long, value_name = "N", default_value = "1")]
    accumulation: u32,
    /// Inner dimension of the adapter
    #[arg(long, value_name = "N", default_value = "16")]
    lora_r: u32,
    /// all, letters of q k v o, or names such as q_proj,v_proj
    #[arg(long, value_name = "WHICH", default_value = "all")]
    lora_targets: String,
    /// Keep activations instead of computing them again
    #[arg(long)]
    no_checkpointing: bool,
    /// How the loss is computed: hf, fused or chunked [default: hf]
    #[arg(long, value_enum, hide_possible_values = true)]
    loss: Option<LossWord>,
    /// builtin or peft
    #[arg(long, value_enum, default_value = "peft", hide_possible_values = true)]
    trainer: TrainerWord,
    /// GPUs that train together
    #[arg(long, value_name = "N", default_value = "1")]
    gpus: u32,
    /// With several GPUs: ddp (each holds the model) or fsdp (each holds a part)
    #[arg(long, value_enum, default_value = "ddp", hide_possible_values = true)]
    parallelism: ParallelismWord,
    /// Memory of the card in GiB: says whether it fits, and what would
    #[arg(long, value_name = "GIB")]
    gpu_memory: Option<f64>,
    /// Name of the card, for the time, such as "RTX 4090"
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,
    /// Examples of the data set, for the whole training's time
    #[arg(long, value_name = "N")]
    examples: Option<u64>,
    /// Passes over the data
    #[arg(long, value_name = "N", default_value = "3")]
    epochs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Lora,
    Qlora,
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum LossWord {
    Hf,
    Fused,
    Chunked,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TrainerWord {
    Builtin,
    Peft,
}

#[derive(Clone, Copy, ValueEnum)]
enum ParallelismWord {
    Ddp,
    Fsdp,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    model_parameters: u64,
    #[serde(flatten)]
    estimate: EstimateView,
    /// The same recipe in the studio's own trainer, which hands freed memory on and has no other copy of the logits.
    studio: EstimateView,
    /// With `--gpu-memory` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<FitAnswer>,
}

#[derive(Serialize)]
struct FitAnswer {
    fits: bool,
    gpu_memory_bytes: u64,
    largest_seq: Option<u32>,
    largest_batch: Option<u32>,
    alternatives: Vec<AlternativeAnswer>,
}

#[derive(Serialize)]
struct AlternativeAnswer {
    changes_zh: String,
    changes_en: String,
    estimate: EstimateView,
}

/// By formula alone: nothing is looked up in a studio. Runs of transformers and peft are estimated as they are usually
/// published (PyTorch's own allocator and AdamW, adapters with dropout); recipes of the studio need less.
pub fn run(home: &Home, command: Estimate) -> Result<ExitCode> {
    let shape = shape(home, &command.config)?;
    let recipe = recipe(&command)?;
    let rate = rate(command.gpu.as_deref())?;
    let stack = if command.trainer == TrainerWord::Peft { Configuration::published } else { Configuration::of };
    let figures = |recipe: &FineTune, stack: fn(&FineTune) -> Configuration| {
        let figures = estimate(&shape, &stack(recipe), rate.as_ref());
        Figures { total_seconds: total_seconds(&figures, recipe, command.examples), ..figures }
    };
    let asked = figures(&recipe, stack);
    let studio = figures(&FineTune { loss: command.loss.map(loss), ..recipe.clone() }, Configuration::of);

    let fit = command.gpu_memory.map(|gib| -> Result<FitAnswer> {
        if !(gib > 0.0 && gib < 1e6) {
            return Err(invalid(
                format!("--gpu-memory 为 {gib}；请填写显卡的显存大小，单位 GiB，例如 24"),
                format!("--gpu-memory is {gib}; give the card's memory in GiB, such as 24"),
            ));
        }
        let budget = (gib * GIB) as u64;
        // Near its end a card gets back what nothing uses.
        let needs = |recipe: &FineTune| within(&figures(recipe, stack), budget);
        let fits = needs(&recipe).grant_bytes <= budget;
        let nearest = if fits { Vec::new() } else { fit::nearest(&recipe, budget, &needs) };
        let alternative = |alternative: fit::Alternative| AlternativeAnswer {
            changes_zh: alternative.changes_zh,
            changes_en: alternative.changes_en,
            estimate: (&alternative.estimate).into(),
        };
        Ok(FitAnswer {
            fits,
            gpu_memory_bytes: budget,
            largest_seq: fit::largest_length(&recipe, budget, &needs),
            largest_batch: fit::largest_batch(&recipe, budget, &needs),
            alternatives: nearest.into_iter().map(alternative).collect(),
        })
    });
    let fit = fit.transpose()?;
    let seen = fit.as_ref().map_or_else(|| asked.clone(), |fit| within(&asked, fit.gpu_memory_bytes));
    let answer =
        Answer { model_parameters: shape.parameters(), estimate: (&seen).into(), studio: (&studio).into(), fit };
    if command.json {
        output::json(&answer)?;
    } else {
        print(&answer, &recipe)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shape(home: &Home, config: &Path) -> Result<ModelShape> {
    let name = config.to_string_lossy();
    if !config.exists() {
        if let Some(shape) = catalogue::shape(&name) {
            return Ok(shape.clone());
        }
        // A name that means a model on this machine.
        if let Ok(recipes::models::ModelRef::Local(folder)) = super::model::resolve(home, &name) {
            return ModelShape::load(&folder).map_err(|error| shape_error(&error));
        }
    }
    ModelShape::load(config).map_err(|error| shape_error(&error))
}

fn shape_error(error: &recipes::estimate::ShapeError) -> CliError {
    CliError::new(error.code(), text(error.message_zh(), error.to_string()))
}

fn rate(gpu: Option<&str>) -> Result<Option<Rate>> {
    let Some(name) = gpu else { return Ok(None) };
    let rate = Rate::of(name).ok_or_else(|| {
        CliError::usage(
            "gpu-speed-unknown",
            text(format!("不知道 {name:?} 的速度"), format!("the speed of {name:?} is not known")),
        )
        .next(text(
            "请使用驱动显示的显卡名称，例如 \"RTX 4090\" 或 \"A100\"；去掉 --gpu 则只估算显存",
            "give the card's name as the driver does, such as \"RTX 4090\" or \"A100\"; without --gpu only memory is estimated",
        ))
    })?;
    Ok(Some(rate))
}

fn recipe(command: &Estimate) -> Result<FineTune> {
    let bits = match (command.method, command.bits) {
        (_, Some(bits)) if bits != 4 && bits != 8 => {
            return Err(invalid(format!("--bits 为 {bits}；请使用 4 或 8"), format!("--bits is {bits}; use 4 or 8")));
        }
        (Kind::Full, Some(_)) => {
            return Err(invalid(
                "全参数微调会训练权重本身，不能量化；请去掉 --bits，或使用 --method qlora".into(),
                "a full fine-tune trains the weights, so they cannot be quantised; leave --bits out, or use \
                 --method qlora"
                    .into(),
            ));
        }
        (Kind::Qlora, None) => Some(4),
        (_, bits) => bits,
    };
    let recipe = FineTune {
        model_name: "model".into(),
        dataset_file: "data".into(),
        trainer: Some(match command.trainer {
            TrainerWord::Builtin => TrainerKind::Builtin,
            TrainerWord::Peft => TrainerKind::Peft,
        }),
        method: if command.method == Kind::Full { Method::Full } else { Method::Lora },
        num_epochs: command.epochs,
        batch_size: command.batch,
        gradient_accumulation_steps: command.accumulation,
        max_length: command.seq,
        load_in_8bit: bits == Some(8),
        load_in_4bit: bits == Some(4),
        gradient_checkpointing: !command.no_checkpointing,
        loss: Some(command.loss.map_or(Loss::Hf, loss)),
        lora_rank: command.lora_r,
        lora_targets: targets(&command.lora_targets)?,
        gpus: command.gpus,
        parallelism: match command.parallelism {
            ParallelismWord::Ddp => Parallelism::Ddp,
            ParallelismWord::Fsdp => Parallelism::Fsdp,
        },
        ..FineTune::default()
    };
    recipes::validate(&Recipe::FineTune(recipe.clone())).map_err(|field| invalid(field.message_zh, field.message))?;
    Ok(recipe)
}

fn loss(word: LossWord) -> Loss {
    match word {
        LossWord::Hf => Loss::Hf,
        LossWord::Fused => Loss::Fused,
        LossWord::Chunked => Loss::Chunked,
    }
}

/// `all`, some of the letters q k v o, or the modules' own names.
fn targets(words: &str) -> Result<Vec<String>> {
    let unknown = |word: &str| {
        invalid(
            format!("--lora-targets 中的 {word:?} 不是投影层；请使用 all、qv、qkv、qkvo，或 q_proj,v_proj 这样的名称"),
            format!(
                "{word:?} in --lora-targets is no projection; use all, qv, qkv, qkvo, or names such as q_proj,v_proj"
            ),
        )
    };
    if words.eq_ignore_ascii_case("all") || words.eq_ignore_ascii_case("all-linear") {
        return Ok(Vec::new());
    }
    let letters = [('q', "q_proj"), ('k', "k_proj"), ('v', "v_proj"), ('o', "o_proj")];
    if !words.is_empty() && words.chars().all(|letter| letters.iter().any(|(known, _)| *known == letter)) {
        let wanted = letters.iter().filter(|(letter, _)| words.contains(*letter));
        return Ok(wanted.map(|(_, name)| (*name).to_owned()).collect());
    }
    let names = words.split(',').map(str::trim);
    names.map(|name| Projection::named(name).map(|_| name.to_owned()).ok_or_else(|| unknown(name))).collect()
}

/// `5025.0` → `1 h 24 min`
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match minutes {
        0..60 => text(format!("{minutes} 分钟"), format!("{minutes} min")),
        _ => text(
            format!("{} 小时 {} 分钟", minutes / 60, minutes % 60),
            format!("{} h {} min", minutes / 60, minutes % 60),
        ),
    }
}

fn invalid(zh: String, en: String) -> CliError {
    CliError::usage("invalid-recipe", text(zh, en))
}

fn print(answer: &Answer, recipe: &FineTune) -> Result<()> {
    let Answer { model_parameters, estimate, studio, fit } = answer;
    let parts = &estimate.breakdown;
    let mut table = Table::new(text(["部分", "显存"], ["PART", "MEMORY"]));
    let rows = [
        (text("权重", "weights"), parts.weights),
        (text("适配器", "adapters"), parts.adapters),
        (text("梯度", "gradients"), parts.gradients),
        (text("优化器", "optimizer"), parts.optimizer),
        (text("激活值", "activations"), parts.activations),
        ("logits", parts.logits),
        (text("临时空间", "workspace"), parts.workspace),
        (text("分配器余量", "allocator slack"), parts.slack),
        (text("驱动上下文", "context"), parts.context),
    ];
    for (name, part) in rows.into_iter().filter(|(_, part)| *part > 0) {
        table.row([name.to_owned(), bytes(part)]);
    }
    let in_all = match recipe.trainer {
        Some(TrainerKind::Builtin) => text("合计（主机内存）", "in all (host memory)"),
        _ => text("合计（nvidia-smi）", "in all (nvidia-smi)"),
    };
    let total = (bytes(estimate.footprint_low_bytes), bytes(estimate.footprint_high_bytes));
    table.row([
        in_all.to_owned(),
        text(
            format!("{}（{} 至 {}）", bytes(estimate.footprint_bytes), total.0, total.1),
            format!("{} ({} to {})", bytes(estimate.footprint_bytes), total.0, total.1),
        ),
    ]);
    table.row([text("其中张量", "of it tensors").to_owned(), bytes(estimate.allocated_bytes)]);
    table
        .row([text("与他人共用显卡时应留出", "to set aside on a shared card").to_owned(), bytes(estimate.grant_bytes)]);
    let billions = *model_parameters as f64 / 1e9;
    output::print(&text(
        format!("{billions:.2} B 参数，每批 {} × {} 个词元\n", recipe.batch_size, recipe.max_length),
        format!("{billions:.2} B parameters, {} × {} tokens at a time\n", recipe.batch_size, recipe.max_length),
    ))?;
    table.print()?;

    let mut lines = String::new();
    if let Some(seconds) = estimate.seconds_per_step {
        lines += &text(format!("每步约 {seconds:.2} 秒"), format!("about {seconds:.2} s per optimizer step"));
        if let Some(total) = estimate.total_seconds {
            let total = duration(total);
            lines += &text(format!("，共约 {total}"), format!(", about {total} in all"));
        }
        lines.push('\n');
    }
    if recipe.trainer == Some(TrainerKind::Peft) {
        let (footprint, grant) = (bytes(studio.footprint_bytes), bytes(studio.grant_bytes));
        lines += &text(
            format!("用本 Studio 的 peft 训练器提交时：{footprint}，预留 {grant}\n"),
            format!("as a task of the studio's own peft trainer: {footprint}, granted {grant}\n"),
        );
    }
    if let Some(fit) = fit {
        let memory = bytes(fit.gpu_memory_bytes);
        let (length, batch) = (output::or_dash(fit.largest_seq), output::or_dash(fit.largest_batch));
        lines += &match fit.fits {
            true => text(format!("{memory} 放得下\n"), format!("fits {memory}\n")),
            false => text(format!("{memory} 放不下\n"), format!("does not fit {memory}\n")),
        };
        lines += &text(
            format!("最大长度 {length}，最大批大小 {batch}（其余不变）\n"),
            format!("longest {length} tokens, largest micro-batch {batch}, the rest as given\n"),
        );
        for alternative in &fit.alternatives {
            let footprint = bytes(alternative.estimate.footprint_bytes);
            lines += &text(
                format!("  可改为：{}：{footprint}\n", alternative.changes_zh),
                format!("  would fit: {}: {footprint}\n", alternative.changes_en),
            );
        }
    }
    output::print(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        estimate: Estimate,
    }

    fn asked(arguments: &str) -> Result<FineTune> {
        let words = ["x", "--config", "c"].into_iter().chain(arguments.split_ascii_whitespace());
        recipe(&Line::try_parse_from(words).unwrap().estimate)
    }

    #[test]
    fn flags_become_a_recipe() {
        let plain = asked("").unwrap();
        assert_eq!((plain.method, plain.quantization_bits(), plain.loss), (Method::Lora, None, Some(Loss::Hf)));
        assert!(plain.gradient_checkpointing && plain.lora_targets.is_empty());
        assert_eq!(asked("--method qlora").unwrap().quantization_bits(), Some(4));
        assert_eq!(asked("--method qlora --bits 8").unwrap().quantization_bits(), Some(8));
        assert_eq!(asked("--method full").unwrap().quantization_bits(), None);
        assert_eq!(asked("--lora-targets qv").unwrap().lora_targets, ["q_proj", "v_proj"]);
        assert_eq!(asked("--lora-targets up_proj,q_proj").unwrap().lora_targets, ["up_proj", "q_proj"]);
        assert!(!asked("--no-checkpointing").unwrap().gradient_checkpointing);
        for wrong in [
            "--bits 3",
            "--method full --bits 4",
            "--batch 0",
            "--seq 1",
            "--lora-r 0",
            "--lora-targets x",
            "--lora-targets q_proj,,",
            "--gpus 0",
            "--trainer builtin --method full",
            "--trainer builtin --method qlora",
            "--method qlora --gpus 2 --parallelism fsdp",
        ] {
            let error = asked(wrong).expect_err(wrong);
            assert_eq!((error.code.as_str(), error.exit), ("invalid-recipe", crate::error::USAGE), "{wrong}");
        }
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(duration(59.0), "1 min");
        assert_eq!(duration(5025.0), "1 h 24 min");
    }
}
