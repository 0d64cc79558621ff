//! What happens to attempts and devices.

use std::time::{Duration, Instant};

use domain::{
    Adjustment, AlonePace, DeviceId, Estimate, Failure, Grant, Language, Recipe, StateKind, Task, TaskId, TaskState,
    WaitCause, WaitReason, Warning,
};
use jiff::Timestamp;
use scheduler::{Preempt, PreemptReason};
use store::{Change, Revision, TaskRecord, Ticket, Transition};

use crate::{
    clock::stamped,
    devices,
    machine::Machine,
    message::{Fact, Outcome, Report},
    needs,
    turn::{Effect, Turn},
    view::Live,
};

/// A fine-tune is tried again so often after failures that were not its own.
const RETRIES: u32 = 3;
/// No retry waits for longer.
pub const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// A pause between plans that an end cuts short.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

impl Machine {
    pub fn hear(&mut self, report: Report, turn: &mut Turn) {
        let Some(running) = self.running.get_mut(&report.task) else { return };
        if running.attempt.number != report.attempt {
            return;
        }
        turn.reports.push(report.clone());
        let stopping = running.task.state.kind().is_final();
        match report.fact {
            Fact::Launched { pid } => {
                running.attempt.pid = Some(pid);
                if let TaskState::Preparing { attempt } | TaskState::Training { attempt } = &mut running.task.state {
                    attempt.pid = Some(pid);
                }
            }
            Fact::TrainingBegan if running.task.state.kind() == StateKind::Preparing => {
                let to = TaskState::Training { attempt: running.attempt.clone() };
                self.advance(report.task, to, "training began", turn);
            }
            Fact::TrainingBegan => {}
            Fact::Probed { peak_bytes, seconds_per_step } => {
                self.take_measured(report.task, peak_bytes, seconds_per_step, turn);
            }
            Fact::Measured(measurement) => {
                turn.changes.push(Change::Measured { task: report.task, at: Timestamp::now(), measurement });
            }
            Fact::Refused { .. } if stopping => self.attempt_is_over(report.task, turn),
            Fact::Refused { device, cause } => self.refuse(report.task, device, cause, turn),
            Fact::Ended(_) if stopping => self.attempt_is_over(report.task, turn),
            Fact::Ended(Outcome::Stopped) if running.is_pausing() && running.task.terms.broken.is_none() => {
                self.make_way(report.task, turn);
            }
            Fact::Ended(outcome) => match (running.task.terms.broken.take(), outcome) {
                (None, Outcome::OutOfMemory { next: Some((adjustment, estimate)), .. }) => {
                    self.try_safer(report.task, adjustment, estimate, turn);
                }
                (broken, outcome) => {
                    let outcome = broken.map_or(outcome, Outcome::Failed);
                    let began_step = self.outbox.view.progress(report.task).began_step;
                    if let Some(failure) = retries(&running.task, began_step, &outcome) {
                        return self.try_again(report.task, failure, turn);
                    }
                    let (to, why) = ended(outcome, running.attempt.started_at, Timestamp::now());
                    self.advance(report.task, to, &why, turn);
                    self.attempt_is_over(report.task, turn);
                }
            },
        }
    }

    /// Gives back what the attempt held.
    fn attempt_is_over(&mut self, id: TaskId, turn: &mut Turn) {
        let running = self.running.remove(&id).expect("it was running");
        let number = running.attempt.number;
        turn.changes.push(Change::EndAttempt { task: id, number, at: Timestamp::now() });
        turn.effects.push(Effect::ForgetLive(id));
        if running.removed {
            turn.effects.push(Effect::RemoveFiles(id));
        }
        self.refusals.forget(id);
        self.usage.add(&running.task.owner, &running.attempt, Timestamp::now());
        // Its memory is free only once it was measured to be.
        self.detection.refresh();
        // What is free must not wait for a plan, unless plans are costly and many tasks end at once.
        let now = Instant::now();
        if self.plan_again_at <= now + SHORT_PAUSE {
            self.plan_again_at = now;
        }
    }

    /// The granted memory was not there after all: back to the queue, away from that device for a while.
    fn refuse(&mut self, id: TaskId, device: DeviceId, cause: WaitCause, turn: &mut Turn) {
        self.refusals.add(id, device, cause.clone(), Instant::now());
        // Readings show who took it.
        self.detection.refresh();
        let sentence = |language| WaitReason::new(1, cause.clone()).sentence(language);
        let note = format!("{} / {}", sentence(Language::Zh), sentence(Language::En));
        self.requeue(id, cause.clone(), note, "the trial allocation failed", turn);
    }

    /// The failure was not the training's own: the same again, after a pause.
    fn try_again(&mut self, id: TaskId, failure: Failure, turn: &mut Turn) {
        self.take_stock(id);
        let began_step = self.outbox.view.progress(id).began_step;
        let running = self.running.get_mut(&id).expect("it was running");
        let terms = &mut running.task.terms;
        let at = Timestamp::now() + pause(self.settings.retry_after, terms.retried_in_a_row(began_step));
        terms.count_retry(began_step);
        terms.retry_after = Some(failure.code().to_owned());
        terms.not_before = Some(at);
        (terms.paused, terms.broken) = (None, None);
        let cause = WaitCause::Retry { failure: failure.code().to_owned(), retry: terms.retried, at };
        let said = |language| failure.sentence(language);
        let note = format!(
            "{} 稍后从上一个检查点重试 / {} It is tried again from the last checkpoint",
            said(Language::Zh),
            said(Language::En)
        );
        self.usage.add(&running.task.owner, &running.attempt, Timestamp::now());
        turn.changes.push(Change::Revise(Box::new(Revision::of(&running.task))));
        self.requeue(id, cause, note, &format!("{}; tried again", failure.code()), turn);
        self.refusals.forget(id);
        self.detection.refresh();
    }

    /// After an out-of-memory the same configuration is not tried again.
    fn try_safer(&mut self, id: TaskId, adjustment: Adjustment, estimate: Option<Estimate>, turn: &mut Turn) {
        self.take_stock(id);
        let running = self.running.get_mut(&id).expect("it was running");
        (running.task.terms.paused, running.task.terms.broken) = (None, None);
        // Other steps take another time.
        running.task.terms.pace = None;
        running.task.adjustments.push(adjustment);
        running.task.estimate = estimate.or(running.task.estimate.take());
        turn.changes.push(Change::Revise(Box::new(Revision::of(&running.task))));
        let Recipe::FineTune(asked) = &running.task.recipe else { unreachable!("only fine-tunes have a next step") };
        let (zh, en) = recipes::ladder::describe(asked, &running.task.adjustments);
        let note =
            format!("显存不足，{zh}后从上一个检查点继续 / out of memory: {en}, then on from the last checkpoint");
        let cause = self.present_cause();
        self.requeue(id, cause, note, &format!("out of memory; next with: {en}"), turn);
        self.refusals.forget(id);
    }

    /// Ends the attempt but not the task, which waits again where its age puts it.
    fn requeue(&mut self, id: TaskId, cause: WaitCause, note: String, why: &str, turn: &mut Turn) {
        let running = self.running.remove(&id).expect("it was running");
        let (mut task, at) = (running.task, Timestamp::now());
        let from = task.state.kind();
        let live = self.outbox.view.live(id);
        let mut log = live.log_tail();
        log.push(stamped(at, note));
        let position = self.join_queue(Ticket::of(&task, &live.progress));
        task.state = TaskState::Queued { reason: WaitReason::new(position, cause) };
        let (to, who, progress) = (task.state.clone(), "studio".to_owned(), live.progress);
        let record = TaskRecord {
            task: task.clone(),
            progress: progress.clone(),
            log: log.clone(),
            attempts: running.attempt.number,
        };
        turn.transition(&task, Transition { task: id, from, to, at, who, why: why.to_owned(), progress, log });
        turn.changes.push(Change::EndAttempt { task: id, number: running.attempt.number, at });
        turn.effects.push(Effect::ForgetLive(id));
        turn.requeued.insert(id, record);
        tracing::info!("[FinetuneManager] 任务回到队列: {id} ({why})");
    }

    /// Asks a running task to save and end; when it has, [`Machine::make_way`] puts it back into the queue.
    pub fn preempt(&mut self, preempt: &Preempt, turn: &mut Turn) {
        let Some(running) = self.running.get(&preempt.task) else { return };
        let cause = match preempt.why {
            PreemptReason::ToMove => WaitCause::Moving,
            PreemptReason::InFavourOf(by) => WaitCause::Preempted { by },
            PreemptReason::NotPaying { with, gain_percent } => WaitCause::NotPaying { with, gain_percent },
            PreemptReason::Reclaimed { pid } => {
                let (device, service) = self.service(&running.attempt.grant, pid);
                WaitCause::Reclaimed { device, service }
            }
        };
        let running = self.running.get_mut(&preempt.task).expect("it is running");
        running.pause(cause, turn);
    }

    /// Remembers how long the attempt has run, and how fast.
    fn take_stock(&mut self, id: TaskId) {
        let device = self.model(&self.running[&id].attempt.grant);
        let running = self.running.get_mut(&id).expect("it was running");
        running.task.terms.used += running.ran(Timestamp::now());
        if let Some((device, seconds_per_step)) = device.zip(running.pace.alone()) {
            running.task.terms.pace = Some(AlonePace { device, seconds_per_step });
        }
    }

    /// The paused attempt has ended at a checkpoint.
    fn make_way(&mut self, id: TaskId, turn: &mut Turn) {
        self.take_stock(id);
        let running = self.running.get_mut(&id).expect("it was running");
        let cause = running.task.terms.paused.clone().expect("it was paused");
        self.usage.add(&running.task.owner, &running.attempt, Timestamp::now());
        match cause {
            WaitCause::NotPaying { .. } => running.task.terms.alone = true,
            WaitCause::HostMemory { .. } => self.memory.paused(Instant::now()),
            _ => {}
        }
        turn.changes.push(Change::Revise(Box::new(Revision::of(&running.task))));
        let (zh, en) = (cause.of_pause(Language::Zh), cause.of_pause(Language::En));
        let note = format!("在检查点暂停：{zh} / paused at a checkpoint: {en}");
        self.requeue(id, cause, note, &format!("paused: {en}"), turn);
        self.detection.refresh();
    }

    /// Where the process is among the granted devices, and what it is called.
    fn service(&self, grant: &Grant, pid: u32) -> (String, String) {
        let readings = grant.devices.iter().filter_map(|granted| self.inventory.as_ref()?.get(&granted.device));
        let found = readings.into_iter().find_map(|reading| {
            let process = reading.processes.iter().find(|process| process.pid == pid)?;
            let name = process.service.clone().or_else(|| process.name.clone());
            Some((scheduler::label(reading), name.unwrap_or_else(|| format!("pid {pid}"))))
        });
        found.unwrap_or_else(|| ("GPU".into(), format!("pid {pid}")))
    }

    /// Two steps were measured: that is what the attempt holds from now on, whatever had been estimated.
    fn take_measured(&mut self, id: TaskId, peak: u64, seconds: Option<f64>, turn: &mut Turn) {
        let running = self.running.get_mut(&id).expect("it was running");
        let Some(estimate) = needs::after_probe(&running.task, peak, seconds) else { return };
        for granted in &mut running.attempt.grant.devices {
            granted.bytes = granted.bytes.map(|_| estimate.grant_bytes);
        }
        let attempt = running.attempt.clone();
        if let TaskState::Preparing { attempt: shown } | TaskState::Training { attempt: shown } =
            &mut running.task.state
        {
            shown.grant = attempt.grant.clone();
        }
        running.task.estimate = Some(estimate);
        turn.changes.push(Change::Revise(Box::new(Revision::of(&running.task))));
        turn.changes.push(Change::Regrant { task: id, attempt });
    }

    /// Ends what runs on devices that are gone, and warns where others took what was promised.
    pub fn look_after_devices(&mut self, turn: &mut Turn) {
        let Some(inventory) = self.inventory.clone() else { return };
        for (id, failure) in devices::lost(&inventory, &self.running) {
            let running = self.running.get_mut(&id).expect("it is running");
            if running.task.terms.broken.is_none() && !running.task.state.kind().is_final() {
                tracing::error!("{id}: {}", failure.sentence(Language::En));
                running.task.terms.broken = Some(failure);
                turn.changes.push(Change::Revise(Box::new(Revision::of(&running.task))));
                turn.effects.push(Effect::Stop { task: id, attempt: running.attempt.number, now: true });
            }
        }
        for (id, pid, warning) in devices::squeezed(&inventory, &self.holders(Timestamp::now())) {
            let running = self.running.get_mut(&id).expect("it is running");
            // Once for each program.
            if !running.blamed.contains(&pid) && !running.task.state.kind().is_final() {
                running.blamed.push(pid);
                self.warn(id, warning, turn);
            }
        }
    }

    pub fn warn(&mut self, id: TaskId, warning: Warning, turn: &mut Turn) {
        let running = self.running.get_mut(&id).expect("it is running");
        let at = Timestamp::now();
        let note = stamped(at, format!("{} / {}", warning.zh, warning.en));
        let why = warning.en.clone();
        running.task.warnings.push(warning);
        let (task, state) = (running.task.clone(), running.task.state.clone());
        self.outbox.view.update_live(id, |live| live.notes.push(note));
        let Live { progress, notes: log, .. } = self.outbox.view.live(id);
        turn.changes.push(Change::Revise(Box::new(Revision::of(&task))));
        let (from, who) = (state.kind(), "studio".to_owned());
        turn.transition(&task, Transition { task: id, from, to: state, at, who, why, progress, log });
    }

    /// Moves a running task on by itself.
    fn advance(&mut self, id: TaskId, to: TaskState, why: &str, turn: &mut Turn) {
        let running = self.running.get_mut(&id).expect("only running tasks advance");
        let (at, from) = (Timestamp::now(), running.task.state.kind());
        running.task.state = to.clone();
        let live = self.outbox.view.live(id);
        let (mut progress, mut log) = (live.progress.clone(), live.notes.clone());
        if to.kind().is_final() {
            log = live.log_tail();
            log.push(stamped(at, farewell(&to)));
            if to.kind() == StateKind::Completed {
                progress.percent = 100.0;
            }
            tracing::info!("[FinetuneManager] 任务结束: {id} ({})", to.kind());
        }
        let (who, why, task) = ("studio".to_owned(), why.to_owned(), running.task.clone());
        turn.transition(&task, Transition { task: id, from, to, at, who, why, progress, log });
    }
}

/// The failure after which the task is to be tried again, if it is.
fn retries(task: &Task, began_step: u64, outcome: &Outcome) -> Option<Failure> {
    let failure = match outcome {
        Outcome::Failed(failure) => failure,
        // By whoever shut the machine down.
        Outcome::Stopped => &Failure::Interrupted,
        _ => return None,
    };
    let allowed = task.terms.retries.unwrap_or(match task.recipe {
        Recipe::FineTune(_) => RETRIES,
        // What a second run of a stranger's command would do is not ours to guess.
        Recipe::Command(_) => 0,
    });
    (failure.is_transient() && task.terms.retried_in_a_row(began_step) < allowed).then(|| failure.clone())
}

/// How long a task waits that was tried again so often.
fn pause(first: Duration, retried: u32) -> Duration {
    (first * 6u32.pow(retried.min(3))).min(LONGEST_RETRY)
}

fn ended(outcome: Outcome, started_at: Timestamp, ended_at: Timestamp) -> (TaskState, String) {
    match outcome {
        Outcome::Completed => (TaskState::Completed { started_at, ended_at }, "the training ended well".into()),
        Outcome::Failed(failure) | Outcome::OutOfMemory { failure, .. } => {
            let why = failure.code().to_owned();
            (TaskState::Failed { failure, started_at: Some(started_at), ended_at }, why)
        }
        Outcome::Stopped => {
            let failure = Failure::Interrupted;
            let why = "its supervisor was told to stop, not by this studio".into();
            (TaskState::Failed { failure, started_at: Some(started_at), ended_at }, why)
        }
    }
}

fn farewell(state: &TaskState) -> String {
    match state {
        TaskState::Completed { .. } => "训练完成 / completed".into(),
        TaskState::Failed { failure, .. } => {
            format!("失败：{} / failed: {}", failure.sentence(Language::Zh), failure.sentence(Language::En))
        }
        _ => "已结束 / ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Command, FineTune, Terms};

    fn task(recipe: Recipe, retries: Option<u32>, retried: u32) -> Task {
        Task {
            id: TaskId::new(0, 1),
            name: None,
            owner: "ana".into(),
            created_at: Timestamp::UNIX_EPOCH,
            time_limit: 3600,
            recipe,
            priority: domain::Priority::Normal,
            after: Vec::new(),
            terms: Terms { retries, retried, ..Terms::default() },
            warnings: Vec::new(),
            estimate: None,
            adjustments: Vec::new(),
            state: TaskState::Pending,
        }
    }

    #[test]
    fn it_is_tried_again_up_to_a_limit_at_times_further_and_further_apart() {
        let training = |retries, retried| task(Recipe::FineTune(FineTune::default()), retries, retried);
        let lost = Outcome::Failed(Failure::SupervisorLost);
        let again = |task: &Task, outcome: &Outcome| retries(task, 0, outcome).is_some();
        assert!(again(&training(None, 0), &lost) && again(&training(None, 2), &lost));
        assert!(!again(&training(None, RETRIES), &lost) && again(&training(Some(5), RETRIES), &lost));
        assert!(!again(&training(Some(0), 0), &lost));
        assert!(retries(&training(None, RETRIES), 1, &lost).is_some(), "from a later checkpoint");
        assert!(again(&training(None, 0), &Outcome::Stopped), "as when the machine is shut down");
        let own_fault = Outcome::Failed(Failure::ExitCode { exit_code: 1, last_line: None });
        assert!(!again(&training(Some(5), 0), &own_fault) && !again(&training(None, 0), &Outcome::Completed));
        let command = Command {
            argv: vec!["true".into()],
            cwd: "/".into(),
            env: Default::default(),
            memory_bytes: None,
            gpus: 1,
            share: false,
        };
        let command = |retries| task(Recipe::Command(command.clone()), retries, 0);
        assert!(!again(&command(None), &lost) && again(&command(Some(1)), &lost));

        let seconds = [0, 1, 2, 3, 9].map(|retried| pause(Duration::from_secs(10), retried).as_secs());
        assert_eq!(seconds, [10, 60, 360, 600, 600]);
    }
}
