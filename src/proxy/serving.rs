//! One agent connection's requests: HTTP/1 or HTTP/2, explicit or inside a tunnel.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::admission::{self, Admitted, Counted};
use super::connection::Connection;
use super::io::AgentIo;
use super::phase::{self, Phase};
use super::seldom::Seldom;
use super::sniff::{self, Kind};
use super::stream::AgentStream;
use super::upstream::{CONNECTION_WINDOW, KEEP_ALIVE, STREAM_WINDOW};
use crate::payment::Reason;

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// How often a connection is looked at in the time for which it may be idle.
const LOOKS: u32 = 4;

/// An agent that speaks to us as to a proxy: HTTP/1, or HTTP/2 with prior knowledge.
pub(super) async fn explicit(connection: Arc<Connection>, stream: AgentStream) {
    let (kind, stream) = tokio::select! {
        // What has been asked counts, however late we come to it.
        biased;
        // A client may connect long before it asks.
        seen = sniff::look(stream, true, connection.proxy.limits.idle) => seen,
        () = phase::must_end(connection.proxy.phase(), connection.asked.clone()) => return,
    };
    match kind {
        Kind::Http2 => Box::pin(http2(connection, stream)).await,
        Kind::Http1 | Kind::Other => http1(connection, stream).await,
        // TLS is spoken at `listen.https`.
        Kind::Tls | Kind::Silent => {}
    }
}

/// Serves HTTP/1.
pub(super) async fn http1(connection: Arc<Connection>, stream: AgentStream) {
    let proxy = connection.proxy.clone();
    let end = phase::must_end(proxy.phase(), connection.asked.clone());
    let io = AgentIo::new(stream, connection.unflushed.clone()).http1(proxy.limits.header);
    let traffic = Arc::<Traffic>::default();
    let service = Edge { connection, traffic: traffic.clone(), http1: true };
    let mut builder = http1::Builder::new();
    // Without the library's own time-out: that is a timer made, set and dropped again for each request.
    builder.max_buf_size(proxy.limits.header.max(8192)).half_close(false);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let end = pin!(async {
        tokio::select! {
            () = end => {}
            // Half a head is no request: who sends it byte by byte is idle too. An upload that its answer overtook goes on.
            () = idle(&traffic, proxy.limits.idle) => {}
        }
    });
    let done = tokio::select! {
        biased;
        result = serving.as_mut() => Some(result),
        () = Seldom::new(end) => None,
    };
    let result = match done {
        Some(result) => result,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    ended(result);
}

/// Serves HTTP/2. Idle connections are closed as HTTP/1 ones are.
pub(super) async fn http2(connection: Arc<Connection>, stream: AgentStream) {
    let (proxy, mut phase) = (connection.proxy.clone(), connection.proxy.phase());
    let io = AgentIo::new(stream, connection.unflushed.clone());
    let traffic = Arc::<Traffic>::default();
    let service = Edge { connection, traffic: traffic.clone(), http1: false };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(proxy.limits.header.saturating_mul(2)).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEP_ALIVE)
        .enable_connect_protocol();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    let end = pin!(async {
        tokio::select! {
            () = idle(&traffic, proxy.limits.idle) => {}
            // Nothing is lost: what was asked before the other side hears of it is answered.
            _ = phase.wait_for(|p| *p != Phase::Serving) => {}
        }
    });
    tokio::select! {
        result = serving.as_mut() => return ended(result),
        () = Seldom::new(end) => {}
    }
    serving.as_mut().graceful_shutdown();
    ended(serving.await);
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "agent connection ended");
    }
}

/// The requests of one connection, as whoever looks for idle ones sees them.
#[derive(Default)]
struct Traffic {
    begun: AtomicU32,
    ended: AtomicU32,
}

/// A request that is under way until its answer was handed on whole.
pub(super) struct UnderWay(Arc<Traffic>);

impl UnderWay {
    fn new(traffic: Arc<Traffic>) -> Self {
        traffic.begun.fetch_add(1, Ordering::Relaxed);
        Self(traffic)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends when for `patience`, and at most a look longer, no request was under way.
async fn idle(traffic: &Traffic, patience: Duration) {
    let (mut quiet, mut before) = (0, traffic.ended.load(Ordering::Relaxed));
    while quiet < LOOKS {
        tokio::time::sleep(patience / LOOKS).await;
        let ended = traffic.ended.load(Ordering::Relaxed);
        quiet = if ended == before && ended == traffic.begun.load(Ordering::Relaxed) { quiet + 1 } else { 0 };
        before = ended;
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Counted>, Infallible>> + Send>>;

/// One connection's requests as a `tower` service: the whole edge can be driven without a socket.
struct Edge {
    connection: Arc<Connection>,
    traffic: Arc<Traffic>,
    http1: bool,
}

/// What a request's answer depends on beside itself.
#[derive(Clone, Copy)]
struct Asked {
    /// It asks for a tunnel.
    opens: bool,
    http1: bool,
}

/// One request to its answer. One future for all requests: what only some of them meet is boxed where it begins.
async fn answer(
    connection: Arc<Connection>,
    asked: Asked,
    under_way: UnderWay,
    admitted: Admitted,
) -> Result<Response<Counted>, Infallible> {
    let Asked { opens, http1 } = asked;
    let mut answer = admission::finish(&connection, admitted, under_way).await;
    let wire = &connection.unflushed.wire;
    wire.answered(answer.status() == StatusCode::SWITCHING_PROTOCOLS || (opens && answer.status().is_success()));
    if wire.refusal().is_some() {
        // Nobody knows where the message ends.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if connection.proxy.course.is_leaving() && http1 && !opens && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The next request is for the process that follows.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// A header list over the limit (RFC 9113 §6.5.2). The library is told twice as much: what it refuses by itself gets a bare 431.
fn oversize(request: &Request<Incoming>, limit: usize) -> Option<Reason> {
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let target = request.uri().path_and_query().map_or(0, |p| p.as_str().len()) + request.uri().authority().map_or(0, |a| a.as_str().len());
    (fields + target > limit).then_some(Reason::HeaderTooLarge)
}

impl tower::Service<Request<Incoming>> for &Edge {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// What waits for nothing is done here, on the stack: only what is left of it becomes the state that is allocated.
    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let connection = self.connection.clone();
        let under_way = UnderWay::new(self.traffic.clone());
        connection.asked.store(true, Ordering::Relaxed);
        let asked = Asked { opens: request.method() == Method::CONNECT, http1: self.http1 };
        let refusal = if asked.http1 { connection.unflushed.wire.begin() } else { oversize(&request, connection.proxy.limits.header) };
        let admitted = admission::begin(&connection, request, refusal);
        Box::pin(answer(connection, asked, under_way, admitted))
    }
}

/// The library asks a shared service: with a reference that is always ready nothing is copied or waited for.
impl Service<Request<Incoming>> for Edge {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        tower::Service::call(&mut &*self, request)
    }
}

#[cfg(test)]
mod tests {
    use super::super::forward::Leg;
    use super::*;

    #[test]
    fn what_every_request_allocates_stays_small() {
        fn size<F: Future>(_: impl Fn(Arc<Connection>, Asked, UnderWay, Admitted) -> F) -> usize {
            size_of::<F>()
        }
        // What both took as one; 2560 is the aim.
        let size = size(answer) + size_of::<Leg>();
        assert!(size <= 4608, "{size}: box what only some requests meet");
    }
}
