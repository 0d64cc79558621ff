//! How far the estimator is off the peaks that others have published.

use domain::{Estimate, FineTune, Loss, Method};
use recipes::estimate::{
    Allocator, Attention, Configuration, Family, LossKind, ModelShape, Quantization, Upcast, estimate, within,
};

use super::Figure;

const PEAKS: &str = include_str!("../../../crates/recipes/data/published_peaks.csv");
/// What the driver lets processes have of the A100-80G that all rows come from.
const CARD: u64 = 84_987_740_160;

/// One published peak beside what the estimator says.
struct Row {
    source: String,
    /// What was read: `allocated`, `nvidia-smi`, `reserved` or `unspecified`.
    meter: String,
    peak: f64,
    expected: f64,
    grant: f64,
    name: String,
}

impl Row {
    fn error(&self) -> f64 {
        (self.expected / self.peak - 1.0).abs()
    }
}

pub fn measure() -> Vec<Figure> {
    let rows = read(configuration);
    let mut figures: Vec<Figure> = Vec::new();
    let mut groups: Vec<(String, String)> = rows.iter().map(|row| (row.source.clone(), row.meter.clone())).collect();
    groups.sort();
    groups.dedup();
    for (source, meter) in &groups {
        let group: Vec<&Row> = rows.iter().filter(|row| row.source == *source && row.meter == *meter).collect();
        figures.push(distribution(&format!("{source}, {meter}"), &group));
    }
    for (meter, median_goal, p90_goal) in [("allocated", 2.0, 8.0), ("nvidia-smi", 3.0, 10.0)] {
        let group: Vec<&Row> = rows.iter().filter(|row| row.meter == meter).collect();
        let errors = sorted(&group);
        let count = format!("{} rows", errors.len());
        figures
            .push(Figure::new(format!("{meter}: median error"), median(&errors), "%").at_most(median_goal).note(count));
        figures.push(Figure::new(format!("{meter}: p90 of the error"), p90(&errors), "%").at_most(p90_goal));
    }
    let short: Vec<&str> = rows.iter().filter(|row| row.grant < row.peak).map(|row| row.name.as_str()).collect();
    let covered = 100.0 * (1.0 - short.len() as f64 / rows.len() as f64);
    figures.push(Figure::new("peaks that the grant covers", covered, "%").at_least(97.0).note(format!(
        "{} rows; not: {}",
        rows.len(),
        short.join(", ")
    )));
    let plain = read(|field| {
        let mut own = configuration(field);
        let defaults = Configuration::published(&recipe(field));
        own.allocator = defaults.allocator;
        own.upcast = defaults.upcast;
        own.dropout = defaults.dropout;
        own.adapter_bytes = defaults.adapter_bytes;
        own
    });
    for meter in ["allocated", "nvidia-smi"] {
        let group: Vec<&Row> = plain.iter().filter(|row| row.meter == meter).collect();
        figures.push(distribution(&format!("by the defaults of sage estimate, {meter}"), &group));
    }
    figures
}

fn distribution(name: &str, rows: &[&Row]) -> Figure {
    let errors = sorted(rows);
    let covered = rows.iter().filter(|row| row.grant >= row.peak).count();
    let ratio = rows.iter().map(|row| row.grant / row.peak).sum::<f64>() / rows.len() as f64;
    Figure::new(format!("{name}: median error"), median(&errors), "%").note(format!(
        "p90 {:.1} %, most {:.1} %; grant covers {covered} of {}, on average {ratio:.2} × the peak",
        p90(&errors),
        errors.last().copied().unwrap_or(0.0),
        rows.len(),
    ))
}

/// Errors in per cent, the smallest first.
fn sorted(rows: &[&Row]) -> Vec<f64> {
    let mut errors: Vec<f64> = rows.iter().map(|row| 100.0 * row.error()).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn p90(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(0.0)
}

fn read(configuration: impl Fn(&dyn Fn(&str) -> String) -> Configuration) -> Vec<Row> {
    let mut lines = PEAKS.lines();
    let head = fields(lines.next().expect("the file has a head"));
    lines
        .map(|line| {
            let cells = fields(line);
            let field = |name: &str| {
                let column = head.iter().position(|column| column == name).expect("the column is there");
                cells[column].clone()
            };
            let shape = shape(&field("model"));
            let estimate = estimate(&shape, &configuration(&field), None);
            // All use a card of their own.
            row(&field, &within(&estimate, CARD))
        })
        .collect()
}

fn row(field: &dyn Fn(&str) -> String, estimate: &Estimate) -> Row {
    let meter = field("metric");
    let expected = if meter == "allocated" { estimate.allocated_bytes } else { estimate.footprint_bytes };
    let framework = field("framework");
    Row {
        source: framework.split(" (").next().unwrap_or_default().to_owned(),
        meter,
        peak: field("peak_gib").parse::<f64>().expect("a peak is a number") * (1u64 << 30) as f64,
        expected: expected as f64,
        grant: estimate.grant_bytes as f64,
        name: format!("{} {} {}x{}", field("model"), field("method"), field("batch"), field("seq")),
    }
}

/// The run as its source describes it.
fn configuration(field: &dyn Fn(&str) -> String) -> Configuration {
    let framework = field("framework");
    let swift = framework.starts_with("ms-swift 2");
    let fms = framework.starts_with("fms");
    let loss = field("loss");
    Configuration {
        quantization: match field("quant").as_str() {
            "nf4" => Quantization::Nf4,
            "nf4dq" => Quantization::Nf4Double,
            "gptq4" => Quantization::Gptq4,
            "gptq8" => Quantization::Gptq8,
            _ => Quantization::None,
        },
        adapter_bytes: field("lora_bytes").parse().unwrap_or(4),
        attention: if field("attn") == "eager" { Attention::Eager } else { Attention::Fused },
        loss: match loss.as_str() {
            "fused" => LossKind::Fused,
            "fastce" | "fp16_ce" => LossKind::Kernel,
            _ => LossKind::Upcast,
        },
        fused_norms: loss == "fused" || loss == "fastce",
        // peft prepares a bitsandbytes base so, and trl takes embedding and output layer back.
        upcast: match () {
            () if framework.contains("baseline-peft-bnb") => Upcast::Norms,
            () if swift && field("quant") == "nf4" => Upcast::Everything,
            () => Upcast::Nothing,
        },
        allocator: if swift { Allocator::VariedBlocks } else { Allocator::Blocks },
        // The others use 0.05, which keeps the same.
        dropout: fms || field("method") != "full",
        ..Configuration::published(&recipe(field))
    }
}

fn recipe(field: &dyn Fn(&str) -> String) -> FineTune {
    let number = |name| field(name).parse().expect("it is a whole number");
    let projections = |text: &str| {
        let named = [('q', "q_proj"), ('k', "k_proj"), ('v', "v_proj"), ('o', "o_proj")];
        let wanted = named.into_iter().filter(|(letter, _)| text.contains(*letter));
        wanted.map(|(_, name)| name.to_owned()).collect()
    };
    let targets = field("lora_targets");
    FineTune {
        method: if field("method") == "full" { Method::Full } else { Method::Lora },
        load_in_8bit: field("quant").ends_with('8'),
        load_in_4bit: field("method") == "qlora" && !field("quant").ends_with('8'),
        batch_size: number("batch"),
        max_length: number("seq"),
        gradient_accumulation_steps: number("grad_accum"),
        gradient_checkpointing: field("ckpt") == "1",
        loss: if field("loss") == "fused" { Some(Loss::Fused) } else { Some(Loss::Hf) },
        lora_rank: field("lora_r").parse().unwrap_or(8),
        lora_targets: if targets == "all" { Vec::new() } else { projections(&targets) },
        ..FineTune::default()
    }
}

/// Shapes from the config.json of each model in the file.
fn shape(model: &str) -> ModelShape {
    let of = |family, [hidden, intermediate, layers, heads, kv_heads, vocab]: [u64; 6], tied| ModelShape {
        family,
        hidden,
        intermediate,
        layers,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        vocab,
        tied,
        weight_bytes: 2,
    };
    match model {
        "Qwen-1.8B" => of(Family::Qwen, [2048, 5504, 24, 16, 16, 151_936], false),
        "Qwen-7B" => of(Family::Qwen, [4096, 11_008, 32, 32, 32, 151_936], false),
        "Qwen-14B" => of(Family::Qwen, [5120, 13_696, 40, 40, 40, 152_064], false),
        "Qwen-72B" => of(Family::Qwen, [8192, 24_576, 80, 64, 64, 152_064], false),
        "Yi-6B" => of(Family::Llama, [4096, 11_008, 32, 32, 4, 64_000], false),
        "Mistral-7B" => of(Family::Mistral, [4096, 14_336, 32, 32, 8, 32_000], false),
        "Llama-3-8B" => of(Family::Llama, [4096, 14_336, 32, 32, 8, 128_256], false),
        "PowerLM-3B" => of(Family::Granite, [2304, 9216, 40, 36, 36, 49_152], true),
        other => panic!("the shape of {other} is not known"),
    }
}

/// A line of comma-separated values; quotes hold commas, doubled quotes are one.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is one from the start");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goals_are_met() {
        assert_eq!(read(configuration).len(), PEAKS.lines().count() - 1);
        for figure in measure() {
            assert!(figure.met() != Some(false), "{}: {} {} ({})", figure.name, figure.value, figure.unit, figure.note);
        }
    }

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(fields(r#"1,"a, ""b""",,c"#), ["1", "a, \"b\"", "", "c"]);
    }
}
