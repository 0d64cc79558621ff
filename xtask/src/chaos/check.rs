//! What must hold, whatever broke.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use api_types::{JournalEntry, TaskView};

use super::{
    work::Work,
    world::{World, signal},
};

/// Looks all the time whether two attempts of one task have live processes.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Watch {
    pub fn start(world: &World) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let tasks = world.studio.home().tasks();
        let stop = over.clone();
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                // One may end while the other begins; only what is so twice in a row counts.
                let first = twice(&tasks);
                if !first.is_empty() {
                    seen.extend(twice(&tasks).into_iter().filter(|found| first.contains(found)));
                }
                thread::sleep(Duration::from_millis(50));
            }
            seen.into_iter().collect()
        });
        Watch { over, thread }
    }

    pub fn stop(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking does not panic")
    }
}

/// Tasks with processes of two attempts.
fn twice(tasks: &PathBuf) -> Vec<String> {
    let mut attempts: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let variables = environment.split(|byte| *byte == 0);
        let attempt = variables.filter_map(|variable| variable.strip_prefix(b"SAGE_ATTEMPT=")).next();
        let Some(attempt) = attempt.map(|path| PathBuf::from(String::from_utf8_lossy(path).into_owned())) else {
            continue;
        };
        // <task>/attempts/<number>
        if let Some(task) = attempt.ancestors().nth(2).filter(|task| task.starts_with(tasks)) {
            attempts.entry(task.to_owned()).or_default().insert(attempt.clone());
        }
    }
    let two = attempts.into_iter().filter(|(_, attempts)| attempts.len() > 1);
    two.map(|(task, attempts)| format!("{}: attempts live at once: {attempts:?}", task.display())).collect()
}

pub fn tasks(world: &World, work: &mut Work) -> Vec<String> {
    let mut violations = Vec::new();
    let client = world.client().expect("the studio was started at the end");
    let ends = fs::read_to_string(world.notes.path().join("ends")).unwrap_or_default();
    let ends: BTreeSet<&str> = ends.lines().collect();
    let kept: Vec<String> = work.accepted.iter().filter(|id| !work.deleted.contains(*id)).cloned().collect();
    for id in &kept {
        let (task, journal) = match (client.task(id), client.journal(id)) {
            (Ok(task), Ok(journal)) => (task, journal),
            (Err(error), _) | (_, Err(error)) => {
                violations.push(format!("{id} was accepted and is lost: {error}"));
                continue;
            }
        };
        work.count_end(&task.status, task.failure.as_ref().map(|failure| failure.code.as_str()));
        violations.extend(state(&task).into_iter().chain(history(&task, &journal)).map(|what| format!("{id}: {what}")));
        if task.status == "completed" && task.trainer == "command" && !ends.contains(id.as_str()) {
            violations.push(format!("{id} is called completed and did not come to its end"));
        }
    }
    if let Ok(twice) = fs::read_to_string(world.notes.path().join("twice")) {
        violations.extend(twice.lines().map(|attempt| format!("{attempt}: began while another attempt lived")));
    }
    violations
}

fn state(task: &TaskView) -> Option<String> {
    match task.status.as_str() {
        "completed" | "cancelled" => None,
        "failed" if task.failure.is_some() => None,
        "failed" => Some("failed without a reason".into()),
        "queued" => match &task.wait {
            None => Some("queued without a reason".into()),
            // Nothing is broken any more and nothing else runs.
            Some(wait) => Some(format!("still waits in the calm afterwards: {}: {}", wait.code, wait.en)),
        },
        other => Some(format!("still {other} in the calm afterwards")),
    }
}

/// The journal explains how the task came to where it is.
fn history(task: &TaskView, journal: &[JournalEntry]) -> Option<String> {
    const ALLOWED: [(&str, &[&str]); 5] = [
        ("", &["pending", "queued", "preparing"]),
        ("pending", &["queued", "cancelled"]),
        ("queued", &["preparing", "cancelled", "failed", "pending"]),
        ("preparing", &["training", "queued", "completed", "failed", "cancelled"]),
        ("training", &["queued", "completed", "failed", "cancelled"]),
    ];
    let mut before = "";
    for entry in journal {
        let from = entry.from.as_deref().unwrap_or("");
        let allowed = ALLOWED.iter().find(|(state, _)| *state == from).is_some_and(|(_, to)| to.contains(&&*entry.to));
        // A warning is an entry without a move.
        let moved = from != entry.to;
        if from != before || (moved && !allowed) || entry.why.is_empty() {
            let path: Vec<_> = journal.iter().map(|e| format!("{:?} -> {} ({})", e.from, e.to, e.why)).collect();
            return Some(format!("the journal does not explain it: {}", path.join("; ")));
        }
        before = &entry.to;
    }
    (before != task.status).then(|| format!("is {} and the journal says {before}", task.status))
}

/// Stops the studio: no process is left, and the database is whole.
pub fn end(mut world: World) -> Vec<String> {
    let mut violations = Vec::new();
    world.stop();
    let patience = Instant::now() + Duration::from_secs(15);
    loop {
        let left = world.processes("");
        if left.is_empty() {
            break;
        }
        if Instant::now() > patience {
            for pid in left {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
                violations.push(format!("process {pid} is left over: {line}"));
                signal(pid, rustix::process::Signal::KILL);
            }
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    match store::verify(&world.studio.home().database()) {
        Ok(None) => {}
        Ok(Some(damage)) => violations.push(format!("the database is damaged: {damage}")),
        Err(error) => violations.push(format!("the database cannot be checked: {error}")),
    }
    violations
}
