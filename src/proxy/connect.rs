//! CONNECT, and the listener that speaks TLS to agents.

use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::net::TcpStream;

use super::agent::Caller;
use super::body::AgentBody;
use super::connection::Connection;
use super::stream::AgentStream;
use super::target::{self, Target};
use super::tls::Names;
use super::tunnel::{self, Opening};
use super::{error, headers, serving};
use crate::payment::Reason;
use crate::policy::Host;

/// Answers a CONNECT request. The authority of the request line decides; a Host header is neither needed nor believed.
pub(super) async fn serve(conn: &Arc<Connection>, mut request: Request<Incoming>, caller: Result<Caller, Reason>) -> Response<AgentBody> {
    let (caller, target) = match asked(conn, &request, caller) {
        Ok(found) => found,
        Err(reason) => return error::failure(reason),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let opening = match tunnel::open(conn, &caller, target).await {
        Ok(opening) => opening,
        Err(reason) => return error::failure(reason),
    };
    caller.metrics.request(200);
    tokio::spawn(later(conn.clone(), caller, opening, upgrade));
    Response::new(AgentBody::Empty)
}

fn asked(conn: &Connection, request: &Request<Incoming>, caller: Result<Caller, Reason>) -> Result<(Caller, Target), Reason> {
    let caller = caller?;
    if headers::is_loop(request.headers(), &conn.proxy.pseudonym) {
        return Err(Reason::Loop);
    }
    match request.uri().authority().map(target::split_authority) {
        Some(Ok((host, Some(port)))) => Ok((caller, Target { https: true, host, port })),
        _ => Err(Reason::BadRequest),
    }
}

/// The inside of a tunnel, boxed: it serves requests just as this module's caller does, and the type would contain itself.
fn later(conn: Arc<Connection>, caller: Caller, opening: Opening, upgrade: OnUpgrade) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let slot = conn.proxy.connections.tunnel(conn.worker.open.clone());
    Box::pin(async move {
        let _slot = slot;
        if let Ok(upgraded) = upgrade.await {
            tunnel::enter(conn, caller, opening, AgentStream::upgraded(upgraded)).await;
        }
    })
}

/// `listen.https`: TLS to the proxy itself, with a certificate for the name that the agent asks for, or for the address it
/// connected to.
pub(super) async fn secure_listener(conn: Arc<Connection>, stream: TcpStream) {
    let names = Names::Asked { or: Host::Ip(conn.peer.local.ip().to_canonical()) };
    if let Some((stream, many)) = tunnel::accept_tls(&conn, stream.into(), names, |_| ()).await {
        if many { serving::http2(conn, stream).await } else { serving::http1(conn, stream).await }
    }
}
