use std::{io::IsTerminal, time::Duration};

use api_types::{ProgressEvent, QueueEvent, TaskView};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{commands::task::status_word, output, text::text};

/// One line per task: bars in a terminal, a line per change elsewhere.
pub struct Show {
    rows: Vec<Row>,
    bars: Option<MultiProgress>,
}

struct Row {
    task: TaskView,
    bar: Option<ProgressBar>,
    /// What was printed last, where there are no bars.
    said: String,
}

impl Show {
    pub fn new(tasks: Vec<TaskView>) -> Show {
        let bars = std::io::stdout().is_terminal().then(MultiProgress::new);
        let style = ProgressStyle::with_template("{prefix} {bar:24} {percent:>3}% {wide_msg}").expect("it is valid");
        let row = |task| {
            let bar = bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new(1000).with_style(style.clone()));
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            });
            let mut row = Row { task, bar, said: String::new() };
            row.draw();
            row
        };
        Show { rows: tasks.into_iter().map(row).collect(), bars }
    }

    pub fn ids(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.task.task_id.clone()).collect()
    }

    pub fn task(&mut self, task: TaskView) {
        self.change(&task.task_id.clone(), |row| {
            // An event from before the answer to the submission is older than what is known.
            if !ended(&row.task) {
                row.task = task;
            }
        });
    }

    pub fn progress(&mut self, event: ProgressEvent) {
        self.change(&event.task_id, |row| row.task.progress = event.progress);
    }

    pub fn queue(&mut self, event: &QueueEvent) {
        for entry in &event.waiting {
            self.change(&entry.task_id, |row| {
                if row.task.status == "queued" {
                    row.task.wait = Some(entry.wait.clone());
                }
            });
        }
    }

    pub fn all_ended(&self) -> bool {
        self.rows.iter().all(|row| ended(&row.task))
    }

    /// Leaves the last picture standing.
    pub fn finish(self) -> Vec<TaskView> {
        for bar in self.rows.iter().filter_map(|row| row.bar.as_ref()) {
            bar.abandon();
        }
        drop(self.bars);
        self.rows.into_iter().map(|row| row.task).collect()
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.task.task_id == id) {
            change(row);
            row.draw();
        }
    }
}

impl Row {
    fn draw(&mut self) {
        let name = self.task.name.as_deref().unwrap_or(&self.task.task_id);
        let status = status_word(&self.task.status);
        let percent = self.task.progress.percent;
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("{} {}", padded(name, 8), padded(status, 10)));
                bar.set_position((percent * 10.0) as u64);
                bar.set_message(self.about());
            }
            None => {
                // Every quarter is news enough.
                let news = format!("{status} {}", (percent / 25.0) as u32);
                if self.said != news {
                    self.said = news;
                    // A reader that went away is noticed at the next line of the demo itself.
                    let _ = output::print(&format!(
                        "{} {} {percent:>3.0}%  {}\n",
                        padded(name, 8),
                        padded(status, 10),
                        self.about()
                    ));
                }
            }
        }
    }

    fn about(&self) -> String {
        let task = &self.task;
        if let Some(wait) = task.wait.as_ref().filter(|_| task.status == "queued") {
            return text(&wait.zh, &wait.en).clone();
        }
        if let Some(failure) = &task.failure {
            return text(&failure.zh, &failure.en).clone();
        }
        let progress = &task.progress;
        match progress.loss {
            Some(loss) => format!("{}/{}  loss {loss:.3}", progress.step, progress.total_steps),
            None => String::new(),
        }
    }
}

fn ended(task: &TaskView) -> bool {
    ["completed", "failed", "cancelled"].contains(&task.status.as_str())
}

fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(console::measure_text_width(text));
    format!("{text}{}", " ".repeat(missing))
}
