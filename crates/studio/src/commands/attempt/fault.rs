//! Why a recipe cannot be trained, or its training failed: one sentence in each language, for metrics.jsonl and for the
//! terminal.

use std::{
    io,
    path::{Path, PathBuf},
};

use recipes::{dataset::DatasetError, hub::HubError, models::ModelError, peft::PeftError};
use serde_json::{Value, json};
use trainer::TrainError;

use crate::{error::CliError, text::text};

pub enum Fault {
    File {
        path: PathBuf,
        error: io::Error,
    },
    Recipe {
        path: PathBuf,
        reason: Both,
    },
    /// What of the recipe only the other trainer does.
    NotBuiltIn(Both),
    Model(ModelError),
    Hub(HubError),
    Peft(PeftError),
    Data {
        path: PathBuf,
        error: DatasetError,
    },
    Trainer(TrainError),
}

/// Chinese and English, in the order of [`text`].
pub type Both = [String; 2];

impl Fault {
    pub fn code(&self) -> &str {
        match self {
            Fault::File { .. } => "file-error",
            Fault::Recipe { .. } => "recipe-invalid",
            Fault::NotBuiltIn(_) => "needs-peft-trainer",
            Fault::Model(error) => error.code(),
            Fault::Hub(error) => error.code(),
            Fault::Peft(error) => error.code(),
            Fault::Data { error, .. } => error.code,
            Fault::Trainer(error) => code(error),
        }
    }

    fn sentence(&self) -> Both {
        match self {
            Fault::File { path, error } => {
                let path = path.display();
                [format!("无法使用 {path}：{error}"), format!("{path} cannot be used: {error}")]
            }
            Fault::Recipe { path, reason: [zh, en] } => {
                let path = path.display();
                [format!("{path} 不是有效的配方：{zh}"), format!("{path} is not a valid recipe: {en}")]
            }
            Fault::NotBuiltIn([zh, en]) => {
                [format!("内置训练器不支持{zh}"), format!("the built-in trainer does not do {en}")]
            }
            Fault::Model(error) => [error.message_zh(), error.to_string()],
            Fault::Hub(error) => [error.message_zh(), error.to_string()],
            Fault::Peft(error) => [error.message_zh(), error.to_string()],
            Fault::Data { path, error } => {
                let path = path.display();
                [format!("{path}：{}", error.message_zh()), format!("{path}: {error}")]
            }
            Fault::Trainer(error) => [error.message_zh(), error.to_string()],
        }
    }

    /// Those of the libraries have it in their sentence.
    fn next_step(&self) -> Option<[&'static str; 2]> {
        match self {
            Fault::File { error, .. } => Some(match error.kind() {
                io::ErrorKind::NotFound => ["请检查路径", "check the path"],
                _ => ["请检查该路径的权限", "check that you have permission"],
            }),
            Fault::Recipe { .. } => {
                Some(["字段说明：sage task submit --help", "sage task submit --help explains the fields"])
            }
            Fault::NotBuiltIn(_) => Some([
                "请使用 peft 训练器（配方中的 \"trainer\": \"peft\"），或改为 LoRA 监督微调",
                "use the trainer peft (\"trainer\": \"peft\" in the recipe), or LoRA on answers",
            ]),
            _ => None,
        }
    }

    /// Its line of metrics.jsonl.
    pub fn event(&self) -> Value {
        let [zh, en] = self.sentence();
        let (message, message_zh) = match self.next_step() {
            Some([next_zh, next]) => (format!("{en}; {next}"), format!("{zh}；{next_zh}")),
            None => (en, zh),
        };
        json!({ "event": "error", "code": self.code(), "message": message, "message_zh": message_zh })
    }
}

impl From<Fault> for CliError {
    fn from(fault: Fault) -> CliError {
        let [zh, en] = fault.sentence();
        let error = CliError::new(fault.code(), text(zh, en));
        match fault.next_step() {
            Some([zh, en]) => error.next(text(zh, en)),
            None => error,
        }
    }
}

pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Fault {
    move |error| Fault::File { path: path.into(), error }
}

pub fn code(error: &TrainError) -> &'static str {
    match error {
        TrainError::MissingFile { .. } => "model-file-missing",
        TrainError::Read { .. } => "file-unreadable",
        TrainError::Write { .. } => "file-unwritable",
        TrainError::DiskFull { .. } => "disk-full",
        TrainError::BadFile { .. } => "model-file-damaged",
        TrainError::UnsupportedArchitecture { .. } => "architecture-not-supported",
        TrainError::UnsupportedFeature { .. } => "model-feature-not-supported",
        TrainError::MissingTensor { .. } => "model-tensor-missing",
        TrainError::TensorShape { .. } => "model-tensor-shape",
        TrainError::TensorType { .. } => "model-tensor-type",
        TrainError::AdapterMismatch { .. } => "adapter-mismatch",
        TrainError::Template { .. } => "chat-template",
        TrainError::Tokenizer { .. } => "tokenizer",
        TrainError::NoExamples => "dataset-empty",
        TrainError::NoAnswer { .. } => "dataset-no-answer",
        TrainError::NothingFits { .. } => "max-length-too-short",
        TrainError::BadSetting { .. } => "setting-invalid",
        TrainError::Diverged { .. } => "loss-diverged",
        TrainError::CheckpointMismatch { .. } => "checkpoint-mismatch",
        TrainError::BackendUnavailable { .. } => "backend-unavailable",
        TrainError::OutOfHostMemory { .. } => "out-of-host-memory",
        TrainError::OutOfDeviceMemory { .. } => "out-of-device-memory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_says_it_in_both_languages() {
        let fault = Fault::Trainer(TrainError::OutOfHostMemory { needed: 3 << 30, available: 1 << 29 });
        let event = fault.event();
        assert_eq!(event["code"], "out-of-host-memory");
        let en = event["message"].as_str().unwrap();
        assert!(en.starts_with("the training needs at least 3.0 GiB, and 512 MiB of main memory is free. Use"), "{en}");
        let zh = event["message_zh"].as_str().unwrap();
        assert!(zh.starts_with("训练至少需要 3.0 GiB 内存，而空闲的只有 512 MiB。请"), "{zh}");

        let event = Fault::NotBuiltIn(["全参数微调".into(), "full fine-tuning".into()]).event();
        let en = "the built-in trainer does not do full fine-tuning; use the trainer peft";
        assert!(event["message"].as_str().unwrap().starts_with(en), "{event}");
        assert!(
            event["message_zh"].as_str().unwrap().starts_with("内置训练器不支持全参数微调；请使用 peft"),
            "{event}"
        );
    }
}
