//! The reading side of an exchange: an agent that waits for the head, then reads the body through the window.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::super::body::BodyError;
use super::super::io::Unflushed;
use super::{End, Failure, First, Head, KEEP_LIMIT, Seat, State};
use crate::payment::Reason;

/// The agent's hold on an exchange while it waits for the head; dropping it means the agent hung up.
pub(in crate::proxy) struct Waiting {
    seat: Option<Seat>,
}

impl Waiting {
    pub(in crate::proxy) const fn new(seat: Seat) -> Self {
        Self { seat: Some(seat) }
    }

    /// The answer, or why there is none. The end of the connection ends the wait, even before this future is dropped.
    pub(in crate::proxy) async fn response(mut self, unflushed: &Arc<Unflushed>) -> Result<Response<PaidBody>, Failure> {
        loop {
            let Some(seat) = self.seat.clone() else { return Err(Failure::Broken(Reason::Internal)) };
            unflushed.waits(&seat);
            let first = std::future::poll_fn(|cx| {
                let mut s = seat.exchange().lock();
                match &s.first {
                    None => {
                        s.wakers.reader = Some(cx.waker().clone());
                        Poll::Pending
                    }
                    Some(First::Head(head)) => Poll::Ready(Ok(Ok(head.clone()))),
                    Some(First::Failed(failure)) => Poll::Ready(Ok(Err(failure.clone()))),
                    Some(First::Elsewhere(other)) => Poll::Ready(Err(other.clone())),
                }
            })
            .await;
            match first {
                Err(other) => self.seat = Some(other),
                Ok(Err(failure)) => {
                    self.seat = None;
                    seat.serve();
                    return Err(failure);
                }
                Ok(Ok(head)) => {
                    self.seat = None;
                    unflushed.wire.aside.spell(head.names.clone());
                    let left = announced(&head);
                    let mut response = Response::new(PaidBody { seat, unflushed: unflushed.clone(), done: left == Some(0), left });
                    *response.status_mut() = head.status;
                    *response.headers_mut() = head.headers;
                    let upgrade = response.body().seat.exchange().lock().upgrade.take();
                    upgrade.map(|seller| response.extensions_mut().insert(seller));
                    return Ok(response);
                }
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            seat.leave();
        }
    }
}

/// The body of a paid answer as the agent's connection reads it.
pub(in crate::proxy) struct PaidBody {
    seat: Seat,
    unflushed: Arc<Unflushed>,
    done: bool,
    /// Bytes still to come by the head's own word. hyper drops a body once they are written, without asking whether that
    /// was the end, which the writer may not have said yet.
    left: Option<u64>,
}

/// How long the head says the body is.
fn announced(head: &Head) -> Option<u64> {
    if matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(0);
    }
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body for PaidBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = self.seat.exchange().clone();
        let mut s = exchange.lock();
        let at = s.next - s.start;
        if let Some(chunk) = s.chunks.get(at).cloned() {
            s.next += 1;
            s.unread = s.unread.saturating_sub(chunk.len());
            if s.bytes > KEEP_LIMIT {
                s.forget_read();
            }
            let writer = s.wakers.writer.take();
            let read_out = s.read_out();
            drop(s);
            self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
            self.done = read_out || self.left == Some(0);
            writer.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match s.end {
            None => {
                s.wakers.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Cut) => Poll::Ready(Some(Err("the seller's answer was cut short".into()))),
            Some(End::Complete) => {
                self.done = true;
                Poll::Ready(s.trailers.take().map(|t| Ok(Frame::trailers(t))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0) || self.seat.exchange().lock().read_out()
    }

    fn size_hint(&self) -> SizeHint {
        let s = self.seat.exchange().lock();
        if s.end == Some(End::Complete) && s.trailers.is_none() { SizeHint::with_exact(s.unread as u64) } else { SizeHint::default() }
    }
}

impl State {
    fn read_out(&self) -> bool {
        self.end == Some(End::Complete) && self.next - self.start == self.chunks.len() && self.trailers.is_none()
    }
}

impl Drop for PaidBody {
    fn drop(&mut self) {
        // hyper drops a body when its last byte is in the write buffer, or when the connection is gone.
        if self.done || self.seat.exchange().lock().read_out() {
            self.unflushed.set(self.seat.clone());
        } else {
            self.seat.leave();
        }
    }
}
