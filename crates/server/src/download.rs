//! The archive of a finished task, written while it is sent.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use domain::TaskId;
use futures_util::{StreamExt, stream};
use recipes::archive;
use tokio::sync::mpsc;

use crate::{
    app::Shared,
    error::{ApiError, Result},
};

const CHUNK: usize = 64 << 10;
/// A transfer that has not moved for so long is broken off.
const STALLED: Duration = Duration::from_secs(60);

pub async fn adapter(app: &Shared, id: TaskId) -> Result<Response> {
    let folder = app.engine.home().task(id);
    let place = app.downloading.clone().try_acquire_owned().map_err(|_| {
        ApiError::unavailable("busy", "too many downloads at once")
            .zh("同时下载的用户过多，请稍后重试")
            .next("Try again in a moment")
            .retry_after(Duration::from_secs(10))
    })?;
    let (sender, mut chunks) = mpsc::channel(4);
    let runtime = tokio::runtime::Handle::current();
    let whole = Arc::new(AtomicBool::new(false));
    let written = whole.clone();
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut sink = Sink { sender: sender.clone(), runtime, buffer: Vec::with_capacity(CHUNK) };
        match archive::write_adapter_archive(&folder, id, &mut sink).and_then(|()| sink.flush()) {
            Ok(()) => written.store(true, Ordering::Release),
            Err(error) => drop(sender.try_send(Err(error))),
        }
    });
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ApiError::conflict("no-adapter", format!("task {id} has no adapter and no model"))
            .zh("任务没有可下载的适配器或模型")
            .next("Only fine-tunes have one; what a command has written lies where it wrote it"),
        _ => ApiError::internal("the archive could not be written", error),
    };
    let first = match chunks.recv().await {
        Some(first) => first.map_err(failed)?,
        None => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
    };
    // What ends before all is written breaks the transfer off, so that nobody takes half an archive for a whole one.
    let rest = stream::poll_fn(move |context| {
        chunks.poll_recv(context).map(|chunk| match chunk {
            None if !whole.swap(true, Ordering::AcqRel) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            chunk => chunk,
        })
    });
    let body = Body::from_stream(stream::once(std::future::ready(Ok(first))).chain(rest));
    let disposition = format!("attachment; filename=\"{}\"", archive::file_name(id));
    let disposition = HeaderValue::try_from(disposition).expect("task ids are plain");
    Ok((
        [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/gzip")),
            (header::CONTENT_DISPOSITION, disposition),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ],
        body,
    )
        .into_response())
}

/// Hands what is written to the response, in chunks.
struct Sink {
    runtime: tokio::runtime::Handle,
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        // A reader that takes nothing must not keep the thread for ever.
        let sent = self.runtime.block_on(self.sender.send_timeout(Ok(chunk.into()), STALLED));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
