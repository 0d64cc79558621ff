//! A server with a real engine in a home of its own, on real sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use domain::Home;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// For all that a test reads of one stream.
const STREAM_DEADLINE: Duration = Duration::from_secs(60);

pub struct Studio {
    pub address: SocketAddr,
    pub engine: engine::Handle,
    pub home: Home,
    close: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    runtime: Option<tokio::runtime::Runtime>,
    folder: TempDir,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Studio {
    pub fn start() -> Studio {
        Studio::with(server::Options::default())
    }

    pub fn with(options: server::Options) -> Studio {
        Studio::open(options, engine::Settings::default(), tempfile::tempdir().unwrap())
    }

    pub fn open(options: server::Options, settings: engine::Settings, folder: TempDir) -> Studio {
        let home = Home::new(folder.path().join("home"));
        std::fs::create_dir_all(home.root()).unwrap();
        // However little this machine has left.
        let settings = engine::Settings { min_free_memory: Some(0), ..settings };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let entered = runtime.enter();
        let engine = engine::start(engine::Options {
            home: home.clone(),
            sage: this_program(),
            settings,
            gpu: gpu::Options { mock_count: Some(1), mock_memory_gb: Some(12.0), ..gpu::Options::default() },
        })
        .unwrap();
        let accounts = store::Accounts::open(&home.database()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (close, closed) = oneshot::channel::<()>();
        let serving = server::serve(engine.clone(), accounts, options, vec![listener.into()], async move {
            let _ = closed.await;
        });
        let served = runtime.spawn(serving);
        drop(entered);
        let (close, served, runtime) = (Some(close), Some(served), Some(runtime));
        let studio = Studio { address, engine, home, close, served, runtime, folder };
        until("the devices are detected", || studio.engine.view().devices());
        studio
    }

    /// Stops serving and the engine; the home stays.
    pub fn stop(mut self) -> TempDir {
        self.shut_down();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    fn shut_down(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        drop(self.close.take());
        runtime.block_on(async {
            self.served.take().unwrap().await.unwrap().unwrap();
            self.engine.shutdown().await;
        });
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// A request with a proper Host and Content-Length, and these headers.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let host = self.host();
        let length = body.len().to_string();
        let mut all = vec![("host", host.as_str()), ("connection", "close")];
        if !body.is_empty() || method == "POST" {
            all.push(("content-length", &length));
        }
        all.extend(headers);
        self.raw(method, path, &all, body)
    }

    /// Exactly these headers, on a connection of its own.
    pub fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.send(method, path, headers, body);
        read_answer(&mut stream, method)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // The answer may come, and the connection end, before all of a refused body is sent.
        let _ = stream.write_all(body);
        BufReader::new(stream)
    }

    pub fn upload(&self, path: &str, filename: &str, content: &[u8]) -> Answer {
        let boundary = "a-boundary-that-no-content-has";
        let quoted = filename.replace('"', "%22");
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{quoted}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        self.request("POST", path, &[("content-type", &content_type)], &body)
    }

    /// A valid data set that was uploaded.
    pub fn dataset(&self) -> String {
        let answer = self.upload("/api/finetune/upload-dataset", "data.jsonl", ROWS.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["file_path"].as_str().unwrap().to_owned()
    }

    pub fn submit_command(&self, argv: &[&str]) -> String {
        let body = json!({"command": {"argv": argv, "cwd": "/"}});
        let answer = self.post("/api/v1/tasks", &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["task_id"].as_str().unwrap().to_owned()
    }

    /// The task once it has this status.
    pub fn wait_for(&self, id: &str, status: &str) -> Value {
        until(&format!("{id} is {status}"), || {
            let task = self.get(&format!("/api/v1/tasks/{id}")).json();
            (task["status"] == status).then_some(task)
        })
    }

    /// Why it waits, once the planner has said it.
    pub fn wait_reason(&self, id: &str) -> Value {
        until(&format!("the planner has said why {id} waits"), || {
            let wait = self.get(&format!("/api/v1/tasks/{id}")).json()["wait"].clone();
            (wait.is_object() && wait["code"] != "planning" && wait["code"] != "detecting").then_some(wait)
        })
    }

    /// A model whose training goes on as long as the file `hold` is in its folder.
    pub fn model(&self, hold: bool) -> PathBuf {
        let folder = self.home.models().join(if hold { "held" } else { "tiny" });
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), r#"{"architectures": ["Qwen2ForCausalLM"]}"#).unwrap();
        std::fs::write(folder.join("model.safetensors"), b"weights").unwrap();
        if hold {
            std::fs::write(folder.join("hold"), b"").unwrap();
        }
        folder
    }

    /// Submits a fine-tune as the first generation's page does.
    pub fn create(&self, model: &std::path::Path, dataset: &str) -> Value {
        let answer = self.post("/api/finetune/create", &json!({"model_name": model, "dataset_file": dataset}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.shut_down();
        }
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Status and `detail` of an error.
    pub fn error(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["code"].is_string(), "{body}");
        // The first generation's errors are Chinese themselves.
        let said = body["zh"].as_str().or(body["detail"].as_str()).unwrap_or_default();
        assert!(said.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter)), "in Chinese: {body}");
        (self.status, body["detail"].as_str().expect("errors have a detail").to_owned())
    }
}

pub const ROWS: &str = concat!(
    r#"{"instruction": "What is SAGE?", "input": "", "output": "A studio."}"#,
    "\n",
    r#"{"instruction": "你好", "output": "您好！"}"#,
    "\n",
);

/// The first `Some`, within the deadline.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read_answer(stream: &mut BufReader<TcpStream>, method: &str) -> Answer {
    let (status, headers) = read_head(stream);
    let find = |name: &str| headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if method != "HEAD" && status != 204 && status != 304 {
        if find("transfer-encoding").is_some() {
            while let Some(chunk) = read_chunk(stream) {
                body.extend(chunk);
            }
        } else {
            let length = find("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            body.resize(length, 0);
            stream.read_exact(&mut body).unwrap();
        }
    }
    Answer { status, headers, body }
}

pub fn read_head(stream: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => return (status, headers),
        }
    }
}

fn read_chunk(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    if stream.read_line(&mut line).unwrap() == 0 {
        return None;
    }
    let length = usize::from_str_radix(line.trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk).unwrap();
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}

/// One server-sent event.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct ServerEvent {
    pub name: String,
    pub id: Option<String>,
    pub data: String,
}

impl ServerEvent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A stream of server-sent events, read as a browser does.
pub struct Events {
    stream: BufReader<TcpStream>,
    unread: Vec<u8>,
    /// When the test gives up: keep-alives come for ever, whatever else does not.
    end: Instant,
    /// As a browser would send it when it reconnects.
    pub last_id: Option<String>,
}

impl Events {
    pub fn open(studio: &Studio, path: &str, headers: &[(&str, &str)]) -> Events {
        let host = studio.host();
        let mut all = vec![("host", host.as_str()), ("accept", "text/event-stream")];
        all.extend(headers);
        let mut stream = studio.send("GET", path, &all, b"");
        let (status, headers) = read_head(&mut stream);
        assert_eq!(status, 200);
        assert!(headers.contains(&("content-type".into(), "text/event-stream".into())), "{headers:?}");
        Events { stream, unread: Vec::new(), end: Instant::now() + STREAM_DEADLINE, last_id: None }
    }

    /// Lets the kernel keep little of what is not read.
    pub fn narrow(self) -> Events {
        rustix::net::sockopt::set_socket_recv_buffer_size(self.stream.get_ref(), 64 << 10).unwrap();
        self
    }

    /// The next event that has data; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<ServerEvent> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let mut event = ServerEvent::default();
                for line in String::from_utf8(block).unwrap().lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.name = name.into(),
                        Some(("id", id)) => event.id = Some(id.into()),
                        Some(("data", data)) => event.data += data,
                        _ => {}
                    }
                }
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                if !event.data.is_empty() {
                    return Some(event);
                }
            }
            assert!(Instant::now() < self.end, "the stream did not say in time what the test waits for");
            self.unread.extend(read_chunk(&mut self.stream)?);
        }
    }

    /// The next event of this name.
    pub fn expect(&mut self, name: &str) -> ServerEvent {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended without {name}"));
            if event.name == name {
                return event;
            }
        }
    }
}

/// This program is also the supervisor and the trainer, see `main`.
fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program")
}
