use std::collections::HashMap;

use api_types::{ErrorBody, RemovedEvent};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderName},
    response::Response,
};
use domain::TaskId;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::IntoParams;

use crate::{
    app::Shared,
    auth::{Caller, Who},
    devices,
    error::{ApiError, Result, blocking},
    extract::Params,
    live::Batch,
    sse::{self, Gone, Sent, Sink},
    view,
};

/// Journal rows replayed at most; whoever missed more fetches the lists again.
const REPLAY: u32 = 1000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Follow from here: `last_event_id` of a task list. The header Last-Event-ID goes before it.
    last_event_id: Option<u64>,
}

/// Everything that happens, live
///
/// Server-sent events `task`, `removed`, `progress`, `queue`, `devices` and `resync`. After a break the stream goes on
/// where Last-Event-ID says: each task that moved meanwhile is sent once as it stands now. `resync`: too much happened to
/// be told one by one, so fetch again what you show.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "follow_events", tag = "events",
    params(EventParams, ("Last-Event-ID" = Option<u64>, Header, description = "Sent by browsers when they reconnect")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody),
    )
)]
pub async fn events(
    State(app): State<Shared>,
    Caller(reader): Caller,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let header = match headers.get(LAST_EVENT_ID) {
        None => None,
        Some(value) => {
            let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
            Some(id.ok_or_else(|| ApiError::invalid("Last-Event-ID is not a number", "Last-Event-ID 不是数字"))?)
        }
    };
    let after = header.or(params.last_event_id);
    // Before the journal is read, so that nothing falls between the two.
    let live = app.live.subscribe();
    let missed = missed(&app, after).await?;
    let stream = Stream { app: app.clone(), live, reader, sent: missed.last };
    Ok(sse::respond(&app, |sink| stream.write(missed, sink)))
}

/// What a client has to be told before the live events.
struct Missed {
    replay: Replay,
    /// Number of the newest journal row.
    last: u64,
}

enum Replay {
    Nothing,
    /// Too much, or a number from another life of the database.
    Resync,
    /// The tasks that moved, in the order of their last moves.
    Tasks(Vec<(TaskId, u64)>),
}

async fn missed(app: &Shared, after: Option<u64>) -> Result<Missed> {
    let app = app.clone();
    blocking(move || {
        let reader = app.engine.reader();
        let last = reader.last_seq()?;
        let Some(after) = after else { return Ok(Missed { replay: Replay::Nothing, last }) };
        if after > last {
            return Ok(Missed { replay: Replay::Resync, last });
        }
        let rows = reader.journal_after(after, REPLAY + 1)?;
        if rows.len() > REPLAY as usize {
            return Ok(Missed { replay: Replay::Resync, last });
        }
        let last = rows.last().map_or(last, |row| row.seq);
        let newest: HashMap<TaskId, u64> = rows.iter().map(|row| (row.task, row.seq)).collect();
        let mut tasks: Vec<_> = newest.into_iter().collect();
        tasks.sort_by_key(|(_, seq)| *seq);
        Ok(Missed { replay: Replay::Tasks(tasks), last })
    })
    .await
}

struct Stream {
    app: Shared,
    live: Receiver<Batch>,
    reader: Who,
    /// Journal rows up to this number are known to the client.
    sent: u64,
}

impl Stream {
    async fn write(mut self, missed: Missed, sink: Sink) -> Sent {
        match missed.replay {
            Replay::Nothing => sink.mark(missed.last).await?,
            Replay::Resync => sink.send("resync", Some(missed.last), &json!({})).await?,
            Replay::Tasks(tasks) => {
                sink.mark(tasks.first().map_or(missed.last, |(_, seq)| seq - 1)).await?;
                for (task, seq) in tasks {
                    self.replay(task, seq, &sink).await?;
                }
            }
        }
        let engine_view = self.app.engine.view();
        sink.send("queue", None, &view::queue(&engine_view.waits(), &self.app.engine)).await?;
        sink.send("devices", None, &devices::view(engine_view.devices().as_deref())).await?;
        loop {
            match self.live.recv().await {
                Ok(Batch::Events(events)) => sink.send_bytes(events.after(&mut self.sent, &self.reader)).await?,
                Ok(Batch::Flood(last)) => self.resync(last, &sink).await?,
                // This client reads too slowly.
                Err(RecvError::Lagged(_)) => self.catch_up(&sink).await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// The task as it stands now, numbered by its last move: a client that breaks off here misses nothing.
    async fn replay(&self, task: TaskId, seq: u64, sink: &Sink) -> Sent {
        let app = self.app.clone();
        match blocking(move || Ok(app.engine.task(task)?)).await {
            Ok(Some(snapshot)) => {
                let view = view::task_for(&snapshot, &self.app.engine, &self.reader);
                sink.send("task", Some(seq), &view).await
            }
            Ok(None) => sink.send("removed", Some(seq), &RemovedEvent { task_id: task.to_string() }).await,
            // The client comes back and asks again.
            Err(_) => Err(Gone),
        }
    }

    async fn catch_up(&mut self, sink: &Sink) -> Sent {
        let app = self.app.clone();
        let last = blocking(move || Ok(app.engine.reader().last_seq()?)).await.map_err(|_| Gone)?;
        self.resync(last, sink).await
    }

    /// From here on the client fetches what it shows.
    async fn resync(&mut self, last: u64, sink: &Sink) -> Sent {
        self.sent = self.sent.max(last);
        sink.send("resync", Some(self.sent), &json!({})).await
    }
}
