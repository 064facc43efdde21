//! The answering end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming as Body};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connections::{Connections, Entry};
use super::{ALIVE, CONNECTION_WINDOW, Incoming, MAX_HEAD, PING, PONG, Reply, STREAM_WINDOW, STREAMS, Service};
use crate::wire::envelope::{self, EnvelopeError};
use crate::wire::identity::{Identity, Public};
use crate::wire::message::MAX_BODY;
use crate::wire::tls::Acceptor;

/// Connections at once; more wait in the listen queue.
const CONNECTIONS: usize = 128;
/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The handshake, the first admitted request after it, and each body.
    pub(super) read: Duration,
    /// What a connection that is to close still has for requests under way.
    pub(super) linger: Duration,
    /// The same when the whole server stops.
    pub(super) drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { read: Duration::from_secs(5), linger: Duration::from_secs(1), drain: Duration::from_secs(10) }
    }
}

/// Serves `listener` until `shutdown` is ready, then lets running requests finish.
pub async fn serve<S: Service>(listener: TcpListener, identity: Identity, service: Arc<S>, shutdown: impl Future<Output = ()>) {
    serve_in(listener, identity, service, Connections::default(), shutdown).await;
}

/// As [`serve`], with a handle that closes a key's connections.
pub async fn serve_in<S: Service>(
    listener: TcpListener,
    identity: Identity,
    service: Arc<S>,
    connections: Connections,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(Times::default(), listener, identity, service, connections, shutdown).await;
}

/// As [`serve_in`], with other times.
pub(super) async fn serve_within<S: Service>(
    times: Times,
    listener: TcpListener,
    identity: Identity,
    service: Arc<S>,
    connections: Connections,
    shutdown: impl Future<Output = ()>,
) {
    let greeter = service.clone();
    let acceptor = match Acceptor::new(&identity, Arc::new(move |key| greeter.greets(key))) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(%error, "the link cannot be opened");
            return shutdown.await;
        }
    };
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server { times, acceptor, identity, service, connections, stopped });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut running = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while running.try_join_next().is_some() {}
        if let Some((stream, permit)) = accepted {
            let server = server.clone();
            running.spawn(async move {
                server.connection(stream).await;
                drop(permit);
            });
        }
    }
    drop(listener);
    stop.send_replace(true);
    while running.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
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

struct Server<S> {
    times: Times,
    acceptor: Acceptor,
    identity: Identity,
    service: Arc<S>,
    connections: Connections,
    stopped: watch::Receiver<bool>,
}

/// One connection: dropped when it is closed and its last answer has ended.
struct Connection<S: Service> {
    server: Arc<Server<S>>,
    peer: Public,
    entry: Entry,
    /// A request of it was admitted: no stranger.
    admitted: AtomicBool,
    answers: Arc<Semaphore>,
}

impl<S: Service> Drop for Connection<S> {
    fn drop(&mut self) {
        self.server.service.gone(self.entry.id);
    }
}

impl<S: Service> Server<S> {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut stopped = self.stopped.clone();
        let accepted = tokio::select! {
            accepted = self.acceptor.accept(stream, self.times.read) => accepted,
            _ = async { stopped.wait_for(|s| *s).await.is_ok() } => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return tracing::debug!(%error, "a handshake failed"),
        };
        let entry = self.connections.enter(peer.fingerprint());
        let answers = Arc::new(Semaphore::new(STREAMS as usize));
        let connection = Arc::new(Connection { server: self, peer, entry, admitted: AtomicBool::new(false), answers });
        connection.clone().drive(stream).await;
        // Answers run on when the client hangs up; what they leave behind is told off after them.
        let _ = connection.answers.acquire_many(STREAMS).await;
    }
}

impl<S: Service> Connection<S> {
    async fn drive(self: Arc<Self>, stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) {
        let service = {
            let connection = self.clone();
            service_fn(move |request| connection.clone().serve(request))
        };
        let http = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING * 4)
            .keep_alive_timeout(PONG)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(MAX_HEAD)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(http);
        let mut stopped = self.server.stopped.clone();
        let Times { linger, drain, .. } = self.server.times;
        let (ended, patience) = tokio::select! {
            ended = &mut http => (Some(ended), linger),
            () = self.entry.closing() => (None, linger),
            () = self.stays_strange() => (None, linger),
            _ = async { stopped.wait_for(|s| *s).await.is_ok() } => (None, drain),
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                http.as_mut().graceful_shutdown();
                // A client that does not let go is cut off.
                timeout(patience, http).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = ?self.peer, %error, "a link broke");
        }
    }

    /// Ready if nothing was admitted in time: an unknown key holds no room.
    async fn stays_strange(&self) {
        tokio::time::sleep(self.server.times.read).await;
        if self.admitted.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.entry.close();
    }

    /// An error resets the stream: no answer.
    async fn serve(self: Arc<Self>, request: Request<Body>) -> Result<Response<Full<Bytes>>, io::Error> {
        let closed = || io::Error::other("the connection is being closed");
        if self.entry.is_closing() {
            return Err(closed());
        }
        if request.method() != Method::POST {
            return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let admitted = self.server.service.admits(self.peer.fingerprint(), request.uri().path());
        self.admitted.fetch_or(admitted, Ordering::Relaxed);
        if request.uri().path() == ALIVE {
            return Ok(status(StatusCode::NO_CONTENT));
        }
        if !admitted {
            tracing::debug!(peer = ?self.peer, path = request.uri().path(), "not admitted");
            self.entry.close();
            return Err(closed());
        }
        let incoming = match self.read(request).await {
            Ok(incoming) => incoming,
            Err(code) => return Ok(status(code)),
        };
        match self.clone().answer(incoming).await {
            Some(body) => Ok(Response::new(Full::new(Bytes::from(body)))),
            None => {
                self.entry.close();
                Err(closed())
            }
        }
    }

    /// Reads and opens the envelope; a status if it is none.
    async fn read(&self, request: Request<Body>) -> Result<Incoming, StatusCode> {
        let (head, body) = request.into_parts();
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let bytes = match timeout(self.server.times.read, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(Err(_)) => return Err(StatusCode::BAD_REQUEST),
            Err(_) => return Err(StatusCode::REQUEST_TIMEOUT),
        };
        let me = self.server.identity.fingerprint();
        match envelope::open_request(&bytes, &self.peer, me, head.uri.path(), self.server.service.now()) {
            Ok((opened, hash)) => Ok(Incoming { sender: self.peer.clone(), opened, connection: self.entry.id, hash }),
            Err(error) => {
                tracing::warn!(peer = ?self.peer, path = head.uri.path(), %error, "a request was not opened");
                Err(match error {
                    EnvelopeError::Time => StatusCode::TOO_EARLY,
                    EnvelopeError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
                    EnvelopeError::Sender | EnvelopeError::Signature => StatusCode::UNAUTHORIZED,
                    EnvelopeError::Malformed => StatusCode::BAD_REQUEST,
                })
            }
        }
    }

    /// The service's answer, signed; `None` to close. On a task of its own: a client that hangs up stops nothing half-way.
    async fn answer(self: Arc<Self>, request: Incoming) -> Option<Vec<u8>> {
        let permit = self.answers.clone().acquire_owned().await.ok()?;
        let connection = self.clone();
        let work = tokio::spawn(async move {
            let _permit = permit;
            let server = &connection.server;
            let (header, hash) = (request.opened.header.clone(), request.hash);
            let payload = match server.service.clone().answer(request).await {
                Reply::Payload(payload) => payload,
                Reply::Close => return None,
            };
            let body = envelope::response(&server.identity, &header, hash, server.service.now(), &payload);
            (body.len() <= MAX_BODY).then_some(body)
        });
        match work.await {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "an answer ended without a result");
                None
            }
        }
    }
}

fn status(code: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = code;
    response
}
