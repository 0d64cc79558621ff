//! Jobs as somebody once submitted them.

use crate::Random;

/// Jobs in the order of submission; the first comes at second 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub submissions: Vec<Submission>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Submission {
    pub submit_s: f64,
    /// How long it runs when it has its GPUs to itself.
    pub duration_s: f64,
    pub gpus: u32,
}

/// Lines count from 1, the header included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    #[error("the trace is empty: its first line must name the columns submit_s, duration_s and gpus")]
    Empty,
    #[error("the trace has no jobs: every line after the header is one")]
    NoJobs,
    #[error("line 1 has no column {0}: the header must name submit_s, duration_s and gpus, in any order")]
    NoColumn(&'static str),
    #[error("line 1 names the column {0} twice")]
    ColumnTwice(&'static str),
    #[error("line {line} ends before its column {column}")]
    Short { line: usize, column: &'static str },
    #[error("line {line}: {column} is {value:?}, which is not {expected}")]
    Value { line: usize, column: &'static str, value: String, expected: &'static str },
}

/// No trace is longer than this, about 300 years.
const LONGEST_S: f64 = 1e10;

impl Trace {
    /// Comma-separated with a header that names `submit_s`, `duration_s` (seconds) and `gpus`, in any order; other
    /// columns are ignored, lines may come in any order.
    pub fn parse(csv: &str) -> Result<Trace, TraceError> {
        let mut lines = csv.trim_start_matches('\u{feff}').lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let (header, _) = lines.next().ok_or(TraceError::Empty)?;
        let header = fields(header);
        let column = |name: &'static str| {
            let mut found = header.iter().enumerate().filter(|(_, field)| field.eq_ignore_ascii_case(name));
            match (found.next(), found.next()) {
                (Some((index, _)), None) => Ok((name, index)),
                (None, _) => Err(TraceError::NoColumn(name)),
                _ => Err(TraceError::ColumnTwice(name)),
            }
        };
        let (submit, duration, gpus) = (column("submit_s")?, column("duration_s")?, column("gpus")?);
        let mut submissions = Vec::new();
        for (text, line) in lines {
            let fields = fields(text);
            let number = |(column, index): (&'static str, usize), expected, is_valid: fn(f64) -> bool| {
                let value = fields.get(index).ok_or(TraceError::Short { line, column })?;
                let number = value.parse().ok().filter(|number| is_valid(*number));
                number.ok_or_else(|| TraceError::Value { line, column, value: value.clone(), expected })
            };
            let is_time = |seconds: f64| (0.0..=LONGEST_S).contains(&seconds);
            submissions.push(Submission {
                submit_s: number(submit, "a number of seconds from 0 to 1e10", is_time)?,
                duration_s: number(duration, "a number of seconds from 0 to 1e10", is_time)?,
                gpus: number(gpus, "a whole number from 1 to 65536", |gpus| {
                    (1.0..=65536.0).contains(&gpus) && gpus.fract() == 0.0
                })? as u32,
            });
        }
        submissions.sort_by(|a: &Submission, b| a.submit_s.total_cmp(&b.submit_s));
        let first = submissions.first().ok_or(TraceError::NoJobs)?.submit_s;
        for submission in &mut submissions {
            submission.submit_s -= first;
        }
        Ok(Trace { submissions })
    }

    /// So many of its jobs, drawn by the seed, all submitted at once; all of them if there are not so many.
    pub fn burst(&self, jobs: usize, seed: u64) -> Trace {
        let mut random = Random::new(seed);
        let mut left = self.submissions.clone();
        let count = jobs.min(left.len());
        let draw = |_| Submission { submit_s: 0.0, ..left.swap_remove(random.below(left.len())) };
        Trace { submissions: (0..count).map(draw).collect() }
    }

    /// From the first submission to the last, in seconds.
    pub fn span_s(&self) -> f64 {
        self.submissions.last().map_or(0.0, |last| last.submit_s)
    }

    /// GPU-seconds asked for on a machine with so many GPUs where no job runs longer than `cap_s`.
    pub fn gpu_seconds(&self, gpus: u32, cap_s: f64) -> f64 {
        self.submissions.iter().map(|job| job.duration_s.min(cap_s) * f64::from(job.gpus.min(gpus))).sum()
    }

    /// The load of all GPUs at which a machine that runs one job at a time is busy this share of the time.
    pub fn load_of_one_at_a_time(&self, busy: f64, gpus: u32, cap_s: f64) -> f64 {
        busy * self.gpu_seconds(gpus, cap_s) / (f64::from(gpus) * self.gpu_seconds(1, cap_s))
    }
}

/// One line's fields, trimmed; `"a, b"` is one field.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is always one").push(character),
        }
    }
    fields.into_iter().map(|field| field.trim().to_owned()).collect()
}
