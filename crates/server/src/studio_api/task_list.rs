//! The list of all tasks, which old pages fetch every three seconds whatever its length.
//!
//! A task object changes only with a row of the journal, except while the task runs. So rendered objects are kept, and
//! each request renders again what the journal names since the last one, and what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use axum::body::Bytes;
use domain::{StateKind, TaskId};
use engine::{Handle, TaskSnapshot};
use store::{Filter, Role};

use super::task_object::Rendered;
use crate::{auth::Who, error::Result};

/// Journal rows looked through at most; after more the whole list is rendered anew.
const CATCH_UP: u32 = 1000;

#[derive(Default)]
pub struct TaskList {
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    /// Newest journal row that the objects contain.
    seq: u64,
    tasks: BTreeMap<TaskId, Rendered>,
    running: BTreeSet<TaskId>,
    /// The whole answer for who sees everything, until an object changes.
    array: Option<Bytes>,
}

impl TaskList {
    /// The JSON array, newest first, as `reader` may see it; `people`: there may be others. May block.
    pub fn render(&self, engine: &Handle, reader: &Who, people: bool) -> Result<Bytes> {
        let mut kept = self.kept.lock().expect("rendering does not panic");
        // Read first: what happens meanwhile is rendered again next time.
        let seq = engine.reader().last_seq()?;
        let missed = match &*kept {
            Some(kept) => engine.reader().journal_after(kept.seq, CATCH_UP + 1)?,
            None => Vec::new(),
        };
        match &mut *kept {
            Some(kept) if missed.len() <= CATCH_UP as usize => {
                let changed: BTreeSet<TaskId> =
                    missed.iter().map(|row| row.task).chain(kept.running.iter().copied()).collect();
                for id in changed {
                    kept.update(id, engine.task(id)?, engine, people);
                }
                kept.seq = seq;
            }
            kept => {
                let mut all = Kept { seq, tasks: BTreeMap::new(), running: BTreeSet::new(), array: None };
                for snapshot in engine.tasks(Filter::default())? {
                    all.update(snapshot.task.id, Some(snapshot), engine, people);
                }
                *kept = Some(all);
            }
        }
        Ok(kept.as_mut().map(|kept| kept.array(reader)).unwrap_or_default())
    }
}

impl Kept {
    fn update(&mut self, id: TaskId, snapshot: Option<TaskSnapshot>, engine: &Handle, people: bool) {
        self.array = None;
        self.running.remove(&id);
        let Some(snapshot) = snapshot else {
            self.tasks.remove(&id);
            return;
        };
        if matches!(snapshot.task.state.kind(), StateKind::Preparing | StateKind::Training) {
            self.running.insert(id);
        }
        self.tasks.insert(id, Rendered::new(&snapshot, engine.home(), None, people));
    }

    fn array(&mut self, reader: &Who) -> Bytes {
        let Kept { tasks, array, .. } = self;
        match reader.role {
            Role::Owner => array.get_or_insert_with(|| concatenate(tasks, reader).into()).clone(),
            _ => concatenate(tasks, reader).into(),
        }
    }
}

fn concatenate(tasks: &BTreeMap<TaskId, Rendered>, reader: &Who) -> Vec<u8> {
    let length: usize = tasks.values().map(|object| object.len() + 1).sum();
    let mut array = Vec::with_capacity(length + 2);
    array.push(b'[');
    for object in tasks.values().rev() {
        if array.len() > 1 {
            array.push(b',');
        }
        object.write(&mut array, reader);
    }
    array.push(b']');
    array
}
