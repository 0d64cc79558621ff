//! The worker process: the only one that calls drivers, with a thread for each card, so that one that hangs keeps
//! nobody else from answering.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Signal, getpid, kill_process};

use crate::Options;
use crate::card::{Answer, Card, CardId, Request, Vendor};
use crate::roster::Roster;

const STACK: usize = 512 << 10;
/// A GPU that fell off the bus is looked for again after this long, then after twice as long.
const FIRST_SEARCH: Duration = Duration::from_secs(5);
const LAST_SEARCH: Duration = Duration::from_secs(60);

/// Answers requests on standard input until it ends, which it also does when the studio is killed.
///
/// This is the whole of the hidden command `sage gpu-worker`; [`Worker`](crate::Worker) speaks with it.
pub fn worker_main() -> ExitCode {
    let (requests, inbox) = mpsc::channel();
    let builder = thread::Builder::new().name("sweep".into()).stack_size(STACK);
    if let Err(error) = builder.spawn(move || Sweeper::default().run(&inbox)) {
        eprintln!("gpu-worker: {error}");
        return ExitCode::FAILURE;
    }
    for line in io::stdin().lock().lines() {
        let request = match line.map(|line| serde_json::from_str(&line)) {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => {
                eprintln!("gpu-worker: a request cannot be read: {error}");
                return ExitCode::FAILURE;
            }
            Err(_) => break,
        };
        let _ = requests.send(request);
    }
    end()
}

/// At once: what a library does when a process exits in order may wait for a thread that hangs in the driver.
fn end() -> ! {
    let _ = kill_process(getpid(), Signal::TERM);
    std::process::exit(0)
}

#[derive(Default)]
struct Sweeper {
    options: Arc<Options>,
    roster: Roster,
    readers: BTreeMap<CardId, Reader>,
    /// When the search for a lost GPU began, and how often it failed.
    lost: Option<(Instant, u32)>,
}

/// One card's thread.
struct Reader {
    sweeps: SyncSender<Arc<Options>>,
    thread: JoinHandle<()>,
    state: Arc<ReaderState>,
}

#[derive(Default)]
struct ReaderState {
    busy: AtomicBool,
    lost: AtomicBool,
}

impl Sweeper {
    fn run(mut self, requests: &Receiver<Request>) {
        for request in requests {
            match request {
                Request::Options(options) => self.options = Arc::from(options),
                Request::Sweep => self.sweep(),
            }
        }
    }

    fn sweep(&mut self) {
        self.search();
        let roll = self.roster.call(&self.options);
        let gone: Vec<CardId> = self.readers.keys().filter(|id| !roll.cards.contains(id)).copied().collect();
        for id in gone {
            self.readers.remove(&id);
        }
        for id in &roll.cards {
            if !self.readers.contains_key(id)
                && let Some(card) = self.roster.card(*id)
                && let Ok(reader) = Reader::start(*id, card)
            {
                self.readers.insert(*id, reader);
            }
        }
        let cards = roll.cards.clone();
        say(&Answer::Roll(roll));
        for reader in cards.iter().filter_map(|id| self.readers.get(id)).filter(|reader| !reader.is_busy()) {
            reader.state.busy.store(true, Ordering::SeqCst);
            let _ = reader.sweeps.send(self.options.clone());
        }
    }

    /// Loads the NVIDIA library anew if it has given a GPU up, because it would never find it again. Not while a
    /// thread is in it.
    fn search(&mut self) {
        let nvidia = || self.readers.iter().filter(|(id, _)| id.vendor == Vendor::Nvidia).map(|(_, reader)| reader);
        if !nvidia().any(|reader| reader.state.lost.load(Ordering::SeqCst)) {
            self.lost = None;
            return;
        }
        let (since, failures) = *self.lost.get_or_insert_with(|| (Instant::now(), 0));
        let pause = FIRST_SEARCH.saturating_mul(1 << failures.min(8)).min(LAST_SEARCH);
        if since.elapsed() < pause || nvidia().any(Reader::is_busy) {
            return;
        }
        self.lost = Some((Instant::now(), failures + 1));
        let (nvidia, others) =
            std::mem::take(&mut self.readers).into_iter().partition(|(id, _)| id.vendor == Vendor::Nvidia);
        self.readers = others;
        let readers: BTreeMap<CardId, Reader> = nvidia;
        for Reader { sweeps, thread, .. } in readers.into_values() {
            drop(sweeps);
            let _ = thread.join();
        }
        self.roster.unload_nvml();
    }
}

impl Reader {
    fn start(id: CardId, mut card: Box<dyn Card>) -> io::Result<Reader> {
        let (sweeps, inbox) = mpsc::sync_channel::<Arc<Options>>(1);
        let state = Arc::new(ReaderState::default());
        let shared = state.clone();
        let read = move || {
            for options in inbox {
                let reading = card.read(&options, Timestamp::now());
                shared.lost.store(reading.lost, Ordering::SeqCst);
                // Before the answer, which may be followed by the next sweep at once.
                shared.busy.store(false, Ordering::SeqCst);
                say(&Answer::Card { card: id, reading });
            }
        };
        let thread = thread::Builder::new().name("card".into()).stack_size(STACK).spawn(read)?;
        Ok(Reader { sweeps, thread, state })
    }

    fn is_busy(&self) -> bool {
        self.state.busy.load(Ordering::SeqCst)
    }
}

fn say(answer: &Answer) {
    let mut line = serde_json::to_vec(answer).expect("an answer has a JSON form");
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
        // The studio is gone.
        end();
    }
}
