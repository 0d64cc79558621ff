//! Follows one attempt from launch to end and tells the loop what matters.

use std::{fs, io, path::Path, pin::pin, sync::Arc, time::Duration};

use domain::{Failure, Grant, Home, Measurement, Method, Recipe, Task, TaskId};
use jiff::Timestamp;
use recipes::progress::{self, ProgressReader};
use runner::{AttemptEnd, Chunk, End, ExitRecord, Launched, Started};
use store::Reader;
use tokio::time::Instant;

use crate::{
    Event,
    backoff::Backoff,
    clock::{ensure_stamped, stamped},
    lines::Lines,
    message::{Fact, Message, Outbox, Outcome, Report},
    needs,
    tail::Tail,
};

/// Subscribers hear of progress at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// File in the attempt's folder with the length that metrics.jsonl had at its start, in bytes.
const METRICS_OFFSET: &str = "metrics_offset";
/// Of a log that grows faster than it is read, only so many newest bytes are looked at.
const LOG_READ: u64 = 1 << 20;
/// How much of an adopted attempt's log is read again for its last lines.
const ADOPTED_LOG: u64 = 64 << 10;

pub struct Watched {
    pub task: Task,
    pub attempt: u32,
    pub grant: Grant,
    /// What is executed, for people.
    pub program: String,
    /// `None`: the attempt was launched by an earlier studio process.
    pub launched: Option<Launched>,
    pub from: Offsets,
}

/// Where the attempt's part of the task's files begins, in bytes.
#[derive(Clone, Copy)]
pub struct Offsets {
    log: u64,
    metrics: u64,
}

impl Offsets {
    /// Of an attempt that is about to be launched: its files end where it begins.
    pub fn of_next(home: &Home, task: TaskId, attempt: u32) -> Offsets {
        let (log, metrics) = (size(&home.training_log(task)), size(&home.metrics(task)));
        let note = home.attempt(task, attempt).join(METRICS_OFFSET);
        // Without it, it was 0.
        if metrics > 0
            && let Err(error) = fs::write(&note, metrics.to_string())
        {
            // Adopted, it would show what earlier attempts reported until it reports something itself.
            tracing::warn!("{}: {error}", note.display());
        }
        Offsets { log, metrics }
    }

    /// Of an attempt that runs: its log is read again for its last lines only.
    pub fn of_adopted(home: &Home, task: TaskId, attempt: u32) -> Offsets {
        let log = size(&home.training_log(task)).saturating_sub(ADOPTED_LOG);
        Offsets { log, metrics: metrics_offset(&home.attempt(task, attempt)) }
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// An error in the training's own words.
struct Said {
    code: String,
    message: String,
    message_zh: Option<String>,
}

impl Watched {
    fn is_fine_tune(&self) -> bool {
        matches!(self.task.recipe, Recipe::FineTune(_))
    }
}

/// Runs until no process of the attempt is left, then reports how it went.
pub async fn watch(watched: Watched, home: Home, reader: Arc<Reader>, outbox: Outbox) {
    let mut watcher = Watcher {
        home,
        outbox,
        progress: ProgressReader::new(),
        metrics: Lines::default(),
        log: Lines::default(),
        error: None,
        out_of_memory: None,
        last_line: None,
        publish_at: None,
        published: None,
        watched,
    };
    let end = watcher.follow().await;
    let outcome = watcher.judge(end);
    watcher.publish_progress();
    let (outcome, measurement) = watcher.learn(outcome, reader).await;
    if let Some(measurement) = measurement {
        watcher.report(Fact::Measured(measurement));
    }
    watcher.report(Fact::Ended(outcome));
}

struct Watcher {
    watched: Watched,
    home: Home,
    outbox: Outbox,
    progress: ProgressReader,
    metrics: Lines,
    log: Lines,
    /// What the training itself said went wrong.
    error: Option<Said>,
    /// A line of the log that says the device's memory did not suffice.
    out_of_memory: Option<String>,
    last_line: Option<String>,
    publish_at: Option<Instant>,
    published: Option<Instant>,
}

impl Watcher {
    async fn follow(&mut self) -> AttemptEnd {
        let Watched { ref task, attempt, from, .. } = self.watched;
        let task = task.id;
        let folder = self.home.attempt(task, attempt);
        let mut metrics = Tail::new(&self.home.metrics(task), from.metrics);
        let mut log = Tail::new(&self.home.training_log(task), from.log).keep_up(LOG_READ);
        let launched = self.watched.launched.take();
        // The first piece of a log cut in the middle is no whole line.
        self.log.skip_first = from.log > 0 && launched.is_none();

        let started = || async {
            match &launched {
                Some(launched) => launched.started().await,
                None => runner::wait_started(&folder).await,
            }
        };
        let ended = || async {
            match &launched {
                Some(launched) => launched.ended().await,
                None => runner::wait_end(&folder).await,
            }
        };
        let end = match insist(&folder, started).await {
            Started::Over(end) => end,
            Started::Running(record) => {
                let pid = record.task.pid;
                self.outbox.view.update_live(task, |live| live.pid = Some(pid));
                self.report(Fact::Launched { pid });
                if !self.watched.is_fine_tune() {
                    self.report(Fact::TrainingBegan);
                }
                let mut end = pin!(insist(&folder, ended));
                loop {
                    let publish_at = self.publish_at;
                    tokio::select! {
                        biased;
                        end = &mut end => break end,
                        chunk = metrics.next() => self.read_metrics(&chunk),
                        chunk = log.next() => self.read_log(&chunk),
                        () = sleep_until(publish_at) => self.publish_progress(),
                    }
                }
            }
        };
        while let Some(chunk) = metrics.read_now() {
            self.read_metrics(&chunk);
        }
        while let Some(chunk) = log.read_now() {
            self.read_log(&chunk);
        }
        self.flush_lines();
        if let AttemptEnd::Ended(ExitRecord { lost_log_bytes: bytes @ 1.., .. }) = end {
            self.note_lost(bytes);
        }
        end
    }

    /// The log does not say itself that a part of it is missing.
    fn note_lost(&self, bytes: u64) {
        let bytes = domain::gib(bytes);
        let note = format!(
            "日志超过上限（[tasks] log_cap_mb），中间的 {bytes} 已丢弃 / the log outgrew its cap ([tasks] log_cap_mb): {bytes} from \
             its middle were given up"
        );
        let note = stamped(Timestamp::now(), note);
        self.outbox.view.update_live(self.watched.task.id, |live| live.push_line(note));
    }

    fn read_metrics(&mut self, chunk: &Chunk) {
        for line in self.metrics.feed(&chunk.bytes) {
            let heard = self.progress.metrics_line(&line);
            self.heard(heard);
        }
    }

    fn read_log(&mut self, chunk: &Chunk) {
        let lines = self.log.feed(&chunk.bytes);
        self.log_lines(lines);
    }

    /// Ends of files that lack a line break.
    fn flush_lines(&mut self) {
        if let Some(line) = self.metrics.rest() {
            let heard = self.progress.metrics_line(&line);
            self.heard(heard);
        }
        let rest = self.log.rest();
        self.log_lines(rest.into_iter().collect());
    }

    fn log_lines(&mut self, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let now = Timestamp::now();
        for line in &lines {
            // Our own trainer says everything in metrics.jsonl; its log repeats it for people.
            if !self.watched.is_fine_tune() {
                let heard = self.progress.log_line(line);
                self.heard(heard);
            }
            if self.out_of_memory.is_none() && progress::out_of_memory(line) {
                self.out_of_memory = Some(line.clone());
            }
            self.last_line = Some(line.clone());
        }
        self.outbox.view.update_live(self.watched.task.id, |live| {
            for line in &lines {
                live.push_line(ensure_stamped(now, line));
            }
        });
    }

    fn heard(&mut self, report: Option<progress::Report>) {
        match report {
            None => return,
            Some(progress::Report::Progress) => {}
            Some(progress::Report::Begun) => self.report(Fact::TrainingBegan),
            Some(progress::Report::Probe { peak_bytes, seconds_per_step, .. }) => {
                self.report(Fact::Probed { peak_bytes, seconds_per_step });
            }
            Some(progress::Report::Error { code, message, message_zh }) => {
                self.error = Some(Said { code, message, message_zh });
            }
        }
        let earliest = self.published.map_or_else(Instant::now, |last| last + PROGRESS_EVERY);
        self.publish_at.get_or_insert(earliest);
        let progress = self.progress.progress().clone();
        self.outbox.view.update_live(self.watched.task.id, |live| live.progress = progress);
    }

    /// Sends the present figures and waits before the next time.
    fn publish_progress(&mut self) {
        let progress = Arc::new(self.progress.progress().clone());
        self.outbox.publish(Event::Progress { task: self.watched.task.id, progress });
        self.publish_at = None;
        self.published = Some(Instant::now());
    }

    fn report(&self, fact: Fact) {
        let report = Report { task: self.watched.task.id, attempt: self.watched.attempt, fact };
        self.outbox.send(Message::Report(Box::new(report)));
    }

    fn judge(&mut self, end: AttemptEnd) -> Outcome {
        let failure = match end {
            AttemptEnd::SupervisorLost => Failure::SupervisorLost,
            AttemptEnd::Interrupted => Failure::Interrupted,
            AttemptEnd::Ended(record) => match record.end {
                End::Exited { exit_code: 0 } => return self.judge_result(),
                End::Cancelled { .. } => return Outcome::Stopped,
                End::TimedOut { .. } => Failure::TimedOut { limit: self.watched.task.time_limit },
                End::ExecFailed { message } => Failure::ExecFailed { program: self.watched.program.clone(), message },
                End::OutOfHostMemory => Failure::OutOfHostMemory,
                End::Exited { exit_code } => match (self.error.take(), self.out_of_memory.take()) {
                    (Some(Said { code: error_code, message, message_zh }), _) => {
                        Failure::Reported { error_code, message, message_zh }
                    }
                    (None, Some(message)) => Failure::OutOfDeviceMemory { message },
                    (None, None) => Failure::ExitCode { exit_code, last_line: self.last_line.take() },
                },
                End::Signaled { signal } => Failure::Signal { signal },
            },
        };
        Outcome::Failed(failure)
    }

    /// What the attempt teaches about its needs, and what to change if it lacked memory. Reads files of the model.
    async fn learn(&self, outcome: Outcome, reader: Arc<Reader>) -> (Outcome, Option<Measurement>) {
        if !self.watched.is_fine_tune() {
            return (outcome, None);
        }
        let Watched { task, grant, .. } = &self.watched;
        let (task, grant) = (task.clone(), grant.clone());
        let (progress, home) = (self.progress.progress().clone(), self.home.clone());
        let inventory = self.outbox.view.devices().map(|devices| devices.inventory.clone());
        let learnt = move || needs::learn(&task, &grant, outcome, &progress, &home, inventory.as_deref(), &reader);
        tokio::task::spawn_blocking(learnt).await.expect("learning does not panic")
    }

    /// Exit code 0 is not enough for a fine-tune: what it was to make must be there.
    fn judge_result(&self) -> Outcome {
        let Recipe::FineTune(recipe) = &self.watched.task.recipe else { return Outcome::Completed };
        let folder = self.home.task(self.watched.task.id);
        let made = match recipe.method {
            Method::Lora => folder.join("adapter_model.safetensors"),
            Method::Full => folder.join("model/config.json"),
        };
        if made.is_file() {
            return Outcome::Completed;
        }
        Outcome::Failed(Failure::Reported {
            error_code: "no-adapter".into(),
            message: format!("the trainer ended without a result at {}", made.display()),
            message_zh: Some(format!("训练器已结束，但没有写出结果 {}", made.display())),
        })
    }
}

/// Where the attempt's part of metrics.jsonl begins; what is before it is of earlier attempts.
fn metrics_offset(attempt_dir: &Path) -> u64 {
    let written = fs::read_to_string(attempt_dir.join(METRICS_OFFSET)).ok();
    written.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// An attempt is over when that is known, never because it could not be looked at for a while: its processes may live, and
/// the next attempt would run beside them.
async fn insist<T, F: Future<Output = io::Result<T>>>(folder: &Path, wait: impl Fn() -> F) -> T {
    let mut backoff = Backoff::default();
    loop {
        match wait().await {
            Ok(seen) => return seen,
            Err(error) => {
                let pause = backoff.next();
                tracing::warn!("{} cannot be watched, tried again in {pause:?}: {error}", folder.display());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Ends an attempt of which it is unknown whether a supervisor took it. Returns when none ever will, and no process of it
/// is left.
pub async fn make_sure_it_is_over(folder: &Path) {
    insist(folder, || async {
        runner::kill_now(folder)?;
        runner::wait_end(folder).await
    })
    .await;
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
