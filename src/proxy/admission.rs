//! The first and the last step of every request: who asks, is there room for it, and until when does it count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::access::Record;
use super::agent::Caller;
use super::body::{AgentBody, BodyError};
use super::connection::Connection;
use super::forward::Begun;
use super::load::Running;
use super::serving::UnderWay;
use super::{error, forward};
use crate::payment::Reason;

/// A request that counts, and what has been done with it.
pub(super) struct Admitted {
    begun: Begun,
    running: Option<Running>,
    record: Option<Record>,
    connect: bool,
}

/// Begins to answer one request of an agent's connection, within the limits. `refusal`: what arrived was no request, and why.
pub(super) fn begin(conn: &Arc<Connection>, request: Request<Incoming>, refusal: Option<Reason>) -> Admitted {
    let connect = request.method() == Method::CONNECT;
    let mut record = Record::of(conn, &request);
    let admitted = refusal.map_or_else(|| admit(conn, &request, record.as_mut()), Err);
    let (begun, running) = match admitted {
        Ok((caller, running)) => (forward::begin(conn, request, caller), running),
        Err(reason) => (Begun::Answered(Box::new(refused(reason, request.version()))), None),
    };
    Admitted { begun, running, record, connect }
}

/// Answers it.
pub(super) async fn finish(conn: &Arc<Connection>, admitted: Admitted, under_way: UnderWay) -> Response<Counted> {
    let Admitted { begun, running, mut record, connect } = admitted;
    let response = forward::finish(conn, begun).await;
    if let Some(record) = &mut record {
        record.answered(&response);
    }
    if let Some(record) = record.take_if(|_| connect && response.status().is_success()) {
        // It has a line of its own, when it ends.
        record.forget();
    }
    response.map(|body| Counted { body, _running: running, _under_way: under_way, record })
}

/// Who asks, and the room for it. That nobody known asks may not be the worst about a request: that is the next step's to say.
fn admit(
    conn: &Connection,
    request: &Request<Incoming>,
    record: Option<&mut Record>,
) -> Result<(Result<Caller, Reason>, Option<Running>), Reason> {
    let caller = match conn.caller(request.headers()) {
        Ok(caller) => caller,
        Err(Reason::TooManyAgentConnections) => return Err(Reason::TooManyAgentConnections),
        Err(reason) => return Ok((Err(reason), None)),
    };
    if let Some(record) = record {
        record.is_of(&caller);
    }
    let running = match caller.place.request() {
        Ok(_) if request.body().size_hint().lower() > conn.proxy.limits.body => Err(Reason::BodyTooLarge),
        other => other,
    };
    match running {
        Ok(running) => Ok((Ok(caller), Some(running))),
        Err(reason) => {
            caller.metrics.request(error::status(reason).as_u16());
            Err(reason)
        }
    }
}

fn refused(reason: Reason, version: Version) -> Response<AgentBody> {
    let mut response = error::failure(reason);
    if reason == Reason::TooManyAgentConnections && version < Version::HTTP_2 {
        // Who has no place may not keep one by waiting.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer on its way to the agent. Its request counts until it was handed on whole, or given up.
pub(super) struct Counted {
    body: AgentBody,
    _running: Option<Running>,
    _under_way: UnderWay,
    /// Its line in the access log.
    record: Option<Record>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(record), Poll::Ready(Some(Ok(frame)))) = (&mut self.record, &frame) {
            record.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
