//! CONNECT: a blind tunnel where policy could not pay, else TLS or plain HTTP is read inside it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_rustls::TlsAcceptor;

use super::agent::Caller;
use super::body::AgentBody;
use super::relay::{Rewound, relay, relay_streams};
use super::server::{self, Connection, Tunnel};
use super::target::{self, Target};
use super::{error, headers};
use crate::config::Intercept;
use crate::payment::Reason;

/// How long the first bytes inside a tunnel may take before it is relayed as it is (server-first protocols).
const SNIFF: Duration = Duration::from_secs(3);

/// How long a TLS handshake inside a tunnel may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Answers a CONNECT request. The authority of the request line decides; a Host header is neither needed nor believed.
pub(super) async fn serve(conn: &Arc<Connection>, mut request: Request<Incoming>) -> Response<AgentBody> {
    let caller = match conn.identify(request.headers()) {
        Ok(caller) => caller,
        Err(reason) => return error::failure(reason),
    };
    if headers::is_loop(request.headers(), &conn.proxy.pseudonym) {
        return error::failure(Reason::Loop);
    }
    let target = match request.uri().authority().map(target::split_authority) {
        Some(Ok((host, Some(port)))) => Target { https: true, host, port },
        _ => return error::failure(Reason::BadRequest),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    if intercepts(conn, &caller, &target) {
        tokio::spawn(later(conn.clone(), caller, target, upgrade));
        return Response::new(AgentBody::Empty);
    }
    let seller = match conn.proxy.dialer.net.tcp(&target.host, target.port).await {
        Ok(stream) => stream,
        Err(reason) => return error::failure(reason),
    };
    caller.metrics.request(200);
    let slot = conn.proxy.connections.tunnel(conn.worker.open.clone());
    tokio::spawn(async move {
        let _slot = slot;
        if let Ok(upgraded) = upgrade.await {
            relay(upgraded, seller).await;
        }
    });
    Response::new(AgentBody::Empty)
}

/// The inside of a tunnel, boxed: it serves requests just as this module's caller does, and the type would contain itself.
fn later(conn: Arc<Connection>, caller: Caller, target: Target, upgrade: OnUpgrade) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let slot = conn.proxy.connections.tunnel(conn.worker.open.clone());
    Box::pin(async move {
        let _slot = slot;
        if let Ok(upgraded) = upgrade.await {
            inside(conn, caller, target, upgraded).await;
        }
    })
}

/// Decided once per tunnel: `never` wins, then `all`/`none`, then whether some allow entry could match the host.
fn intercepts(conn: &Connection, caller: &Caller, target: &Target) -> bool {
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

/// Looks at the first bytes: a TLS record is terminated, an HTTP method is parsed, anything else is relayed untouched.
async fn inside(conn: Arc<Connection>, caller: Caller, target: Target, upgraded: Upgraded) {
    let mut agent = TokioIo::new(upgraded);
    let mut first = [0; 16];
    let seen = match tokio::time::timeout(SNIFF, sniff(&mut agent, &mut first)).await {
        Ok(Ok(0)) | Ok(Err(_)) => return,
        Ok(Ok(n)) => n,
        // Nothing said yet: the server speaks first in this protocol.
        Err(_) => 0,
    };
    let agent = Rewound { head: Bytes::copy_from_slice(&first[..seen]), inner: agent };
    match kind(&first[..seen]) {
        Kind::Tls => {
            let Ok(config) = conn.proxy.authority.server(&target.host) else { return };
            match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(agent)).await {
                Ok(Ok(stream)) => server::serve_tunnel(&conn, stream, Tunnel { caller, target }).await,
                Ok(Err(error)) => {
                    tracing::debug!(host = %target.host, %error, "the agent did not finish the TLS handshake: does it trust the proxy's CA?")
                }
                Err(_) => {}
            }
        }
        Kind::Http => server::serve_tunnel(&conn, agent, Tunnel { caller, target: Target { https: false, ..target } }).await,
        Kind::Other => {
            if let Ok(seller) = conn.proxy.dialer.net.tcp(&target.host, target.port).await {
                relay_streams(agent, seller).await;
            }
        }
    }
}

/// Reads until the kind of protocol is certain.
async fn sniff(agent: &mut (impl AsyncRead + Unpin), buffer: &mut [u8; 16]) -> io::Result<usize> {
    let mut n = 0;
    loop {
        let read = agent.read(&mut buffer[n..]).await?;
        n += read;
        if read == 0
            || n == buffer.len()
            || buffer[0] == TLS_HANDSHAKE
            || buffer[..n].contains(&b' ')
            || !buffer[..n].iter().all(u8::is_ascii_uppercase)
        {
            return Ok(n);
        }
    }
}

const TLS_HANDSHAKE: u8 = 0x16;

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Tls,
    Http,
    Other,
}

fn kind(first: &[u8]) -> Kind {
    if first.first() == Some(&TLS_HANDSHAKE) {
        return Kind::Tls;
    }
    let method = first.split(|b| *b == b' ').next().unwrap_or_default();
    let known: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"];
    if first.contains(&b' ') && known.contains(&method) { Kind::Http } else { Kind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_tls_http_and_the_rest_apart() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00"[..], Kind::Tls),
            (b"GET / HTTP/1.1\r\n", Kind::Http),
            (b"OPTIONS * HTTP/1", Kind::Http),
            (b"SSH-2.0-OpenSSH_", Kind::Other),
            (b"GETX / HTTP/1.1\r", Kind::Other),
            (b"", Kind::Other),
        ] {
            assert_eq!(kind(bytes), expected, "{bytes:?}");
        }
    }
}
