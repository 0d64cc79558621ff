use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use client::Client;

use crate::{
    error::{CliError, Result},
    output,
    text::text,
};

#[derive(Args)]
pub struct Download {
    /// The task, such as finetune_1760000000_1
    id: String,
    /// File or folder to save it in; - for stdout
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    output: PathBuf,
}

pub fn run(client: &Client, command: Download) -> Result<ExitCode> {
    let mut download = client.download(&command.id)?;
    if command.output == Path::new("-") {
        io::copy(&mut download.body, &mut io::stdout().lock()).map_err(|error| broken_off(&error))?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = if command.output.is_dir() { command.output.join(&download.filename) } else { command.output };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: &io::Error| CliError::file(&path, error);
    // Half an archive never has the archive's name.
    let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    let size = io::copy(&mut download.body, &mut draft).map_err(|error| broken_off(&error))?;
    draft.flush().map_err(|error| failed(&error))?;
    let file: File = draft.persist(&path).map_err(|error| failed(&error.error))?;
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(|error| failed(&error))?;
    output::print(&format!("{} ({})\n", path.display(), output::bytes(size)))?;
    Ok(ExitCode::SUCCESS)
}

fn broken_off(error: &io::Error) -> CliError {
    CliError::new("download-broken-off", text(format!("下载中断：{error}"), format!("the download broke off: {error}")))
        .next(text("检查磁盘空间后重试", "check the disk space, then try again"))
}
