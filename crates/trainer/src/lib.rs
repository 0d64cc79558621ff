//! LoRA fine-tuning of Hugging Face causal language models (Qwen2, Qwen3, Llama) without Python.
//!
//! [`train`] reads a model folder and conversations and writes an adapter in PEFT layout, [`generate`] tries the
//! result, [`make_tiny`] writes a small random model to practise on. Everything else is private.

mod adapter;
#[cfg(any(feature = "vulkan", all(feature = "burn", test)))]
mod burn_engine;
mod chat;
mod checkpoint;
mod config;
mod cpu;
mod decoder;
mod engine;
mod error;
mod event;
mod examples;
mod files;
mod generate;
mod memory;
mod model_config;
mod optimizer;
mod rng;
mod template;
mod tiny;
mod train;
mod weights;

pub use chat::{Conversation, Role, Turn};
pub use config::{Backend, GenerateConfig, LoraConfig, Schedule, TinyConfig, TrainConfig};
pub use error::{Hint, TrainError};
pub use event::{BestCheckpoint, Event, Summary};
pub use generate::{generate, logits};
pub use tiny::make_tiny;
pub use train::train;
