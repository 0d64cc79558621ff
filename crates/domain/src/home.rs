use std::path::{Path, PathBuf};

use crate::TaskId;

/// `$SAGE_HOME`: where everything lies. Only names paths; touches no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    pub fn new(root: impl Into<PathBuf>) -> Home {
        Home { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("studio.db")
    }

    /// Who did what; a database of its own, so that writing it holds nobody up.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit.db")
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Held locked by the studio that owns this home.
    pub fn lock(&self) -> PathBuf {
        self.root.join("studio.lock")
    }

    /// How to reach the running studio; readable by the owner only.
    pub fn endpoint(&self) -> PathBuf {
        self.root.join("studio.json")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("logs/studio.log")
    }

    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    pub fn tasks(&self) -> PathBuf {
        self.root.join("studio_finetune")
    }

    /// The task's output: adapter, `recipe.json`, `training.log`, `metrics.jsonl`, `checkpoints/`.
    /// Name of a task's log in its folder.
    pub const LOG: &str = "training.log";

    pub fn task(&self, id: TaskId) -> PathBuf {
        self.tasks().join(id.to_string())
    }

    pub fn training_log(&self, id: TaskId) -> PathBuf {
        self.task(id).join(Home::LOG)
    }

    pub fn metrics(&self, id: TaskId) -> PathBuf {
        self.task(id).join("metrics.jsonl")
    }

    pub fn recipe(&self, id: TaskId) -> PathBuf {
        self.task(id).join("recipe.json")
    }

    /// The supervisor's records of one launch.
    pub fn attempt(&self, id: TaskId, number: u32) -> PathBuf {
        self.task(id).join("attempts").join(number.to_string())
    }
}
