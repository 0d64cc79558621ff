//! `sage demo`: the studio's main job on a tiny model, from the first submission to a tuned answer.

mod show;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use api_types::{FineTuneRequest, SubmitTask, TaskView};
use clap::Args;
use client::{Client, Event, TaskFilter};
use domain::{Home, Language};
use recipes::{dataset, samples};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use trainer::{GenerateConfig, Role, Turn};

use self::show::Show;
use super::{model, studio, train};
use crate::{
    daemon::Ports,
    error::{CliError, Result},
    output,
    text::{language, text},
};

#[derive(Args)]
pub struct Demo {
    /// Leave the studio running, to look at its page
    #[arg(long)]
    keep: bool,
}

const MODEL: &str = "tiny";

pub fn run(home: Option<PathBuf>, command: Demo) -> Result<ExitCode> {
    let began = Instant::now();
    let stage = Stage::set(home, command.keep)?;
    stage.clean_up_when_interrupted()?;
    let played = stage.play();
    while stage.interrupted.load(Ordering::SeqCst) {
        // Whoever clears up ends the program when that is done.
        std::thread::park();
    }
    let address = played?;
    let seconds = began.elapsed().as_secs_f64();
    let (root, home) = (stage.home.root().display(), stage.home.root().display());
    output::print(&if command.keep {
        text(
            format!("\n用时 {seconds:.0} 秒。页面：{address}\n停止：sage studio stop --home {root}\n"),
            format!("\n{seconds:.0} s in all. The page: {address}\nStop it with: sage studio stop --home {home}\n"),
        )
    } else {
        text(
            format!("\n用时 {seconds:.0} 秒。页面曾在 {address}，现在停止并清理；加 --keep 可保留它。\n"),
            format!(
                "\n{seconds:.0} s in all. The page was at {address}; it is cleared away now, --keep leaves it running.\n"
            ),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where the demo plays: a home of its own. Dropping it clears it away.
struct Stage {
    home: Home,
    temporary: bool,
    keep: bool,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    fn set(given: Option<PathBuf>, keep: bool) -> Result<Stage> {
        let failed = |path: &Path, error: &std::io::Error| CliError::file(path, error);
        let (root, temporary) = match given {
            Some(root) => (std::path::absolute(&root).map_err(|error| failed(&root, &error))?, false),
            None => {
                let folder = tempfile::Builder::new().prefix("sage-demo-").tempdir();
                (folder.map_err(|error| failed(&std::env::temp_dir(), &error))?.keep(), true)
            }
        };
        Ok(Stage { home: Home::new(root), temporary, keep, interrupted: Arc::default() })
    }

    fn clean_up_when_interrupted(&self) -> Result<()> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).map_err(|error| CliError::new("signals", error.to_string()))?;
        let interrupted = self.interrupted.clone();
        let stage = Stage { home: self.home.clone(), temporary: self.temporary, keep: false, interrupted };
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                stage.interrupted.store(true, Ordering::SeqCst);
                stage.clear();
                std::process::exit(128 + signal);
            }
        });
        Ok(())
    }

    /// The whole demo; answers where the page is.
    fn play(&self) -> Result<String> {
        let root = self.home.root().display();
        say(&text(format!("目录：{root}"), format!("home: {root}")))?;
        let model = self.home.models().join(MODEL);
        if !model.join("config.json").exists() {
            fs::create_dir_all(self.home.models()).map_err(|error| CliError::file(&self.home.models(), &error))?;
            model::make_tiny(&model)?;
        }
        let data = self.home.root().join("samples.jsonl");
        fs::write(&data, samples::JSONL).map_err(|error| CliError::file(&data, &error))?;
        say(&text(
            format!("已生成微型模型和 {} 条样本，没有下载任何东西", samples::conversations().len()),
            format!("made a tiny model and {} examples, nothing was downloaded", samples::conversations().len()),
        ))?;

        let ports = Ports { listen: [127, 0, 0, 1].into(), port: 0, second_port: 0, tls: None };
        let address = studio::in_background(&self.home, Some(&ports))?;
        say(&text(format!("Studio 已启动：{address}\n"), format!("the studio runs: {address}\n")))?;
        let client = Client::connect(&self.home)?;
        let tasks = watch(&client, submit(&client, &data)?)?;
        self.adapters(&tasks)?;
        self.answers(&model, &tasks[0])?;
        Ok(address)
    }

    fn adapters(&self, tasks: &[TaskView]) -> Result<()> {
        say(text("\n三个适配器：", "\nthree adapters:"))?;
        for task in tasks {
            let path = Path::new(&task.output_dir).join("adapter_model.safetensors");
            let size = fs::metadata(&path).map_err(|error| CliError::file(&path, &error))?.len();
            say(&format!("  {} ({})", path.display(), output::bytes(size)))?;
        }
        Ok(())
    }

    fn answers(&self, model: &Path, task: &TaskView) -> Result<()> {
        let question = question();
        let turns = [Turn { role: Role::User, content: question.clone() }];
        let config = GenerateConfig { max_new_tokens: 48, ..GenerateConfig::default() };
        let answer = |adapter: Option<&Path>| {
            let answer =
                trainer::generate(model, adapter, &turns, &config).map_err(|error| train::trainer_error(&error))?;
            Ok::<String, CliError>(answer.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let (before, after) = (answer(None)?, answer(Some(Path::new(&task.output_dir)))?);
        say(&text(
            format!("\n提问：{question}\n  微调前：{before}\n  微调后：{after}"),
            format!("\nquestion: {question}\n  before: {before}\n  after:  {after}"),
        ))
    }

    /// Ends whatever still runs in this home, then removes it if it was made for the demo.
    fn clear(&self) {
        if let Ok(client) = Client::connect(&self.home) {
            let tasks = client.tasks(&TaskFilter::default()).map(|page| page.tasks).unwrap_or_default();
            // Newest first, so that no waiting one is started by the end of the one before it.
            let running: Vec<u32> = tasks
                .iter()
                .filter(|task| client.cancel(&task.task_id).is_ok())
                .filter_map(|task| task.attempt.as_ref()?.pid)
                .collect();
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline && running.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Err(error) = studio::stop(&self.home) {
            error.print();
        }
        if self.temporary {
            // A file that cannot be removed is in the system's folder for temporary files.
            let _ = fs::remove_dir_all(self.home.root());
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep {
            self.clear();
        }
    }
}

fn submit(client: &Client, data: &Path) -> Result<Vec<TaskView>> {
    let names = text(["第一个", "第二个", "第三个"], ["first", "second", "third"]);
    let task = |(seed, name): (u64, &str)| SubmitTask {
        name: Some(name.to_owned()),
        fine_tune: Some(FineTuneRequest {
            model_name: MODEL.into(),
            dataset_file: data.display().to_string(),
            num_epochs: Some(24),
            batch_size: Some(4),
            gradient_accumulation_steps: Some(1),
            learning_rate: Some(4e-3),
            max_length: Some(256),
            lora_rank: Some(16),
            lora_alpha: Some(32.0),
            load_in_8bit: Some(false),
            seed: Some(seed),
            ..FineTuneRequest::default()
        }),
        ..SubmitTask::default()
    };
    (1..).zip(names).map(task).map(|task| Ok(client.submit(&task)?)).collect()
}

/// Shows the tasks until all have ended; an error unless all have completed.
fn watch(client: &Client, tasks: Vec<TaskView>) -> Result<Vec<TaskView>> {
    // From before the first submission on, as far as the studio remembers; what is told twice does no harm.
    let mut show = Show::new(tasks);
    let mut after = Some(0);
    loop {
        let mut events = client.events(after)?;
        while !show.all_ended() {
            let Some(event) = events.next() else { break };
            match event {
                Event::Task(task) => show.task(*task),
                Event::Progress(progress) => show.progress(progress),
                Event::Queue(queue) => show.queue(&queue),
                Event::Resync => {
                    for id in show.ids() {
                        show.task(client.task(&id)?);
                    }
                }
                Event::Removed(_) | Event::Devices(_) => {}
            }
        }
        if show.all_ended() {
            break;
        }
        after = events.last_id();
    }
    let tasks = show.finish();
    match tasks.iter().find(|task| task.status != "completed") {
        None => Ok(tasks),
        Some(task) => {
            let reason = task.failure.as_ref().map_or(task.status.as_str(), |failure| text(&failure.zh, &failure.en));
            Err(CliError::new("demo-failed", format!("{}: {reason}", task.task_id)).next(text(
                "用 --keep 重新运行并查看页面和日志",
                "run it again with --keep and look at the page and the log",
            )))
        }
    }
}

/// The first question of the data in the language of this run.
fn question() -> String {
    let chinese = |text: &str| text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
    let wanted = language() == Language::Zh;
    let questions = samples::conversations().into_iter().filter_map(|example| {
        example.turns.into_iter().find(|turn| turn.role == dataset::Role::User).map(|turn| turn.content)
    });
    questions.into_iter().find(|question| chinese(question) == wanted).unwrap_or_default()
}

fn say(line: &str) -> Result<()> {
    output::print(&format!("{line}\n"))
}
