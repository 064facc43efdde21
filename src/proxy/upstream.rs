//! Towards the seller: TLS and HTTP on a dialled connection, send, wait.
//!
//! HTTP/1 connections carry one exchange at a time and are pinned to an agent's HTTP/1 connection; HTTP/2 connections are
//! shared by the requests of one agent. Neither is ever shared between agents (`pool`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{AlertDescription, ClientConfig};
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;

use super::body::{Progress, SellerBody};
use super::dial::Dial;
use super::io::{Ask, Manner, SellerIo, Settings};
use super::shape;
use super::stream::SellerStream;
use super::strict::{Fault, Names};
use super::target::Target;
use super::tls;
use crate::payment::Reason;

/// Bytes of one stream that may be on their way to us unread.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// The same for a whole connection.
pub(super) const CONNECTION_WINDOW: u32 = 1 << 20;
/// A connection without traffic is asked whether it lives this often.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Opens HTTP connections to sellers and sends on them.
pub(super) struct Dialer {
    pub(super) net: Dial,
    pub(super) tls: Configs,
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    /// Bytes of an answer's head.
    pub(super) header: usize,
}

/// One TLS configuration per list of protocols that is offered.
pub(super) struct Configs {
    pub(super) http1: Arc<ClientConfig>,
    /// HTTP/2 first.
    pub(super) both: Arc<ClientConfig>,
}

/// Which HTTP the connection to a seller is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One exchange at a time.
    Http1,
    /// The same, to go on with another protocol; extended CONNECT where the seller speaks HTTP/2 only.
    Upgrade,
    /// HTTP/2 if the seller's TLS offers it.
    Negotiated,
    /// HTTP/2 in the clear too: the agent knew that the seller speaks it (RFC 9113 §3.3).
    Known,
}

impl Wanted {
    /// A connection that carries one exchange at a time.
    pub(super) const fn is_single(self) -> bool {
        matches!(self, Self::Http1 | Self::Upgrade)
    }
}

/// A ready connection to one seller.
pub(super) enum Sender {
    Http1(Single),
    Http2(http2::SendRequest<SellerBody>),
}

/// An HTTP/1 connection with the timer for its answers: setting a timer forward costs next to nothing, a new one for each
/// request would be taken in and out of the runtime's wheel.
pub(super) struct Single {
    sender: http1::SendRequest<SellerBody>,
    /// Tells the connection's bytes which answer to expect.
    ask: Arc<Ask>,
    patience: Pin<Box<Sleep>>,
}

impl Sender {
    /// Waits until the exchange before is over. An error means that the connection is.
    pub(super) async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(single) => single.sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(single) => single.sender.is_ready() && !single.ask.is_broken(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    /// How the names of the last answer were written; `None` on HTTP/2.
    pub(super) fn names(&self) -> Option<Names> {
        match self {
            Self::Http1(single) => single.ask.answered(),
            Self::Http2(_) => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(single) => single.sender.is_closed() || single.ask.is_broken(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

impl Dialer {
    /// An HTTP connection, TLS where the target says so.
    pub(super) async fn http(&self, target: &Target, wanted: Wanted) -> Result<Sender, Reason> {
        if !target.https {
            return match wanted {
                // A parent proxy reads HTTP/1; HTTP/2 in the clear needs a tunnel through it.
                Wanted::Known => self.http2(SellerStream::Tcp(self.net.tcp(&target.host, target.port).await?)).await,
                Wanted::Http1 | Wanted::Upgrade | Wanted::Negotiated => {
                    self.http1(SellerStream::Tcp(self.net.plain(&target.host, target.port).await?)).await
                }
            };
        }
        let first = if wanted.is_single() { &self.tls.http1 } else { &self.tls.both };
        match self.secure(target, first).await {
            Ok((stream, true)) => self.http2(stream).await,
            Ok((stream, false)) => self.http1(stream).await,
            // A seller that speaks HTTP/2 only says so in an alert (RFC 7301 §3.2).
            Err(TlsFailure::NoCommonProtocol) if wanted.is_single() => match self.secure(target, &self.tls.both).await {
                Ok((stream, true)) if wanted == Wanted::Upgrade => self.extended(stream).await,
                Ok((stream, true)) => self.http2(stream).await,
                Ok((stream, false)) => self.http1(stream).await,
                Err(failure) => Err(failure.reason()),
            },
            Err(failure) => Err(failure.reason()),
        }
    }

    /// A verified TLS session, and whether HTTP/2 was agreed on.
    async fn secure(&self, target: &Target, config: &Arc<ClientConfig>) -> Result<(SellerStream, bool), TlsFailure> {
        let stream = self.net.tcp(&target.host, target.port).await.map_err(TlsFailure::Other)?;
        let name = tls::server_name(&target.host).ok_or(TlsFailure::Other(Reason::BadRequest))?;
        let connecting = TlsConnector::from(config.clone()).connect(name, stream);
        match tokio::time::timeout(self.connect, connecting).await {
            Ok(Ok(stream)) => {
                let many = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                Ok((SellerStream::Tls(Box::new(stream)), many))
            }
            Ok(Err(error)) => {
                let cause = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                if cause == Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) {
                    return Err(TlsFailure::NoCommonProtocol);
                }
                tracing::debug!(host = %target.host, %error, "TLS towards the upstream failed");
                Err(TlsFailure::Other(Reason::UpstreamTls))
            }
            Err(_) => Err(TlsFailure::Other(Reason::ConnectTimeout)),
        }
    }

    async fn http1(&self, stream: SellerStream) -> Result<Sender, Reason> {
        let ask = Arc::<Ask>::default();
        let io = TokioIo::new(SellerIo::http1(stream, ask.clone(), self.header));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.header.max(8192));
        let (sender, connection) = builder.handshake(io).await.map_err(|_| Reason::UpstreamClosed)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::trace!(%error, "upstream connection ended");
            }
        });
        Ok(Sender::Http1(Single { sender, ask, patience: Box::pin(tokio::time::sleep(self.first_byte)) }))
    }

    /// HTTP/2 with a seller that takes extended CONNECT: only who has said so may be asked (RFC 8441 §3).
    async fn extended(&self, stream: SellerStream) -> Result<Sender, Reason> {
        let (settings, told) = Settings::new();
        let sender = self.many(SellerIo::new(stream).settings(settings)).await?;
        match tokio::time::timeout(self.connect, told).await {
            Ok(Ok(true)) => Ok(sender),
            Ok(Ok(false)) => Err(Reason::UpstreamProtocol),
            Ok(Err(_)) => Err(Reason::UpstreamClosed),
            Err(_) => Err(Reason::ConnectTimeout),
        }
    }

    async fn http2(&self, stream: SellerStream) -> Result<Sender, Reason> {
        self.many(SellerIo::new(stream)).await
    }

    async fn many(&self, io: SellerIo<SellerStream>) -> Result<Sender, Reason> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // A challenge of 20 kB in a header is more than the library's 16 KiB.
            .max_header_list_size(u32::try_from(self.header).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEP_ALIVE);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|_| Reason::UpstreamClosed)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "upstream connection ended");
            }
        });
        Ok(Sender::Http2(sender))
    }

    /// Sends on `sender` and waits for the head. `progress` counts what the agent uploads: an upload that moves resets
    /// the first-byte time-out.
    pub(super) async fn exchange(
        &self,
        sender: &mut Sender,
        target: &Target,
        request: &mut Option<Request<SellerBody>>,
        progress: Option<&Progress>,
        sent: Instant,
        manner: Manner,
    ) -> Result<Response<Incoming>, SendError> {
        let deadline = (sent + self.first_byte).into();
        let Some(mut request) = request.take() else { return Err(SendError::Failed(Reason::UpstreamClosed)) };
        match sender {
            Sender::Http1(Single { sender, ask, patience }) => {
                shape::for_http1(&mut request, target);
                let parent = self.net.parent_to(&target.host).filter(|_| !target.https);
                if let Some(parent) = parent {
                    parent.address(&mut request, target);
                }
                shape::announce_body(&mut request);
                if !ask.expect(&request, manner) {
                    return Err(SendError::NotSent(Box::new(request)));
                }
                patience.as_mut().reset(deadline);
                let sending = std::pin::pin!(sender.try_send_request(request));
                match self.wait(sending, patience.as_mut(), progress).await {
                    // What the parent wants of us is not the agent's to give.
                    Ok(response) if parent.is_some() && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                        Err(SendError::Failed(Reason::ParentFailed))
                    }
                    done => done,
                }
            }
            Sender::Http2(sender) => {
                let switch = shape::for_http2(&mut request, target);
                // Boxed: a request of HTTP/1 is not to keep the room of one of HTTP/2.
                let mut sending = Box::pin(sender.try_send_request(request));
                let answer = self.wait(sending.as_mut(), Box::pin(tokio::time::sleep_until(deadline)).as_mut(), progress).await;
                match switch {
                    None => answer,
                    Some(switch) => answer.map(|answer| switch.agreed(answer)),
                }
            }
        }
    }

    async fn wait<F>(
        &self,
        mut sending: Pin<&mut F>,
        mut patience: Pin<&mut Sleep>,
        progress: Option<&Progress>,
    ) -> Result<Response<Incoming>, SendError>
    where
        F: Future<Output = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<SellerBody>>>>,
    {
        let seen = || progress.map_or(0, Progress::seen);
        let mut before = seen();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = sending.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|mut error| match error.take_message() {
                    Some(request) => SendError::NotSent(Box::new(request)),
                    None if progress.is_some_and(Progress::is_over) => SendError::Failed(Reason::BodyTooLarge),
                    None => SendError::Failed(classify(&error.into_error())),
                }));
            }
            while patience.as_mut().poll(cx).is_ready() {
                if seen() == before {
                    return Poll::Ready(Err(SendError::Failed(Reason::FirstByteTimeout)));
                }
                before = seen();
                patience.as_mut().reset(tokio::time::Instant::now() + self.first_byte);
            }
            Poll::Pending
        })
        .await
    }
}

/// Why there is no TLS session.
enum TlsFailure {
    NoCommonProtocol,
    Other(Reason),
}

impl TlsFailure {
    const fn reason(self) -> Reason {
        match self {
            Self::NoCommonProtocol => Reason::UpstreamTls,
            Self::Other(reason) => reason,
        }
    }
}

/// Why there is no answer.
pub(super) enum SendError {
    /// Not a byte was sent: the connection had closed while idle. Safe to send elsewhere.
    NotSent(Box<Request<SellerBody>>),
    /// Something may have been sent.
    Failed(Reason),
}

fn classify(error: &hyper::Error) -> Reason {
    let fault = Fault::behind(error);
    match error {
        e if e.is_parse_too_large() || fault == Some(Fault::HeadTooLarge) => Reason::UpstreamHeaderTooLarge,
        e if e.is_parse() || fault.is_some() => Reason::UpstreamProtocol,
        _ => Reason::UpstreamClosed,
    }
}
