//! What must hold of every estimate, whatever the model and the recipe.

use domain::{Estimate, FineTune, Loss, Method, Objective, Parallelism, TrainerKind};
use proptest::prelude::*;
use recipes::estimate::{Configuration, Family, ModelShape, Rate, ShapeError, estimate, within};
use recipes::fit;

fn shapes() -> impl Strategy<Value = ModelShape> {
    let family = prop_oneof![Just(Family::Qwen2), Just(Family::Qwen3), Just(Family::Llama), Just(Family::Mistral)];
    (family, 1u64..=128, 1u64..=4, 1u64..=80, 1u64..=8, 1u64..=8, 2u64..=2000, any::<bool>()).prop_map(
        |(family, width, wider, layers, kv_heads, groups, words, tied)| ModelShape {
            family,
            hidden: 64 * width,
            intermediate: 64 * width * wider,
            layers,
            heads: kv_heads * groups,
            kv_heads,
            head_dim: 64,
            vocab: 100 * words,
            tied,
            weight_bytes: 2,
        },
    )
}

fn recipes() -> impl Strategy<Value = FineTune> {
    let trainer = prop_oneof![Just(TrainerKind::Builtin), Just(TrainerKind::Peft)];
    let loss = prop_oneof![Just(None), Just(Some(Loss::Hf)), Just(Some(Loss::Fused)), Just(Some(Loss::Chunked))];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (trainer, loss, flags, 1u32..=16, 1u32..=64, 1u32..=128, 1u32..=8, 1u32..=8).prop_map(
        |(trainer, loss, (full, bits8, bits4, checkpointing, dpo, fsdp), batch, lengths, rank, accumulation, gpus)| {
            FineTune {
                trainer: Some(trainer),
                method: if full { Method::Full } else { Method::Lora },
                objective: if dpo { Objective::Dpo } else { Objective::Sft },
                load_in_8bit: bits8,
                load_in_4bit: bits4,
                gradient_checkpointing: checkpointing,
                loss,
                batch_size: batch,
                max_length: 64 * lengths,
                lora_rank: rank,
                gradient_accumulation_steps: accumulation,
                gpus,
                parallelism: if fsdp { Parallelism::Fsdp } else { Parallelism::Ddp },
                ..FineTune::default()
            }
        },
    )
}

fn ours(shape: &ModelShape, recipe: &FineTune) -> Estimate {
    estimate(shape, &Configuration::of(recipe), Some(&Rate { flops: 1e14 }))
}

/// The figures in the order in which none may be larger than the next.
fn in_order(estimate: &Estimate) -> bool {
    let Estimate { allocated_bytes, footprint_bytes, grant_bytes, footprint_low_bytes, footprint_high_bytes, .. } =
        *estimate;
    estimate.breakdown.total() == footprint_bytes
        && allocated_bytes <= footprint_bytes
        && footprint_bytes <= grant_bytes
        && footprint_low_bytes <= footprint_bytes
        && footprint_bytes <= footprint_high_bytes
}

proptest! {
    #[test]
    fn the_parts_add_up_and_the_grant_covers(shape in shapes(), recipe in recipes(), card in 1u64..200) {
        let ours = ours(&shape, &recipe);
        prop_assert!(in_order(&ours), "{ours:?}");
        let published = estimate(&shape, &Configuration::published(&recipe), None);
        prop_assert!(in_order(&published), "{published:?}");
        let within = within(&published, card << 30);
        prop_assert!(in_order(&within), "{within:?}");
        prop_assert!(within == published || within.footprint_high_bytes <= card << 30);
        prop_assert!(within.grant_bytes <= published.grant_bytes);
    }

    #[test]
    fn more_of_anything_never_needs_less(shape in shapes(), recipe in recipes()) {
        for stack in [Configuration::of, Configuration::published] {
            let needs = |shape: &ModelShape, recipe: &FineTune| {
                let estimate = estimate(shape, &stack(recipe), Some(&Rate { flops: 1e14 }));
                (estimate.footprint_bytes, estimate.seconds_per_step.unwrap())
            };
            let (memory, seconds) = needs(&shape, &recipe);
            let larger = [
                (shape.clone(), FineTune { batch_size: recipe.batch_size + 1, ..recipe.clone() }),
                (shape.clone(), FineTune { max_length: recipe.max_length + 64, ..recipe.clone() }),
                (shape.clone(), FineTune { lora_rank: recipe.lora_rank + 1, ..recipe.clone() }),
                (ModelShape { layers: shape.layers + 1, ..shape.clone() }, recipe.clone()),
                (ModelShape { hidden: shape.hidden + 64, ..shape.clone() }, recipe.clone()),
                (ModelShape { intermediate: shape.intermediate + 64, ..shape.clone() }, recipe.clone()),
                (ModelShape { vocab: shape.vocab + 100, ..shape.clone() }, recipe.clone()),
            ];
            for (shape, recipe) in larger {
                let (more_memory, more_seconds) = needs(&shape, &recipe);
                prop_assert!(memory <= more_memory, "{memory} > {more_memory} for {recipe:?} {shape:?}");
                prop_assert!(seconds <= more_seconds);
            }
        }
    }

    #[test]
    fn every_alternative_fits_and_differs(shape in shapes(), recipe in recipes(), share in 0.05..1.0f64) {
        let answer = |recipe: &FineTune| ours(&shape, recipe);
        let asked = answer(&recipe).grant_bytes;
        let budget = (asked as f64 * share) as u64;
        prop_assume!(budget < asked);
        let alternatives = fit::nearest(&recipe, budget, &answer);
        for alternative in &alternatives {
            prop_assert_eq!(&answer(&alternative.recipe), &alternative.estimate);
            prop_assert!(alternative.estimate.grant_bytes <= budget);
            prop_assert!(!alternative.changes_en.is_empty() && !alternative.changes_zh.is_empty());
            prop_assert_ne!(&alternative.recipe, &recipe);
            let examples = |recipe: &FineTune| recipe.batch_size * recipe.gradient_accumulation_steps;
            prop_assert!(examples(&alternative.recipe) >= examples(&recipe), "a step keeps its examples");
            prop_assert_eq!(alternative.recipe.trainer, recipe.trainer);
        }
        // What changes the least comes first, and nothing is offered twice.
        let kept = |alternative: &fit::Alternative| alternative.recipe.max_length == recipe.max_length;
        prop_assert!(alternatives.windows(2).all(|pair| kept(&pair[0]) || !kept(&pair[1]) || recipe.method == Method::Full));
        let texts: std::collections::HashSet<_> = alternatives.iter().map(|a| &a.changes_en).collect();
        prop_assert_eq!(texts.len(), alternatives.len());
    }

    #[test]
    fn the_largest_fits_and_one_more_does_not(shape in shapes(), recipe in recipes(), gib in 1u64..80) {
        let budget = gib << 30;
        let answer = |recipe: &FineTune| ours(&shape, recipe);
        let fits = |recipe: FineTune| answer(&recipe).grant_bytes <= budget;
        let with_length = |max_length| FineTune { max_length, ..recipe.clone() };
        match fit::largest_length(&recipe, budget, &answer) {
            Some(length) => prop_assert!(fits(with_length(length)) && (length >= 131_072 || !fits(with_length(length + 64)))),
            None => prop_assert!(!fits(with_length(64))),
        }
        let with_batch = |batch_size| FineTune { batch_size, ..recipe.clone() };
        match fit::largest_batch(&recipe, budget, &answer) {
            Some(batch) => prop_assert!(fits(with_batch(batch)) && (batch >= 1024 || !fits(with_batch(batch + 1)))),
            None => prop_assert!(!fits(with_batch(1))),
        }
    }
}

/// Peak resident memory that `cargo xtask bench trainer` has measured, see docs/benchmarks.md.
#[test]
fn the_built_in_trainers_measured_peak_is_within_a_tenth() {
    let shape = recipes::catalogue::shape("Qwen/Qwen2.5-0.5B").unwrap();
    let recipe = FineTune { trainer: Some(TrainerKind::Builtin), max_length: 512, ..FineTune::default() };
    let expected = ours(shape, &recipe).footprint_bytes as f64 / 2.01e9;
    assert!((0.9..1.1).contains(&expected), "{expected} of what was measured");
}

#[test]
fn configurations_of_other_years_are_read() {
    let old = r#"{"model_type":"qwen","hidden_size":4096,"intermediate_size":22016,"num_hidden_layers":32,
        "num_attention_heads":32,"kv_channels":128,"vocab_size":151936,"tie_word_embeddings":false,"bf16":true}"#;
    assert_eq!(ModelShape::parse(old).unwrap().parameters(), 7_721_324_544);
    let nested = r#"{"model_type":"some_vision_model","tie_word_embeddings":true,"text_config":{"model_type":"qwen3",
        "hidden_size":1024,"intermediate_size":3072,"num_hidden_layers":28,"num_attention_heads":16,
        "num_key_value_heads":8,"head_dim":128,"vocab_size":151936,"dtype":"float32"}}"#;
    let shape = ModelShape::parse(nested).unwrap();
    assert_eq!((shape.parameters(), shape.weight_bytes), (596_049_920, 4));
    assert_eq!(Some(&ModelShape { weight_bytes: 2, ..shape }), recipes::catalogue::shape("Qwen/Qwen3-0.6B"));
}

#[test]
fn what_is_no_known_model_is_told() {
    let config = |changes: &[(&str, serde_json::Value)]| {
        let mut config = serde_json::json!({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256});
        for (field, value) in changes {
            config[field] = value.clone();
        }
        ModelShape::parse(&config.to_string())
    };
    assert_eq!(config(&[]).unwrap().parameters(), 8_030_261_248);
    assert!(matches!(config(&[("model_type", "bert".into())]), Err(ShapeError::Family { found }) if found == "bert"));
    for (field, value) in [
        ("hidden_size", serde_json::Value::Null),
        ("hidden_size", 0.into()),
        ("vocab_size", (-1).into()),
        ("vocab_size", 1e300.into()),
        ("num_hidden_layers", 9_999_999.into()),
        ("num_attention_heads", 9_999_999.into()),
        ("num_key_value_heads", 7.into()),
        ("head_dim", 9_000_000.into()),
        ("intermediate_size", "large".into()),
    ] {
        let error = config(&[(field, value.clone())]).expect_err(field);
        assert!(matches!(error, ShapeError::Field { .. }), "{field} {value}: {error}");
        assert!(!error.message_zh().is_ascii());
    }
    assert!(matches!(ModelShape::parse("[]"), Err(ShapeError::Damaged { .. })));
    assert!(matches!(ModelShape::parse("{"), Err(ShapeError::Damaged { .. })));
    let missing = std::path::Path::new("/nowhere/at/all");
    assert!(matches!(ModelShape::load(missing), Err(ShapeError::Unreadable { .. })));
}
