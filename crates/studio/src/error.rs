//! Errors people meet: a code, a sentence, a next step, and an exit status.

use std::{fmt, io, path::Path};

use client::ClientError;

use crate::text::text;

pub type Result<T, E = CliError> = std::result::Result<T, E>;

#[derive(Debug)]
pub struct CliError {
    /// Stable; `docs/errors/<code>.md` explains it.
    pub code: String,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What to do about it.
    pub next_step: Option<String>,
    pub exit: u8,
}

/// Something went wrong.
pub const FAILED: u8 = 1;
/// The command was not understood, as clap says it.
pub const USAGE: u8 = 2;
/// There is no studio to talk to.
pub const NOT_RUNNING: u8 = 3;

impl CliError {
    pub fn new(code: &str, sentence: impl Into<String>) -> CliError {
        CliError { code: code.to_owned(), sentence: sentence.into(), next_step: None, exit: FAILED }
    }

    pub fn next(mut self, step: impl Into<String>) -> CliError {
        self.next_step = Some(step.into());
        self
    }

    pub fn exit(mut self, exit: u8) -> CliError {
        self.exit = exit;
        self
    }

    pub fn usage(code: &str, sentence: impl Into<String>) -> CliError {
        CliError::new(code, sentence).exit(USAGE)
    }

    /// A file or folder could not be used.
    pub fn file(path: &Path, error: &io::Error) -> CliError {
        let path = path.display();
        let sentence = text(format!("无法使用 {path}：{error}"), format!("{path} cannot be used: {error}"));
        let step = match error.kind() {
            io::ErrorKind::NotFound => text("请检查路径。", "check the path"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                text("请释放磁盘空间后重试。", "free some disk space, then try again")
            }
            _ => text("请检查该路径的权限。", "check that you have permission"),
        };
        CliError::new("file-error", sentence).next(step)
    }

    pub fn print(&self) {
        eprintln!("{self}");
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = text("错误", "error");
        write!(f, "{word}[{}]: {}", self.code, self.sentence)?;
        if let Some(step) = &self.next_step {
            write!(f, "\n  {}: {step}", text("下一步", "next"))?;
        }
        Ok(())
    }
}

/// What the server's own rules refuse, also where no server runs.
impl From<server::ApiError> for CliError {
    fn from(error: server::ApiError) -> CliError {
        // The Chinese sentence says the next step too.
        let (sentence, next_step) = match text(error.zh, None) {
            Some(zh) => (zh, None),
            None => (error.detail, error.next_step.map(Into::into)),
        };
        CliError { next_step, ..CliError::new(&error.code, sentence) }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        let code = error.code().to_owned();
        let new = |sentence: String, step: &str| CliError::new(&code, sentence).next(step);
        match &error {
            ClientError::NotRunning { home } => {
                let home = home.display();
                let sentence = text(format!("{home} 上没有运行中的 Studio"), format!("no studio is running on {home}"));
                new(sentence, text("启动它：sage studio start", "start it: sage studio start")).exit(NOT_RUNNING)
            }
            ClientError::Untrusted { path, .. } => {
                let path = path.display();
                let sentence = text(format!("{path} 不可信：{error}"), error.to_string());
                let step = text(
                    format!("检查 {path} 的所有者和权限（应为 600），然后重启：sage studio restart"),
                    format!("check owner and mode of {path} (it must be 600), then: sage studio restart"),
                );
                new(sentence, &step)
            }
            ClientError::Address { url, .. } => {
                let sentence = text(format!("SAGE_URL 的值 {url:?} 不可用：{error}"), error.to_string());
                let step = text(
                    "请写成 https://主机:端口；http:// 只能用于本机（可通过 SSH 隧道）",
                    "write https://HOST:PORT; http:// is for this machine only, such as an SSH tunnel's end",
                );
                new(sentence, step)
            }
            ClientError::Endpoint { path, source } => CliError::file(path, source),
            ClientError::Unreachable { address, message } => {
                let sentence = text(format!("无法连接 {address} 上的 Studio：{message}"), error.to_string());
                let step = text(
                    "查看状态和日志：sage studio status，sage studio logs",
                    "look at: sage studio status, sage studio logs",
                );
                new(sentence, step).exit(NOT_RUNNING)
            }
            ClientError::Api { body, .. } => {
                // The Chinese sentence says the next step too.
                let (sentence, next_step) = match text(body.zh.clone(), None) {
                    Some(zh) => (zh, None),
                    None => (body.detail.clone(), body.next_step.clone()),
                };
                CliError { next_step, ..CliError::new(&code, sentence) }
            }
            ClientError::Unexpected { address, status, message } => {
                let sentence =
                    text(format!("{address} 的 Studio 给出了无法理解的回答（{status}）：{message}"), error.to_string());
                let step = text(
                    "运行中的 Studio 可能是另一个版本：sage studio restart",
                    "the running studio may be of another version: sage studio restart",
                );
                new(sentence, step)
            }
            ClientError::File { path, source } => CliError::file(path, source),
        }
    }
}
