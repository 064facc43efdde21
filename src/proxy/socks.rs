//! SOCKS5 (RFC 1928): CONNECT only, without credentials or with user and password (RFC 1929) as the agent and its token.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::agent::{self, Caller};
use super::connection::Connection;
use super::target::Target;
use super::tunnel;
use crate::payment::Reason;
use crate::policy::Host;

/// How long an agent may take to say where to.
const GREETING: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const NO_CREDENTIALS: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// Replies (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Succeeded = 0,
    Failure = 1,
    NotAllowed = 2,
    Unreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

impl Reply {
    const fn of(reason: Reason) -> Self {
        match reason {
            Reason::ForbiddenAddress | Reason::EgressDenied | Reason::ProxyAuthRequired => Self::NotAllowed,
            Reason::DnsError | Reason::ConnectTimeout => Self::Unreachable,
            Reason::ConnectFailed => Self::Refused,
            _ => Self::Failure,
        }
    }

    /// With an empty bound address: nobody uses it for CONNECT.
    const fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// Serves one connection of `listen.socks`.
pub(super) async fn serve(conn: Arc<Connection>, mut stream: TcpStream) {
    let asked = async {
        let caller = greet(&conn, &mut stream).await?;
        Ok::<_, io::Error>((caller, request(&mut stream).await?))
    };
    let Ok(Ok((caller, asked))) = tokio::time::timeout(GREETING, asked).await else { return };
    let opened = match asked {
        Ok(target) => tunnel::open(&conn, &caller, target.clone()).await.map_err(|reason| {
            tunnel::refused(&conn, &caller, &target, reason);
            caller.metrics.request(502);
            Reply::of(reason)
        }),
        Err(reply) => Err(reply),
    };
    match opened {
        Ok(opening) => {
            if stream.write_all(&Reply::Succeeded.bytes()).await.is_ok() {
                caller.metrics.request(200);
                tunnel::enter(conn, caller, opening, stream.into()).await;
            }
        }
        Err(reply) => {
            let _ = stream.write_all(&reply.bytes()).await;
        }
    }
}

/// Agrees on a method and names the caller.
async fn greet(conn: &Connection, stream: &mut TcpStream) -> io::Result<Caller> {
    let [version, count] = read(stream).await?;
    if version != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut offered = [0; 255];
    let offered = &mut offered[..usize::from(count)];
    stream.read_exact(offered).await?;
    // Credentials win where both are offered: clients list "none" out of habit.
    if offered.contains(&PASSWORD) {
        stream.write_all(&[VERSION, PASSWORD]).await?;
        return password(conn, stream).await;
    }
    let caller = agent::by_default(&conn.proxy, &conn.peer).ok().filter(|_| offered.contains(&NO_CREDENTIALS));
    stream.write_all(&[VERSION, if caller.is_some() { NO_CREDENTIALS } else { NO_METHOD }]).await?;
    caller.ok_or_else(|| io::ErrorKind::PermissionDenied.into())
}

/// RFC 1929.
async fn password(conn: &Connection, stream: &mut TcpStream) -> io::Result<Caller> {
    let (user, password) = credentials(stream).await?;
    let caller = agent::by_password(&conn.proxy, &conn.peer, &user, &password);
    stream.write_all(&[1, u8::from(caller.is_err())]).await?;
    caller.map_err(|_| io::ErrorKind::PermissionDenied.into())
}

pub(super) async fn credentials(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, String)> {
    let [_, length] = read(stream).await?;
    let user = text(stream, length).await?;
    let [length] = read(stream).await?;
    Ok((user, text(stream, length).await?))
}

/// Reads the request: where to, or what to answer instead.
pub(super) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Target, Reply>> {
    let [version, command, _, kind] = read(stream).await?;
    if version != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let host = match kind {
        1 => Ok(Host::Ip(Ipv4Addr::from(read::<4>(stream).await?).into())),
        4 => Ok(Host::Ip(Ipv6Addr::from(read::<16>(stream).await?).to_canonical())),
        3 => {
            let [length] = read(stream).await?;
            Host::parse(&text(stream, length).await?).map_err(|_| Reply::AddressNotSupported)
        }
        _ => return Ok(Err(Reply::AddressNotSupported)),
    };
    let port = u16::from_be_bytes(read(stream).await?);
    Ok(match host {
        _ if command != CONNECT => Err(Reply::CommandNotSupported),
        Ok(_) if port == 0 => Err(Reply::AddressNotSupported),
        Ok(host) => Ok(Target { https: true, host, port }),
        Err(reply) => Err(reply),
    })
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn text(stream: &mut (impl AsyncRead + Unpin), length: u8) -> io::Result<String> {
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    String::from_utf8(bytes).map_err(io::Error::other)
}
