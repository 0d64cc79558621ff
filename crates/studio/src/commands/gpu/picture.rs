//! What `sage gpu watch` shows, as lines of text. Knows no terminal and no clock.

use std::collections::BTreeMap;

use api_types::{DeviceView, Devices, ProgressEvent, QueueEvent, TaskView};
use console::{Style, truncate_str};

use super::list;
use crate::{
    output::{bytes, or_dash, plain},
    text::text,
};

/// Processes shown of each device, tasks and waiting tasks shown in all.
const PROCESSES: usize = 6;
const TASKS: usize = 12;
const WIDEST_BAR: usize = 60;

/// Everything known now.
#[derive(Default)]
pub struct Picture {
    /// Of the studio; `None`: there is none, and this program measures by itself.
    pub address: Option<String>,
    pub devices: Option<Devices>,
    pub running: BTreeMap<String, TaskView>,
    pub queue: Option<QueueEvent>,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
}

impl Picture {
    pub fn task(&mut self, task: TaskView) {
        if matches!(task.status.as_str(), "preparing" | "training") {
            self.running.insert(task.task_id.clone(), task);
        } else {
            self.running.remove(&task.task_id);
        }
    }

    pub fn progress(&mut self, event: ProgressEvent) {
        if let Some(task) = self.running.get_mut(&event.task_id) {
            task.progress = event.progress;
        }
    }

    /// Seconds have gone by without news of the devices.
    pub fn grow_older(&mut self, seconds: f64) {
        for device in self.devices.iter_mut().flat_map(|devices| &mut devices.devices) {
            device.age_seconds += seconds;
        }
    }

    /// Lines of at most `width` columns. `now`: for people to read.
    pub fn lines(&self, width: usize, now: &str) -> Vec<String> {
        let mut lines = vec![self.head(now)];
        lines
            .extend(self.trouble.iter().map(|trouble| Style::new().red().apply_to(format!("! {trouble}")).to_string()));
        match &self.devices {
            None => lines.push(text("正在检测 GPU...", "GPUs are being detected...").into()),
            Some(devices) if devices.detecting => {
                lines.push(text("正在检测 GPU...", "GPUs are being detected...").into());
            }
            Some(devices) => {
                for device in &devices.devices {
                    lines.push(String::new());
                    lines.extend(device_lines(device, width));
                }
                for finding in &devices.findings {
                    lines.push(format!("! {}", text(&finding.zh, &finding.en)));
                }
                lines.push(String::new());
                lines.push(legend());
            }
        }
        lines.extend(self.task_lines());
        lines.extend(self.queue_lines());
        lines.into_iter().map(|line| truncate_str(&line, width, "…").into_owned()).collect()
    }

    fn head(&self, now: &str) -> String {
        let title = Style::new().bold().apply_to("SAGE Studio");
        match &self.address {
            Some(address) => format!("{title}  {address}  {now}"),
            None => {
                let alone = text("没有运行中的 Studio，由本命令测量", "no studio is running; measured by this command");
                format!("{title}  {alone}  {now}")
            }
        }
    }

    fn task_lines(&self) -> Vec<String> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![String::new(), heading(text("训练中", "RUNNING"), self.running.len() as u64)];
        for task in self.running.values().take(TASKS) {
            let progress = &task.progress;
            let mut line = format!("  {}  {:>3.0}%", task.task_id, progress.percent);
            if progress.total_steps > 0 {
                line += &format!("  {}/{}", progress.step, progress.total_steps);
            }
            if let Some(loss) = progress.loss {
                line += &format!("  loss {loss:.4}");
            }
            if let Some(held) = progress.device_bytes.or(progress.memory_bytes) {
                line += &format!("  {}", bytes(held));
            }
            lines.push(format!("{line}  {}", plain(task.name.as_ref().unwrap_or(&task.model_name))));
        }
        lines.extend(more(self.running.len()));
        lines
    }

    fn queue_lines(&self) -> Vec<String> {
        let Some(queue) = self.queue.as_ref().filter(|queue| queue.total > 0) else { return Vec::new() };
        let mut lines = vec![String::new(), heading(text("排队中", "WAITING"), queue.total)];
        for entry in queue.waiting.iter().take(TASKS) {
            lines.push(format!("  {}  {}", entry.task_id, plain(text(&entry.wait.zh, &entry.wait.en))));
        }
        lines.extend(more(queue.total as usize));
        lines
    }
}

fn heading(word: &str, count: u64) -> String {
    Style::new().bold().apply_to(format!("{word} {count}")).to_string()
}

fn more(count: usize) -> Option<String> {
    let hidden = count.checked_sub(TASKS).filter(|hidden| *hidden > 0)?;
    Some(text(format!("  … 另有 {hidden} 个"), format!("  … and {hidden} more")))
}

fn device_lines(device: &DeviceView, width: usize) -> Vec<String> {
    let mut facts = vec![format!("{} {}", device.index, Style::new().bold().apply_to(plain(&list::name(device))))];
    facts.extend(device.utilisation_percent.map(|percent| format!("{percent}%")));
    facts.extend(device.temperature_celsius.map(|degrees| format!("{degrees}°C")));
    facts.extend(device.power_watts.map(|watts| format!("{watts:.0} W")));
    if let Some(memory) = &device.memory {
        let (free, total) = (bytes(memory.free), bytes(memory.total));
        let for_tasks = or_dash(device.free_for_tasks_bytes.map(bytes));
        facts.push(text(
            format!("空闲 {free} / {total}，可用于任务 {for_tasks}"),
            format!("{free} of {total} free, {for_tasks} for tasks"),
        ));
    }
    let mut lines = vec![facts.join("  ")];
    if let Some(shares) = Shares::of(device) {
        lines.push(format!("  {}", shares.bar(width.saturating_sub(4).clamp(10, WIDEST_BAR))));
    }
    let mut processes: Vec<_> = device.processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(process.bytes));
    lines.extend(processes.iter().take(PROCESSES).map(|process| format!("  {}", list::use_of(process))));
    if let Some(hidden) = processes.len().checked_sub(PROCESSES).filter(|hidden| *hidden > 0) {
        lines.push(text(format!("  … 另有 {hidden} 个进程"), format!("  … and {hidden} more processes")));
    }
    let troubles = list::troubles(device).into_iter();
    lines.extend(troubles.map(|trouble| format!("  {}", Style::new().red().apply_to(format!("! {trouble}")))));
    lines
}

/// Who has a device's memory, in bytes.
struct Shares {
    tasks: u64,
    services: u64,
    foreign: u64,
    /// Reserved, or held by nobody who can be seen.
    hidden: u64,
    /// Free, but promised to tasks that have not used it yet.
    promised: u64,
    free: u64,
}

impl Shares {
    fn of(device: &DeviceView) -> Option<Shares> {
        let memory = device.memory.as_ref()?;
        let (mut tasks, mut services, mut foreign) = (0, 0, 0);
        for process in &device.processes {
            let share = match (&process.task_id, &process.service) {
                (Some(_), _) => &mut tasks,
                (None, Some(_)) => &mut services,
                (None, None) => &mut foreign,
            };
            *share += process.bytes.unwrap_or(0);
        }
        let free = device.free_for_tasks_bytes.unwrap_or(memory.free).min(memory.free);
        let hidden = memory.total.saturating_sub(memory.free + tasks + services + foreign);
        Some(Shares { tasks, services, foreign, hidden, promised: memory.free - free, free })
    }

    /// A row of `cells` letters and blocks; each share has its glyph, so that it can be read without colours too.
    fn bar(&self, cells: usize) -> String {
        let parts = [self.tasks, self.services, self.foreign, self.hidden, self.promised, self.free];
        let total: u64 = parts.iter().sum::<u64>().max(1);
        let mut bar = String::from("[");
        let (mut bytes, mut drawn) = (0u64, 0usize);
        for (part, (glyph, style, _)) in parts.into_iter().zip(glyphs()) {
            bytes += part;
            // Rounded at the border and not per part, so that the bar is full.
            let until = (bytes as f64 / total as f64 * cells as f64).round() as usize;
            let run = glyph.to_string().repeat(until - drawn);
            if !run.is_empty() {
                bar += &style.apply_to(run).to_string();
            }
            drawn = until;
        }
        bar + "]"
    }
}

/// In the order of the shares: glyph, colour, name.
fn glyphs() -> [(char, Style, &'static str); 6] {
    [
        ('█', Style::new().green(), text("本机任务", "our tasks")),
        ('▓', Style::new().blue(), text("服务", "services")),
        ('▒', Style::new().yellow(), text("外部程序", "foreign")),
        ('░', Style::new().magenta(), text("未知占用", "unattributed")),
        ('~', Style::new().green(), text("已预留", "promised")),
        ('·', Style::new(), text("空闲", "free")),
    ]
}

fn legend() -> String {
    let words: Vec<String> =
        glyphs().into_iter().map(|(glyph, style, name)| format!("{} {name}", style.apply_to(glyph))).collect();
    words.join("  ")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use api_types::{DeviceGrantView, HealthView, MemoryView, ProcessView, ProgressView, QueueEntry, WaitView};
    use console::measure_text_width;

    const GIB: u64 = 1 << 30;

    fn process(pid: u32, command: &str, user: &str, gib: u64) -> ProcessView {
        ProcessView {
            pid,
            name: command.split(' ').next().map(str::to_owned),
            user: Some(user.into()),
            command: Some(command.into()),
            bytes: Some(gib * GIB),
            task_id: None,
            service: None,
        }
    }

    /// 24 GiB: 8 of a task that was promised 10, 4 of a service, 2 foreign, 1 hidden, 9 free.
    pub fn device() -> DeviceView {
        let task = ProcessView { task_id: Some("finetune_1_1".into()), ..process(11, "sage train", "ana", 8) };
        let service = ProcessView { service: Some("vLLM".into()), ..process(12, "vllm serve Qwen", "bob", 4) };
        DeviceView {
            id: "GPU-1".into(),
            kind: "nvidia".into(),
            index: 0,
            name: "RTX 4090".into(),
            pci_bus_id: None,
            architecture: None,
            mig: None,
            unified_memory: false,
            taken_at: String::new(),
            age_seconds: 0.4,
            memory: Some(MemoryView { total: 24 * GIB, reserved: None, used: 15 * GIB, free: 9 * GIB }),
            free_for_tasks_bytes: Some(7 * GIB),
            utilisation_percent: Some(97),
            temperature_celsius: Some(61),
            power_watts: Some(320.4),
            clocks: None,
            health: HealthView::default(),
            processes: vec![task, service, process(13, "blender", "eve", 2)],
            unattributed_bytes: Some(GIB),
            unusable: None,
            grants: vec![DeviceGrantView { task_id: "finetune_1_1".into(), bytes: Some(10 * GIB) }],
            task_id: Some("finetune_1_1".into()),
        }
    }

    fn devices() -> Devices {
        Devices {
            detecting: false,
            age_seconds: 0.4,
            devices: vec![device()],
            simulated: false,
            recommendation: String::new(),
            findings: Vec::new(),
        }
    }

    fn entry(number: u32) -> QueueEntry {
        let wait = WaitView {
            code: "device_memory".into(),
            position: number,
            running: None,
            device: None,
            needed_bytes: None,
            free_bytes: None,
            holders: Vec::new(),
            at: None,
            by: None,
            used: None,
            limit: None,
            quota: None,
            starts_at: None,
            ends_at: None,
            paused: None,
            zh: String::new(),
            en: format!("position {number}; waiting\x1b[2J for GPU memory"),
        };
        QueueEntry { task_id: format!("finetune_1_{number}"), wait }
    }

    fn lines(picture: &Picture, width: usize) -> Vec<String> {
        let lines = picture.lines(width, "20:15:00");
        assert!(lines.iter().all(|line| measure_text_width(line) <= width), "{lines:#?}");
        lines.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect()
    }

    #[test]
    fn the_bar_divides_the_memory_among_those_who_have_it() {
        let bar = Shares::of(&device()).unwrap().bar(24);
        assert_eq!(console::strip_ansi_codes(&bar), "[████████▓▓▓▓▒▒░~~·······]");
        // However the parts round, the bar is full.
        for cells in 1..80 {
            assert_eq!(measure_text_width(&Shares::of(&device()).unwrap().bar(cells)), cells + 2);
        }
        let mut empty = device();
        empty.memory = Some(MemoryView { total: 0, reserved: None, used: 0, free: 0 });
        empty.processes.clear();
        assert_eq!(measure_text_width(&Shares::of(&empty).unwrap().bar(10)), 2);
        empty.memory = None;
        assert!(Shares::of(&empty).is_none());
    }

    #[test]
    fn one_look_shows_devices_processes_tasks_and_who_waits_for_what() {
        let mut picture =
            Picture { address: Some("http://here".into()), devices: Some(devices()), ..Picture::default() };
        let mut task: TaskView = crate::commands::task::example("training");
        task.task_id = "finetune_1_1".into();
        picture.task(task.clone());
        let progress =
            ProgressView { percent: 45.2, step: 9, total_steps: 20, loss: Some(1.5), ..ProgressView::default() };
        picture.progress(ProgressEvent { task_id: "finetune_1_1".into(), progress });
        let waiting = (1..=20).map(entry).collect();
        let control = api_types::QueueControl::default();
        picture.queue = Some(QueueEvent { control, waiting, total: 600, long: true });
        let shown = lines(&picture, 100);
        let text = shown.join("\n");
        for expected in [
            "SAGE Studio  http://here  20:15:00",
            "0 RTX 4090  97%  61°C  320 W  9.0 GiB of 24.0 GiB free, 7.0 GiB for tasks",
            "pid 12  4.0 GiB  service vLLM (bob)  vllm serve Qwen",
            "RUNNING 1",
            "finetune_1_1   45%  9/20  loss 1.5000",
            "WAITING 600",
            "finetune_1_1  position 1; waiting [2J for GPU memory",
            "… and 588 more",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        // A narrow terminal cuts lines and wraps nothing.
        assert_eq!(lines(&picture, 20).len(), shown.len());

        task.status = "completed".into();
        picture.task(task);
        picture.queue = None;
        let text = lines(&picture, 100).join("\n");
        assert!(!text.contains("RUNNING") && !text.contains("WAITING"), "{text}");
    }
}
