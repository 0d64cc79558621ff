//! The studio's side of detection: one thread that asks and never waits longer than the deadline.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use domain::Inventory;
use jiff::Timestamp;

use crate::backend::local;
use crate::card::{Answer, Request};
use crate::picture::Picture;
use crate::{Backend, Options, Service, fault};

/// How much rarer a machine without a real GPU is measured while nobody is in a hurry.
const RARER: u32 = 30;
/// Somebody who wants to be told more often than this waits for memory.
const HURRY: Duration = Duration::from_secs(1);
/// How long a drop waits for a call of `on_inventory` under way.
const PATIENCE: Duration = Duration::from_secs(2);
/// A worker that dies is started again after this long, then after twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);
const STACK: usize = 512 << 10;

/// One thread that measures the devices and hands every inventory on.
///
/// Drivers can hang for ever, so they are asked in one process of their own. A device that does not answer within the
/// deadline keeps its last figures and is unusable until it answers; the process is left alone, and there is never a
/// second one beside it. One that ends is started again.
pub struct Worker {
    events: Sender<Event>,
    /// A refresh is on its way: a hundred wishes are one.
    wished: Arc<AtomicBool>,
    ended: Receiver<()>,
}

enum Event {
    Refresh,
    Interval(Duration),
    Services(Vec<Service>),
    /// From the process of that generation.
    Answer(u64, Answer),
    Ended(u64, String),
    Quit,
}

impl Worker {
    /// Sweeps at once, then every `interval`; 30 times as rarely while there is no real GPU and `interval` is not
    /// shorter than a second.
    ///
    /// `command` starts a program that calls [`worker_main`](crate::worker_main). Simulated GPUs need none, and none is
    /// started for them. `on_inventory` runs on the worker's thread.
    pub fn start(
        options: Options,
        command: Vec<OsString>,
        interval: Duration,
        on_inventory: impl FnMut(Inventory) + Send + 'static,
    ) -> io::Result<Worker> {
        let (events, inbox) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let wished = Arc::new(AtomicBool::new(false));
        let measure = Measure {
            source: Source::new(options, command, events.clone()),
            inbox,
            wished: wished.clone(),
            pending: VecDeque::new(),
            interval,
            on_inventory: Box::new(on_inventory),
        };
        thread::Builder::new().name("gpu".into()).stack_size(STACK).spawn(move || {
            let _end = end;
            measure.run();
        })?;
        Ok(Worker { events, wished, ended })
    }

    /// Asks for a sweep now; returns at once. Wishes during a sweep are one.
    pub fn refresh(&self) {
        if !self.wished.swap(true, Ordering::SeqCst) {
            self.send(Event::Refresh);
        }
    }

    /// From now on sweeps this often; the present pause ends accordingly.
    pub fn set_interval(&self, interval: Duration) {
        self.send(Event::Interval(interval));
    }

    /// Replaces the registered inference services.
    pub fn set_services(&self, services: Vec<Service>) {
        self.send(Event::Services(services));
    }

    fn send(&self, event: Event) {
        // The thread ends only with the worker.
        let _ = self.events.send(event);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.send(Event::Quit);
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// One sweep by a process of its own, which then ends: for a command that runs without a studio.
///
/// Devices that have not answered by the deadline are in the inventory as unusable.
pub fn sweep_once(options: &Options, command: &[OsString], deadline: Duration) -> Inventory {
    examine(options, command, deadline).0
}

/// Like [`sweep_once`], and whether the driver keeps the cards ready while nobody uses them.
pub(crate) fn examine(options: &Options, command: &[OsString], deadline: Duration) -> (Inventory, Option<bool>) {
    let (events, inbox) = mpsc::channel();
    let options = Options { deadline: Some(deadline), ..options.clone() };
    let mut source = Source::new(options, command.to_vec(), events);
    let due = Instant::now() + deadline;
    source.ask();
    while !source.is_complete() {
        match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(event) => source.take(event),
            Err(_) => break,
        }
    }
    let persistent = match &source {
        Source::Local(_) => None,
        Source::Process(process) => process.picture.is_persistent(),
    };
    (source.inventory(), persistent)
}

/// The loop of the worker's thread.
struct Measure {
    source: Source,
    inbox: Receiver<Event>,
    wished: Arc<AtomicBool>,
    /// Arrived during a sweep and concerns the pause after it.
    pending: VecDeque<Event>,
    interval: Duration,
    on_inventory: Box<dyn FnMut(Inventory) + Send>,
}

/// The worker is dropped.
struct Quit;

impl Measure {
    fn run(mut self) {
        while self.sweep().and_then(|real| self.rest(real)).is_ok() {}
    }

    /// Answers whether there is a reason to sweep often.
    fn sweep(&mut self) -> Result<bool, Quit> {
        self.wished.store(false, Ordering::SeqCst);
        self.source.ask();
        let due = Instant::now() + self.source.deadline();
        while !self.source.is_complete() {
            match self.inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Event::Quit) | Err(RecvTimeoutError::Disconnected) => return Err(Quit),
                Ok(event @ (Event::Refresh | Event::Interval(_))) => self.pending.push_back(event),
                Ok(event) => self.source.take(event),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        Ok(self.publish())
    }

    /// Until the next sweep is due. An answer that comes late is handed on at once.
    fn rest(&mut self, mut real: bool) -> Result<(), Quit> {
        let began = Instant::now();
        loop {
            let pause = if real || self.interval < HURRY { self.interval } else { self.interval * RARER };
            let next = match self.source.retry_at() {
                Some(retry) => retry.min(began + pause),
                None => began + pause,
            };
            let event = match self.pending.pop_front() {
                Some(event) => Ok(event),
                None => self.inbox.recv_timeout(next.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Quit) | Err(RecvTimeoutError::Disconnected) => return Err(Quit),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Ok(Event::Refresh) => return Ok(()),
                Ok(Event::Interval(interval)) => self.interval = interval,
                Ok(event) => {
                    let shows = matches!(event, Event::Answer(..) | Event::Ended(..));
                    self.source.take(event);
                    if shows && self.drain()? {
                        real = self.publish();
                    }
                }
            }
        }
    }

    /// Takes what has arrived together. `false`: somebody wants a sweep, which will tell it all.
    fn drain(&mut self) -> Result<bool, Quit> {
        loop {
            match self.inbox.try_recv() {
                Ok(Event::Quit) => return Err(Quit),
                Ok(Event::Refresh) => {
                    self.pending.push_back(Event::Refresh);
                    return Ok(false);
                }
                Ok(event @ Event::Interval(_)) => self.pending.push_back(event),
                Ok(event) => self.source.take(event),
                Err(_) => return Ok(true),
            }
        }
    }

    fn publish(&mut self) -> bool {
        let inventory = self.source.inventory();
        let real = inventory.devices.iter().any(|reading| reading.device.kind.is_real_gpu());
        (self.on_inventory)(inventory);
        real || !self.source.is_settled()
    }
}

/// Where inventories come from.
enum Source {
    /// What cannot hang.
    Local(Box<dyn Backend>),
    Process(Box<Process>),
}

impl Source {
    fn new(options: Options, command: Vec<OsString>, events: Sender<Event>) -> Source {
        match local(&options) {
            Some(backend) => Source::Local(backend),
            None => Source::Process(Box::new(Process {
                options,
                command,
                events,
                generation: 0,
                stdin: None,
                deaths: 0,
                retry_at: None,
                picture: Picture::default(),
            })),
        }
    }

    fn deadline(&self) -> Duration {
        match self {
            Source::Local(_) => Duration::ZERO,
            Source::Process(process) => process.options.deadline(),
        }
    }

    fn ask(&mut self) {
        if let Source::Process(process) = self {
            process.ask();
        }
    }

    fn take(&mut self, event: Event) {
        if let Source::Process(process) = self {
            process.take(event);
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Source::Local(_) => true,
            Source::Process(process) => process.picture.is_complete(),
        }
    }

    /// Nothing is wrong that could be over in a moment.
    fn is_settled(&self) -> bool {
        match self {
            Source::Local(_) => true,
            Source::Process(process) => process.retry_at.is_none() && !process.picture.is_stuck(),
        }
    }

    fn retry_at(&self) -> Option<Instant> {
        match self {
            Source::Local(_) => None,
            Source::Process(process) => process.retry_at,
        }
    }

    fn inventory(&mut self) -> Inventory {
        match self {
            Source::Local(backend) => backend.sweep(Timestamp::now()),
            Source::Process(process) => process.inventory(),
        }
    }
}

/// The one worker process, and what it has told.
struct Process {
    options: Options,
    command: Vec<OsString>,
    events: Sender<Event>,
    /// Counts the processes, so that a dead one's last words are not taken for its successor's.
    generation: u64,
    /// `None`: there is no process.
    stdin: Option<ChildStdin>,
    /// Since the last sweep that went well.
    deaths: u32,
    retry_at: Option<Instant>,
    picture: Picture,
}

impl Process {
    fn ask(&mut self) {
        if self.stdin.is_none() {
            if self.retry_at.is_some_and(|retry| Instant::now() < retry) {
                return;
            }
            if let Err(error) = self.spawn() {
                return self.bury(error.to_string());
            }
        } else if self.picture.is_stuck() {
            return;
        }
        self.picture.ask(Instant::now());
        self.write(&Request::Sweep);
    }

    fn spawn(&mut self) -> io::Result<()> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        // In a group of its own, because an interrupt from the keyboard is meant for the studio.
        command.args(arguments).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        self.generation += 1;
        self.retry_at = None;
        self.stdin = child.stdin.take();
        let (events, generation) = (self.events.clone(), self.generation);
        let listen = move || listen(child, generation, &events);
        thread::Builder::new().name("gpu-worker".into()).stack_size(STACK).spawn(listen)?;
        self.write(&Request::Options(Box::new(self.options.clone())));
        Ok(())
    }

    /// One that is dead cannot be written to; its listener tells.
    fn write(&mut self, request: &Request) {
        if let Some(stdin) = &mut self.stdin {
            let mut line = serde_json::to_vec(request).expect("a request has a JSON form");
            line.push(b'\n');
            let _ = stdin.write_all(&line);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Answer(generation, answer) if generation == self.generation => {
                self.picture.take(answer);
                if self.picture.is_complete() {
                    self.deaths = 0;
                }
            }
            Event::Ended(generation, how) if generation == self.generation => self.bury(how),
            Event::Services(services) => {
                self.options.services = services;
                self.write(&Request::Options(Box::new(self.options.clone())));
            }
            _ => {}
        }
    }

    fn bury(&mut self, how: String) {
        self.stdin = None;
        let pause = FIRST_RETRY.saturating_mul(1 << self.deaths.min(16)).min(LAST_RETRY);
        self.deaths += 1;
        self.retry_at = Some(Instant::now() + pause);
        self.picture.fail(fault::worker_died(&how));
    }

    fn inventory(&self) -> Inventory {
        self.picture.inventory(Timestamp::now(), self.options.deadline())
    }
}

/// Hands on what the process says until it ends. It ends when its input does, and is never ended from here: a driver
/// call that is broken off may freeze the card.
fn listen(mut child: Child, generation: u64, events: &Sender<Event>) {
    let stdout = child.stdout.take().expect("it was piped");
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        // Drivers print what they like.
        let Ok(answer) = serde_json::from_str(&line) else { continue };
        let _ = events.send(Event::Answer(generation, answer));
    }
    let how = match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let _ = events.send(Event::Ended(generation, how));
}
