//! The bodies that pass through: towards the agent and towards the seller.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::exchange::PaidBody;
use super::headers;
use super::replay::Tee;
use super::upload::Upload;

/// Any failure while a body streams.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way to the agent.
pub(super) enum AgentBody {
    /// Nothing.
    Empty,
    /// A document of ours.
    Full(Option<Bytes>),
    /// The seller's, as it arrives.
    Upstream(Timed),
    /// The seller's, of which a first part was read while looking for a challenge.
    Prefixed(VecDeque<Bytes>, Option<Timed>),
    /// A paid answer out of its exchange.
    Paid(PaidBody),
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Prefixed(prefix, rest) => match (prefix.pop_front(), rest) {
                (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
                (None, None) => Poll::Ready(None),
            },
            Self::Paid(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Full(None) => true,
            Self::Full(Some(_)) => false,
            Self::Upstream(body) => body.is_end_stream(),
            Self::Prefixed(prefix, rest) => prefix.is_empty() && rest.as_ref().is_none_or(Body::is_end_stream),
            Self::Paid(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Full(None) => SizeHint::with_exact(0),
            Self::Full(Some(b)) => SizeHint::with_exact(b.len() as u64),
            Self::Upstream(body) => body.size_hint(),
            Self::Prefixed(prefix, rest) => {
                let head: u64 = prefix.iter().map(|b| b.len() as u64).sum();
                match rest.as_ref().map_or(Some(0), |r| r.size_hint().exact()) {
                    Some(tail) => SizeHint::with_exact(head + tail),
                    None => SizeHint::default(),
                }
            }
            Self::Paid(body) => body.size_hint(),
        }
    }
}

/// Trailers are headers too: what is ours to say is not said in them either.
fn clean(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::clean_trailers(trailers);
    }
    frame
}

/// A seller's body with an idle time-out: a stream may last for ever, but not stand still for ever.
///
/// The timer exists only while the body is waited for, so a body that is already there costs no timer.
pub(super) struct Timed {
    inner: Incoming,
    idle: Duration,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Timed {
    pub(super) const fn new(inner: Incoming, idle: Duration) -> Self {
        Self { inner, idle, waiting: None }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.waiting = None;
            return Poll::Ready(frame.map(|f| f.map(clean).map_err(Into::into)));
        }
        let idle = self.idle;
        let sleep = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the seller's body stood still for too long".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How far an upload is: frames, so that time-outs can see it move, and bytes against `limits.body`.
pub(super) struct Progress {
    frames: AtomicU64,
    bytes: AtomicU64,
    limit: u64,
}

impl Progress {
    pub(super) const fn new(limit: u64) -> Self {
        Self { frames: AtomicU64::new(0), bytes: AtomicU64::new(0), limit }
    }

    /// Counts a frame. One that goes beyond the limit becomes an error, which ends the upload.
    pub(super) fn pass(&self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.frames.fetch_add(1, Ordering::Relaxed);
        let frame = frame.map(|f| f.map(clean));
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if self.is_over() {
                return Some(Err("the request body is larger than limits.body".into()));
            }
        }
        frame.map(|f| f.map_err(Into::into))
    }

    /// Changes with every frame.
    pub(super) fn seen(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit
    }
}

/// A body on its way to a seller.
pub(super) enum SellerBody {
    /// Nothing.
    Empty,
    /// The agent's, as it arrives; not kept. Frames are counted, so that time-outs can see progress.
    Agent(Incoming, Arc<Progress>),
    /// The agent's, kept while it passes.
    Tee(Tee),
    /// A kept one, sent again.
    Kept(Box<Upload>),
}

impl Body for SellerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Agent(body, moved) => Poll::Ready(moved.pass(std::task::ready!(Pin::new(body).poll_frame(cx)))),
            Self::Tee(body) => Pin::new(body).poll_frame(cx),
            Self::Kept(upload) => upload.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Agent(body, _) => body.is_end_stream(),
            Self::Tee(body) => body.is_end_stream(),
            Self::Kept(upload) => upload.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Agent(body, _) => body.size_hint(),
            Self::Tee(body) => body.size_hint(),
            // With trailers there is a length, but no framing that could say it.
            Self::Kept(upload) if upload.trailers.is_some() => SizeHint::default(),
            Self::Kept(upload) => SizeHint::with_exact(upload.bytes()),
        }
    }
}
