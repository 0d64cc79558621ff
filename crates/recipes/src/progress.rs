//! How far a training has come, read from what it writes.

use std::io::BufRead;

use domain::Progress;

/// What one line changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The figures of [`ProgressReader::progress`] changed.
    Progress,
    /// Training proper has begun, said once; the figures may have changed too.
    Begun,
    /// The training says itself why it fails.
    Error { code: String, message: String },
}

/// Follows one attempt, line by line. Lines that mean nothing are skipped.
#[derive(Debug, Clone, Default)]
pub struct ProgressReader {
    progress: Progress,
    begun: bool,
}

impl ProgressReader {
    pub fn new() -> ProgressReader {
        ProgressReader::default()
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn begun(&self) -> bool {
        self.begun
    }

    /// A line of metrics.jsonl.
    pub fn metrics_line(&mut self, line: &str) -> Option<Report> {
        let _ = line;
        todo!()
    }

    /// A line of the training's log.
    pub fn log_line(&mut self, line: &str) -> Option<Report> {
        let _ = line;
        todo!()
    }
}

/// One point of the loss curve.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPoint {
    pub step: u64,
    pub epoch: f64,
    pub loss: f64,
    pub learning_rate: Option<f64>,
    pub grad_norm: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// Loss on the held-out examples.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalPoint {
    pub step: u64,
    pub loss: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsPoints {
    pub train: Vec<TrainPoint>,
    pub eval: Vec<EvalPoint>,
}

/// The curves of a whole metrics.jsonl, evenly thinned to at most `max_points` each; the first and last point stay.
pub fn metrics_points(reader: impl BufRead, max_points: usize) -> std::io::Result<MetricsPoints> {
    let _ = (reader, max_points);
    todo!()
}
