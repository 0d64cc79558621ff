//! Prints the figures of what pages poll and scripts send most. The bounds are generous, for machines that do other
//! things as well: only a change of kind trips them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use domain::{FineTune, Home, Recipe, Task, TaskId, TaskState};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::Change;

use crate::fixture::{Studio, read_head};

const TASKS: u64 = 1000;
const LINES: usize = 50;

pub fn polling_stays_cheap() {
    let folder = tempfile::tempdir().unwrap();
    fill(&Home::new(folder.path().join("home")));
    let studio = Studio::open(Default::default(), Default::default(), folder);
    let mut client = Client::connect(&studio);

    let gpu_info = median(2000, || drop(client.request("GET", "/api/system/gpu-info", None)));
    let listed = client.request("GET", "/api/finetune/tasks", None);
    let tasks: Vec<Value> = serde_json::from_slice(&listed).unwrap();
    assert_eq!(tasks.len() as u64, TASKS);
    assert!(tasks.iter().all(|task| task["logs"].as_array().unwrap().len() == LINES));
    let list = median(30, || drop(client.request("GET", "/api/finetune/tasks", None)));

    let (model, dataset) = (studio.model(true), studio.dataset());
    let body = json!({"model_name": model, "dataset_file": dataset}).to_string();
    let create = median(200, || drop(client.request("POST", "/api/finetune/create", Some(&body))));
    let command = json!({"command": {"argv": ["true"], "cwd": "/"}}).to_string();
    let submit = median(500, || drop(client.request("POST", "/api/v1/tasks", Some(&command))));
    println!("p50: gpu-info {gpu_info:?}, list of {TASKS} {list:?}, create {create:?}, submit {submit:?}");
    assert!(gpu_info < Duration::from_millis(5), "{gpu_info:?}");
    assert!(list < Duration::from_millis(500), "{list:?}");
    assert!(create < Duration::from_millis(200), "{create:?}");
}

/// Ended tasks with full logs.
fn fill(home: &Home) {
    std::fs::create_dir_all(home.root()).unwrap();
    let now = Timestamp::now();
    let line = |line| format!("[12:34:56] step {line}: loss 1.2345, learning rate 5.0e-5, 123.4 tokens/s");
    let log: Vec<String> = (0..LINES).map(line).collect();
    let task = |number| Task {
        id: TaskId::new(now.as_second(), number),
        name: None,
        owner: "guest".into(),
        created_at: now,
        time_limit: 3600,
        recipe: Recipe::FineTune(FineTune { model_name: "m".into(), dataset_file: "/d".into(), ..FineTune::default() }),
        priority: domain::Priority::Normal,
        after: Vec::new(),
        terms: domain::Terms::default(),
        warnings: Vec::new(),
        estimate: None,
        adjustments: Vec::new(),
        state: TaskState::Completed { started_at: now, ended_at: now },
    };
    let create = |number| Change::Create { task: Box::new(task(number)), who: "guest".into(), log: log.clone() };
    let changes: Vec<Change> = (1..=TASKS).map(create).collect();
    store::Writer::open(&home.database()).unwrap().commit(&changes).unwrap();
}

fn median(times: usize, mut act: impl FnMut()) -> Duration {
    let mut durations: Vec<Duration> = (0..times)
        .map(|_| {
            let started = Instant::now();
            act();
            started.elapsed()
        })
        .collect();
    durations.sort();
    durations[times / 2]
}

/// One connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    fn connect(studio: &Studio) -> Client {
        let stream = TcpStream::connect(studio.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::with_capacity(256 << 10, stream), host: studio.host() }
    }

    fn request(&mut self, method: &str, path: &str, body: Option<&str>) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        if let Some(body) = body {
            request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body.unwrap_or_default();
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        assert!(!self.stream.fill_buf().unwrap().is_empty());
        let (status, headers) = read_head(&mut self.stream);
        assert!(status < 300, "{status}");
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        body
    }
}
