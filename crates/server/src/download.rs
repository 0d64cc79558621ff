//! The archive of a finished task, written while it is sent.

use std::io::{self, Write};

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

pub async fn adapter(app: &Shared, id: TaskId) -> Result<Response> {
    let folder = app.engine.home().task(id);
    let (sender, mut chunks) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut sink = Sink { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK) };
        let written = archive::write_adapter_archive(&folder, id, &mut sink).and_then(|()| sink.flush());
        if let Err(error) = written {
            // Breaks the transfer off, so that nobody takes half an archive for a whole one.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let failed = |error: io::Error| ApiError::internal("the archive could not be written", error);
    let first = match chunks.recv().await {
        Some(first) => first.map_err(failed)?,
        None => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
    };
    let rest = stream::poll_fn(move |context| chunks.poll_recv(context));
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
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
