//! The calling end.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming as Body;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use super::breaker::Breaker;
use super::{ALIVE, CONNECTION_WINDOW, LinkError, MAX_HEAD, PING, PONG, Peer, STREAM_WINDOW, STREAMS};
use crate::clock;
use crate::wire::envelope;
use crate::wire::identity::{Identity, Public};
use crate::wire::message::MAX_BODY;
use crate::wire::tls::Connector;

/// A client: one warm connection, made again when it breaks, with a breaker in front (half-open after a pause).
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    peer: Peer,
    connect: Duration,
    connector: Result<Connector, String>,
    breaker: Breaker,
    warm: Mutex<Option<Warm>>,
    /// Held while connecting: callers wait for one connection instead of making many.
    dialling: tokio::sync::Mutex<()>,
    /// Of the last connection made.
    serial: AtomicU64,
}

/// The connection, and the key its other end proved to have.
#[derive(Clone)]
struct Warm {
    serial: u64,
    sender: SendRequest<Full<Bytes>>,
    peer: Public,
}

/// A head, and who sent it. `None` if not a byte of the request was sent: the connection had ended before.
type Sent = Option<(Response<Body>, Public)>;

impl Client {
    /// A client for `peer`; connects lazily, within `connect`.
    pub fn new(identity: Identity, peer: Peer, connect: Duration) -> Self {
        let connector = Connector::new(&identity, peer.pin).map_err(|e| e.to_string());
        let (breaker, warm, dialling) = (Breaker::default(), Mutex::default(), tokio::sync::Mutex::default());
        let serial = AtomicU64::new(0);
        Self { inner: Arc::new(Inner { identity, peer, connect, connector, breaker, warm, dialling, serial }) }
    }

    /// Sends `payload` as a signed request and opens the signed answer. Dropped half-way, the request may have arrived.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn call(&self, path: &'static str, epoch: u32, payload: &[u8], deadline: Instant) -> Result<Vec<u8>, LinkError> {
        self.guarded(deadline, self.inner.exchange(path, epoch, payload, deadline)).await
    }

    /// Asks the peer whether it is alive, making the connection if there is none: at start-up, and now and then to find out
    /// that a quiet peer is back. Says nothing and changes nothing.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn warm(&self, deadline: Instant) -> Result<(), LinkError> {
        self.guarded(deadline, self.inner.ask_alive(deadline)).await
    }

    /// True while the peer answers: there is a live connection and no failure since the last answer. For
    /// `tollpass_cosigner_up`; false before the first connection.
    pub fn up(&self) -> bool {
        self.inner.breaker.is_clean() && self.inner.current().is_some()
    }

    async fn guarded<T>(&self, deadline: Instant, work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
        let now = Instant::now();
        if now >= deadline {
            return Err(self.inner.unreachable("no time left"));
        }
        let pass = self.inner.breaker.enter(now).ok_or_else(|| self.inner.unreachable("it failed a moment ago, waiting"))?;
        let done = work.await;
        match &done {
            Ok(_) => pass.succeeded(),
            Err(error) => {
                tracing::debug!(peer = %self.inner.peer.authority, %error, "a call to the peer failed");
                // Several in a row: whatever this connection is, it is not a way to the peer.
                if pass.failed(Instant::now(), random::<1>().map_or(0, |[b]| b)) {
                    self.inner.forget(None);
                }
            }
        }
        done
    }
}

impl Inner {
    async fn exchange(&self, path: &'static str, epoch: u32, payload: &[u8], deadline: Instant) -> Result<Vec<u8>, LinkError> {
        let id = random().ok_or_else(|| self.unreachable("no randomness"))?;
        let (bytes, hash) = envelope::request(&self.identity, self.peer.pin, path, epoch, id, clock::read().wall, payload);
        if bytes.len() > MAX_BODY {
            return Err(self.unreachable("the request is longer than allowed"));
        }
        let bytes = Bytes::from(bytes);
        let (response, peer) = self.send_twice(path, bytes, deadline).await?;
        let answer = match timeout_at(deadline.into(), read(response)).await {
            Err(_) => return Err(LinkError::Timeout),
            Ok(answer) => answer?,
        };
        let opened = envelope::open_response(&answer, &peer, self.identity.fingerprint(), id, hash);
        opened.map(|o| o.payload).map_err(|e| LinkError::Garbage(e.to_string()))
    }

    async fn ask_alive(&self, deadline: Instant) -> Result<(), LinkError> {
        let (response, _) = self.send_twice(ALIVE, Bytes::new(), deadline).await?;
        if response.status() == StatusCode::NO_CONTENT { Ok(()) } else { read(response).await.map(drop) }
    }

    /// Sends; once more if the connection had closed while idle and nothing was sent.
    async fn send_twice(&self, path: &'static str, body: Bytes, deadline: Instant) -> Result<(Response<Body>, Public), LinkError> {
        for _ in 0..2 {
            if let Some(answer) = self.send(path, body.clone(), deadline).await? {
                return Ok(answer);
            }
        }
        Err(self.unreachable("it closes each connection"))
    }

    /// Sends on the warm connection, or a new one. Once hyper has the request it counts as sent, unless hyper gives it back.
    async fn send(&self, path: &'static str, body: Bytes, deadline: Instant) -> Result<Sent, LinkError> {
        let Warm { serial, mut sender, peer } = self.connection(deadline).await?;
        let request = Request::post(format!("https://{}{path}", self.peer.authority))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(body))
            .map_err(|_| self.unreachable("not host:port"))?;
        match timeout_at(deadline.into(), sender.try_send_request(request)).await {
            Err(_) => Err(LinkError::Timeout),
            Ok(Ok(response)) => Ok(Some((response, peer))),
            Ok(Err(error)) if error.message().is_some() => Ok(None),
            Ok(Err(error)) => {
                // Broken, or the stream was reset, which is how this server closes: the next call takes another one.
                self.forget(Some(serial));
                Err(LinkError::Garbage(reason(&error.into_error())))
            }
        }
    }

    /// The warm connection or a new one.
    async fn connection(&self, deadline: Instant) -> Result<Warm, LinkError> {
        if let Some(warm) = self.current() {
            return Ok(warm);
        }
        let work = async {
            let _one = self.dialling.lock().await;
            if let Some(warm) = self.current() {
                return Ok(warm);
            }
            let warm = timeout(self.connect, self.dial()).await.unwrap_or_else(|_| Err("it does not answer".into()))?;
            *self.slot() = Some(warm.clone());
            Ok(warm)
        };
        match timeout_at(deadline.into(), work).await {
            Ok(done) => done.map_err(|why: String| self.unreachable(&why)),
            Err(_) => Err(self.unreachable("no connection in time")),
        }
    }

    async fn dial(&self) -> Result<Warm, String> {
        let connector = self.connector.as_ref().map_err(Clone::clone)?;
        let stream = self.tcp().await.map_err(|e| e.to_string())?;
        let (stream, peer) = connector.connect(stream).await.map_err(|e| e.to_string())?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            // Until the server has said how many: more would be refused, perhaps after they were read.
            .initial_max_send_streams(STREAMS as usize)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| reason(&e))?;
        let authority = self.peer.authority.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer = %authority, %error, "the connection to the peer broke");
            }
        });
        Ok(Warm { serial: self.serial.fetch_add(1, Ordering::Relaxed), sender, peer })
    }

    /// The first address that takes the connection; one that does not answer must not use up the time of the others.
    async fn tcp(&self) -> std::io::Result<TcpStream> {
        let addresses: Vec<_> = tokio::net::lookup_host(&self.peer.authority).await?.collect();
        let share = self.connect / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failure = std::io::Error::other("it has no address");
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = error,
                Err(elapsed) => failure = elapsed.into(),
            }
        }
        Err(failure)
    }

    /// The warm connection, if it is alive.
    fn current(&self) -> Option<Warm> {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|w| w.sender.is_closed()) {
            *slot = None;
        }
        slot.clone()
    }

    /// Takes no further call on the connection of that serial, or on any. Calls under way keep it until they end.
    fn forget(&self, serial: Option<u64>) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|warm| serial.is_none_or(|s| s == warm.serial)) {
            *slot = None;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Warm>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self, why: &str) -> LinkError {
        LinkError::Unreachable(format!("{}: {why}", self.peer.authority))
    }
}

/// The body of an answer. Another status than 200 carries none: it is the server's word on why it does not answer.
async fn read(response: Response<Body>) -> Result<Bytes, LinkError> {
    let why = match response.status() {
        StatusCode::OK => {
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            return body.map(http_body_util::Collected::to_bytes).map_err(|e| LinkError::Garbage(e.to_string()));
        }
        StatusCode::TOO_EARLY => "it says that our clocks differ by more than a minute".into(),
        StatusCode::REQUEST_TIMEOUT => "it says that our request came too slowly".into(),
        status => format!("it says {}", status.as_u16()),
    };
    Err(LinkError::Garbage(why))
}

/// What hyper says, with its cause: "http2 error" alone helps nobody.
fn reason(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// From the library's own generator: a forked process or a restored machine does not repeat it.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.inner.peer).field("up", &self.up()).finish_non_exhaustive()
    }
}
