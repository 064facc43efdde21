//! Where an agent said where to go first: CONNECT, SOCKS, a redirected connection. A tunnel is relayed as it is, or TLS or plain
//! HTTP is read inside it; which of the two is decided once, from the name that was asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::access::Record;
use super::agent::Caller;
use super::connection::{Connection, Towards};
use super::reach;
use super::relay::relay_streams;
use super::sniff::{self, Kind, SILENCE};
use super::stream::AgentStream;
use super::target::Target;
use super::tls::Names;
use super::{information, serving};
use crate::config::Intercept;
use crate::payment::Reason;
use crate::policy::Host;

/// How long a TLS handshake inside a tunnel may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A tunnel that may be entered.
pub(super) enum Opening {
    /// Bytes pass as they are; the seller is connected.
    Blind(Target, TcpStream),
    /// Looked into; the seller is connected when there is a request.
    Read(Target),
}

/// Decides what becomes of a tunnel to `target` and makes it ready.
pub(super) async fn open(conn: &Connection, caller: &Caller, target: Target) -> Result<Opening, Reason> {
    if information::is_name(&target.host) {
        return Ok(Opening::Read(target));
    }
    conn.permitted(caller, &target)?;
    if intercepts(conn, caller, &target) {
        return Ok(Opening::Read(target));
    }
    let seller = conn.proxy.dialer.net.tcp(&target.host, target.port).await?;
    Ok(Opening::Blind(target, seller))
}

/// Decided once per tunnel: `never` wins, then `all`/`none`, then whether some allow entry could match the host.
pub(super) fn intercepts(conn: &Connection, caller: &Caller, target: &Target) -> bool {
    let tls = &conn.proxy.tls;
    if tls.never.iter().any(|pattern| pattern.matches(&target.host)) {
        return false;
    }
    match tls.intercept {
        Intercept::None => false,
        Intercept::All => true,
        Intercept::Allowed => conn.payable(caller, target) || conn.payable(caller, &Target { https: false, ..target.clone() }),
    }
}

/// A line in the access log for a tunnel that was not opened, where no answer of HTTP has one.
pub(super) fn refused(conn: &Connection, caller: &Caller, target: &Target, reason: Reason) {
    if let Some(record) = Record::tunnel(conn, caller, target) {
        record.refused(reason);
    }
}

/// Serves a tunnel to its end.
pub(super) async fn enter(conn: Arc<Connection>, caller: Caller, opening: Opening, agent: AgentStream) {
    let (Opening::Blind(target, _) | Opening::Read(target)) = &opening;
    let record = Record::tunnel(&conn, &caller, target);
    let passed = match opening {
        Opening::Blind(_, seller) => Some(pass(conn, caller, agent, seller).await),
        Opening::Read(target) => Box::pin(read(conn, caller, target, agent)).await,
    };
    if let Some(record) = record {
        record.passed(passed);
    }
}

/// Passes bytes on unread; how many, up and down.
async fn pass(conn: Arc<Connection>, caller: Caller, agent: AgentStream, seller: TcpStream) -> (u64, u64) {
    let _kept = (conn.proxy.dialer.net.guard.mark(&seller), caller.place);
    drop(conn);
    // Two sockets with nothing between them are the usual case.
    match agent.into_tcp() {
        Ok(agent) => relay_streams(agent, seller).await,
        Err(agent) => relay_streams(agent, seller).await,
    }
}

/// Looks at the first bytes: a TLS hello is answered, HTTP is parsed, anything else is relayed untouched. Says how much was relayed.
async fn read(conn: Arc<Connection>, caller: Caller, target: Target, agent: AgentStream) -> Option<(u64, u64)> {
    reach::foresee(&conn, &(caller.agent.clone(), target.clone()));
    let (kind, agent) = sniff::look(agent, false, SILENCE).await;
    match kind {
        Kind::Tls => secure(conn, caller, target, agent).await,
        Kind::Http1 | Kind::Http2 => {
            let inside = conn.inside(caller, Towards::Fixed(Target { https: false, ..target }));
            drop(conn);
            if kind == Kind::Http2 { Box::pin(serving::http2(inside, agent)).await } else { serving::http1(inside, agent).await }
        }
        // Nothing said yet: the server speaks first in this protocol.
        Kind::Other | Kind::Silent => {
            if let Ok(seller) = conn.proxy.dialer.net.tcp(&target.host, target.port).await {
                return Some(pass(conn, caller, agent, seller).await);
            }
        }
    }
    None
}

/// TLS that is opened: the agent's session ends here, in the name of the target.
pub(super) async fn secure(conn: Arc<Connection>, caller: Caller, target: Target, agent: AgentStream) {
    let names = Names::Only(target.host.clone());
    let route = (caller.agent.clone(), target.clone());
    let inside = conn.inside(caller, Towards::Fixed(target));
    // Two handshakes at once instead of one after the other. That we may connect there was decided before.
    let Some((stream, many)) = accept_tls(&conn, agent, names, |many| reach::begin(&inside, route, many)).await else { return };
    drop(conn);
    // Boxed: an idle HTTP/1 connection is not to keep the room of an HTTP/2 one.
    if many { Box::pin(serving::http2(inside, stream)).await } else { serving::http1(inside, stream).await }
}

/// The agent's side of a TLS handshake, and whether HTTP/2 was agreed on. `heard` is told once the hello is there, with whether it
/// will be.
pub(super) async fn accept_tls(
    conn: &Connection,
    agent: AgentStream,
    names: Names,
    heard: impl FnOnce(bool),
) -> Option<(AgentStream, bool)> {
    let authority = &conn.proxy.authority;
    let shaking = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), agent).await?;
        let host = match names {
            Names::Only(host) => host,
            Names::Asked { or } => start.client_hello().server_name().and_then(|n| Host::parse(n).ok()).unwrap_or(or),
        };
        let many = conn.proxy.http2 && start.client_hello().alpn().is_some_and(|mut offered| offered.any(|p| p == b"h2"));
        heard(many);
        let config = authority.server(&host).map_err(std::io::Error::other)?;
        start.into_stream(config).await
    };
    match tokio::time::timeout(HANDSHAKE, shaking).await {
        Ok(Ok(stream)) => {
            let many = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Some((AgentStream::tls(stream), many))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "an agent did not finish the TLS handshake: does it trust the proxy's CA?");
            None
        }
        Err(_) => None,
    }
}
