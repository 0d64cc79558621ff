use std::{io::SeekFrom, ops::Range, path::Path};

use api_types::{ErrorBody, LogChunk};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::TaskId;
use engine::Event;
use runner::{Chunk, FileFollower};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::broadcast::{Receiver, error::RecvError},
};
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use super::tasks::snapshot;
use crate::{
    app::Shared,
    error::{ApiError, Result},
    extract::{Id, Params},
    sse::{self, Gone, Sent, Sink},
};

/// A line longer than this is sent in parts.
const LINE: usize = 64 << 10;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The training's output so far, or a range of it
#[utoipa::path(get, path = "/api/v1/tasks/{id}/log", operation_id = "get_task_log", tag = "tasks",
    params(("id" = String, Path), ("Range" = Option<String>, Header, description = "bytes=0-1023, bytes=1024-, bytes=-512")),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 206, content_type = "text/plain", body = String),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 416, body = ErrorBody),
    )
)]
pub async fn log(State(app): State<Shared>, Id(id): Id, headers: HeaderMap) -> Result<Response> {
    snapshot(&app, id).await?;
    let unreadable = |error| ApiError::internal("the log could not be read", error);
    let file = match tokio::fs::File::open(app.engine.home().training_log(id)).await {
        Ok(file) => Some(file),
        // Nothing was started yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(error)),
    };
    let length = match &file {
        Some(file) => file.metadata().await.map_err(unreadable)?.len(),
        None => 0,
    };
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, range) = match asked.map_or(Asked::Everything, |asked| parse_range(asked, length)) {
        Asked::Everything => (StatusCode::OK, 0..length),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nothing => return Ok(not_satisfiable(length)),
    };
    let body = match file {
        Some(mut file) if !range.is_empty() => {
            file.seek(SeekFrom::Start(range.start)).await.map_err(unreadable)?;
            Body::from_stream(ReaderStream::with_capacity(file.take(range.end - range.start), LINE))
        }
        _ => Body::empty(),
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(value).expect("numbers are plain"));
    }
    Ok(response)
}

fn not_satisfiable(length: u64) -> Response {
    let error = ApiError::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range",
        format!("the log has {length} bytes, so this range holds none"),
    );
    let mut response = error.into_response();
    let value = HeaderValue::try_from(format!("bytes */{length}")).expect("numbers are plain");
    response.headers_mut().insert(header::CONTENT_RANGE, value);
    response
}

#[derive(Debug, PartialEq)]
enum Asked {
    /// Also where the header asks for what we need not understand.
    Everything,
    Part(Range<u64>),
    Nothing,
}

fn parse_range(header: &str, length: u64) -> Asked {
    let parse = || {
        let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (first.trim(), last.trim()) {
            ("", suffix) => length.saturating_sub(suffix.parse().ok()?)..length,
            (first, "") => first.parse().ok()?..length,
            (first, last) => {
                let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
                if last < first {
                    return None;
                }
                first..last.saturating_add(1).min(length)
            }
        })
    };
    match parse() {
        None => Asked::Everything,
        Some(range) if range.is_empty() => Asked::Nothing,
        Some(range) => Asked::Part(range),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// Bytes of the log to leave out; the header Last-Event-ID goes before it.
    offset: Option<u64>,
}

/// The training's output, live
///
/// Server-sent events `log`, whole lines with the byte offset after them as id, and `end` when the task has ended and
/// its log is complete.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/log/stream", operation_id = "follow_task_log", tag = "tasks",
    params(("id" = String, Path), StreamParams),
    responses(
        (status = 200, content_type = "text/event-stream", body = LogChunk),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody),
    )
)]
pub async fn stream(
    State(app): State<Shared>,
    Id(id): Id,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let resumed = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let offset = resumed.or(params.offset).unwrap_or(0);
    // Before the task is looked at, so that its end is not missed.
    let events = app.engine.subscribe();
    snapshot(&app, id).await?;
    let stream = Stream { app: app.clone(), id, events, lines: Lines { offset, partial: Vec::new() } };
    Ok(sse::respond(&app, |sink| stream.write(sink)))
}

struct Stream {
    app: Shared,
    id: TaskId,
    events: Receiver<Event>,
    lines: Lines,
}

impl Stream {
    async fn write(mut self, sink: Sink) -> Sent {
        let path = self.app.engine.home().training_log(self.id);
        let mut follower = None;
        let mut ended = self.has_ended().await?;
        while !ended {
            // A task that was never launched has no folder yet.
            if follower.is_none() {
                follower = follow(&path, self.lines.end())?;
            }
            let Some(following) = &mut follower else {
                ended = self.next_move().await?;
                continue;
            };
            tokio::select! {
                chunk = following.next() => self.send(chunk.map_err(|_| Gone)?, &sink).await?,
                moved = next_move(&mut self.events, self.id) => {
                    ended = match moved {
                        Some(ended) => ended,
                        None => self.has_ended().await?,
                    };
                }
            }
        }
        if follower.is_none() {
            follower = follow(&path, self.lines.end())?;
        }
        if let Some(mut follower) = follower {
            while let Some(chunk) = follower.read_now().map_err(|_| Gone)? {
                self.send(chunk, &sink).await?;
            }
        }
        if let Some(rest) = self.lines.rest() {
            rest.send(&sink).await?;
        }
        sink.send("end", None, &json!({})).await
    }

    async fn send(&mut self, chunk: Chunk, sink: &Sink) -> Sent {
        for part in self.lines.add(chunk) {
            part.send(sink).await?;
        }
        Ok(())
    }

    async fn next_move(&mut self) -> std::result::Result<bool, Gone> {
        match next_move(&mut self.events, self.id).await {
            Some(ended) => Ok(ended),
            None => self.has_ended().await,
        }
    }

    async fn has_ended(&self) -> std::result::Result<bool, Gone> {
        match snapshot(&self.app, self.id).await {
            Ok(snapshot) => Ok(snapshot.task.state.kind().is_final()),
            Err(error) if error.status == StatusCode::NOT_FOUND => Ok(true),
            Err(_) => Err(Gone),
        }
    }
}

/// Waits until the task moves: whether it has ended, or `None` if that has to be looked up.
async fn next_move(events: &mut Receiver<Event>, id: TaskId) -> Option<bool> {
    loop {
        match events.recv().await {
            Ok(Event::Task { snapshot, .. }) if snapshot.task.id == id => {
                return Some(snapshot.task.state.kind().is_final());
            }
            Ok(Event::Removed { task, .. }) if task == id => return Some(true),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return None,
            Err(RecvError::Closed) => return Some(true),
        }
    }
}

/// `None` while the task has no folder, because it was never launched.
fn follow(path: &Path, offset: u64) -> std::result::Result<Option<FileFollower>, Gone> {
    match FileFollower::open(path, offset) {
        Ok(follower) => Ok(Some(follower)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            tracing::warn!("cannot follow {}: {error}", path.display());
            Err(Gone)
        }
    }
}

/// Cuts what is read into whole lines.
struct Lines {
    /// Of the first byte of `partial`, in the log.
    offset: u64,
    partial: Vec<u8>,
}

/// What one `log` event carries.
#[derive(Debug, PartialEq)]
struct Part {
    offset: u64,
    bytes: Vec<u8>,
}

impl Lines {
    fn end(&self) -> u64 {
        self.offset + self.partial.len() as u64
    }

    fn add(&mut self, chunk: Chunk) -> Vec<Part> {
        let mut parts = Vec::new();
        // Over a hole that the log cap left, or from the start of a log that was replaced.
        if chunk.offset != self.end() {
            parts.extend(self.rest());
            self.offset = chunk.offset;
        }
        self.partial.extend(chunk.bytes);
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map(|newline| newline + 1);
        let whole = whole.or_else(|| (self.partial.len() >= LINE).then(|| character_boundary(&self.partial)));
        if let Some(whole) = whole {
            let bytes: Vec<u8> = self.partial.drain(..whole).collect();
            parts.push(Part { offset: self.offset, bytes });
            self.offset += whole as u64;
        }
        parts
    }

    /// The beginning of a line whose end does not come any more.
    fn rest(&mut self) -> Option<Part> {
        let part = Part { offset: self.offset, bytes: std::mem::take(&mut self.partial) };
        self.offset += part.bytes.len() as u64;
        (!part.bytes.is_empty()).then_some(part)
    }
}

/// Where the last character begins, so that none is cut in two.
fn character_boundary(bytes: &[u8]) -> usize {
    let begins = |byte: &u8| *byte & 0xc0 != 0x80;
    bytes.iter().rposition(begins).filter(|begin| bytes.len() - begin <= 4 && *begin > 0).unwrap_or(bytes.len())
}

impl Part {
    async fn send(&self, sink: &Sink) -> Sent {
        let chunk = LogChunk { offset: self.offset, text: String::from_utf8_lossy(&self.bytes).into_owned() };
        sink.send("log", Some(self.offset + self.bytes.len() as u64), &chunk).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_log() {
        for (header, expected) in [
            ("bytes=0-", Asked::Part(0..10)),
            ("bytes=2-4", Asked::Part(2..5)),
            ("bytes=8-99", Asked::Part(8..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=4-2", Asked::Everything),
            ("bytes=0-1,3-4", Asked::Everything),
            ("lines=1-2", Asked::Everything),
        ] {
            assert_eq!(parse_range(header, 10), expected, "{header}");
        }
        assert_eq!(parse_range("bytes=0-0", 0), Asked::Nothing);
    }

    #[test]
    fn lines_are_sent_whole_whatever_the_chunks_were() {
        let mut lines = Lines { offset: 0, partial: Vec::new() };
        let mut add = |offset, text: &str| lines.add(Chunk { offset, bytes: text.into() });
        let part = |offset, text: &str| Part { offset, bytes: text.into() };
        assert_eq!(add(0, "one\ntw"), [part(0, "one\n")]);
        assert_eq!(add(6, "o"), []);
        assert_eq!(add(7, "\nthree\nfo"), [part(4, "two\nthree\n")]);
        assert_eq!(add(100, "after a hole\n"), [part(14, "fo"), part(100, "after a hole\n")]);
        let endless = "长".repeat(LINE / 3 + 1);
        let [long] = &add(113, &endless)[..] else { panic!("one part") };
        assert!(std::str::from_utf8(&long.bytes).is_ok());
        assert_eq!(lines.rest().unwrap().bytes, "长".as_bytes());
        assert_eq!(lines.rest(), None);
    }
}
