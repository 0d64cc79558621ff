//! Jobs as somebody once submitted them.

use std::fmt;

use domain::Language;

use crate::Random;

/// Jobs in the order of submission; the first comes at second 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub submissions: Vec<Submission>,
    /// Lines left out because they ask for no GPU.
    pub without_gpus: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Submission {
    pub submit_s: f64,
    /// How long it runs when it has its GPUs to itself.
    pub duration_s: f64,
    pub gpus: u32,
}

/// Lines count from 1, the header included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceError {
    Empty,
    /// None on a GPU at least.
    NoJobs,
    NoColumn(&'static str),
    ColumnTwice(&'static str),
    Short {
        line: usize,
        column: &'static str,
    },
    Value {
        line: usize,
        column: &'static str,
        value: String,
        expected: Expected,
    },
}

/// What a field must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Seconds,
    Gpus,
}

impl Expected {
    fn sentence(self, language: Language) -> &'static str {
        match (self, language) {
            (Expected::Seconds, Language::Zh) => "0 到 1e10 之间的秒数",
            (Expected::Seconds, Language::En) => "a number of seconds from 0 to 1e10",
            (Expected::Gpus, Language::Zh) => "0 到 65536 之间的整数",
            (Expected::Gpus, Language::En) => "a whole number from 0 to 65536",
        }
    }
}

impl TraceError {
    /// What is wrong and where, for people.
    pub fn sentence(&self, language: Language) -> String {
        let zh = language == Language::Zh;
        match self {
            TraceError::Empty if zh => "文件为空：第一行须写明列名 submit_s、duration_s 和 gpus".into(),
            TraceError::Empty => {
                "the trace is empty: its first line must name the columns submit_s, duration_s and gpus".into()
            }
            TraceError::NoJobs if zh => "没有使用 GPU 的任务：标题行之后每行为一个任务".into(),
            TraceError::NoJobs => "the trace has no jobs on GPUs: every line after the header is one job".into(),
            TraceError::NoColumn(column) if zh => {
                format!("第 1 行没有 {column} 列：须包含 submit_s、duration_s 和 gpus，顺序不限")
            }
            TraceError::NoColumn(column) => format!(
                "line 1 has no column {column}: the header must name submit_s, duration_s and gpus, in any order"
            ),
            TraceError::ColumnTwice(column) if zh => format!("第 1 行重复出现 {column} 列"),
            TraceError::ColumnTwice(column) => format!("line 1 names the column {column} twice"),
            TraceError::Short { line, column } if zh => format!("第 {line} 行缺少 {column} 列"),
            TraceError::Short { line, column } => format!("line {line} ends before its column {column}"),
            TraceError::Value { line, column, value, expected } if zh => {
                format!("第 {line} 行：{column} 为 {value:?}，应为{}", expected.sentence(language))
            }
            TraceError::Value { line, column, value, expected } => {
                format!("line {line}: {column} is {value:?}, which is not {}", expected.sentence(language))
            }
        }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(Language::En))
    }
}

impl std::error::Error for TraceError {}

/// No trace is longer than this, about 300 years.
const LONGEST_S: f64 = 1e10;

impl Trace {
    /// Comma-separated with a header that names `submit_s`, `duration_s` (seconds) and `gpus`, in any order; other
    /// columns are ignored, lines may come in any order. Jobs on no GPU are left out.
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
        let (mut submissions, mut without_gpus) = (Vec::new(), 0);
        for (text, line) in lines {
            let fields = fields(text);
            let number = |(column, index): (&'static str, usize), expected, is_valid: fn(f64) -> bool| {
                let value = fields.get(index).ok_or(TraceError::Short { line, column })?;
                let number = value.parse().ok().filter(|number| is_valid(*number));
                number.ok_or_else(|| TraceError::Value { line, column, value: value.clone(), expected })
            };
            let is_time = |seconds: f64| (0.0..=LONGEST_S).contains(&seconds);
            let is_count = |gpus: f64| (0.0..=65536.0).contains(&gpus) && gpus.fract() == 0.0;
            let submission = Submission {
                submit_s: number(submit, Expected::Seconds, is_time)?,
                duration_s: number(duration, Expected::Seconds, is_time)?,
                gpus: number(gpus, Expected::Gpus, is_count)? as u32,
            };
            if submission.gpus == 0 {
                without_gpus += 1;
            } else {
                submissions.push(submission);
            }
        }
        submissions.sort_by(|a: &Submission, b| a.submit_s.total_cmp(&b.submit_s));
        let first = submissions.first().ok_or(TraceError::NoJobs)?.submit_s;
        for submission in &mut submissions {
            submission.submit_s -= first;
        }
        Ok(Trace { submissions, without_gpus })
    }

    /// So many of its jobs, drawn by the seed, all submitted at once; all of them if there are not so many.
    pub fn burst(&self, jobs: usize, seed: u64) -> Trace {
        let mut random = Random::new(seed);
        let mut left = self.submissions.clone();
        let count = jobs.min(left.len());
        let draw = |_| Submission { submit_s: 0.0, ..left.swap_remove(random.below(left.len())) };
        Trace { submissions: (0..count).map(draw).collect(), without_gpus: 0 }
    }

    /// From the first submission to the last, in seconds.
    pub fn span_s(&self) -> f64 {
        self.submissions.last().map_or(0.0, |last| last.submit_s)
    }

    /// Arrivals at one moment cannot be stretched to a load.
    pub fn can_be_stretched(&self) -> bool {
        self.span_s() > 0.0
    }

    /// Jobs that are cut to so many seconds.
    pub fn longer_than(&self, cap_s: f64) -> usize {
        self.submissions.iter().filter(|job| job.duration_s > cap_s).count()
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
