//! How far a training has come, read from what it writes.
//!
//! Two sources: `metrics.jsonl`, which the built-in trainer writes and any program may write, and the log of programs
//! that know nothing of us (Hugging Face's trainer, progress bars, `Epoch 2/3`).

use std::collections::VecDeque;
use std::io::BufRead;

use domain::Progress;
use serde::Deserialize;
use serde_json::{Map, Value};

mod log;
mod out_of_memory;
mod points;

pub use out_of_memory::out_of_memory;
pub use points::{EvalPoint, MetricsPoints, TrainPoint, metrics_points};

/// What one line changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The figures of [`ProgressReader::progress`] changed.
    Progress,
    /// Training proper has begun, said once; the figures may have changed too.
    Begun,
    /// What the longest batch needs was measured before the first step; the figures have it too.
    Probe { peak_bytes: u64, allocated_bytes: Option<u64>, seconds_per_step: Option<f64> },
    /// The training says itself why it fails: in English, or in the user's language if there is no Chinese beside it.
    Error { code: String, message: String, message_zh: Option<String> },
}

/// Steps whose median is the time of a step.
const RECENT: usize = 15;

/// Follows one attempt, line by line. Lines that mean nothing are skipped.
#[derive(Debug, Clone, Default)]
pub struct ProgressReader {
    progress: Progress,
    begun: bool,
    /// metrics.jsonl says how far it is, so the log's guesses are not needed.
    has_metrics: bool,
    /// The trainer itself said how many steps there are.
    total_is_known: bool,
    /// As the log's last `Epoch x/y` has it.
    complete_epochs: Option<u32>,
    /// Seconds of the last [`RECENT`] steps.
    recent: VecDeque<f64>,
}

/// A line of metrics.jsonl; those without a known `event` are plain figures.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Fetch {
        bytes: u64,
        total_bytes: Option<u64>,
    },
    /// The trainer's environment is being installed; not every phase knows bytes.
    Install {
        bytes: Option<u64>,
        total_bytes: Option<u64>,
    },
    Start {
        total_steps: u64,
        total_epochs: u32,
        resumed_from_step: Option<u64>,
    },
    /// Unknown figures are null: `peak_bytes` where the system does not tell.
    Probe {
        peak_bytes: Option<u64>,
        allocated_bytes: Option<u64>,
        seconds_per_step: Option<f64>,
        tokens: Option<u64>,
    },
    Memory {
        peak_bytes: Option<u64>,
        allocated_bytes: Option<u64>,
    },
    Step(Map<String, Value>),
    Eval {},
    Checkpoint {},
    End {},
    Error {
        code: String,
        message: String,
        message_zh: Option<String>,
    },
}

impl ProgressReader {
    pub fn new() -> ProgressReader {
        ProgressReader::default()
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Training proper has begun: model and data are loaded.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// A line of metrics.jsonl.
    pub fn metrics_line(&mut self, line: &str) -> Option<Report> {
        let value: Map<String, Value> = serde_json::from_str(line).ok()?;
        if !value.contains_key("event") {
            return self.metrics_figures(&value);
        }
        match Event::deserialize(Value::Object(value)).ok()? {
            Event::Fetch { bytes, total_bytes } => {
                self.progress.fetch = Some((bytes, total_bytes));
                Some(Report::Progress)
            }
            Event::Install { bytes, total_bytes } => {
                self.progress.fetch = bytes.map(|bytes| (bytes, total_bytes));
                Some(Report::Progress)
            }
            Event::Start { total_steps, total_epochs, resumed_from_step } => {
                self.recent.clear();
                self.has_metrics = true;
                self.total_is_known = true;
                self.progress = Progress {
                    total_steps,
                    total_epochs,
                    step: resumed_from_step.unwrap_or(0),
                    began_step: resumed_from_step.unwrap_or(0),
                    loss: self.progress.loss.filter(|_| resumed_from_step.is_some()),
                    ..Progress::default()
                };
                self.update_percent();
                Some(self.begin())
            }
            Event::Probe { peak_bytes, allocated_bytes, seconds_per_step, tokens } => {
                self.progress.longest_batch = tokens;
                self.peaks(peak_bytes, allocated_bytes);
                let seconds_per_step = seconds_per_step.filter(|seconds| is_duration(*seconds));
                self.progress.seconds_per_step = seconds_per_step.or(self.progress.seconds_per_step);
                Some(match peak_bytes {
                    Some(peak_bytes) => Report::Probe { peak_bytes, allocated_bytes, seconds_per_step },
                    None => Report::Progress,
                })
            }
            Event::Memory { peak_bytes, allocated_bytes } => {
                self.peaks(peak_bytes, allocated_bytes);
                Some(Report::Progress)
            }
            Event::Step(figures) => self.metrics_figures(&figures),
            Event::End {} => {
                self.progress.percent = 100.0;
                self.progress.fetch = None;
                Some(Report::Progress)
            }
            Event::Error { code, message, message_zh } => Some(Report::Error { code, message, message_zh }),
            Event::Eval {} | Event::Checkpoint {} => None,
        }
    }

    /// A line of the training's log, or what a progress bar overwrites it with.
    pub fn log_line(&mut self, line: &str) -> Option<Report> {
        // A bar draws itself over and over on one line; the last drawing counts.
        let line = line.trim_end_matches(['\r', '\n']).rsplit('\r').next()?;
        if self.has_metrics || line.len() > 4096 {
            return None;
        }
        let seen = log::read(line)?;
        let before = self.progress.clone();
        if let log::Seen::Figures(figures) = &seen {
            self.apply(figures);
        }
        let progress = &mut self.progress;
        match seen {
            log::Seen::Figures(_) => {}
            log::Seen::Epoch { epoch, total } => {
                progress.total_epochs = total;
                // "Epoch 2/3" is said when the second begins, and bars after it count within it.
                let complete = epoch.saturating_sub(1);
                self.complete_epochs = Some(complete);
                progress.epoch = progress.epoch.max(f64::from(complete));
                if !self.total_is_known {
                    (progress.step, progress.total_steps) = (0, 0);
                }
            }
            log::Seen::Steps { step, total } => match self.complete_epochs {
                Some(complete) => progress.epoch = f64::from(complete) + step as f64 / total as f64,
                // A bar over something else, such as a validation, that appears before the training's is full.
                None if total != progress.total_steps && progress.step > 0 && progress.step < progress.total_steps => {}
                None => (progress.step, progress.total_steps) = (step, total),
            },
        }
        self.update_percent();
        if !self.begun && (self.progress.loss.is_some() || self.progress.percent > 0.0) {
            return Some(self.begin());
        }
        (self.progress != before).then_some(Report::Progress)
    }

    fn metrics_figures(&mut self, figures: &Map<String, Value>) -> Option<Report> {
        if !["step", "loss", "epoch"].iter().any(|name| figures.contains_key(*name)) {
            return None;
        }
        self.has_metrics = true;
        self.apply(figures);
        self.update_percent();
        Some(if self.begun { Report::Progress } else { self.begin() })
    }

    /// Takes over the figures that are there and are numbers.
    fn apply(&mut self, figures: &Map<String, Value>) {
        let number = |name: &str| figures.get(name).and_then(Value::as_f64).filter(|number| number.is_finite());
        let count = |name: &str| figures.get(name).and_then(Value::as_u64);
        let progress = &mut self.progress;
        let replace = |old: &mut Option<f64>, new: Option<f64>| *old = new.or(*old);

        progress.step = count("step").unwrap_or(progress.step);
        if let Some(total) = count("total_steps").or_else(|| count("max_steps")) {
            progress.total_steps = total;
            self.total_is_known = true;
        }
        progress.epoch = number("epoch").filter(|epoch| *epoch >= 0.0).unwrap_or(progress.epoch);
        if let Some(total) = count("total_epochs").and_then(|total| u32::try_from(total).ok()) {
            progress.total_epochs = total;
        }
        replace(&mut progress.learning_rate, number("learning_rate"));
        replace(&mut progress.grad_norm, number("grad_norm"));
        replace(&mut progress.tokens_per_second, number("tokens_per_second"));
        progress.memory_bytes = count("memory_bytes").filter(|bytes| *bytes > 0).or(progress.memory_bytes);
        progress.device_bytes = count("device_bytes").or(progress.device_bytes);
        // A loss that is no number is not a small one: the last good figure would be a lie.
        if figures.contains_key("loss") {
            progress.loss = number("loss");
        }
        progress.fetch = None;
        if let Some(seconds) = number("seconds").filter(|seconds| is_duration(*seconds)) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(seconds);
            let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            self.progress.seconds_per_step = Some(sorted[sorted.len() / 2]);
        }
    }

    /// A peak never falls.
    fn peaks(&mut self, peak: Option<u64>, allocated: Option<u64>) {
        let progress = &mut self.progress;
        progress.peak_bytes = progress.peak_bytes.max(peak);
        progress.peak_allocated_bytes = progress.peak_allocated_bytes.max(allocated);
    }

    fn begin(&mut self) -> Report {
        if self.begun {
            Report::Progress
        } else {
            self.begun = true;
            Report::Begun
        }
    }

    fn update_percent(&mut self) {
        let Progress { step, total_steps, epoch, total_epochs, .. } = self.progress;
        let share = if total_steps > 0 {
            step as f64 / total_steps as f64
        } else if total_epochs > 0 {
            epoch / f64::from(total_epochs)
        } else {
            return;
        };
        self.progress.percent = (share * 100.0).clamp(0.0, 100.0);
    }
}

fn is_duration(seconds: f64) -> bool {
    seconds > 0.0 && seconds.is_finite()
}

/// Lines of a reader without their ends, at most `limit` bytes each; longer ones and broken UTF-8 come out empty.
fn bounded_lines(mut reader: impl BufRead, limit: usize, mut each: impl FnMut(&str)) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let taken = std::io::Read::take(&mut reader, limit as u64).read_until(b'\n', &mut line)?;
        if taken == 0 {
            return Ok(());
        }
        if taken == limit && line.last() != Some(&b'\n') {
            reader.skip_until(b'\n')?;
            line.clear();
        }
        each(std::str::from_utf8(&line).unwrap_or_default().trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_trainers_lines_become_progress() {
        let mut reader = ProgressReader::new();
        let fetch = r#"{"event":"fetch","file":"model.safetensors","bytes":10,"total_bytes":40}"#;
        assert_eq!(reader.metrics_line(fetch), Some(Report::Progress));
        assert_eq!(reader.progress().fetch, Some((10, Some(40))));
        assert!(!reader.begun());

        let start = r#"{"event":"start","total_steps":8,"total_epochs":2,"examples":30,"validation_examples":0,"dropped_examples":0,"trainable_parameters":5,"resumed_from_step":null}"#;
        assert_eq!(reader.metrics_line(start), Some(Report::Begun));
        assert_eq!(reader.progress().fetch, None);

        let probe = r#"{"event":"probe","peak_bytes":7000,"allocated_bytes":null,"seconds_per_step":0.5,"tokens":64}"#;
        let report = Report::Probe { peak_bytes: 7000, allocated_bytes: None, seconds_per_step: Some(0.5) };
        assert_eq!(reader.metrics_line(probe), Some(report));
        assert_eq!((reader.progress().seconds_per_step, reader.progress().longest_batch), (Some(0.5), Some(64)));

        let step = r#"{"event":"step","step":2,"epoch":0.5,"loss":1.25,"learning_rate":0.0001,"grad_norm":0.5,"seconds":0.25,"tokens_per_second":900.5,"memory_bytes":4096,"device_bytes":512}"#;
        assert_eq!(reader.metrics_line(step), Some(Report::Progress));
        let expected = Progress {
            percent: 25.0,
            epoch: 0.5,
            total_epochs: 2,
            step: 2,
            total_steps: 8,
            loss: Some(1.25),
            learning_rate: Some(1e-4),
            grad_norm: Some(0.5),
            tokens_per_second: Some(900.5),
            longest_batch: Some(64),
            memory_bytes: Some(4096),
            device_bytes: Some(512),
            peak_bytes: Some(7000),
            seconds_per_step: Some(0.25),
            ..Progress::default()
        };
        assert_eq!(reader.progress(), &expected);

        assert_eq!(reader.metrics_line(r#"{"event":"eval","step":2,"loss":9.0}"#), None);
        assert_eq!(reader.metrics_line(r#"{"event":"checkpoint","step":2,"path":"c"}"#), None);
        assert_eq!(reader.log_line("{'loss': 7.0}"), None, "metrics.jsonl knows better than the log");
        assert_eq!(reader.progress(), &expected);

        let error = r#"{"event":"error","code":"model-not-found","message":"there is no such model"}"#;
        let report = |zh: Option<&str>| Report::Error {
            code: "model-not-found".into(),
            message: "there is no such model".into(),
            message_zh: zh.map(String::from),
        };
        assert_eq!(reader.metrics_line(error), Some(report(None)));
        let both = error.replace('}', r#","message_zh":"没有这个模型"}"#);
        assert_eq!(reader.metrics_line(&both), Some(report(Some("没有这个模型"))));

        let memory = r#"{"event":"memory","peak_bytes":9000,"allocated_bytes":8000}"#;
        assert_eq!(reader.metrics_line(memory), Some(Report::Progress));
        assert_eq!((reader.progress().peak_bytes, reader.progress().peak_allocated_bytes), (Some(9000), Some(8000)));
        reader.metrics_line(r#"{"event":"memory","peak_bytes":1,"allocated_bytes":null}"#);
        assert_eq!((reader.progress().peak_bytes, reader.progress().peak_allocated_bytes), (Some(9000), Some(8000)));

        let end = r#"{"event":"end","steps":8,"loss":0.5,"adapter":"/a"}"#;
        assert_eq!(reader.metrics_line(end), Some(Report::Progress));
        assert_eq!(reader.progress().percent, 100.0);
    }

    #[test]
    fn an_installation_is_shown_like_a_download() {
        let mut reader = ProgressReader::new();
        let line = r#"{"event":"install","phase":"packages","bytes":10,"total_bytes":30}"#;
        assert_eq!(reader.metrics_line(line), Some(Report::Progress));
        assert_eq!(reader.progress().fetch, Some((10, Some(30))));
        assert_eq!(reader.metrics_line(r#"{"event":"install","phase":"python"}"#), Some(Report::Progress));
        assert_eq!(reader.progress().fetch, None);
        assert!(!reader.begun());
    }

    #[test]
    fn a_steps_time_is_the_median_of_the_recent_ones() {
        let mut reader = ProgressReader::new();
        let mut step = |step: u64, seconds: f64| {
            reader.metrics_line(&format!(r#"{{"event":"step","step":{step},"seconds":{seconds}}}"#));
            reader.progress().seconds_per_step
        };
        assert_eq!(step(1, 9.0), Some(9.0), "the first warms up");
        assert_eq!(step(2, 0.0), Some(9.0), "no time is no figure");
        step(3, 1.0);
        assert_eq!(step(4, 1.5), Some(1.5));
        assert_eq!((5..40).map(|number| step(number, 2.0)).last(), Some(Some(2.0)));
        assert_eq!((40..48).map(|number| step(number, 3.0)).last(), Some(Some(3.0)));

        let unknown = r#"{"event":"probe","peak_bytes":null,"allocated_bytes":null,"seconds_per_step":-1}"#;
        assert_eq!(reader.metrics_line(unknown), Some(Report::Progress));
        assert_eq!((reader.progress().peak_bytes, reader.progress().seconds_per_step), (None, Some(3.0)));
    }

    #[test]
    fn a_resumed_attempt_starts_where_it_resumes() {
        let mut reader = ProgressReader::new();
        let start = r#"{"event":"start","total_steps":10,"total_epochs":1,"resumed_from_step":5}"#;
        assert_eq!(reader.metrics_line(start), Some(Report::Begun));
        assert_eq!((reader.progress().step, reader.progress().percent), (5, 50.0));
        assert_eq!(reader.metrics_line(start), Some(Report::Progress), "begun is said once");
    }

    #[test]
    fn any_program_may_write_plain_figures() {
        let mut reader = ProgressReader::new();
        assert_eq!(reader.metrics_line(r#"{"step":3,"loss":0.5,"total_steps":12}"#), Some(Report::Begun));
        assert_eq!((reader.progress().percent, reader.progress().loss), (25.0, Some(0.5)));
        assert_eq!(reader.metrics_line(r#"{"epoch":1.5,"total_epochs":3}"#), Some(Report::Progress));
        assert_eq!(reader.progress().loss, Some(0.5), "what is not mentioned stays");
    }

    #[test]
    fn a_loss_that_is_no_number_is_unknown() {
        let mut reader = ProgressReader::new();
        reader.metrics_line(r#"{"step":1,"loss":0.5}"#);
        assert_eq!(reader.metrics_line(r#"{"step":2,"loss":null}"#), Some(Report::Progress));
        assert_eq!((reader.progress().step, reader.progress().loss), (2, None));

        let mut reader = ProgressReader::new();
        reader.log_line("{'loss': 0.5, 'epoch': 0.1}");
        assert_eq!(reader.log_line("{'loss': nan, 'grad_norm': inf, 'epoch': 0.2}"), Some(Report::Progress));
        assert_eq!((reader.progress().loss, reader.progress().grad_norm), (None, None));
        assert_eq!(reader.progress().epoch, 0.2);
    }

    #[test]
    fn broken_lines_change_nothing() {
        let mut reader = ProgressReader::new();
        for line in [
            "",
            "{",
            "null",
            "[1,2]",
            "5",
            r#"{"event":"start"}"#,
            r#"{"event":"party","step":5,"loss":1}"#,
            r#"{"event":7}"#,
            r#"{"event":"fetch","bytes":-1}"#,
            r#"{"message":"hello"}"#,
            "\u{0}\u{1}",
            "{\"step\":NaN}",
        ] {
            assert_eq!(reader.metrics_line(line), None, "{line}");
        }
        assert_eq!(reader.progress(), &Progress::default());
        let figures = r#"{"step":"x","loss":{},"epoch":-1,"total_epochs":99999999999,"memory_bytes":-3}"#;
        reader.metrics_line(figures);
        assert_eq!(reader.progress(), &Progress::default());
    }

    #[test]
    fn the_log_of_a_hugging_face_run() {
        let mut reader = ProgressReader::new();
        assert_eq!(reader.log_line("Loading checkpoint"), None);
        assert_eq!(reader.log_line("  0%|          | 0/40 [00:00<?, ?it/s]"), Some(Report::Progress));
        let redrawn = "\r 25%|██▌       | 10/40 [00:02<00:06]\r 50%|█████     | 20/40 [00:04<00:04,  5it/s]\n";
        assert_eq!(reader.log_line(redrawn), Some(Report::Begun));
        assert_eq!((reader.progress().step, reader.progress().percent), (20, 50.0));
        assert_eq!(reader.log_line(" 50%|█████     | 1/2 [00:00<00:00]"), None, "a validation's bar");
        let line = "{'loss': 1.5, 'grad_norm': 0.25, 'learning_rate': 2e-05, 'epoch': 1.5}\r\n";
        assert_eq!(reader.log_line(line), Some(Report::Progress));
        assert_eq!(reader.progress().loss, Some(1.5));
        assert_eq!(reader.log_line(line), None, "nothing new");
        assert_eq!(reader.log_line("Epoch 2/3"), Some(Report::Progress));
        assert_eq!((reader.progress().total_epochs, reader.progress().epoch), (3, 1.5));
    }

    #[test]
    fn epochs_alone_are_progress_too() {
        let mut reader = ProgressReader::new();
        assert_eq!(reader.log_line("Epoch 1/4"), Some(Report::Progress));
        assert_eq!(reader.log_line("Epoch 3/4 - loss: 0.3"), Some(Report::Begun));
        assert_eq!(reader.progress().percent, 50.0);
        assert_eq!(reader.log_line("train:  50%|█████     | 20/40 [00:04<00:04]"), Some(Report::Progress));
        assert_eq!((reader.progress().epoch, reader.progress().percent), (2.5, 62.5), "a bar within the epoch");
    }
}
