//! The result of a task as one file.

use std::io::{self, Write};
use std::path::Path;

use domain::TaskId;

/// Writes a gzipped tar with the task's adapter, its configuration, log and metrics in a folder
/// `{id}_finetuned_model`. Never follows a link.
pub fn write_adapter_archive(task_dir: &Path, id: TaskId, out: impl Write) -> io::Result<()> {
    let _ = (task_dir, id, out);
    todo!()
}

/// `{id}_finetuned_model.tar.gz`.
pub fn file_name(id: TaskId) -> String {
    format!("{id}_finetuned_model.tar.gz")
}
