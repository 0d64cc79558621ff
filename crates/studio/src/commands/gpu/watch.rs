//! `sage gpu watch`: drawn anew when something happens, until Ctrl-C.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use api_types::{Devices, ProgressEvent, QueueEvent, TaskView};
use client::{Client, ClientError, Endpoint, Event, TaskFilter};
use console::Term;
use domain::Home;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH},
    iterator::Signals,
};

use super::{own, picture::Picture, picture_of};
use crate::{
    config::Config,
    error::{CliError, Result},
    output,
    text::text,
};

/// How often it measures where no studio does, and looks whether one has come.
const EVERY: Duration = Duration::from_secs(1);
/// Pictures follow each other no faster.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a single picture may take to be complete.
const PATIENCE: Duration = Duration::from_secs(10);

/// What changes the picture.
enum Update {
    /// Who tells what follows: a studio by its address, or `None`, this program.
    Source(Option<String>),
    Devices(Devices),
    Task(Box<TaskView>),
    Removed(String),
    Progress(ProgressEvent),
    Queue(QueueEvent),
    Trouble(String),
    Resized,
    End,
}

/// The screen has gone, and with it the reason to look.
struct Gone;

pub fn run(home: &Home) -> Result<ExitCode> {
    let config = Config::read(&home.config())?;
    let (sender, updates) = mpsc::channel();
    let observer = Observer { home: home.clone(), gpus: config.gpu_options(home)?, updates: sender.clone() };
    if !io::stdout().is_terminal() {
        thread::spawn(move || observer.observe());
        return once(&updates);
    }
    listen_for_signals(sender)?;
    thread::spawn(move || observer.observe());
    let mut screen = Screen::take()?;
    let mut picture = Picture::default();
    let mut drawn = Instant::now();
    loop {
        let first = match updates.recv_timeout(EVERY) {
            Ok(update) => Some(update),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        for update in first.into_iter().chain(updates.try_iter()) {
            if matches!(update, Update::End) {
                return Ok(ExitCode::SUCCESS);
            }
            take(&mut picture, update);
        }
        picture.grow_older(drawn.elapsed().as_secs_f64());
        drawn = Instant::now();
        screen.draw(&picture)?;
        thread::sleep(PAUSE);
    }
    Ok(ExitCode::SUCCESS)
}

/// One picture for a file or a pipe, as soon as it is complete.
fn once(updates: &Receiver<Update>) -> Result<ExitCode> {
    let mut picture = Picture::default();
    let end = Instant::now() + PATIENCE;
    while let Ok(update) = updates.recv_timeout(end.saturating_duration_since(Instant::now())) {
        take(&mut picture, update);
        let detected = picture.devices.as_ref().is_some_and(|devices| !devices.detecting);
        if picture.trouble.is_some() || detected && (picture.address.is_none() || picture.queue.is_some()) {
            break;
        }
    }
    let mut page = picture.lines(usize::MAX, &now()).join("\n");
    page.push('\n');
    output::print(&page)?;
    Ok(ExitCode::SUCCESS)
}

fn take(picture: &mut Picture, update: Update) {
    match update {
        // What the one before said of tasks may have changed meanwhile.
        Update::Source(address) => {
            *picture = Picture { address, devices: picture.devices.take(), ..Picture::default() };
        }
        Update::Devices(devices) => (picture.devices, picture.trouble) = (Some(devices), None),
        Update::Task(task) => picture.task(*task),
        Update::Removed(id) => drop(picture.running.remove(&id)),
        Update::Progress(event) => picture.progress(event),
        Update::Queue(queue) => picture.queue = Some(queue),
        Update::Trouble(trouble) => picture.trouble = Some(trouble),
        Update::Resized | Update::End => {}
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

fn listen_for_signals(updates: Sender<Update>) -> Result<()> {
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH]);
    let mut signals = signals.map_err(|error| CliError::new("signals", error.to_string()))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let update = if signal == SIGWINCH { Update::Resized } else { Update::End };
            if updates.send(update).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Follows the studio while there is one and measures by itself while there is none.
struct Observer {
    home: Home,
    gpus: gpu::Options,
    updates: Sender<Update>,
}

impl Observer {
    fn observe(&self) {
        loop {
            let seen = match Client::connect(&self.home) {
                Ok(client) => self.follow(&client),
                Err(ClientError::NotRunning { .. }) => self.measure(),
                Err(error) => Ok(Err(error.into())),
            };
            let told = match seen {
                Err(Gone) => return,
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => self.tell(Update::Trouble(error.sentence)),
            };
            if told.is_err() {
                return;
            }
            thread::sleep(EVERY);
        }
    }

    /// Until the connection ends, for example with the studio.
    fn follow(&self, client: &Client) -> Result<Result<()>, Gone> {
        self.tell(Update::Source(Some(client.address().to_owned())))?;
        let mut events = match self.running(client)? {
            Ok(after) => match client.events(Some(after)) {
                Ok(events) => events,
                Err(error) => return Ok(Err(error.into())),
            },
            Err(error) => return Ok(Err(error)),
        };
        for event in &mut events {
            self.tell(match event {
                Event::Task(task) => Update::Task(task),
                Event::Removed(removed) => Update::Removed(removed.task_id),
                Event::Progress(event) => Update::Progress(event),
                Event::Queue(queue) => Update::Queue(queue),
                Event::Devices(devices) => Update::Devices(devices),
                Event::Resync => return Ok(Ok(())),
            })?;
        }
        let lost =
            text("与 Studio 的连接已断开，正在重新连接", "the connection to the studio has ended; connecting again");
        self.tell(Update::Trouble(lost.into()))?;
        Ok(Ok(()))
    }

    /// Tells what runs now, and answers from which event on to follow.
    fn running(&self, client: &Client) -> Result<Result<u64>, Gone> {
        let mut after = None;
        for status in ["training", "preparing"] {
            let filter = TaskFilter { status: Some(status.into()), limit: Some(500), ..TaskFilter::default() };
            let page = match client.tasks(&filter) {
                Ok(page) => page,
                Err(error) => return Ok(Err(error.into())),
            };
            // The older one: what happens between the two answers is told again rather than missed.
            after.get_or_insert(page.last_event_id);
            for task in page.tasks {
                self.tell(Update::Task(Box::new(task)))?;
            }
        }
        Ok(Ok(after.unwrap_or(0)))
    }

    /// Until there is a studio.
    fn measure(&self) -> Result<Result<()>, Gone> {
        self.tell(Update::Source(None))?;
        let command = match own("gpu-worker") {
            Ok(command) => command,
            Err(error) => return Ok(Err(error)),
        };
        let updates = self.updates.clone();
        let report = move |inventory| drop(updates.send(Update::Devices(picture_of(&inventory))));
        let _worker = match gpu::Worker::start(self.gpus.clone(), command, EVERY, report) {
            Ok(worker) => worker,
            Err(error) => return Ok(Err(CliError::file(Path::new("sage gpu-worker"), &error))),
        };
        while Endpoint::find(&self.home).is_err() {
            thread::sleep(EVERY);
        }
        Ok(Ok(()))
    }

    fn tell(&self, update: Update) -> Result<(), Gone> {
        self.updates.send(update).map_err(|_| Gone)
    }
}

/// The terminal's second screen; the first comes back when this is dropped.
struct Screen {
    term: Term,
}

impl Screen {
    fn take() -> Result<Screen> {
        let mut screen = Screen { term: Term::stdout() };
        // Second screen, no cursor.
        screen.write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    fn draw(&mut self, picture: &Picture) -> Result<()> {
        let (height, width) = self.term.size();
        let mut lines = picture.lines(usize::from(width), &now());
        lines.truncate(usize::from(height));
        // From the top; what was longer before is erased at the end of each line and below the last.
        let page: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[0m\x1b[K")).collect();
        self.write(&format!("\x1b[H{}\x1b[J", page.join("\r\n")))
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let written = self.term.write_all(text.as_bytes()).and_then(|()| self.term.flush());
        written.map_err(|error| CliError::file(Path::new("stdout"), &error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.write("\x1b[?25h\x1b[?1049l");
    }
}
