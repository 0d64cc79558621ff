use std::{io, path::PathBuf};

use api_types::ErrorBody;

pub type Result<T> = std::result::Result<T, ClientError>;

/// Why a request has no answer to show.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no studio is running on {home}")]
    NotRunning { home: PathBuf },
    /// The file says how to reach the studio, so whoever can change it could have requests sent to himself.
    #[error("{path} is not trusted: {reason}")]
    Untrusted { path: PathBuf, reason: String },
    /// `SAGE_URL` names no studio that a token may be sent to.
    #[error("SAGE_URL is {url:?}, and {reason}")]
    Address { url: String, reason: String },
    #[error("{path} cannot be read: {source}")]
    Endpoint { path: PathBuf, source: io::Error },
    #[error("the studio at {address} cannot be reached: {message}")]
    Unreachable { address: String, message: String },
    /// The studio refused, and says why.
    #[error("{}", body.detail)]
    Api { status: u16, body: ErrorBody },
    /// Not what a studio of this version answers.
    #[error("the studio at {address} answered {status} with something unexpected: {message}")]
    Unexpected { address: String, status: u16, message: String },
    /// A file to send could not be read, or an answer not be saved.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
}

impl ClientError {
    /// Stable name of the error.
    pub fn code(&self) -> &str {
        match self {
            ClientError::NotRunning { .. } => "studio-not-running",
            ClientError::Untrusted { .. } => "endpoint-not-trusted",
            ClientError::Address { .. } => "address-not-trusted",
            ClientError::Endpoint { .. } => "endpoint-unreadable",
            ClientError::Unreachable { .. } => "studio-unreachable",
            ClientError::Api { body, .. } => &body.code,
            ClientError::Unexpected { .. } => "unexpected-answer",
            ClientError::File { .. } => "file-error",
        }
    }
}
