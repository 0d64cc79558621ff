use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
    time::Duration,
};

use api_types::{
    CheckView, CreatedGroup, CreatedTask, DatasetView, Devices, ErrorBody, EstimateAnswer, Explanation,
    FineTuneRequest, GroupView, JournalEntry, Metrics, ModelView, PasteDataset, Preset, PutBefore, QueueControl,
    QueueView, Recommendations, SetMaintenance, StudioView, SubmitGroup, SubmitTask, TaskPage, TaskPatch, TaskView,
};
use domain::Home;
use serde::de::DeserializeOwned;
use ureq::{
    Agent, AsSendBody, Body, SendBody, http,
    http::Response,
    tls::{RootCerts, TlsConfig},
};

use crate::{ClientError, Endpoint, EventStream, LogStream, Result, remote::Remote};

/// Bytes of an answer, or of a request, that are moved at once.
const BUFFER: usize = 16 << 10;

/// One studio. Keeps its connection open between requests; cheap to clone.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    address: String,
    token: Option<String>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// A state's word, such as `queued`.
    pub status: Option<String>,
    pub owner: Option<String>,
    pub limit: Option<u32>,
    /// Only tasks older than this one: `next_before` of the page before.
    pub before: Option<String>,
}

/// A file on its way.
pub struct Download {
    /// Name that the studio suggests.
    pub filename: String,
    /// Bytes, where the studio knows.
    pub length: Option<u64>,
    pub body: Box<dyn Read>,
}

impl Client {
    /// The studio that the environment names, else the running one of this home.
    pub fn connect(home: &Home) -> Result<Client> {
        match Remote::from_env()? {
            Some(remote) => Ok(Client::new(remote.address, remote.token, remote.authorities)),
            None => Ok(Client::to(&Endpoint::find(home)?)),
        }
    }

    pub fn to(endpoint: &Endpoint) -> Client {
        Client::new(endpoint.address.clone(), endpoint.token.clone(), None)
    }

    fn new(address: String, token: Option<String>, authorities: Option<RootCerts>) -> Client {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Loopback never goes through the proxy that the environment may name.
            .proxy(None)
            .max_redirects(0)
            // Most answers are small, and a command asks only once.
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .timeout_connect(Some(Duration::from_secs(5)));
        if let Some(authorities) = authorities {
            config = config.tls_config(TlsConfig::builder().root_certs(authorities).build());
        }
        Client { agent: Agent::new_with_config(config.build()), address, token }
    }

    /// Without a slash at the end.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn studio(&self) -> Result<StudioView> {
        self.get("/api/v1/studio")
    }

    pub fn tasks(&self, filter: &TaskFilter) -> Result<TaskPage> {
        let mut path = String::from("/api/v1/tasks?");
        let limit = filter.limit.map(|limit| limit.to_string());
        let TaskFilter { status, owner, before, .. } = filter;
        let fields = [("status", status), ("owner", owner), ("limit", &limit), ("before", before)];
        for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            path.push_str(&format!("{name}={}&", encode(value)));
        }
        path.pop();
        self.get(&path)
    }

    pub fn task(&self, id: &str) -> Result<TaskView> {
        self.get(&task_path(id, ""))
    }

    /// Durable when it returns.
    pub fn submit(&self, task: &SubmitTask) -> Result<TaskView> {
        self.create(task).map(|created| created.task)
    }

    /// The same, with what would fit where the task does not.
    pub fn create(&self, task: &SubmitTask) -> Result<CreatedTask> {
        self.post("/api/v1/tasks", task)
    }

    /// What a fine-tune would need, without submitting it.
    pub fn estimate(&self, request: &FineTuneRequest) -> Result<EstimateAnswer> {
        self.post("/api/v1/estimate", request)
    }

    /// Which models fit, with the times for a data set that the studio can read.
    pub fn recommendations(&self, dataset: Option<&str>) -> Result<Recommendations> {
        let query = dataset.map(|path| format!("?dataset={}", encode(path))).unwrap_or_default();
        self.get(&format!("/api/v1/recommendations{query}"))
    }

    /// What runs and what waits, in the plan's order.
    pub fn queue(&self) -> Result<QueueView> {
        self.get("/api/v1/queue")
    }

    /// Why a task is where it is.
    pub fn explain(&self, id: &str) -> Result<Explanation> {
        self.get(&task_path(id, "/explain"))
    }

    /// Submits tasks that differ in some values, all of them or none.
    pub fn submit_group(&self, group: &SubmitGroup) -> Result<CreatedGroup> {
        self.post("/api/v1/groups", group)
    }

    pub fn group(&self, id: &str) -> Result<GroupView> {
        self.get(&group_path(id, ""))
    }

    /// Those of its tasks that have not ended.
    pub fn cancel_group(&self, id: &str) -> Result<GroupView> {
        self.post(&group_path(id, "/cancel"), &())
    }

    pub fn hold_group(&self, id: &str) -> Result<GroupView> {
        self.post(&group_path(id, "/hold"), &())
    }

    pub fn release_group(&self, id: &str) -> Result<GroupView> {
        self.post(&group_path(id, "/release"), &())
    }

    pub fn delete_group(&self, id: &str) -> Result<()> {
        self.remove(&group_path(id, ""))
    }

    /// Nothing starts until [`Client::resume_queue`].
    pub fn pause_queue(&self) -> Result<QueueControl> {
        self.post("/api/v1/queue/pause", &())
    }

    /// No new tasks are accepted until [`Client::resume_queue`].
    pub fn drain_queue(&self) -> Result<QueueControl> {
        self.post("/api/v1/queue/drain", &())
    }

    /// No new tasks are accepted until the studio is started again or [`Client::resume_queue`]; where nothing `starts`,
    /// what waits stays where it is.
    pub fn close_queue(&self, starts: bool) -> Result<QueueControl> {
        let until = if starts { "stopped" } else { "cancelled" };
        self.post(&format!("/api/v1/queue/drain?until={until}"), &())
    }

    pub fn resume_queue(&self) -> Result<QueueControl> {
        self.post("/api/v1/queue/resume", &())
    }

    /// By a device's UUID or a GPU's number.
    pub fn set_maintenance(&self, gpu: &str, on: bool) -> Result<QueueControl> {
        self.post(&format!("/api/v1/gpus/{}/maintenance", encode(gpu)), &SetMaintenance { on })
    }

    /// Out of the queue until it is released.
    pub fn hold(&self, id: &str) -> Result<TaskView> {
        self.post(&task_path(id, "/hold"), &())
    }

    /// At the head of its class.
    pub fn run_next(&self, id: &str) -> Result<TaskView> {
        self.post(&task_path(id, "/next"), &())
    }

    /// Before another one of its class.
    pub fn move_before(&self, id: &str, other: &str) -> Result<TaskView> {
        self.post(&task_path(id, "/before"), &PutBefore { task: other.to_owned() })
    }

    /// `low`, `normal`, `high` or `urgent`.
    pub fn set_priority(&self, id: &str, priority: &str) -> Result<TaskView> {
        self.send("PATCH", &task_path(id, ""), &TaskPatch { priority: priority.to_owned() })
    }

    pub fn cancel(&self, id: &str) -> Result<TaskView> {
        self.post(&task_path(id, "/cancel"), &())
    }

    pub fn release(&self, id: &str) -> Result<TaskView> {
        self.post(&task_path(id, "/release"), &())
    }

    pub fn delete(&self, id: &str) -> Result<()> {
        self.call("DELETE", &task_path(id, ""), &[], ()).map(drop)
    }

    /// The adapter of a completed task as a `.tar.gz`.
    pub fn download(&self, id: &str) -> Result<Download> {
        let answer = self.call("GET", &task_path(id, "/download"), &[], ())?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let filename = header("content-disposition")
            .and_then(|value| value.split_once("filename=\""))
            .and_then(|(_, rest)| rest.split('"').next())
            // Only a name: where it lands is for the caller to say.
            .filter(|name| !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.'))
            .map_or_else(|| format!("{id}_finetuned_model.tar.gz"), str::to_owned);
        let length = header("content-length").and_then(|value| value.parse().ok());
        Ok(Download { filename, length, body: Box::new(reader(answer)) })
    }

    /// The log from this byte on.
    pub fn log(&self, id: &str, offset: u64) -> Result<String> {
        let range = format!("bytes={offset}-");
        match self.call("GET", &task_path(id, "/log"), &[("range", &range)], ()) {
            Ok(answer) => {
                let mut bytes = Vec::new();
                reader(answer).read_to_end(&mut bytes).map_err(|error| self.broken_off(&error))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            // Nothing there yet, or nothing new.
            Err(ClientError::Api { status: 416, .. } | ClientError::Unexpected { status: 416, .. }) => {
                Ok(String::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The log from this byte on, until the task has ended.
    pub fn log_stream(&self, id: &str, offset: u64) -> Result<LogStream> {
        let path = task_path(id, &format!("/log/stream?offset={offset}"));
        Ok(LogStream::new(reader(self.stream(&path)?), offset))
    }

    pub fn metrics(&self, id: &str) -> Result<Metrics> {
        self.get(&task_path(id, "/metrics"))
    }

    /// Oldest first.
    pub fn journal(&self, id: &str) -> Result<Vec<JournalEntry>> {
        self.get(&task_path(id, "/journal"))
    }

    /// What happens from now on, or from after this event on.
    pub fn events(&self, after: Option<u64>) -> Result<EventStream> {
        let path = match after {
            Some(id) => format!("/api/v1/events?last_event_id={id}"),
            None => "/api/v1/events".to_owned(),
        };
        Ok(EventStream::new(reader(self.stream(&path)?), after))
    }

    pub fn devices(&self) -> Result<Devices> {
        self.get("/api/v1/devices")
    }

    /// Looks for what keeps GPUs from being used; takes a few seconds.
    pub fn doctor(&self) -> Result<Vec<CheckView>> {
        self.get("/api/v1/gpus/doctor")
    }

    pub fn datasets(&self) -> Result<Vec<DatasetView>> {
        self.get("/api/v1/datasets")
    }

    /// Copies a file of this machine into the studio.
    pub fn upload_dataset(&self, path: &Path) -> Result<DatasetView> {
        let file = File::open(path).map_err(|source| ClientError::File { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace(['"', '\r', '\n'], "_");
        // Long enough and odd enough never to occur in a data set.
        let boundary = format!("----sage-{}-0f6d3c1b9e2a4857", std::process::id());
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let mut parts = Cursor::new(head).chain(file).chain(Cursor::new(tail));
        let kind = format!("multipart/form-data; boundary={boundary}");
        let body = SendBody::from_reader(&mut parts);
        self.parse(self.call("POST", "/api/v1/datasets", &[("content-type", &kind)], body)?)
    }

    pub fn paste_dataset(&self, dataset: &PasteDataset) -> Result<DatasetView> {
        self.post("/api/v1/datasets/paste", dataset)
    }

    pub fn delete_dataset(&self, filename: &str) -> Result<()> {
        let path = format!("/api/v1/datasets/{}", encode(filename));
        self.call("DELETE", &path, &[], ()).map(drop)
    }

    pub fn models(&self) -> Result<Vec<ModelView>> {
        self.get("/api/v1/models")
    }

    pub fn presets(&self) -> Result<Vec<Preset>> {
        self.get("/api/v1/presets")
    }

    /// Whether the studio serves.
    pub fn health(&self) -> Result<()> {
        self.call("GET", "/health", &[], ()).map(drop)
    }

    /// Any route that answers JSON, the first generation's too.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.parse(self.call("GET", path, &[], ())?)
    }

    /// Any route that takes and answers JSON, the first generation's too.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T> {
        self.send("POST", path, body)
    }

    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T> {
        let json = serde_json::to_vec(body).expect("requests are plain data");
        let headers = [("content-type", "application/json")];
        self.parse(self.call(method, path, &headers, json.as_slice())?)
    }

    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        self.call("DELETE", path, &[], ()).map(drop)
    }

    fn stream(&self, path: &str) -> Result<Response<Body>> {
        self.call("GET", path, &[("accept", "text/event-stream")], ())
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Response<Body>> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body).map_err(|error| self.unreachable(error))?;
        let answer = self.agent.run(request).map_err(|error| self.unreachable(error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer)) }
    }

    fn refusal(&self, answer: Response<Body>) -> ClientError {
        let status = answer.status().as_u16();
        let text = answer.into_body().read_to_string().unwrap_or_default();
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => ClientError::Api { status, body },
            Err(_) => {
                let message = text.chars().take(200).collect();
                ClientError::Unexpected { address: self.address.clone(), status, message }
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T> {
        let status = answer.status().as_u16();
        let mut json = Vec::new();
        reader(answer).read_to_end(&mut json).map_err(|error| self.broken_off(&error))?;
        serde_json::from_slice(&json).map_err(|error| ClientError::Unexpected {
            address: self.address.clone(),
            status,
            message: error.to_string(),
        })
    }

    fn broken_off(&self, error: &io::Error) -> ClientError {
        ClientError::Unreachable { address: self.address.clone(), message: error.to_string() }
    }

    fn unreachable(&self, error: impl std::fmt::Display) -> ClientError {
        ClientError::Unreachable { address: self.address.clone(), message: error.to_string() }
    }
}

fn reader(answer: Response<Body>) -> ureq::BodyReader<'static> {
    answer.into_body().into_with_config().limit(u64::MAX).reader()
}

fn group_path(id: &str, rest: &str) -> String {
    format!("/api/v1/groups/{}{rest}", encode(id))
}

fn task_path(id: &str, rest: &str) -> String {
    format!("/api/v1/tasks/{}{rest}", encode(id))
}

/// Percent-encodes what may not stand in a path segment or query value.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
