//! Tasks that wait for others to end.

use std::collections::BTreeMap;

use domain::{Condition, Dependency, Failure, Language, StateKind, TaskId, TaskState, WaitCause};
use jiff::Timestamp;
use store::{TaskRecord, Transition};

use crate::{EngineError, clock::stamped, machine::Machine, turn::Turn};

/// How a dependency stands.
enum Standing {
    Pending,
    Met,
    Broken,
}

impl Machine {
    /// Lets those go whose dependencies have ended, and fails those whose can no longer complete; what the others wait
    /// for.
    pub fn look_at_dependencies(&mut self, turn: &mut Turn) -> BTreeMap<TaskId, WaitCause> {
        let mut causes = BTreeMap::new();
        let waiting: Vec<TaskId> = self.dependencies.keys().copied().collect();
        for id in waiting {
            let mut blocked = None;
            let mut broken = None;
            for Dependency { task, condition } in self.dependencies[&id].clone() {
                match self.standing(task, condition, turn) {
                    Ok(Standing::Met) => {}
                    Ok(Standing::Broken) => broken = Some(task),
                    Ok(Standing::Pending) => blocked = blocked.or(Some(WaitCause::Dependency { task })),
                    // It cannot be read now; the next turn looks again.
                    Err(_) => blocked = blocked.or(Some(WaitCause::Dependency { task })),
                }
            }
            if let Some(task) = broken {
                // It never starts, also while its end cannot be written yet.
                causes.insert(id, WaitCause::Dependency { task });
                if let Err(error) = self.fail_dependent(id, task, turn) {
                    tracing::error!("cannot end {id}: {error}");
                }
            } else if let Some(cause) = blocked {
                causes.insert(id, cause);
            } else {
                self.dependencies.remove(&id);
            }
        }
        causes
    }

    fn standing(&self, task: TaskId, condition: Condition, turn: &Turn) -> Result<Standing, EngineError> {
        let lives = self.position(task).is_ok() || self.running.contains_key(&task) || turn.touched.contains(&task);
        if lives {
            return Ok(Standing::Pending);
        }
        let kind = self.store.task(task)?.map(|record| record.task.state.kind());
        Ok(match (kind, condition) {
            (Some(kind), _) if !kind.is_final() => Standing::Pending,
            (Some(StateKind::Completed), _) | (_, Condition::Any) => Standing::Met,
            (_, Condition::Ok) => Standing::Broken,
        })
    }

    fn fail_dependent(&mut self, id: TaskId, dependency: TaskId, turn: &mut Turn) -> Result<(), EngineError> {
        // What was created or moved in this very turn is not in the database yet.
        if turn.touched.contains(&id) {
            return Ok(());
        }
        let TaskRecord { mut task, progress, mut log, .. } = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
        let (now, from) = (Timestamp::now(), task.state.kind());
        let failure = Failure::DependencyFailed { task: dependency };
        let said = |language| failure.sentence(language);
        log.push(stamped(now, format!("{} / {}", said(Language::Zh), said(Language::En))));
        let (who, why) = ("studio".to_owned(), failure.code().to_owned());
        task.state = TaskState::Failed { failure, started_at: None, ended_at: now };
        self.leave_queue(id);
        let to = task.state.clone();
        turn.transition(&task, Transition { task: id, from, to, at: now, who, why, progress, log });
        Ok(())
    }
}
