//! A task as the first generation's page reads it. An unknown status or a null where it expects a number blanks it.

use domain::{Home, Language, Recipe, TaskState};
use engine::TaskSnapshot;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{auth::Who, view};

/// A task as the first generation's clients know it
#[derive(Serialize, ToSchema)]
pub struct TaskObject<'a> {
    task_id: String,
    model_name: &'a str,
    /// Empty for a command.
    dataset_path: &'a str,
    output_dir: String,
    /// `pending queued preparing training completed failed cancelled`.
    status: &'static str,
    /// 0 to 100.
    progress: f64,
    current_epoch: u32,
    total_epochs: u32,
    /// 0 until it is known.
    loss: f64,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    error_message: Option<String>,
    #[schema(value_type = Object)]
    config: Config<'a>,
    process_id: Option<u32>,
    warnings: Vec<&'a str>,
    /// The last 50 lines.
    #[serde(skip)]
    #[schema(value_type = Vec<String>)]
    #[allow(unused)]
    logs: (),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Config<'a> {
    FineTune(&'a domain::FineTune),
    Command(domain::Command),
}

impl<'a> TaskObject<'a> {
    fn new(snapshot: &'a TaskSnapshot, home: &Home) -> TaskObject<'a> {
        let TaskSnapshot { task, progress, .. } = snapshot;
        let (dataset_path, epochs, config) = match &task.recipe {
            Recipe::FineTune(recipe) => (recipe.dataset_file.as_str(), recipe.num_epochs, Config::FineTune(recipe)),
            Recipe::Command(command) => ("", 0, Config::Command(view::without_values(command))),
        };
        let total_epochs = if progress.total_epochs > 0 { progress.total_epochs } else { epochs };
        TaskObject {
            task_id: task.id.to_string(),
            model_name: view::model_name(&task.recipe),
            dataset_path,
            output_dir: home.task(task.id).display().to_string(),
            status: task.state.kind().as_str(),
            progress: match task.state {
                TaskState::Completed { .. } => 100.0,
                _ => number(progress.percent).clamp(0.0, 100.0),
            },
            current_epoch: (number(progress.epoch).ceil() as u32).min(total_epochs),
            total_epochs,
            loss: progress.loss.map_or(0.0, number),
            created_at: task.created_at.to_string(),
            started_at: task.state.started_at().map(|at| at.to_string()),
            completed_at: task.state.ended_at().map(|at| at.to_string()),
            error_message: match &task.state {
                TaskState::Failed { failure, .. } => Some(failure.sentence(Language::Zh)),
                _ => None,
            },
            config,
            process_id: task.state.attempt().and_then(|attempt| attempt.pid),
            warnings: task.warnings.iter().map(|warning| warning.zh.as_str()).collect(),
            logs: (),
        }
    }

    /// Without what its program says, and with what it is told.
    fn for_others(mut self, snapshot: &TaskSnapshot) -> TaskObject<'a> {
        if let Recipe::Command(command) = &snapshot.task.recipe {
            self.config = Config::Command(view::only_program(command));
        }
        if let TaskState::Failed { failure, .. } = &snapshot.task.state {
            self.error_message = failure.sentence_to_others(Language::Zh).or(self.error_message);
        }
        self
    }
}

/// The log lines are kept as JSON; they need not be read and written again.
fn with_logs(object: &TaskObject<'_>, lines: &str) -> Box<[u8]> {
    let mut json = Vec::with_capacity(lines.len() + 1024);
    serde_json::to_writer(&mut json, object).expect("plain data serialises into memory");
    let end = json.pop();
    debug_assert_eq!(end, Some(b'}'));
    json.extend_from_slice(b",\"logs\":");
    json.extend_from_slice(lines.as_bytes());
    json.push(b'}');
    json.into()
}

/// JSON has no NaN, and a null would blank the page.
fn number(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// A task object, written.
pub struct Rendered {
    json: Box<[u8]>,
    /// For whoever may not read what the task prints; `None` where nobody is kept from it.
    to_others: Option<Box<[u8]>>,
    owner: Box<str>,
}

impl Rendered {
    /// With one more warning where there is one. `people`: there are others, who may see less of it.
    pub fn new(snapshot: &TaskSnapshot, home: &Home, warning: Option<&str>, people: bool) -> Rendered {
        let mut object = TaskObject::new(snapshot, home);
        object.warnings.extend(warning);
        let json = with_logs(&object, &snapshot.log_tail);
        let to_others = people.then(|| with_logs(&object.for_others(snapshot), "[]"));
        Rendered { json, to_others, owner: snapshot.task.owner.as_str().into() }
    }

    /// Other people's without what they print.
    pub fn write(&self, out: &mut Vec<u8>, reader: &Who) {
        let json = self.to_others.as_ref().filter(|_| !reader.sees(&self.owner)).unwrap_or(&self.json);
        out.extend_from_slice(json);
    }

    pub fn len(&self) -> usize {
        self.json.len()
    }
}
