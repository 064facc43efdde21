//! Connections that were redirected here (`REDIRECT` in the agent's network namespace): the agent believes that it speaks to the
//! seller.
//!
//! The name in the TLS hello, or Host, says where to; the original destination gives the port only. An agent could otherwise pair
//! an allowed name with any address. A connection that nobody redirected is refused, so that we never dial ourselves.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::agent::{self, Caller};
use super::connection::{Connection, Towards};
use super::serving;
use super::sniff::{self, Kind, SILENCE};
use super::stream::AgentStream;
use super::target::Target;
use super::tunnel::{self, Opening};
use crate::config::Unnamed;
use crate::policy::Host;

/// Serves one connection of `listen.transparent`.
pub(super) async fn serve(conn: Arc<Connection>, stream: TcpStream) {
    let Some(destination) = original_destination(&stream, conn.peer.local) else {
        tracing::warn!(peer = %conn.peer.remote, "a connection to listen.transparent that nobody redirected was closed");
        return;
    };
    let Ok(caller) = agent::by_default(&conn.proxy, &conn.peer) else {
        tracing::warn!(peer = %conn.peer.remote, "a redirected connection from elsewhere, or no agents.default: closed");
        return;
    };
    let (kind, agent) = sniff::look(stream.into(), false, SILENCE).await;
    if conn.proxy.dialer.net.guard.comes_back(conn.peer.remote) {
        tracing::warn!(%destination, "our own connection was redirected to us and closed: exempt this program's user from the redirect");
        return;
    }
    match kind {
        Kind::Tls => secure(conn, caller, destination, agent).await,
        Kind::Http1 | Kind::Http2 => {
            let inside = conn.inside(caller, Towards::Host { port: destination.port() });
            drop(conn);
            if kind == Kind::Http2 { serving::http2(inside, agent).await } else { serving::http1(inside, agent).await }
        }
        Kind::Other | Kind::Silent => unnamed(conn, caller, destination, agent).await,
    }
}

/// TLS: the name in the hello is the target, or there is none.
///
/// An encrypted hello (ECH) shows its public name here. When the session is opened we do not take part in ECH and the client falls
/// back or ends; when it is relayed, it goes to the public name's address. (Browsers send the extension without meaning it, so it
/// cannot be a reason to refuse.)
async fn secure(conn: Arc<Connection>, caller: Caller, destination: SocketAddr, agent: AgentStream) {
    let (name, agent) = sniff::server_name(agent).await;
    let host = match name {
        Ok(name) => name.and_then(|n| Host::parse(&n).ok()),
        Err(error) => {
            tracing::debug!(%error, "no TLS hello came of a redirected connection");
            return;
        }
    };
    let Some(host) = host else { return unnamed(conn, caller, destination, agent).await };
    let target = Target { https: true, host, port: destination.port() };
    match tunnel::open(&conn, &caller, target.clone()).await {
        Ok(Opening::Read(target)) => tunnel::secure(conn, caller, target, agent).await,
        Ok(blind) => {
            caller.metrics.request(200);
            tunnel::enter(conn, caller, blind, agent).await;
        }
        Err(reason) => {
            tunnel::refused(&conn, &caller, &target, reason);
            tracing::warn!(%reason, "a redirected connection could not be passed on");
        }
    }
}

/// Nothing says which seller is meant: refused, or relayed to the address that the agent dialled.
async fn unnamed(conn: Arc<Connection>, caller: Caller, destination: SocketAddr, agent: AgentStream) {
    if conn.proxy.unnamed == Unnamed::Refuse {
        tracing::warn!(%destination, agent = %caller.agent, "a redirected connection names no host: closed (transparent.unnamed: relay would pass it)");
        return;
    }
    let host = Host::Ip(destination.ip().to_canonical());
    let target = Target { https: true, host, port: destination.port() };
    let opened = match conn.permitted(&caller, &target) {
        Ok(_) => conn.proxy.dialer.net.tcp(&target.host, target.port).await,
        Err(reason) => Err(reason),
    };
    match opened {
        Ok(seller) => {
            caller.metrics.request(200);
            tunnel::enter(conn, caller, Opening::Blind(target, seller), agent).await;
        }
        Err(reason) => {
            tunnel::refused(&conn, &caller, &target, reason);
            tracing::warn!(%destination, %reason, "a redirected connection could not be passed on");
        }
    }
}

/// Where the agent wanted to go; `None` if nobody redirected the connection. For IPv4 peers of a dual-stack listener the answer
/// is at the IPv4 level; without redirection the kernel has none, or names our own address.
fn original_destination(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let v4 = local.ip().to_canonical().is_ipv4();
    let found = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let found = found.ok()?.as_socket()?;
    let same = found.port() == local.port() && found.ip().to_canonical() == local.ip().to_canonical();
    (!same).then_some(found)
}
