//! Everything that can go wrong, each with what to do next.

use std::io;
use std::path::PathBuf;

/// What to do, in English and Chinese.
pub type Hint = [&'static str; 2];

/// Why training or generation ended without a result. Displayed in English; [`TrainError::message_zh`] is the Chinese.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{path} is missing: {}", .hint[0])]
    MissingFile { path: PathBuf, hint: Hint },

    #[error("cannot read {path}: {source}. Check that the file exists and that you may read it")]
    Read { path: PathBuf, source: io::Error },

    #[error("cannot write {path}: {source}. Check that the folder exists and that you may write to it")]
    Write { path: PathBuf, source: io::Error },

    #[error("no space left on the disk of {path}. Free some space, or choose another output folder, then resume")]
    DiskFull { path: PathBuf },

    #[error("{path} is not valid: {reason}. Download the file again, or export the model again")]
    BadFile { path: PathBuf, reason: String },

    #[error("the model architecture {found:?} is not supported. Use a model with one of: {supported}")]
    UnsupportedArchitecture { found: String, supported: String },

    #[error("the model needs {}, which this trainer does not support. {}", .feature[0], .hint[0])]
    UnsupportedFeature { feature: [String; 2], hint: Hint },

    #[error("the weights have no tensor {name:?}. Check that the model folder is complete and not only an adapter")]
    MissingTensor { name: String },

    #[error(
        "tensor {name:?} has shape {found:?} where {expected:?} is expected. \
         Check that config.json and the weights belong to the same model"
    )]
    TensorShape { name: String, expected: Vec<usize>, found: Vec<usize> },

    #[error("tensor {name:?} has type {found}; use weights in F32, BF16 or F16 (a model that is not quantised)")]
    TensorType { name: String, found: String },

    #[error("the adapter in {path} does not fit the model: {reason}. Use the model that the adapter was trained on")]
    AdapterMismatch { path: PathBuf, reason: String },

    #[error("the chat template fails on example {example}: {reason}. Change the example, or fix the model's template")]
    Template { example: usize, reason: String },

    #[error("the tokenizer fails: {reason}. Check that tokenizer.json belongs to the model")]
    Tokenizer { reason: String },

    #[error("there are no examples to train on. Give at least one conversation with an assistant turn")]
    NoExamples,

    #[error(
        "example {example} has no assistant turn, so there is nothing to learn. Add an answer or remove the example"
    )]
    NoAnswer { example: usize },

    #[error(
        "no example fits: in all {examples}, max_length {max_length} cuts off the whole answer. \
         Set max_length to {needed} or more"
    )]
    NothingFits { examples: usize, max_length: usize, needed: usize },

    #[error("the setting {field} is {value}: {}", .hint[0])]
    BadSetting { field: &'static str, value: String, hint: Hint },

    #[error("the loss became {loss} at step {step}. Lower the learning rate, or set max_grad_norm to 1")]
    Diverged { step: u64, loss: f64 },

    #[error(
        "the checkpoint {path} was made with another {what} (there {there}, now {now}). \
         Start without resume, or restore that setting"
    )]
    CheckpointMismatch { path: PathBuf, what: &'static str, there: String, now: String },

    #[error("this build cannot use {backend}. {}", .hint[0])]
    BackendUnavailable { backend: &'static str, hint: Hint },

    #[error(
        "the training needs at least {}, and {} of main memory is free. \
         Use a smaller batch_size or max_length or a smaller model, or end other programs",
        size(*.needed), size(*.available)
    )]
    OutOfHostMemory {
        /// Bytes, a lower bound.
        needed: u64,
        /// Bytes, swap included.
        available: u64,
    },

    #[error(
        "the device ran out of memory ({reason}). \
         Use a smaller batch_size or max_length or a smaller model, or end other programs that use the device"
    )]
    OutOfDeviceMemory { reason: String },
}

impl TrainError {
    pub(crate) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    /// A failed write; a full disk is told apart because what to do is different.
    pub(crate) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Write { path, source },
        }
    }

    pub(crate) fn bad_file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::BadFile { path: path.into(), reason: reason.to_string() }
    }

    /// The sentence in Chinese. What systems and libraries gave as the reason stays in their language.
    pub fn message_zh(&self) -> String {
        match self {
            Self::MissingFile { path, hint } => format!("缺少 {}：{}", path.display(), hint[1]),
            Self::Read { path, source } => {
                format!("无法读取 {}：{source}。请检查文件是否存在以及是否有读取权限", path.display())
            }
            Self::Write { path, source } => {
                format!("无法写入 {}：{source}。请检查目录是否存在以及是否有写入权限", path.display())
            }
            Self::DiskFull { path } => {
                format!("{} 所在的磁盘已满。请释放空间或换一个输出目录，然后继续训练", path.display())
            }
            Self::BadFile { path, reason } => {
                format!("{} 无效：{reason}。请重新下载该文件，或重新导出模型", path.display())
            }
            Self::UnsupportedArchitecture { found, supported } => {
                format!("不支持模型结构 {found:?}。请使用以下结构之一的模型：{supported}")
            }
            Self::UnsupportedFeature { feature, hint } => {
                format!("模型使用了{}，本训练器不支持。{}", feature[1], hint[1])
            }
            Self::MissingTensor { name } => {
                format!("权重中没有张量 {name:?}。请检查模型目录是否完整，而不只是一个适配器")
            }
            Self::TensorShape { name, expected, found } => format!(
                "张量 {name:?} 的形状是 {found:?}，应为 {expected:?}。请检查 config.json 与权重是否属于同一个模型"
            ),
            Self::TensorType { name, found } => {
                format!("张量 {name:?} 的类型是 {found}；请使用 F32、BF16 或 F16 的权重（未量化的模型）")
            }
            Self::AdapterMismatch { path, reason } => {
                format!("{} 中的适配器与模型不符：{reason}。请使用训练该适配器时的模型", path.display())
            }
            Self::Template { example, reason } => {
                format!("对话模板在第 {example} 条样本上出错：{reason}。请修改该样本，或修正模型的模板")
            }
            Self::Tokenizer { reason } => format!("分词器出错：{reason}。请检查 tokenizer.json 是否属于该模型"),
            Self::NoExamples => "没有可训练的样本。请至少提供一条带有助手回答的对话".into(),
            Self::NoAnswer { example } => {
                format!("第 {example} 条样本没有助手回答，没有可学习的内容。请补上回答，或删除该样本")
            }
            Self::NothingFits { examples, max_length, needed } => format!(
                "没有样本放得下：全部 {examples} 条样本的回答都被 max_length {max_length} 截掉。\
                 请把 max_length 设为 {needed} 或更大"
            ),
            Self::BadSetting { field, value, hint } => format!("设置 {field} 为 {value}：{}", hint[1]),
            Self::Diverged { step, loss } => {
                format!("第 {step} 步的损失变为 {loss}。请降低学习率，或将 max_grad_norm 设为 1")
            }
            Self::CheckpointMismatch { path, what, there, now } => {
                let what = match *what {
                    "number of steps" => "总步数".into(),
                    "data set" => "数据集".into(),
                    setting => format!(" {setting} "),
                };
                format!(
                    "检查点 {} 的{what}不同（那里是 {there}，现在是 {now}）。请不要继续旧训练，或恢复该设置",
                    path.display()
                )
            }
            Self::BackendUnavailable { backend, hint } => format!("此版本不能使用 {backend}。{}", hint[1]),
            Self::OutOfHostMemory { needed, available } => format!(
                "训练至少需要 {} 内存，而空闲的只有 {}。请减小 batch_size 或 max_length，换更小的模型，或结束其他程序",
                size(*needed),
                size(*available)
            ),
            Self::OutOfDeviceMemory { reason } => format!(
                "设备显存不足（{reason}）。请减小 batch_size 或 max_length，换更小的模型，或结束占用该设备的其他程序"
            ),
        }
    }
}

/// `12884901888` → `12.0 GiB`; less than one in MiB.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / (1 << 20) as f64;
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}
