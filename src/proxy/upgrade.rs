//! Connections that become something else after one request: WebSocket and its like (RFC 9110 §7.8), and the same over HTTP/2 by
//! extended CONNECT (RFC 8441). Towards the seller it is an HTTP/1.1 upgrade, on a connection of its own; where the seller speaks
//! HTTP/2 only, `shape` makes it an extended CONNECT and its yes a 101.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::agent::Caller;
use super::body::AgentBody;
use super::connection::Connection;
use super::error;
use super::headers;
use super::relay::relay_streams;
use super::stream::{AgentStream, SellerStream};
use crate::payment::Reason;

/// The agent's end of a connection that is to become something else.
pub(super) struct Switching {
    agent: OnUpgrade,
    /// Asked for by extended CONNECT: the answer to a yes is 200.
    extended: bool,
}

/// Takes the agent's end out of a request that asks for another protocol, and gives an extended CONNECT the form of an upgrade.
pub(super) fn take(request: &mut Request<Incoming>) -> Option<Switching> {
    let extended = request.extensions_mut().remove::<Protocol>();
    if extended.is_none() && (request.version() != Version::HTTP_11 || headers::upgrade(request.headers()).is_none()) {
        return None;
    }
    if extended.is_none() && !request.body().is_end_stream() {
        // What follows would be the body first: a seller may grant that, but need not be asked (RFC 9110 §7.8).
        request.headers_mut().remove(UPGRADE);
        return None;
    }
    let agent = hyper::upgrade::on(&mut *request);
    let Some(protocol) = extended else { return Some(Switching { agent, extended: false }) };
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_str(protocol.as_str()).unwrap_or(HeaderValue::from_static("websocket")));
    if protocol.as_str() == "websocket" {
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).unwrap_or(HeaderValue::from_static("")));
    }
    Some(Switching { agent, extended: true })
}

/// Passes a seller's 101 on and joins the two ends.
pub(super) fn finish(
    conn: &Connection,
    caller: &Caller,
    switching: Option<Switching>,
    mut response: Response<AgentBody>,
) -> Response<AgentBody> {
    let seller = response.extensions_mut().remove::<OnUpgrade>();
    // A 101 that nobody asked for would leave the connection without a protocol.
    let (Some(Switching { agent, extended }), Some(seller)) = (switching, seller) else { return error::failure(Reason::UpstreamProtocol) };
    let protocol = headers::upgrade(response.headers());
    headers::clean_response(response.headers_mut());
    let map = response.headers_mut();
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        map.remove(name);
    }
    if extended {
        map.remove(SEC_WEBSOCKET_ACCEPT);
        *response.status_mut() = StatusCode::OK;
    } else if let Some(protocol) = protocol {
        map.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        map.insert::<HeaderName>(UPGRADE, protocol);
    }
    let places = (conn.proxy.connections.tunnel(conn.worker.open.clone()), caller.place.clone());
    tokio::spawn(async move {
        let _places = places;
        let (Ok(agent), Ok(seller)) = tokio::join!(agent, seller) else { return };
        relay_streams(AgentStream::upgraded(agent), SellerStream::upgraded(seller)).await;
    });
    response
}
