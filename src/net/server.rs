//! The server of our own endpoints.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Handler, MAX_BODY, READ};

/// Connections at once; more wait in the listen queue.
const CONNECTIONS: usize = 128;

/// Where connections come in.
pub trait Listener: Send {
    /// One of them.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves `listener` until `shutdown` is ready, then lets running requests finish.
pub async fn serve<L: Listener>(listener: L, handler: Handler, shutdown: impl Future) {
    let (stop, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            _ = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while connections.try_join_next().is_some() {}
        if let Some((stream, permit)) = accepted {
            let connection = connection(stream, handler.clone(), stopped.clone());
            connections.spawn(async move {
                connection.await;
                drop(permit);
            });
        }
    }
    drop(listener);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn accept<L: Listener>(listener: &L, room: &Arc<Semaphore>) -> Option<(L::Stream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok(stream) => Some((stream, permit)),
        Err(error) => {
            // Out of descriptors, most likely: do not spin.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, handler: Handler, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(answer(request, handler).await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ)
        .max_buf_size(MAX_BODY)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // The guard it returns must not live across the await below.
        _ = async { stopped.wait_for(|s| *s).await.is_ok() } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to our own endpoints broke");
    }
}

async fn answer(request: Request<Incoming>, handler: Handler) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match tokio::time::timeout(READ, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => handler(Request::from_parts(head, body.to_bytes())).await,
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => status(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => status(StatusCode::BAD_REQUEST),
        Err(_) => status(StatusCode::REQUEST_TIMEOUT),
    }
}

fn status(code: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = code;
    // What is left of the request is not read.
    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}
