use std::path::Path;

use domain::{Command, FineTune, Parallelism, Recipe, TrainerKind};

use crate::choose::beyond_builtin;

/// A field of a recipe that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidField {
    /// Name of the field in the recipe.
    pub field: &'static str,
    /// What is wrong and what to use instead.
    pub message: String,
    pub message_zh: String,
}

/// Finds the first field that no trainer could work with. Looks at the recipe only, not at files or devices.
pub fn validate(recipe: &Recipe) -> Result<(), InvalidField> {
    match recipe {
        Recipe::FineTune(fine_tune) => validate_fine_tune(fine_tune),
        Recipe::Command(command) => validate_command(command),
    }
}

fn validate_fine_tune(recipe: &FineTune) -> Result<(), InvalidField> {
    required("model_name", &recipe.model_name, ("选择一个模型", "choose a model"))?;
    required("dataset_file", &recipe.dataset_file, ("先上传或选择数据集", "upload or choose a data set first"))?;

    whole("num_epochs", recipe.num_epochs, 1, 1000)?;
    whole("batch_size", recipe.batch_size, 1, 1024)?;
    whole("gradient_accumulation_steps", recipe.gradient_accumulation_steps, 1, 4096)?;
    whole("max_length", recipe.max_length, 16, 131_072)?;
    whole("lora_rank", recipe.lora_rank, 1, 512)?;
    real("learning_rate", recipe.learning_rate, Bound::Above(0.0), 1.0)?;
    real("lora_alpha", recipe.lora_alpha, Bound::Above(0.0), 4096.0)?;
    real("warmup_ratio", recipe.warmup_ratio, Bound::From(0.0), 0.9)?;
    real("weight_decay", recipe.weight_decay, Bound::From(0.0), 1.0)?;
    real("max_grad_norm", recipe.max_grad_norm, Bound::From(0.0), 1e6)?;
    real("validation_split", recipe.validation_split, Bound::From(0.0), 0.5)?;
    whole("gpus", recipe.gpus, 1, 64)?;
    consistent(recipe)?;
    if recipe.checkpoint_every_steps == Some(0) {
        return Err(invalid(
            "checkpoint_every_steps",
            "checkpoint_every_steps 为 0；请使用 1 或更大的整数，或留空".into(),
            "checkpoint_every_steps is 0; use 1 or more, or leave it out".into(),
        ));
    }
    recipe.keep_checkpoints.map_or(Ok(()), |kept| whole("keep_checkpoints", kept, 1, 1000))
}

/// Fields that do not go together.
fn consistent(recipe: &FineTune) -> Result<(), InvalidField> {
    if recipe.trainer == Some(TrainerKind::Command) {
        return Err(invalid(
            "trainer",
            "trainer 为 command，但它不训练微调任务；请使用 builtin、peft，或留空".into(),
            "trainer is command, which trains no fine-tunes; use builtin or peft, or leave it out".into(),
        ));
    }
    if recipe.trainer == Some(TrainerKind::Builtin)
        && let Some((zh, en)) = beyond_builtin(recipe)
    {
        return Err(invalid(
            "trainer",
            format!("trainer 为 builtin，但内置训练器不支持{zh}；请使用 peft，或留空"),
            format!("trainer is builtin, which does not do {en}; use peft, or leave it out"),
        ));
    }
    if recipe.lora_targets.iter().any(|name| name.is_empty() || name.contains('\0')) {
        return Err(invalid(
            "lora_targets",
            "lora_targets 中有空名称；请填写 q_proj 这样的模块名，或留空以使用全部投影层".into(),
            "lora_targets has an empty name; give modules such as q_proj, or leave it out to take all projections"
                .into(),
        ));
    }
    if recipe.parallelism == Parallelism::Fsdp && recipe.gpus > 1 && recipe.quantization_bits().is_some() {
        return Err(invalid(
            "parallelism",
            "parallelism 为 fsdp，但 FSDP 不能切分量化后的模型；请使用 ddp，或关闭 load_in_8bit 和 load_in_4bit".into(),
            "parallelism is fsdp, which cannot share out quantised weights; use ddp, or switch load_in_8bit and load_in_4bit off".into(),
        ));
    }
    Ok(())
}

fn validate_command(command: &Command) -> Result<(), InvalidField> {
    if command.argv.first().is_none_or(String::is_empty) {
        return Err(invalid(
            "argv",
            "没有要运行的程序；argv 的第一项应为程序名".into(),
            "there is no program to run; give it as the first item of argv".into(),
        ));
    }
    for argument in &command.argv {
        no_nul("argv", argument)?;
    }
    whole("gpus", command.gpus, 1, 64)?;
    if command.memory_bytes == Some(0) {
        return Err(invalid(
            "memory_bytes",
            "memory_bytes 为 0；请填写所需的显存字节数，或留空以独占设备".into(),
            "memory_bytes is 0; give the bytes it needs, or leave it out to have the device alone".into(),
        ));
    }
    no_nul("cwd", &command.cwd)?;
    if !Path::new(&command.cwd).is_absolute() {
        let cwd = &command.cwd;
        return Err(invalid(
            "cwd",
            format!("工作目录 {cwd:?} 不是绝对路径；请以 / 开头"),
            format!("the working directory {cwd:?} is not absolute; start it with /"),
        ));
    }
    for (name, value) in &command.env {
        if name.is_empty() || name.contains('=') {
            return Err(invalid(
                "env",
                format!("{name:?} 不能作为环境变量名；名称不能为空，也不能含有 ="),
                format!("{name:?} cannot name a variable; a name is not empty and has no ="),
            ));
        }
        no_nul("env", name)?;
        no_nul("env", value)?;
    }
    Ok(())
}

enum Bound {
    From(f64),
    Above(f64),
}

fn required(field: &'static str, value: &str, (zh, en): (&str, &str)) -> Result<(), InvalidField> {
    if value.trim().is_empty() {
        return Err(invalid(field, format!("{field} 为空；请{zh}"), format!("{field} is empty; {en}")));
    }
    no_nul(field, value)
}

fn whole(field: &'static str, value: u32, least: u32, most: u32) -> Result<(), InvalidField> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(
        field,
        format!("{field} 为 {value}；请使用 {least} 到 {most} 之间的整数"),
        format!("{field} is {value}; use a whole number from {least} to {most}"),
    ))
}

fn real(field: &'static str, value: f64, least: Bound, most: f64) -> Result<(), InvalidField> {
    let (in_range, zh, en) = match least {
        Bound::From(least) => {
            ((least..=most).contains(&value), format!(" {least} 到 {most}"), format!("from {least} to {most}"))
        }
        Bound::Above(least) => (
            value > least && value <= most,
            format!("大于 {least} 且不超过 {most}"),
            format!("above {least} and up to {most}"),
        ),
    };
    if in_range {
        return Ok(());
    }
    Err(invalid(
        field,
        format!("{field} 为 {value}；请使用{zh} 的数"),
        format!("{field} is {value}; use a number {en}"),
    ))
}

fn no_nul(field: &'static str, value: &str) -> Result<(), InvalidField> {
    if value.contains('\0') {
        return Err(invalid(
            field,
            format!("{field} 含有 NUL 字节；请删除"),
            format!("{field} has a NUL byte in it; remove it"),
        ));
    }
    Ok(())
}

fn invalid(field: &'static str, message_zh: String, message: String) -> InvalidField {
    InvalidField { field, message, message_zh }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Method, Objective};

    fn fine_tune() -> FineTune {
        FineTune { model_name: "org/model".into(), dataset_file: "/data.jsonl".into(), ..FineTune::default() }
    }

    fn refused(recipe: Recipe) -> InvalidField {
        validate(&recipe).expect_err("must be refused")
    }

    #[test]
    fn the_defaults_are_fine_and_every_range_has_two_ends() {
        validate(&Recipe::FineTune(fine_tune())).unwrap();
        type Change = fn(&mut FineTune);
        let refusals: [(&str, &[Change]); 17] = [
            ("model_name", &[|r| r.model_name = " ".into(), |r| r.model_name = "a\0b".into()]),
            ("dataset_file", &[|r| r.dataset_file.clear()]),
            ("num_epochs", &[|r| r.num_epochs = 0, |r| r.num_epochs = 1001]),
            ("batch_size", &[|r| r.batch_size = 0, |r| r.batch_size = 1025]),
            ("gradient_accumulation_steps", &[|r| r.gradient_accumulation_steps = 0]),
            ("max_length", &[|r| r.max_length = 15, |r| r.max_length = 131_073]),
            ("lora_rank", &[|r| r.lora_rank = 0, |r| r.lora_rank = 513]),
            (
                "learning_rate",
                &[
                    |r| r.learning_rate = 0.0,
                    |r| r.learning_rate = -1e-4,
                    |r| r.learning_rate = 1.1,
                    |r| r.learning_rate = f64::NAN,
                    |r| r.learning_rate = f64::INFINITY,
                ],
            ),
            ("warmup_ratio", &[|r| r.warmup_ratio = -0.1, |r| r.warmup_ratio = 1.0]),
            ("max_grad_norm", &[|r| r.max_grad_norm = -1.0, |r| r.max_grad_norm = f64::NAN]),
            ("validation_split", &[|r| r.validation_split = 0.6]),
            ("checkpoint_every_steps", &[|r| r.checkpoint_every_steps = Some(0)]),
            ("keep_checkpoints", &[|r| r.keep_checkpoints = Some(0), |r| r.keep_checkpoints = Some(1001)]),
            ("gpus", &[|r| r.gpus = 0, |r| r.gpus = 65]),
            (
                "trainer",
                &[
                    |r| r.trainer = Some(TrainerKind::Command),
                    |r| (r.trainer, r.method) = (Some(TrainerKind::Builtin), Method::Full),
                    |r| (r.trainer, r.objective) = (Some(TrainerKind::Builtin), Objective::Dpo),
                    |r| (r.trainer, r.load_in_4bit) = (Some(TrainerKind::Builtin), true),
                    |r| (r.trainer, r.gpus) = (Some(TrainerKind::Builtin), 2),
                ],
            ),
            ("lora_targets", &[|r| r.lora_targets = vec![String::new()]]),
            ("parallelism", &[|r| (r.gpus, r.parallelism) = (2, Parallelism::Fsdp)]),
        ];
        for (field, changes) in refusals {
            for change in changes {
                let mut recipe = fine_tune();
                change(&mut recipe);
                let refusal = refused(Recipe::FineTune(recipe));
                assert_eq!(refusal.field, field, "{refusal}");
                assert!(refusal.message.contains(field) && refusal.message_zh.contains(field));
            }
        }
        let refusal = refused(Recipe::FineTune(FineTune { learning_rate: 2.0, ..fine_tune() }));
        assert_eq!(refusal.message, "learning_rate is 2; use a number above 0 and up to 1");
        assert_eq!(refusal.message_zh, "learning_rate 为 2；请使用大于 0 且不超过 1 的数");
        // What the built-in trainer cannot do, the other can, and 8 bits are but a wish.
        let builtin = FineTune { trainer: Some(TrainerKind::Builtin), ..fine_tune() };
        validate(&Recipe::FineTune(builtin)).unwrap();
        let peft = FineTune {
            trainer: Some(TrainerKind::Peft),
            method: Method::Full,
            gpus: 8,
            parallelism: Parallelism::Fsdp,
            ..fine_tune()
        };
        validate(&Recipe::FineTune(peft)).unwrap();
    }

    #[test]
    fn commands_must_be_possible_to_execute() {
        let command = |argv: &[&str], cwd: &str, env: &[(&str, &str)]| {
            Recipe::Command(Command {
                argv: argv.iter().map(|argument| argument.to_string()).collect(),
                cwd: cwd.into(),
                env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                memory_bytes: None,
                gpus: 1,
                share: false,
            })
        };
        validate(&command(&["python", "", "a b"], "/work", &[("A", ""), ("B", "x=y")])).unwrap();
        let with = |gpus, memory_bytes| match command(&["x"], "/", &[]) {
            Recipe::Command(command) => Recipe::Command(Command { gpus, memory_bytes, ..command }),
            other => other,
        };
        validate(&with(2, Some(1))).unwrap();
        assert_eq!(refused(with(0, None)).field, "gpus");
        assert_eq!(refused(with(1, Some(0))).field, "memory_bytes");
        assert_eq!(refused(command(&[], "/", &[])).field, "argv");
        assert_eq!(refused(command(&[""], "/", &[])).field, "argv");
        assert_eq!(refused(command(&["a", "b\0"], "/", &[])).field, "argv");
        assert_eq!(refused(command(&["a"], "work", &[])).field, "cwd");
        assert_eq!(refused(command(&["a"], "", &[])).field, "cwd");
        assert_eq!(refused(command(&["a"], "/\0", &[])).field, "cwd");
        assert_eq!(refused(command(&["a"], "/", &[("", "x")])).field, "env");
        assert_eq!(refused(command(&["a"], "/", &[("A=B", "x")])).field, "env");
        assert_eq!(refused(command(&["a"], "/", &[("A", "\0")])).field, "env");
    }
}
