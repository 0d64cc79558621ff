//! A data set made of SAGE's public documentation.

use std::path::{Path, PathBuf};

/// The data set made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocsDataset {
    /// JSON Lines, alpaca.
    pub path: PathBuf,
    pub samples: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DocsError {
    #[error("stopped")]
    Stopped,
}

/// Archive to take: `SAGE_DOCS_URL`, else the documentation's repository.
pub fn url_from_env() -> String {
    todo!()
}

/// Fetches the archive, turns its Markdown into alpaca rows and writes them into `uploads`.
pub fn prepare(url: &str, uploads: &Path) -> Result<DocsDataset, DocsError> {
    let _ = (url, uploads);
    todo!()
}
