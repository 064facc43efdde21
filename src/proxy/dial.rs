//! A TCP connection to a host: resolve, check every resolved address, dial the checked address itself (S16).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::guard::Guard;
use crate::payment::Reason;
use crate::policy::Host;

/// Opens TCP connections to checked addresses.
pub(super) struct Dial {
    pub(super) guard: Guard,
    pub(super) connect: Duration,
}

impl Dial {
    /// A TCP connection to a checked address of `host`.
    pub(super) async fn tcp(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        tokio::time::timeout(self.connect, self.unbounded(host, port)).await.unwrap_or(Err(Reason::ConnectTimeout))
    }

    async fn unbounded(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        let addresses = resolve(host, port).await?;
        let permitted: Vec<SocketAddr> = addresses.iter().copied().filter(|a| self.guard.permits(*a)).collect();
        if permitted.is_empty() {
            return Err(if addresses.is_empty() { Reason::DnsError } else { Reason::ForbiddenAddress });
        }
        // An address that does not answer must not use up the time of the others.
        let share = self.connect / u32::try_from(permitted.len()).unwrap_or(u32::MAX);
        let mut failure = Reason::ConnectFailed;
        for address in permitted {
            // The checked address itself is dialled: a second look-up could give another one.
            let stream = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) => continue,
                Err(_) => {
                    failure = Reason::ConnectTimeout;
                    continue;
                }
            };
            if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
                && self.guard.is_ourselves(local, peer)
            {
                return Err(Reason::ForbiddenAddress);
            }
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
        Err(failure)
    }
}

async fn resolve(host: &Host, port: u16) -> Result<Vec<SocketAddr>, Reason> {
    match host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => match tokio::net::lookup_host((&**name, port)).await {
            Ok(found) => Ok(found.collect()),
            Err(_) => Err(Reason::DnsError),
        },
    }
}
