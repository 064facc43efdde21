//! A small HTTP/1 server and client for our own endpoints: everything that is not agent traffic.
//!
//! Heads and bodies are bounded, reading a head has a deadline, connections are counted. What is answered is the caller's
//! business: a [`Handler`] gets a whole request and returns a whole response.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Largest request or response body.
pub const MAX_BODY: usize = 64 << 10;
/// Largest body of an answer that [`get`] reads: metrics of many agents are long.
const MAX_ANSWER: usize = 16 << 20;
/// Time to send a request head or body.
const READ: Duration = Duration::from_secs(5);
/// Connections at once; more wait in the listen queue.
const CONNECTIONS: usize = 128;

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers whole requests.
pub type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<Response<Bytes>> + Send + Sync>;

/// Serves `listener` until `shutdown` is ready, then lets running requests finish.
pub async fn serve(listener: TcpListener, handler: Handler, shutdown: impl Future) {
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

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of descriptors, most likely: do not spin.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, handler: Handler, mut stopped: watch::Receiver<bool>) {
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

/// Why [`get`] has no answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, #[source] std::io::Error),
    /// No whole answer in time.
    #[error("no answer from {0} within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// Not HTTP, or cut short.
    #[error("no usable answer from {0}")]
    Broken(SocketAddr, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gets `path` from `addr` over plain HTTP: status and body. An absolute URL as `path` asks `addr` as a proxy.
///
/// # Errors
/// [`GetError`].
pub async fn get(addr: SocketAddr, path: &str, timeout: Duration) -> Result<(u16, Bytes), GetError> {
    let work = async {
        let stream = TcpStream::connect(addr).await.map_err(|e| GetError::Connect(addr, e))?;
        exchange(stream, addr, path).await.map_err(|e| GetError::Broken(addr, e))
    };
    tokio::time::timeout(timeout, work).await.map_err(|_| GetError::Timeout(addr, timeout))?
}

async fn exchange(stream: TcpStream, addr: SocketAddr, path: &str) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path).body(Empty::<Bytes>::new())?;
    let host = request.uri().authority().map_or_else(|| addr.to_string(), ToString::to_string);
    request.headers_mut().insert(http::header::HOST, host.try_into()?);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        done = &mut answer => done,
        // The connection ends after its last bytes are handed over.
        _ = &mut connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn echo() -> (SocketAddr, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let handler: Handler = Arc::new(|request| {
            Box::pin(async move {
                if request.uri().path() == "/slow" {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Response::new(Bytes::from(format!("{} {} {}", request.method(), request.uri().path(), request.body().len())))
            })
        });
        (addr, stop, tokio::spawn(serve(listener, handler, stopped)))
    }

    async fn raw(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).await.unwrap();
        out
    }

    #[tokio::test]
    async fn requests_are_answered_and_bodies_bounded() {
        let (addr, _stop, _task) = echo().await;
        assert_eq!(get(addr, "/livez", READ).await.unwrap(), (200, Bytes::from("GET /livez 0")));
        let small = raw(addr, "POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello").await;
        assert!(small.ends_with("POST /x 5"), "{small}");
        let large = raw(addr, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 65537\r\n\r\n").await;
        assert!(large.starts_with("HTTP/1.1 413"), "{large}");
        assert!(raw(addr, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn shutdown_lets_a_running_request_finish_and_frees_the_port() {
        let (addr, stop, task) = echo().await;
        let running = tokio::spawn(get(addr, "/slow", READ));
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.send(()).unwrap();
        assert_eq!(running.await.unwrap().unwrap().0, 200);
        task.await.unwrap();
        assert!(matches!(get(addr, "/", READ).await, Err(GetError::Connect(..))));
    }

    #[tokio::test]
    async fn a_silent_peer_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let brief = Duration::from_millis(50);
        assert!(matches!(get(addr, "/", brief).await, Err(GetError::Timeout(..))));
        let talk = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The first connection timed out; its request is already there.
            stream.write_all(b"gibberish\r\n\r\n").await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"gibberish\r\n\r\n").await.unwrap();
        });
        assert!(matches!(get(addr, "/", READ).await, Err(GetError::Broken(..))));
        talk.await.unwrap();
    }
}
