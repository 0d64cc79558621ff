//! From a request to a recipe, and from a recipe back to a request that asks for it.

use api_types::{CommandRequest, FineTunePatch, FineTuneRequest, LoraTargets};
use axum::http::StatusCode;
use domain::{Command, Condition, Dependency, FineTune, InvalidTaskId, Loss, Method, Priority, Terms, TrainerKind};
use jiff::Timestamp;
use recipes::Preset;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::{ApiError, Result};

const MOST_RETRIES: u32 = 100;

pub fn command(request: CommandRequest) -> Command {
    let CommandRequest { argv, cwd, env, memory_bytes, gpus, share } = request;
    Command { argv, cwd, env, memory_bytes, gpus: gpus.unwrap_or(1), share }
}

/// With the preset's values, then the defaults, for what the request leaves out.
pub fn fine_tune(request: FineTuneRequest) -> Result<FineTune> {
    let mut recipe =
        FineTune { model_name: request.model_name, dataset_file: request.dataset_file, ..FineTune::default() };
    if let Some(name) = &request.preset {
        let preset = Preset::find(name).ok_or_else(|| {
            let names: Vec<&str> = recipes::presets().iter().map(|preset| preset.name).collect();
            let names = names.join(", ");
            ApiError::invalid(
                format!("preset {name:?} is none of {names}"),
                format!("没有预设 {name:?}；可用的预设：{names}"),
            )
        })?;
        preset.apply(&mut recipe);
    }
    let set = |field: &mut u32, value: Option<u32>| *field = value.unwrap_or(*field);
    set(&mut recipe.num_epochs, request.num_epochs);
    set(&mut recipe.batch_size, request.batch_size);
    set(&mut recipe.gradient_accumulation_steps, request.gradient_accumulation_steps);
    set(&mut recipe.max_length, request.max_length);
    set(&mut recipe.lora_rank, request.lora_rank);
    set(&mut recipe.gpus, request.gpus);
    let set = |field: &mut f64, value: Option<f64>| *field = value.unwrap_or(*field);
    set(&mut recipe.learning_rate, request.learning_rate);
    set(&mut recipe.lora_alpha, request.lora_alpha);
    set(&mut recipe.warmup_ratio, request.warmup_ratio);
    set(&mut recipe.weight_decay, request.weight_decay);
    set(&mut recipe.max_grad_norm, request.max_grad_norm);
    set(&mut recipe.validation_split, request.validation_split);
    let set = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
    set(&mut recipe.load_in_8bit, request.load_in_8bit);
    set(&mut recipe.load_in_4bit, request.load_in_4bit);
    set(&mut recipe.allow_quantization, request.allow_quantization);
    set(&mut recipe.gradient_checkpointing, request.gradient_checkpointing);
    recipe.seed = request.seed.unwrap_or(recipe.seed);
    recipe.checkpoint_every_steps = request.checkpoint_every_steps.or(recipe.checkpoint_every_steps);
    recipe.keep_checkpoints = request.keep_checkpoints.or(recipe.keep_checkpoints);
    recipe.trainer = word::<Trainer>("trainer", request.trainer)?.map(TrainerKind::from);
    recipe.method = word("method", request.method)?.unwrap_or(recipe.method);
    recipe.objective = word("objective", request.objective)?.unwrap_or(recipe.objective);
    recipe.schedule = word("schedule", request.schedule)?.unwrap_or(recipe.schedule);
    recipe.loss = word("loss", request.loss)?;
    recipe.parallelism = word("parallelism", request.parallelism)?.unwrap_or(recipe.parallelism);
    if let Some(targets) = request.lora_targets {
        recipe.lora_targets = lora_targets(targets)?;
    }
    Ok(recipe)
}

/// The trainers that a fine-tune can ask for.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trainer {
    Builtin,
    Peft,
}

impl From<Trainer> for TrainerKind {
    fn from(trainer: Trainer) -> TrainerKind {
        match trainer {
            Trainer::Builtin => TrainerKind::Builtin,
            Trainer::Peft => TrainerKind::Peft,
        }
    }
}

/// One of the words that serde knows for `T`.
fn word<T: DeserializeOwned>(field: &str, word: Option<String>) -> Result<Option<T>> {
    let parse = |word| serde_json::from_value(Value::String(word));
    word.map(parse)
        .transpose()
        .map_err(|error| ApiError::invalid(format!("{field}: {error}"), format!("{field} 的值无法使用：{error}")))
}

fn lora_targets(targets: LoraTargets) -> Result<Vec<String>> {
    match targets {
        LoraTargets::Names(names) => Ok(names),
        LoraTargets::Word(word) => match word.as_str() {
            "all" => Ok(Vec::new()),
            "qv" => Ok(["q_proj", "v_proj"].map(String::from).to_vec()),
            _ => Err(ApiError::invalid(
                format!("lora_targets: {word:?} is none of all, qv; or list the projections: [\"q_proj\", \"v_proj\"]"),
                format!("lora_targets 的值 {word:?} 无法使用；可用 all、qv，或列出投影层：[\"q_proj\", \"v_proj\"]"),
            )),
        },
    }
}

/// The request that asks for this recipe, whatever the defaults are.
pub fn request(recipe: &FineTune) -> FineTuneRequest {
    FineTuneRequest {
        model_name: recipe.model_name.clone(),
        dataset_file: recipe.dataset_file.clone(),
        preset: None,
        trainer: recipe.trainer.map(|trainer| trainer.as_str().into()),
        method: Some(said(recipe.method)),
        objective: Some(said(recipe.objective)),
        num_epochs: Some(recipe.num_epochs),
        batch_size: Some(recipe.batch_size),
        gradient_accumulation_steps: Some(recipe.gradient_accumulation_steps),
        learning_rate: Some(recipe.learning_rate),
        max_length: Some(recipe.max_length),
        load_in_8bit: Some(recipe.load_in_8bit),
        load_in_4bit: Some(recipe.load_in_4bit),
        allow_quantization: Some(recipe.allow_quantization),
        gradient_checkpointing: Some(recipe.gradient_checkpointing),
        loss: recipe.loss.map(said),
        lora_rank: Some(recipe.lora_rank),
        lora_alpha: Some(recipe.lora_alpha),
        lora_targets: Some(match &recipe.lora_targets[..] {
            [] => LoraTargets::Word("all".into()),
            names => LoraTargets::Names(names.to_vec()),
        }),
        warmup_ratio: Some(recipe.warmup_ratio),
        schedule: Some(said(recipe.schedule)),
        weight_decay: Some(recipe.weight_decay),
        max_grad_norm: Some(recipe.max_grad_norm),
        seed: Some(recipe.seed),
        validation_split: Some(recipe.validation_split),
        checkpoint_every_steps: recipe.checkpoint_every_steps,
        keep_checkpoints: recipe.keep_checkpoints,
        gpus: Some(recipe.gpus),
        parallelism: Some(said(recipe.parallelism)),
    }
}

/// What turns a request for the one recipe into one for the other.
pub fn patch(from: &FineTune, to: &FineTune) -> FineTunePatch {
    fn changed<T: PartialEq>(from: T, to: T) -> Option<T> {
        (from != to).then_some(to)
    }
    FineTunePatch {
        trainer: changed(from.trainer, to.trainer).flatten().map(|trainer| trainer.as_str().into()),
        method: changed(from.method, to.method).map(said::<Method>),
        batch_size: changed(from.batch_size, to.batch_size),
        gradient_accumulation_steps: changed(from.gradient_accumulation_steps, to.gradient_accumulation_steps),
        max_length: changed(from.max_length, to.max_length),
        load_in_8bit: changed(from.load_in_8bit, to.load_in_8bit),
        load_in_4bit: changed(from.load_in_4bit, to.load_in_4bit),
        gradient_checkpointing: changed(from.gradient_checkpointing, to.gradient_checkpointing),
        // The trainers' own choice is to go in chunks.
        loss: changed(from.loss, to.loss).map(|loss| said(loss.unwrap_or(Loss::Chunked))),
        lora_rank: changed(from.lora_rank, to.lora_rank),
        gpus: changed(from.gpus, to.gpus),
        parallelism: changed(from.parallelism, to.parallelism).map(said),
    }
}

/// The word that serde has for a unit variant.
fn said<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => unreachable!("a word, not {other:?}"),
    }
}

/// `low`, `normal`, `high` or `urgent`.
pub fn priority(word: &str) -> Result<Priority> {
    match word {
        "normal" => Ok(Priority::Normal),
        "low" => Ok(Priority::Low),
        "high" => Ok(Priority::High),
        "urgent" => Ok(Priority::Urgent),
        other => Err(ApiError::invalid(
            format!("priority is {other:?}; use low, normal, high or urgent"),
            format!("priority 为 {other:?}；请用 low、normal、high 或 urgent"),
        )),
    }
}

/// `finetune_…` or `finetune_…,any`.
pub fn dependency(text: &str) -> Result<Dependency> {
    let (task, condition) = text.split_once(',').unwrap_or((text, "ok"));
    let condition = match condition {
        "ok" => Condition::Ok,
        "any" => Condition::Any,
        other => {
            return Err(ApiError::invalid(
                format!("after has the condition {other:?}; use ok or any"),
                format!("after 的条件 {other:?} 无法识别；请用 ok 或 any"),
            ));
        }
    };
    let task = task.parse().map_err(|error: InvalidTaskId| no_task_id("after", task, &error))?;
    Ok(Dependency { task, condition })
}

pub fn no_task_id(field: &str, text: &str, error: &InvalidTaskId) -> ApiError {
    ApiError::invalid(
        format!("{field}: {error}"),
        format!("{field} 的值 {text:?} 不是任务 id；任务 id 形如 finetune_1760000000_1"),
    )
}

/// When a task may start and should have ended (RFC 3339), and how often it is tried again.
pub fn terms(start_after: Option<&str>, deadline: Option<&str>, retries: Option<u32>, now: Timestamp) -> Result<Terms> {
    let not_before = start_after.map(|text| time("start_after", text)).transpose()?;
    let deadline = deadline.map(|text| time("deadline", text)).transpose()?;
    if let Some(deadline) = deadline {
        let earliest = not_before.map_or(now, |at| at.max(now));
        if deadline <= earliest {
            let (en, zh) = match earliest == now {
                true => ("has passed".to_owned(), "已经过去".to_owned()),
                false => (format!("is before {earliest}, when it may start"), format!("早于其最早启动时间 {earliest}")),
            };
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "deadline-passed",
                format!("the deadline {deadline} {en}"),
            )
            .zh(format!("截止时间 {deadline} {zh}。请给出更晚的时间，或不设截止时间"))
            .next("Give a later deadline, or leave it out"));
        }
    }
    if let Some(retries) = retries.filter(|retries| *retries > MOST_RETRIES) {
        return Err(ApiError::invalid(
            format!("retries is {retries}; use 0 to {MOST_RETRIES}, or leave it out"),
            format!("retries 为 {retries}；请用 0 到 {MOST_RETRIES}，或不填"),
        ));
    }
    Ok(Terms { not_before, deadline, retries, ..Terms::default() })
}

fn time(field: &str, text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_| {
        ApiError::invalid(
            format!("{field} is {text:?}; write a time with its zone, such as 2026-01-31T22:00:00+08:00"),
            format!("{field} 的值 {text:?} 不是时间；请写明时区，例如 2026-01-31T22:00:00+08:00"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Objective, Parallelism, Schedule};

    fn unusual() -> FineTune {
        FineTune {
            model_name: "m".into(),
            dataset_file: "d".into(),
            trainer: Some(TrainerKind::Peft),
            method: Method::Full,
            objective: Objective::Dpo,
            num_epochs: 9,
            batch_size: 8,
            gradient_accumulation_steps: 7,
            learning_rate: 0.5,
            max_length: 77,
            load_in_8bit: false,
            load_in_4bit: true,
            allow_quantization: true,
            gradient_checkpointing: false,
            loss: Some(Loss::Chunked),
            lora_rank: 3,
            lora_alpha: 4.0,
            lora_targets: vec!["q_proj".into()],
            warmup_ratio: 0.25,
            schedule: Schedule::Linear,
            weight_decay: 0.125,
            max_grad_norm: 2.0,
            seed: 6,
            validation_split: 0.375,
            checkpoint_every_steps: Some(5),
            keep_checkpoints: Some(7),
            gpus: 2,
            parallelism: Parallelism::Fsdp,
        }
    }

    #[test]
    fn a_request_and_its_recipe_say_the_same() {
        let recipe = unusual();
        let round = fine_tune(request(&recipe)).unwrap();
        assert_eq!(round, recipe);
        let plain = FineTune { model_name: "m".into(), dataset_file: "d".into(), ..FineTune::default() };
        assert_eq!(fine_tune(request(&plain)).unwrap(), plain);
    }

    #[test]
    fn a_patch_takes_a_request_from_one_recipe_to_the_other() {
        let asked = unusual();
        let fits = FineTune {
            batch_size: 1,
            gradient_accumulation_steps: 56,
            max_length: 64,
            gradient_checkpointing: true,
            method: Method::Lora,
            loss: Some(Loss::Fused),
            gpus: 1,
            ..asked.clone()
        };
        let mut request = request(&asked);
        let change = patch(&asked, &fits);
        assert_eq!((change.lora_rank, change.load_in_4bit), (None, None), "only what differs");
        change.apply(&mut request);
        assert_eq!(fine_tune(request).unwrap(), fits);
    }

    #[test]
    fn a_deadline_comes_after_now_and_after_the_earliest_start() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let terms = |start, deadline| terms(start, deadline, Some(2), now);
        let (eight, nine) = ("2026-01-01T20:00:00+08:00", "2026-01-01T21:00:00+08:00");
        let given = terms(Some(nine), Some("2026-01-01T14:00:00Z")).unwrap();
        assert_eq!(given.not_before, Some("2026-01-01T13:00:00Z".parse().unwrap()));
        assert_eq!((given.retries, given.retried), (Some(2), 0));
        let passed = terms(None, Some(eight)).unwrap_err();
        assert_eq!(passed.code, "deadline-passed");
        assert!(passed.detail.ends_with("has passed") && passed.next_step.is_some(), "{}", passed.detail);
        let early = terms(Some("2026-01-02T00:00:00Z"), Some(nine)).unwrap_err();
        assert!(early.detail.contains("before 2026-01-02"), "{}", early.detail);
        assert!(terms(Some(eight), None).is_ok(), "a start that has come is now");
        assert!(terms(Some("22:00"), None).unwrap_err().detail.contains("+08:00"));
        assert!(super::terms(None, None, Some(101), now).is_err());
    }

    #[test]
    fn words_that_mean_nothing_are_answered_with_those_that_do() {
        let refusal = |change: fn(&mut FineTuneRequest)| {
            let mut request = request(&FineTune::default());
            change(&mut request);
            fine_tune(request).unwrap_err().detail
        };
        let detail = refusal(|request| request.trainer = Some("command".into()));
        assert!(detail.contains("trainer") && detail.contains("`builtin` or `peft`"), "{detail}");
        let detail = refusal(|request| request.loss = Some("triton".into()));
        assert!(detail.contains("loss") && detail.contains("`chunked`"), "{detail}");
        let detail = refusal(|request| request.lora_targets = Some(LoraTargets::Word("some".into())));
        assert!(detail.contains("lora_targets") && detail.contains("qv"), "{detail}");
    }
}
