//! How a task is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::{Grant, Home, Recipe, Task};

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Changes to the studio's own environment: set to this, or remove.
    pub env: BTreeMap<String, Option<String>>,
}

/// The command of a task's attempt. `sage` is the studio's own binary, which trains fine-tunes itself.
///
/// The recipe of a fine-tune must be at [`Home::recipe`] by then; [`recipe_json`] is its content.
pub fn command(task: &Task, grant: &Grant, home: &Home, sage: &Path) -> LaunchCommand {
    let folder = home.task(task.id);
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), Some(value));
    set("PYTHONUNBUFFERED", "1".into());

    let (argv, cwd) = match &task.recipe {
        Recipe::FineTune(_) => {
            let recipe = text(&home.recipe(task.id));
            let argv = [&text(sage), "train", "--recipe", &recipe, "--output", &text(&folder)];
            (argv.map(str::to_owned).to_vec(), folder.clone())
        }
        Recipe::Command(command) => {
            command.env.iter().for_each(|(name, value)| drop(set(name, value.clone())));
            (command.argv.clone(), PathBuf::from(&command.cwd))
        }
    };

    // After the task's own variables: which devices it was granted is not for the task to say.
    set("CUDA_VISIBLE_DEVICES", visible_devices(grant));
    set("SAGE_HOME", text(home.root()));
    set("SAGE_TASK_ID", task.id.to_string());
    set("SAGE_TASK_DIR", text(&folder));
    set("SAGE_METRICS", text(&home.metrics(task.id)));
    LaunchCommand { argv, cwd, env }
}

/// Content of `recipe.json`: the task's recipe as [`Recipe`] serialises.
pub fn recipe_json(task: &Task) -> String {
    let mut json = serde_json::to_string_pretty(&task.recipe).expect("a recipe is plain data");
    json.push('\n');
    json
}

/// UUIDs of the granted GPUs. Empty, which hides every GPU, where none was granted.
fn visible_devices(grant: &Grant) -> String {
    let real = |id: &&str| id.starts_with("GPU-") || id.starts_with("MIG-");
    let ids: Vec<&str> = grant.devices.iter().map(|grant| grant.device.0.as_str()).filter(real).collect();
    ids.join(",")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Command, DeviceGrant, DeviceId, FineTune, TaskId, TaskState};

    fn task(recipe: Recipe) -> Task {
        Task {
            id: TaskId::new(1_760_000_000, 3),
            name: None,
            owner: "ana".into(),
            created_at: jiff_epoch(),
            time_limit: 60,
            recipe,
            warnings: Vec::new(),
            estimate: None,
            adjustments: Vec::new(),
            state: TaskState::Pending,
        }
    }

    fn jiff_epoch() -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn grant(ids: &[&str]) -> Grant {
        let device = |id: &&str| DeviceGrant { device: DeviceId((*id).into()), bytes: None };
        Grant { devices: ids.iter().map(device).collect() }
    }

    #[test]
    fn a_fine_tune_runs_the_built_in_trainer_on_the_granted_gpus() {
        let task = task(Recipe::FineTune(FineTune { model_name: "m".into(), ..FineTune::default() }));
        let command = command(&task, &grant(&["GPU-a", "MIG-b"]), &Home::new("/h"), Path::new("/bin/sage"));
        let folder = "/h/studio_finetune/finetune_1760000000_3";
        let recipe = format!("{folder}/recipe.json");
        assert_eq!(command.argv, ["/bin/sage", "train", "--recipe", &recipe, "--output", folder]);
        assert_eq!(command.cwd, Path::new(folder));
        assert_eq!(command.env["CUDA_VISIBLE_DEVICES"].as_deref(), Some("GPU-a,MIG-b"));
        assert_eq!(command.env["SAGE_METRICS"], Some(format!("{folder}/metrics.jsonl")));

        let read: Recipe = serde_json::from_str(&recipe_json(&task)).unwrap();
        assert_eq!(read, task.recipe);
    }

    #[test]
    fn a_command_runs_as_given_but_cannot_choose_its_devices() {
        let variables = [("LR", "1e-4"), ("CUDA_VISIBLE_DEVICES", "0,1"), ("PYTHONUNBUFFERED", "0")];
        let recipe = Recipe::Command(Command {
            argv: ["python", "train.py", "--name=a b"].map(String::from).to_vec(),
            cwd: "/work dir".into(),
            env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            memory_bytes: None,
            gpus: 1,
        });
        for stand_in in ["CPU", "SIM-0"] {
            let command = command(&task(recipe.clone()), &grant(&[stand_in]), &Home::new("/h"), Path::new("/bin/sage"));
            assert_eq!(command.argv, ["python", "train.py", "--name=a b"]);
            assert_eq!(command.cwd, Path::new("/work dir"));
            assert_eq!(command.env["LR"].as_deref(), Some("1e-4"));
            assert_eq!(command.env["PYTHONUNBUFFERED"].as_deref(), Some("0"), "its own choice");
            assert_eq!(command.env["CUDA_VISIBLE_DEVICES"].as_deref(), Some(""), "{stand_in} hides every GPU");
            assert_eq!(command.env["SAGE_TASK_ID"].as_deref(), Some("finetune_1760000000_3"));
        }
    }
}
