//! How a task is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::{Grant, Home, Recipe, Task, TrainerKind};

use crate::ladder;

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

/// The command of a task's attempt. `sage` is the studio's own binary, which trains fine-tunes itself or sets the peft
/// trainer to work.
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
            let trainer = if task.recipe.trainer() == TrainerKind::Peft { "peft" } else { "train" };
            let argv = [&text(sage), trainer, "--recipe", &recipe, "--output", &text(&folder)];
            (argv.map(str::to_owned).to_vec(), folder.clone())
        }
        Recipe::Command(command) => {
            command.env.iter().for_each(|(name, value)| drop(set(name, value.clone())));
            (command.argv.clone(), PathBuf::from(&command.cwd))
        }
    };

    // After the task's own variables: which devices it was granted is not for the task to say.
    for (name, value) in visible_devices(grant) {
        env.insert(name.to_owned(), value);
    }
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), Some(value));
    set("SAGE_GPUS", grant.devices.len().max(1).to_string());
    set("SAGE_HOME", text(home.root()));
    set("SAGE_TASK_ID", task.id.to_string());
    set("SAGE_TASK_DIR", text(&folder));
    set("SAGE_METRICS", text(&home.metrics(task.id)));
    // Without a figure for each, the devices are whole.
    let bytes = grant.devices.iter().map(|device| device.bytes).min().flatten();
    env.insert("SAGE_GRANT_BYTES".into(), bytes.map(|bytes| bytes.to_string()));
    LaunchCommand { argv, cwd, env }
}

/// Content of `recipe.json`: the task's recipe with the adjustments made so far, as [`Recipe`] serialises.
pub fn recipe_json(task: &Task) -> String {
    let recipe = match &task.recipe {
        Recipe::FineTune(fine_tune) => Recipe::FineTune(ladder::adjusted(fine_tune, &task.adjustments)),
        command => command.clone(),
    };
    let mut json = serde_json::to_string_pretty(&recipe).expect("a recipe is plain data");
    json.push('\n');
    json
}

/// The variables that show a program the granted GPUs and hide all others, so every one where none was granted.
fn visible_devices(grant: &Grant) -> Vec<(&'static str, Option<String>)> {
    let of = |kinds: &[&str]| -> Vec<&str> {
        let ids = grant.devices.iter().map(|grant| grant.device.0.as_str());
        ids.filter(|id| kinds.iter().any(|kind| id.starts_with(kind))).collect()
    };
    let amd = of(&["AMD-"]);
    // ROCm knows a card by its unique id. Cards without have their PCI address for a name, which it does not know.
    let unique: Option<Vec<String>> =
        amd.iter().map(|id| Some(format!("GPU-{}", id.strip_prefix("AMD-").filter(|id| !id.contains(':'))?))).collect();
    // Counted among what the other variable leaves.
    let numbers: Vec<String> = (0..amd.len()).map(|number| number.to_string()).collect();
    vec![
        ("CUDA_VISIBLE_DEVICES", Some(of(&["GPU-", "MIG-"]).join(","))),
        // Where a program counts devices all the same, it counts as nvidia-smi does.
        ("CUDA_DEVICE_ORDER", Some("PCI_BUS_ID".into())),
        ("ROCR_VISIBLE_DEVICES", unique.map(|ids| ids.join(","))),
        ("HIP_VISIBLE_DEVICES", Some(numbers.join(","))),
    ]
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Adjustment, Command, DeviceGrant, DeviceId, FineTune, TaskId, TaskState};

    fn task(recipe: Recipe) -> Task {
        Task {
            id: TaskId::new(1_760_000_000, 3),
            name: None,
            owner: "ana".into(),
            created_at: jiff_epoch(),
            time_limit: 60,
            recipe,
            priority: Default::default(),
            after: Vec::new(),
            terms: domain::Terms::default(),
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
    fn the_peft_trainer_gets_the_adjusted_recipe_and_the_smallest_grant() {
        let recipe = FineTune {
            model_name: "m".into(),
            trainer: Some(TrainerKind::Peft),
            batch_size: 4,
            gradient_accumulation_steps: 2,
            gpus: 2,
            ..FineTune::default()
        };
        let task = Task { adjustments: vec![Adjustment::HalveMicroBatch], ..task(Recipe::FineTune(recipe)) };
        let mut grant = grant(&["GPU-a", "GPU-b"]);
        let launch = |grant: &Grant| command(&task, grant, &Home::new("/h"), Path::new("/bin/sage"));
        assert_eq!(launch(&grant).env["SAGE_GRANT_BYTES"], None, "an inherited one would be another task's");
        (grant.devices[0].bytes, grant.devices[1].bytes) = (Some(20 << 30), Some(10 << 30));
        let launch = launch(&grant);
        assert_eq!(launch.argv[..2], ["/bin/sage", "peft"]);
        let variable = |name: &str| launch.env[name].as_deref();
        assert_eq!(variable("SAGE_GRANT_BYTES"), Some("10737418240"));
        assert_eq!((variable("SAGE_GPUS"), variable("CUDA_DEVICE_ORDER")), (Some("2"), Some("PCI_BUS_ID")));

        let Recipe::FineTune(written) = serde_json::from_str(&recipe_json(&task)).unwrap() else { panic!() };
        assert_eq!((written.batch_size, written.gradient_accumulation_steps), (2, 4));
    }

    #[test]
    fn each_vendors_cards_are_hidden_unless_granted() {
        let visible = |ids: &[&str]| visible_devices(&grant(ids)).into_iter().collect::<BTreeMap<_, _>>();
        let expect = |ids: &[&str], cuda: &str, rocr: Option<&str>, hip: &str| {
            let found = visible(ids);
            let values = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"];
            let [a, b, c] = values.map(|name| found[name].as_deref());
            assert_eq!((a, b, c), (Some(cuda), rocr, Some(hip)), "{ids:?}");
        };
        expect(&["GPU-a"], "GPU-a", Some(""), "");
        expect(&["AMD-9f2c", "AMD-0b1d"], "", Some("GPU-9f2c,GPU-0b1d"), "0,1");
        expect(&["AMD-0000:03:00.0"], "", None, "0");
        expect(&["CPU"], "", Some(""), "");
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
            share: false,
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
