//! The first and the last step of every request: who asks, is there room for it, and until when does it count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::{AgentBody, BodyError};
use super::connection::Connection;
use super::load::Running;
use super::{error, forward};
use crate::payment::Reason;

/// Answers one request of an agent's connection, within the limits.
pub(super) async fn serve(conn: &Arc<Connection>, request: Request<Incoming>) -> Response<Counted> {
    let caller = conn.caller(request.headers());
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
    let (response, running) = match running {
        Ok(running) => (forward::serve(conn, request, caller).await, running),
        Err(reason) => {
            let response = error::failure(reason);
            if let Ok(caller) = caller {
                caller.metrics.request(response.status().as_u16());
            }
            (response, None)
        }
    };
    let (mut head, body) = response.into_parts();
    if close {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(head, Counted { body, _running: running })
}

/// The answer to what is no request.
pub(super) fn refuse(reason: Reason) -> Response<Counted> {
    error::failure(reason).map(|body| Counted { body, _running: None })
}

/// An answer on its way to the agent. Its request counts until it was handed on whole, or given up.
pub(super) struct Counted {
    body: AgentBody,
    _running: Option<Running>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
