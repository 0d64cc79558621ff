//! How long the page waits for its task list while others press the studio.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use client::testing::{Studio, wait_for};
use domain::Home;

use super::{Figure, Sample, http::Connection, options, seed};

const LISTENERS: usize = 2000;
/// Of these: read nothing, and read a little now and then.
const SILENT: usize = 200;
const SLOW: usize = 200;
/// Per second, where nothing is said: enough that listeners hear of something all the time.
const QUIET_SUBMITS: u64 = 10;
const MANY_SUBMITS: u64 = 1000;
const LOG: u64 = 2 << 30;
const READERS: usize = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Each row for so long.
pub fn measure(period: Duration) -> Vec<Figure> {
    let rows: [(&str, &[&str]); 8] = [
        ("nothing", &[]),
        ("2,000 listeners", &["listeners"]),
        ("4 readers of a log of 2 GiB", &["log"]),
        ("a task that prints", &["printer"]),
        ("a task that prints, followed", &["printer", "follower"]),
        ("1,000 submits/s", &["submits"]),
        ("2,000 listeners and 1,000 submits/s", &["listeners", "submits"]),
        ("all of it", &["listeners", "log", "printer", "follower", "submits"]),
    ];
    rows.into_iter().map(|(name, pressures)| row(name, pressures, period)).collect()
}

/// In a studio of its own, so that none pays for the one before.
fn row(name: &str, pressures: &[&str], period: Duration) -> Figure {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    seed::completed(&Home::new(folder.path()), 1000, 10);
    let studio = Studio::start_in(folder, options().env("SAGE_GPU_MOCK_COUNT", "4"));
    let mut under = Under { over: Arc::default(), threads: Vec::new(), notes: Vec::new() };
    let has = |name| pressures.contains(&name);
    if has("log") {
        under.log_readers(&studio);
    }
    if has("listeners") {
        under.listeners(&studio);
    }
    let printer = has("printer").then(|| under.printer(&studio));
    if let Some(id) = printer.filter(|_| has("follower")) {
        under.follower(&studio, &id);
    }
    let submits = match (has("submits"), has("listeners")) {
        (true, _) => MANY_SUBMITS,
        (false, true) => QUIET_SUBMITS,
        (false, false) => 0,
    };
    if submits > 0 {
        under.submits(&studio, submits);
    }
    // 5: forget the highest memory so far.
    let _ = fs::write(format!("/proc/{}/clear_refs", studio.pid()), "5");

    let mut connection = Connection::open(&studio.address());
    let processes = [studio.pid(), std::process::id()];
    let used = processes.map(processor_seconds);
    under.count_from_now();
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < period {
        times.push(connection.time("GET", "/api/v1/tasks", "").0);
        thread::sleep(BETWEEN_LOOKS);
    }
    let seconds = began.elapsed().as_secs_f64();
    let times = Sample::new(times);
    let memory = highest(studio.pid());
    let rates = under.end(seconds);
    let [studio_used, clients_used] = [0, 1].map(|index| (processor_seconds(processes[index]) - used[index]) / seconds);
    let note = format!(
        "p50 {:.1} ms, most {:.0} ms; {memory:.0} MB at most; processors: studio {studio_used:.2}, clients \
         {clients_used:.2}{rates}",
        times.p50(),
        times.percentile(100)
    );
    Figure::new(format!("GET /api/v1/tasks under {name}, p99"), times.percentile(99), "ms").at_most(50.0).note(note)
}

/// What presses, until `end`.
struct Under {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    /// What each came to per second, with its unit and a divisor.
    notes: Vec<(&'static str, Arc<AtomicU64>, f64)>,
}

impl Under {
    fn counter(&mut self, unit: &'static str, divisor: f64) -> Arc<AtomicU64> {
        let counter = Arc::<AtomicU64>::default();
        self.notes.push((unit, counter.clone(), divisor));
        counter
    }

    /// Calls `step` until the end.
    fn press(&mut self, mut step: impl FnMut() + Send + 'static) {
        let over = self.over.clone();
        self.threads.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                step();
            }
        }));
    }

    fn listeners(&mut self, studio: &Studio) {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let most = rustix::process::Rlimit { current: limit.maximum, ..limit };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, most);
        let mut streams: Vec<TcpStream> = (0..LISTENERS).map(|_| listen(studio, "/api/v1/events")).collect();
        let silent = streams.split_off(LISTENERS - SILENT);
        let heard = self.counter("MB/s to listeners", 1e6);
        let (mut buffer, mut turn) = (vec![0; 256 << 10], 0);
        self.press(move || {
            turn += 1;
            for (index, stream) in streams.iter_mut().enumerate() {
                let slow = index < SLOW;
                let buffer = if slow { &mut buffer[..1024] } else { &mut buffer[..] };
                // Those who read at all take what is there.
                if !slow || turn % 10 == 0 {
                    heard.fetch_add(stream.read(buffer).unwrap_or(0) as u64, Ordering::Relaxed);
                }
            }
            let _ = &silent;
            thread::sleep(Duration::from_millis(50));
        });
    }

    fn log_readers(&mut self, studio: &Studio) {
        let client = studio.client();
        let script = format!("yes 'a line of a log that has become very long in the course of time' | head -c {LOG}");
        let id = client.submit(&seed::command(studio, &["sh", "-c", &script])).expect("a task is accepted").task_id;
        wait_for("the long log", Duration::from_secs(300), || {
            client.task(&id).ok().filter(|task| task.status == "completed").map(drop)
        });
        let read = self.counter("MB/s of log read", 1e6);
        for _ in 0..READERS {
            let (read, address) = (read.clone(), studio.address());
            let path = format!("/api/v1/tasks/{id}/log");
            let mut stream = request(&address, &path);
            let mut buffer = vec![0; 256 << 10];
            self.press(move || match stream.read(&mut buffer) {
                Ok(0) | Err(_) => stream = request(&address, &path),
                Ok(count) => drop(read.fetch_add(count as u64, Ordering::Relaxed)),
            });
        }
    }

    /// As fast as it can.
    fn printer(&mut self, studio: &Studio) -> String {
        let client = studio.client();
        let words = ["yes", "a line of a log that becomes longer and longer in the course of time"];
        let id = client.submit(&seed::command(studio, &words)).expect("a task is accepted").task_id;
        wait_for("the printer", Duration::from_secs(60), || {
            client.task(&id).ok().filter(|task| task.status == "training").map(drop)
        });
        let log = studio.home().training_log(id.parse().expect("an id of the studio"));
        let printed = self.counter("MB/s printed", 1e6);
        let length = move || fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let mut before = length();
        self.press(move || {
            thread::sleep(Duration::from_millis(200));
            let now = length();
            printed.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
            before = now;
        });
        id
    }

    fn follower(&mut self, studio: &Studio, id: &str) {
        let followed = self.counter("MB/s followed", 1e6);
        let mut stream = listen(studio, &format!("/api/v1/tasks/{id}/log/stream"));
        let mut buffer = vec![0; 256 << 10];
        self.press(move || match stream.read(&mut buffer) {
            Ok(count) if count > 0 => drop(followed.fetch_add(count as u64, Ordering::Relaxed)),
            _ => thread::sleep(Duration::from_millis(5)),
        });
    }

    fn submits(&mut self, studio: &Studio, per_second: u64) {
        const THREADS: u64 = 4;
        let done = self.counter("submits/s", 1.0);
        let task = seed::command(studio, &["sleep", "100000"]);
        let task = serde_json::to_string(&task).expect("requests are plain data");
        for _ in 0..THREADS {
            let (done, task) = (done.clone(), task.clone());
            let mut connection = Connection::open(&studio.address());
            let pause = Duration::from_secs(THREADS) / u32::try_from(per_second).expect("a small number");
            let mut next = Instant::now();
            self.press(move || {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                // Who is late does not catch up.
                next = (next + pause).max(Instant::now() - pause);
                connection.time("POST", "/api/v1/tasks", &task);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    /// Leaves out what came before all of it pressed.
    fn count_from_now(&self) {
        self.notes.iter().for_each(|(_, counter, _)| counter.store(0, Ordering::Relaxed));
    }

    /// What each came to in so many seconds.
    fn end(self, seconds: f64) -> String {
        let per_second = |(unit, counter, divisor): &(&str, Arc<AtomicU64>, f64)| {
            format!("; {:.0} {unit}", counter.load(Ordering::Relaxed) as f64 / divisor / seconds)
        };
        let notes = self.notes.iter().map(per_second).collect();
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("pressing does not panic");
        }
        notes
    }
}

fn request(address: &str, path: &str) -> TcpStream {
    let host = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("the studio listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the studio reads");
    stream
}

/// Reads without waiting.
fn listen(studio: &Studio, path: &str) -> TcpStream {
    let stream = request(&studio.address(), path);
    stream.set_nonblocking(true).expect("a socket of ours");
    stream
}

/// Megabytes (10^6 bytes).
fn highest(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    kib * 1024.0 / 1e6
}

/// Of all threads of the process since it started.
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold spaces; user and system time are the 12th and 13th field after it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
