//! Server-sent events: a task writes them, the response reads them, both end when the client or the server does.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use tokio::{sync::mpsc, time::timeout};

use crate::app::{App, Shared};

/// Proxies and browsers take a silent connection for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pieces that wait for a client that reads slowly.
const WAITING: usize = 2;

/// The writing end of a stream.
pub struct Sink(mpsc::Sender<Bytes>);

/// The reader has gone.
pub struct Gone;

pub type Sent = Result<(), Gone>;

impl Sink {
    pub async fn send(&self, name: &str, id: Option<u64>, data: &impl Serialize) -> Sent {
        let mut event = Vec::new();
        write_event(&mut event, name, id, data);
        self.send_bytes(event.into()).await
    }

    /// Sets the client's Last-Event-ID without an event.
    pub async fn mark(&self, id: u64) -> Sent {
        self.send_bytes(format!("id: {id}\n\n").into()).await
    }

    /// Whole events.
    pub async fn send_bytes(&self, events: Bytes) -> Sent {
        if events.is_empty() {
            return Ok(());
        }
        self.0.send(events).await.map_err(|_| Gone)
    }
}

/// As it goes over the wire. JSON has no line breaks of its own.
pub fn write_event(out: &mut Vec<u8>, name: &str, id: Option<u64>, data: &impl Serialize) {
    out.extend_from_slice(format!("event: {name}\n").as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, data).expect("views serialise");
    out.extend_from_slice(b"\n\n");
}

/// A response fed by `write`, which is dropped as soon as the client goes away or the server closes.
pub fn respond<F>(app: &Shared, write: impl FnOnce(Sink) -> F) -> Response
where
    F: Future<Output = Sent> + Send + 'static,
{
    let (sender, events) = mpsc::channel(WAITING);
    let writing = write(Sink(sender.clone()));
    let closed = App::closed(app.closing.clone());
    tokio::spawn(async move {
        tokio::select! {
            _ = writing => {}
            _ = closed => {}
            _ = sender.closed() => {}
        }
    });
    let body = Body::from_stream(stream::unfold(events, async |mut events| {
        let next = match timeout(KEEP_ALIVE, events.recv()).await {
            Ok(next) => next?,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((Ok::<_, Infallible>(next), events))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Otherwise nginx collects events before it passes them on.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}
