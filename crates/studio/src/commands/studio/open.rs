use std::process::{Command, Stdio};

use client::Endpoint;
use domain::Home;

use crate::{error::Result, output};

/// Prints the address in any case: there may be no browser on this machine.
pub fn run(home: &Home) -> Result<()> {
    let Endpoint { address, page, .. } = Endpoint::find(home)?;
    let address = page.unwrap_or(address);
    output::print(&format!("{address}\n"))?;
    for program in ["xdg-open", "wslview", "open"] {
        let mut command = Command::new(program);
        command.arg(&address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            break;
        }
    }
    Ok(())
}
