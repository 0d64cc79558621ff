//! `sage simulate`: what a policy would make of a recorded queue.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;
use sim::{Options, Outcome, Spread, Trace};

use crate::{
    config::PolicyName,
    error::{CliError, Result},
    output::{self, Table},
    text::text,
};

#[derive(Args)]
pub struct Simulate {
    /// CSV with the columns submit_s, duration_s and gpus
    trace: PathBuf,
    /// GPUs of the machine
    #[arg(long, value_name = "N", default_value = "4")]
    gpus: u32,
    /// one, fifo, easy or full: one task at a time, order of arrival, with backfilling, the studio's own
    #[arg(long, value_enum, default_value = "full", hide_possible_values = true)]
    policy: PolicyName,
    /// Throughput of two tasks together on one GPU relative to one alone, such as 1.2; left out: no sharing
    #[arg(long, value_name = "RATIO")]
    pack: Option<f64>,
    /// Stretch the arrivals so that the GPU time asked for is this share of what there is; left out: as recorded
    #[arg(long, value_name = "SHARE")]
    load: Option<f64>,
    /// How far off the estimates of lengths are: true × exp(N(0, σ))
    #[arg(long, value_name = "SIGMA", default_value = "0.5")]
    estimate_sigma: f64,
    /// Cut longer tasks to so many hours
    #[arg(long, value_name = "HOURS", default_value = "24")]
    cap_hours: f64,
    /// Decides the errors of the estimates
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Draw what happened into this SVG file
    #[arg(long, value_name = "FILE")]
    gantt: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: Simulate) -> Result<ExitCode> {
    command.check()?;
    let path = &command.trace;
    let csv = fs::read_to_string(path).map_err(|error| CliError::file(path, &error))?;
    let trace = Trace::parse(&csv).map_err(|error| {
        let path = path.display();
        CliError::usage("trace-invalid", text(format!("{path}：{error}"), format!("{path}: {error}")))
            .next(text("改正这一行后重试", "correct that line and try again"))
    })?;
    let options = Options {
        pack: command.pack,
        load: command.load,
        estimate_sigma: command.estimate_sigma,
        cap_s: command.cap_hours * 3600.0,
        seed: command.seed,
        ..Options::new(command.gpus, command.policy.build())
    };
    let outcome = sim::replay(&trace, &options);
    if let Some(path) = &command.gantt {
        fs::write(path, sim::gantt(&outcome)).map_err(|error| CliError::file(path, &error))?;
    }
    if command.json {
        output::json(&figures(&outcome))?
    } else {
        print(&outcome, command.gantt.as_deref())?
    }
    Ok(ExitCode::SUCCESS)
}

impl Simulate {
    fn check(&self) -> Result<()> {
        let positive = |name: &'static str, value: Option<f64>| match value {
            Some(value) if !(value > 0.0 && value.is_finite()) => Some((name, value)),
            _ => None,
        };
        let wrong = positive("--pack", self.pack)
            .or(positive("--load", self.load))
            .or(positive("--cap-hours", Some(self.cap_hours)))
            .or((!(0.0..=10.0).contains(&self.estimate_sigma)).then_some(("--estimate-sigma", self.estimate_sigma)))
            .or((!(1..=1024).contains(&self.gpus)).then_some(("--gpus", f64::from(self.gpus))));
        let Some((name, value)) = wrong else { return Ok(()) };
        Err(CliError::usage(
            "simulation-invalid",
            text(format!("{name} {value} 无效"), format!("{name} {value} cannot be used")),
        )
        .next(text(
            "使用大于 0 的数；--gpus 为 1 到 1024，--estimate-sigma 为 0 到 10",
            "use a number above 0; --gpus goes from 1 to 1024, --estimate-sigma from 0 to 10",
        )))
    }
}

fn figures(outcome: &Outcome) -> serde_json::Value {
    json!({
        "jobs": outcome.figures.jobs,
        "gpus": outcome.gpus,
        "mean_jct_s": outcome.figures.mean_jct_s,
        "p95_jct_s": outcome.figures.p95_jct_s,
        "makespan_s": outcome.makespan_s,
        "utilisation": outcome.utilisation,
        "mean_wait_s": outcome.figures.mean_wait_s,
        "max_wait_s": outcome.figures.max_wait_s,
        "preemptions": outcome.preemptions,
        "forecast_error": {
            "jobs": outcome.forecast_error.jobs,
            "start": spread(outcome.forecast_error.start),
            "end": spread(outcome.forecast_error.end),
        },
    })
}

/// Of absolute errors; the ratios are to the time from the submission to the start, or to the end.
fn spread(spread: Spread) -> serde_json::Value {
    json!({
        "median_s": spread.median_s,
        "p90_s": spread.p90_s,
        "median_ratio": spread.median_ratio,
        "p90_ratio": spread.p90_ratio,
    })
}

fn print(outcome: &Outcome, gantt: Option<&Path>) -> Result<()> {
    let hours = |seconds: f64| format!("{:.2} h", seconds / 3600.0);
    let mut table = Table::new(text(["指标", "数值"], ["FIGURE", "VALUE"]));
    table.row([text("任务数", "tasks").to_owned(), outcome.figures.jobs.to_string()]);
    table.row([text("平均完成时间", "mean completion time").to_owned(), hours(outcome.figures.mean_jct_s)]);
    table.row([text("95% 完成时间", "95 % complete within").to_owned(), hours(outcome.figures.p95_jct_s)]);
    table.row([text("总时长", "makespan").to_owned(), hours(outcome.makespan_s)]);
    table.row([text("GPU 利用率", "GPUs busy").to_owned(), format!("{:.1}%", outcome.utilisation * 100.0)]);
    table.row([text("平均等待", "mean wait").to_owned(), hours(outcome.figures.mean_wait_s)]);
    table.row([text("最长等待", "longest wait").to_owned(), hours(outcome.figures.max_wait_s)]);
    table.row([text("中断次数", "interruptions").to_owned(), outcome.preemptions.to_string()]);
    let (start, end) = (outcome.forecast_error.start, outcome.forecast_error.end);
    let off = |spread: Spread| format!("{} / {}", hours(spread.median_s), hours(spread.p90_s));
    table.row([text("预计开始的误差（中位 / 90%）", "forecast start off by (median / 90 %)").to_owned(), off(start)]);
    table.row([text("预计结束的误差（中位 / 90%）", "forecast end off by (median / 90 %)").to_owned(), off(end)]);
    table.print()?;
    match gantt {
        Some(path) => output::print(&format!("{}\n", path.display())),
        None => Ok(()),
    }
}
