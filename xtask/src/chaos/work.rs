//! What people do meanwhile: submit, cancel, delete.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use api_types::{CommandRequest, FineTuneRequest, SubmitTask};

use super::{Dice, world::World};
use crate::root;

/// More than this many that have not ended and nobody submits for a while.
const MOST: u64 = 12;

#[derive(Default)]
pub struct Work {
    /// Answered submissions.
    pub accepted: Vec<String>,
    /// The studio broke off while it was asked to delete these, or has deleted them.
    pub deleted: BTreeSet<String>,
    submitted: BTreeMap<&'static str, u32>,
    unanswered: u32,
    cancelled: u32,
    ends: BTreeMap<String, u32>,
}

impl Work {
    pub fn step(&mut self, world: &World, dice: &mut Dice) {
        let Some(client) = world.client() else { return };
        match dice.below(10) {
            0 => {
                // The newest are those that have probably not ended.
                let newest = &self.accepted[self.accepted.len().saturating_sub(8)..];
                let Some(index) = dice.of(newest) else { return };
                self.cancelled += u32::from(client.cancel(&newest[index]).is_ok());
            }
            1 => {
                let Some(index) = dice.of(&self.accepted) else { return };
                let id = self.accepted[index].clone();
                match client.delete(&id) {
                    Ok(()) => drop(self.deleted.insert(id)),
                    // A refusal is an answer; silence may be either.
                    Err(client::ClientError::Api { .. }) => {}
                    Err(_) => drop(self.deleted.insert(id)),
                }
            }
            _ if self.active(world) < MOST => {
                let (kind, task) = task(world, dice);
                match client.submit(&task) {
                    Ok(view) => {
                        self.accepted.push(view.task_id);
                        *self.submitted.entry(kind).or_default() += 1;
                    }
                    Err(_) => self.unanswered += 1,
                }
            }
            _ => {}
        }
    }

    /// Tasks that have not ended; 0, too, where nobody answers.
    pub fn active(&self, world: &World) -> u64 {
        let page = world.client().and_then(|client| client.tasks(&Default::default()).ok());
        let is_final = |status: &str| ["completed", "failed", "cancelled"].contains(&status);
        page.map_or(0, |page| page.counts.iter().filter(|(status, _)| !is_final(status)).map(|(_, n)| *n).sum())
    }

    pub fn count_end(&mut self, status: &str, why: Option<&str>) {
        let word = why.map_or_else(|| status.to_owned(), |why| format!("{status} ({why})"));
        *self.ends.entry(word).or_default() += 1;
    }

    pub fn print(&self) {
        let list = |counts: Vec<String>| counts.join(", ");
        let kinds = self.submitted.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let ends = self.ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
        println!(
            "tasks: {} accepted ({}); {} refused or unanswered, {} cancels, {} deletes",
            self.accepted.len(),
            list(kinds),
            self.unanswered,
            self.cancelled,
            self.deleted.len()
        );
        println!("ends: {}", list(ends));
    }
}

fn task(world: &World, dice: &mut Dice) -> (&'static str, SubmitTask) {
    let seconds = dice.below(2000) as f64 / 1000.0;
    if dice.below(3) == 0 {
        let request = FineTuneRequest {
            model_name: world.model.display().to_string(),
            dataset_file: world.data.display().to_string(),
            trainer: Some("builtin".into()),
            num_epochs: Some(1 + dice.below(40) as u32),
            batch_size: Some(2),
            gradient_accumulation_steps: Some(1),
            max_length: Some(64),
            checkpoint_every_steps: Some(5),
            ..FineTuneRequest::default()
        };
        return ("fine-tune", SubmitTask { fine_tune: Some(request), ..SubmitTask::default() });
    }
    let hold = hold().display().to_string();
    let (kind, body) = match dice.below(6) {
        0 => ("failing command", format!("sleep {seconds}; exit 3")),
        1 => ("command deaf to SIGTERM", format!("trap '' TERM; sleep {seconds}; sleep {seconds}")),
        2 => ("command that leaves a process", format!("(setsid sh -c 'sleep 1000' &); sleep {seconds}")),
        3 => ("flooding command", "head -c 40M /dev/zero | tr '\\0' x; echo".into()),
        4 => {
            ("command with GPU memory", format!("sleep {seconds} | {hold} --device $CUDA_VISIBLE_DEVICES --bytes 2GiB"))
        }
        _ => ("command", format!("sleep {seconds}")),
    };
    let memory_bytes = (kind == "command with GPU memory").then_some(3 << 30);
    // All processes of an attempt inherit the lock, so another attempt finds it taken if one of them lives. Whatever looks may be
    // killed itself, which proves nothing.
    let notes = world.notes.path().display();
    let script = format!(
        "exec 9>>{notes}/locks/$SAGE_TASK_ID; flock -n -E 55 9; [ $? -ne 55 ] || echo $SAGE_ATTEMPT >> {notes}/twice; {body}; \
         echo $SAGE_TASK_ID >> {notes}/ends"
    );
    let command = CommandRequest {
        argv: ["sh", "-c", &script].map(str::to_owned).to_vec(),
        cwd: world.notes.path().display().to_string(),
        memory_bytes,
        ..CommandRequest::default()
    };
    (kind, SubmitTask { command: Some(command), ..SubmitTask::default() })
}

fn hold() -> PathBuf {
    root().join("target/debug/fakegpu-hold")
}
