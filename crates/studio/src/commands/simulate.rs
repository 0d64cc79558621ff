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
    text::{language, text},
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
        let (path, said) = (path.display(), error.sentence(language()));
        CliError::usage("trace-invalid", text(format!("{path}：{said}"), format!("{path}: {said}")))
            .next(text("改正这一行后重试", "correct that line and try again"))
    })?;
    let outcome = sim::replay(&trace, &command.options());
    if let Some(path) = &command.gantt {
        fs::write(path, sim::gantt(&outcome)).map_err(|error| CliError::file(path, &error))?;
    }
    if command.json {
        output::json(&figures(&outcome))?;
    } else {
        print(&outcome, command.gantt.as_deref())?;
    }
    for note in command.notes(&trace) {
        eprintln!("{note}");
    }
    Ok(ExitCode::SUCCESS)
}

impl Simulate {
    fn options(&self) -> Options {
        Options {
            pack: self.pack,
            load: self.load,
            estimate_sigma: self.estimate_sigma,
            cap_s: self.cap_hours * 3600.0,
            seed: self.seed,
            // JSON does not tell of them.
            foretells: !self.json,
            ..Options::new(self.gpus, self.policy.build())
        }
    }

    /// What was done to the trace, so that nobody takes the figures for those of the file as it is.
    fn notes(&self, trace: &Trace) -> Vec<String> {
        let (cap, cut) = (self.cap_hours, trace.longer_than(self.cap_hours * 3600.0));
        let cut = (cut > 0).then(|| {
            text(
                format!("{cut} 个超过 {cap} 小时的任务按 {cap} 小时计算（--cap-hours）"),
                format!("{cut} tasks longer than {cap} h were cut to that (--cap-hours)"),
            )
        });
        let left_out = trace.without_gpus;
        let left_out = (left_out > 0).then(|| {
            text(
                format!("{left_out} 个不使用 GPU 的任务未计入"),
                format!("{left_out} tasks that ask for no GPU were left out"),
            )
        });
        let load = self.load.filter(|_| !trace.can_be_stretched()).map(|load| {
            text(
                format!("所有任务同时到达，无法拉伸到 --load {load}：按原样回放"),
                format!(
                    "all tasks arrive at one moment, which cannot be stretched to --load {load}: replayed as it is"
                ),
            )
        });
        [cut, left_out, load].into_iter().flatten().collect()
    }

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
        "mean_jct_s": outcome.figures.mean_jct_s,
        "p95_jct_s": outcome.figures.p95_jct_s,
        "makespan_s": outcome.makespan_s,
        "utilisation": outcome.utilisation,
        "max_wait_s": outcome.figures.max_wait_s,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        command: Simulate,
    }

    fn command(arguments: &[&str]) -> Simulate {
        Line::parse_from(["simulate", "trace.csv"].iter().chain(arguments)).command
    }

    #[test]
    fn scripts_read_six_figures() {
        let trace = Trace::parse("submit_s,duration_s,gpus\n0,7200,1\n60,3600,2\n120,600,1\n").unwrap();
        for policy in ["one", "fifo", "easy", "full"] {
            let command = command(&["--policy", policy, "--gpus", "2", "--estimate-sigma", "0", "--json"]);
            command.check().unwrap();
            let figures = figures(&sim::replay(&trace, &command.options()));
            let mut names: Vec<&str> = figures.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, ["jobs", "makespan_s", "max_wait_s", "mean_jct_s", "p95_jct_s", "utilisation"]);
            assert_eq!(figures["jobs"], 3);
            let makespan: f64 = if policy == "one" { 11_400.0 } else { 10_800.0 };
            assert!((figures["makespan_s"].as_f64().unwrap() - makespan).abs() <= 600.0, "{policy} {figures}");
        }
    }

    #[test]
    fn what_was_done_to_the_trace_is_said() {
        let trace = Trace::parse("submit_s,duration_s,gpus\n5,7200,1\n5,60,0\n5,90000,2\n").unwrap();
        let said = command(&["--load", "0.8"]).notes(&trace);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("1 tasks longer than 24 h"), "{said:?}");
        assert!(command(&["--cap-hours", "48"]).notes(&trace).len() == 1);
    }
}
