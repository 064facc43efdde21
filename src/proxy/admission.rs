//! The first and the last step of every request: who asks, is there room for it, and until when does it count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::access::Record;
use super::body::{AgentBody, BodyError};
use super::connection::Connection;
use super::load::Running;
use super::{error, forward};
use crate::payment::Reason;

/// Answers one request of an agent's connection, within the limits. `refusal`: what arrived was no request, and why.
pub(super) async fn serve(conn: &Arc<Connection>, request: Request<Incoming>, refusal: Option<Reason>) -> Response<Counted> {
    let connect = request.method() == Method::CONNECT;
    let mut record = Record::of(conn, &request);
    let (response, running) = match refusal {
        Some(reason) => (error::failure(reason), None),
        None => admitted(conn, request, record.as_mut()).await,
    };
    if let Some(record) = &mut record {
        record.answered(&response);
    }
    if let Some(record) = record.take_if(|_| connect && response.status().is_success()) {
        // It has a line of its own, when it ends.
        record.forget();
    }
    response.map(|body| Counted { body, _running: running, record })
}

async fn admitted(
    conn: &Arc<Connection>,
    request: Request<Incoming>,
    record: Option<&mut Record>,
) -> (Response<AgentBody>, Option<Running>) {
    let caller = conn.caller(request.headers());
    if let (Some(record), Ok(caller)) = (record, &caller) {
        record.is_of(caller);
    }
    // Who has no place may not keep one by waiting.
    let close = matches!(caller, Err(Reason::TooManyAgentConnections)) && request.version() < Version::HTTP_2;
    let running = match &caller {
        Ok(caller) => caller.place.request().map(Some),
        // Whether that is the worst about the request is the next step's to say.
        Err(_) => Ok(None),
    };
    let running = match running {
        Ok(_) if request.body().size_hint().lower() > conn.proxy.limits.body => Err(Reason::BodyTooLarge),
        other => other,
    };
    let (mut response, running) = match running {
        Ok(running) => (forward::serve(conn, request, caller).await, running),
        Err(reason) => {
            let response = error::failure(reason);
            if let Ok(caller) = caller {
                caller.metrics.request(response.status().as_u16());
            }
            (response, None)
        }
    };
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    (response, running)
}

/// An answer on its way to the agent. Its request counts until it was handed on whole, or given up.
pub(super) struct Counted {
    body: AgentBody,
    _running: Option<Running>,
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
