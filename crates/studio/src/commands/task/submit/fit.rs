//! What a fine-tune needs, and what would fit in its place.

use api_types::{AlternativeView, EstimateAnswer, EstimateView, FineTunePatch};

use crate::{
    output::{bytes, duration, or_dash},
    text::text,
};

/// What `--dry-run` prints.
pub fn report(answer: &EstimateAnswer) -> String {
    let EstimateAnswer { trainer, estimate, verdict, largest_max_length, largest_batch_size, alternatives, warnings } =
        answer;
    let mut lines = text(
        format!("训练器：{}（{}）\n", trainer.name, trainer.zh),
        format!("trainer: {} ({})\n", trainer.name, trainer.en),
    );
    lines.extend(estimate.as_ref().map(figures));
    lines += &format!("{}\n", text(&verdict.zh, &verdict.en));
    if estimate.is_some() {
        let (length, batch) = (or_dash(*largest_max_length), or_dash(*largest_batch_size));
        lines += &text(
            format!("其余不变时：最大长度 {length}，最大批大小 {batch}\n"),
            format!("with the rest as it is: length {length} at most, micro-batch {batch} at most\n"),
        );
    }
    for warning in warnings {
        lines += &format!("{}: {}\n", text("注意", "note"), text(&warning.zh, &warning.en));
    }
    if !alternatives.is_empty() {
        lines += text("以下配置放得下（--fit 采用第一种）：\n", "these would fit (--fit takes the first):\n");
        lines += &listed(alternatives);
    }
    lines
}

/// What to say of a task that was taken but can never run here as it is.
pub fn instead(task: &str, alternatives: &[AlternativeView]) -> String {
    let listed = listed(alternatives);
    text(
        format!(
            "本机放不下此配置，以下配置可以：\n{listed}改用其中一种：sage task cancel {task}，然后加上相应选项重新提交，\
             或用 --fit 采用第一种\n"
        ),
        format!(
            "this machine has no room for it as it is; these would fit:\n{listed}to take one: sage task cancel {task}, \
             then submit with its options, or with --fit for the first\n"
        ),
    )
}

fn figures(estimate: &EstimateView) -> String {
    let (low, high) = (bytes(estimate.footprint_low_bytes), bytes(estimate.footprint_high_bytes));
    let (footprint, grant) = (bytes(estimate.footprint_bytes), bytes(estimate.grant_bytes));
    let basis = match (estimate.basis.as_str(), estimate.runs) {
        ("history", Some(runs)) => text(format!("本机实测 {runs} 次"), format!("measured here, {runs} runs")),
        ("probe", _) => text("本次训练实测", "measured in this training").into(),
        _ => text("公式", "formula").into(),
    };
    let mut lines = text(
        format!("显存：{footprint}（{low} 至 {high}），预留 {grant}；依据：{basis}\n"),
        format!("memory: {footprint} ({low} to {high}), granted {grant}; basis: {basis}\n"),
    );
    if let Some(step) = estimate.seconds_per_step {
        let total = estimate.total_seconds.map(duration);
        let total = total.map(|total| text(format!("，共约 {total}"), format!(", about {total} in all")));
        let total = total.unwrap_or_default();
        lines += &text(format!("时间：每步约 {step:.2} 秒{total}\n"), format!("time: {step:.2} s per step{total}\n"));
    }
    lines
}

fn listed(alternatives: &[AlternativeView]) -> String {
    let line = |(number, alternative): (usize, &AlternativeView)| {
        let AlternativeView { changes_zh, changes_en, patch, estimate, .. } = alternative;
        let (changes, grant) = (text(changes_zh, changes_en), bytes(estimate.grant_bytes));
        format!("  {number}. {changes}: {grant}\n     {}\n", options(patch).join(" "))
    };
    (1..).zip(alternatives).map(line).collect()
}

/// The patch as options of `sage task submit`.
fn options(patch: &FineTunePatch) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |name: &str, value: Option<String>| options.extend(value.map(|value| format!("{name} {value}")));
    add("--trainer", patch.trainer.clone());
    add("--method", patch.method.clone());
    add("--batch-size", patch.batch_size.map(|size| size.to_string()));
    add("--gradient-accumulation-steps", patch.gradient_accumulation_steps.map(|steps| steps.to_string()));
    add("--max-length", patch.max_length.map(|length| length.to_string()));
    add("--load-in-8bit", patch.load_in_8bit.map(|on| on.to_string()));
    add("--loss", patch.loss.clone());
    add("--lora-rank", patch.lora_rank.map(|rank| rank.to_string()));
    add("--gpus", patch.gpus.map(|gpus| gpus.to_string()));
    add("--parallelism", patch.parallelism.clone());
    if patch.load_in_4bit == Some(true) {
        options.push("--4bit".into());
    }
    let without = |option: &str| text(format!("（去掉 {option}）"), format!("(without {option})"));
    if patch.load_in_4bit == Some(false) {
        options.push(without("--4bit"));
    }
    match patch.gradient_checkpointing {
        Some(true) => options.push(without("--no-checkpointing")),
        Some(false) => options.push("--no-checkpointing".into()),
        None => {}
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::{TrainerChoice, VerdictView};

    const GIB: u64 = 1 << 30;

    fn estimate(gib: u64) -> EstimateView {
        let footprint = gib * GIB;
        let figures = domain::Estimate {
            allocated_bytes: footprint - GIB,
            footprint_bytes: footprint,
            footprint_low_bytes: footprint - GIB,
            footprint_high_bytes: footprint + GIB,
            grant_bytes: footprint + 2 * GIB,
            seconds_per_step: Some(1.5),
            total_seconds: Some(5040.0),
            basis: domain::Basis::History { runs: 3 },
            breakdown: domain::Breakdown { weights: footprint, ..domain::Breakdown::default() },
        };
        (&figures).into()
    }

    fn verdict(en: &str) -> VerdictView {
        VerdictView { code: String::new(), zh: String::new(), en: en.into() }
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_options_that_do() {
        let patch = FineTunePatch {
            batch_size: Some(1),
            gradient_accumulation_steps: Some(8),
            load_in_4bit: Some(true),
            gradient_checkpointing: Some(true),
            ..FineTunePatch::default()
        };
        let alternative = AlternativeView {
            changes_zh: String::new(),
            changes_en: "4-bit weights, micro-batch 1".into(),
            patch,
            estimate: estimate(8),
            verdict: verdict("fits now"),
        };
        let answer = EstimateAnswer {
            trainer: TrainerChoice { name: "peft".into(), zh: String::new(), en: "it trains on the card".into() },
            estimate: Some(estimate(20)),
            verdict: verdict("does not fit"),
            largest_max_length: None,
            largest_batch_size: Some(2),
            alternatives: vec![alternative],
            warnings: Vec::new(),
        };
        let listed = "  1. 4-bit weights, micro-batch 1: 10.0 GiB\n     --batch-size 1 --gradient-accumulation-steps 8 \
                      --4bit (without --no-checkpointing)\n";
        assert_eq!(
            report(&answer),
            format!(
                "trainer: peft (it trains on the card)\n\
                 memory: 20.0 GiB (19.0 GiB to 21.0 GiB), granted 22.0 GiB; basis: measured here, 3 runs\n\
                 time: 1.50 s per step, about 1 h 24 min in all\n\
                 does not fit\n\
                 with the rest as it is: length - at most, micro-batch 2 at most\n\
                 these would fit (--fit takes the first):\n{listed}"
            )
        );
        let said = instead("finetune_1_1", &answer.alternatives);
        assert!(said.contains(listed) && said.contains("sage task cancel finetune_1_1"), "{said}");
    }
}
