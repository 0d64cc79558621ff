use std::process::ExitCode;

use api_types::CheckView;
use clap::Args;
use client::{Client, ClientError};
use console::Style;
use domain::Home;

use super::own;
use crate::{
    config::Config,
    error::{FAILED, Result},
    output,
    text::text,
};

#[derive(Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// As the studio sees the machine, where one runs: what it may and may not do decides.
pub fn run(home: &Home, command: &Doctor) -> Result<ExitCode> {
    let checks = match Client::connect(home) {
        Ok(client) => client.doctor()?,
        Err(ClientError::NotRunning { .. }) => {
            let options = Config::read(&home.config())?.gpu_options(home)?;
            let checks = gpu::doctor(&options, &own("gpu-worker")?, &own("gpu-trial")?);
            checks.into_iter().map(server::check_view).collect()
        }
        Err(error) => return Err(error.into()),
    };
    if command.json {
        output::json(&checks)?
    } else {
        output::print(&report(&checks))?
    }
    let problem = checks.iter().any(|check| check.status == "problem");
    Ok(if problem { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn report(checks: &[CheckView]) -> String {
    let mut lines = String::new();
    for check in checks {
        let (word, style) = match check.status.as_str() {
            "ok" => (text("正常", "ok"), Style::new().green()),
            "problem" => (text("问题", "problem"), Style::new().red().bold()),
            _ => (text("提示", "note"), Style::new().yellow()),
        };
        // Padded first: colours have no width.
        let word = format!("{word}{}", " ".repeat(9usize.saturating_sub(console::measure_text_width(word))));
        lines += &format!("{}{}\n", style.apply_to(word), text(&check.zh, &check.en));
        let next = text(&check.next_zh, &check.next_en);
        if !next.is_empty() {
            lines += &format!("         → {next}\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_how_it_is_and_what_to_do() {
        let check = |status: &str, next: &str| CheckView {
            subject: "nvidia-module".into(),
            status: status.into(),
            zh: "驱动".into(),
            en: "the driver".into(),
            next_zh: next.into(),
            next_en: next.into(),
        };
        let report = report(&[check("ok", ""), check("problem", "modprobe nvidia"), check("note", "")]);
        let plain = console::strip_ansi_codes(&report);
        assert_eq!(
            plain,
            "ok       the driver\nproblem  the driver\n         → modprobe nvidia\nnote     the driver\n"
        );
    }
}
