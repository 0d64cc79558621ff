//! Accepts connections, with or without TLS, and bounds what each can hold on to.

use std::{convert::Infallible, io, net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Request},
    http::request::Parts,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::{
    app::{App, Shared},
    error::ApiError,
    shares::{self, Shares},
};

/// Open at a time, live streams included; more wait to be accepted.
const CONNECTIONS: usize = 4096;
/// Of one address that is not this machine's, so that nobody takes all.
const PER_ADDRESS: usize = 256;
/// For the head of a request, and for a TLS handshake. A connection that is kept open asks nothing for as long at most.
const HEAD: Duration = Duration::from_secs(60);
/// A client that takes nothing of an answer for so long is cut off, however slow it may otherwise be.
const STALLED: Duration = Duration::from_secs(300);
/// Bytes kept of a request's head, and of what a client has not taken yet.
const BUFFER: usize = 64 << 10;
/// After an error that says that there are no more files to open, or the like.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket to answer on.
pub struct Listener {
    pub socket: TcpListener,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Listener {
        Listener { socket, tls: None }
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Tls(Arc<rustls::ServerConfig>);

impl Tls {
    /// PEM files: the certificate with its chain, the leaf first, and the private key. The error is a sentence.
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls, String> {
        let unreadable = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(certificate, &error))?;
        let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key_der)
            .map_err(|error| unreadable(certificate, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: SocketAddr,
    pub tls: bool,
}

impl FromRequestParts<Shared> for Peer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Peer, ApiError> {
        let peer = parts.extensions.get::<Peer>().copied();
        peer.ok_or_else(|| ApiError::internal("the request", "it came over no connection"))
    }
}

/// Accepts until `closing`; each connection then ends after the answer under way.
pub async fn serve(listener: Listener, router: Router, closing: watch::Receiver<bool>) -> io::Result<()> {
    let Listener { socket, tls } = listener;
    let tls = tls.map(|Tls(config)| TlsAcceptor::from(config));
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let shares = Shares::of(PER_ADDRESS);
    let mut closed = pin!(App::closed(closing.clone()));
    loop {
        let place = free.clone().acquire_owned().await.expect("never closed");
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut closed => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let share = match shares::outsider(address.ip()).map(|whom| shares.take(whom)) {
            Some(None) => continue,
            share => share.flatten(),
        };
        // Answers are small and written at once; waiting to fill packets only delays them.
        let _ = stream.set_nodelay(true);
        let (tls, router, closing) = (tls.clone(), router.clone(), closing.clone());
        tokio::spawn(async move {
            connection(stream, address, tls, router, closing).await;
            drop((place, share));
        });
    }
    // Every place is free when the last connection has ended.
    let _ = free.acquire_many(CONNECTIONS as u32).await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    closing: watch::Receiver<bool>,
) {
    let peer = Peer { address, tls: tls.is_some() };
    match tls {
        None => exchange(stream, peer, router, closing).await,
        Some(tls) => {
            // A handshake that fails is somebody else's mistake, and scanners make many.
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, tls.accept(stream)).await {
                exchange(stream, peer, router, closing).await;
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    closing: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    // A client that goes away is no error of ours.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = App::closed(closing) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Bytes, routing::get};
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_waited_for_and_who_takes_nothing_is_cut_off() {
        let endless = || stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4096])));
        let router = Router::new().route("/", get(async move || Body::from_stream(endless())));
        let (_close, closing) = watch::channel(false);
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), tls: false };
        let connection = tokio::spawn(exchange(server, peer, router, closing));
        client.write_all(b"GET / HTTP/1.1\r\nhost: studio\r\n\r\n").await.unwrap();

        for _ in 0..20 {
            sleep(STALLED / 2).await;
            client.read_exact(&mut [0; 1024]).await.unwrap();
        }
        assert!(!connection.is_finished());
        let stopped = Instant::now();
        tokio::time::timeout(STALLED * 2, connection).await.expect("it is cut off").unwrap();
        assert!(stopped.elapsed() >= STALLED, "{:?}", stopped.elapsed());
    }
}
