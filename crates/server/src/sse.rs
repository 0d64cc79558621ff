//! Server-sent events: a task writes them, the response reads them, both end when the client or the server does.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::app::{App, Shared};

/// Proxies and browsers take a silent connection for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The writing end of a stream.
pub struct Sink(mpsc::Sender<Event>);

/// The reader has gone.
pub struct Gone;

pub type Sent = Result<(), Gone>;

impl Sink {
    pub async fn send(&self, name: &str, id: Option<u64>, data: &impl Serialize) -> Sent {
        let event = Event::default().event(name);
        let event = match id {
            Some(id) => event.id(id.to_string()),
            None => event,
        };
        let event = event.json_data(data).expect("views serialise");
        self.0.send(event).await.map_err(|_| Gone)
    }

    /// Sets the client's Last-Event-ID without an event.
    pub async fn mark(&self, id: u64) -> Sent {
        self.0.send(Event::default().id(id.to_string())).await.map_err(|_| Gone)
    }
}

/// A response fed by `write`, which is dropped as soon as the client goes away or the server closes.
pub fn respond<F>(app: &Shared, write: impl FnOnce(Sink) -> F) -> Response
where
    F: Future<Output = Sent> + Send + 'static,
{
    let (sender, mut events) = mpsc::channel(16);
    let writing = write(Sink(sender.clone()));
    let closed = App::closed(app.closing.clone());
    tokio::spawn(async move {
        tokio::select! {
            _ = writing => {}
            _ = closed => {}
            _ = sender.closed() => {}
        }
    });
    let events = stream::poll_fn(move |context| events.poll_recv(context).map(|event| event.map(Ok::<_, Infallible>)));
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Otherwise nginx collects events before it passes them on.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, sse).into_response()
}
