//! Which addresses may be connected to, checked on the *resolved* address of every connection (S16).
//!
//! Link-local, metadata, multicast and our own listeners are refused always; private and loopback ranges unless
//! `upstream.allow_private` or `allow_cidrs` says otherwise. IPv4 hidden in IPv6 (mapped, NAT64, 6to4) counts as the IPv4.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::net::TcpStream;

use crate::config::Cidr;
use crate::net::address::{effective, never, private};

/// The rules of one process.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    allow_private: bool,
    allow: Arc<[Cidr]>,
    /// Our own listeners; known once they are bound.
    own: Arc<OnceLock<Vec<SocketAddr>>>,
    relayed: Relayed,
}

/// Our ends of the connections that are passed on unread. A redirect that includes our own connections leads them back to us, and
/// nothing inside them would show it: each would be passed on again, without end.
type Relayed = Arc<Mutex<HashSet<SocketAddr>>>;

/// Forgets a relayed connection when it is over.
pub(super) struct Mark {
    relayed: Relayed,
    end: SocketAddr,
}

impl Drop for Mark {
    fn drop(&mut self) {
        lock(&self.relayed).remove(&self.end);
    }
}

fn lock(relayed: &Relayed) -> MutexGuard<'_, HashSet<SocketAddr>> {
    relayed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same end, whether a listener for both families shows it or one for IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Guard {
    pub(super) fn new(allow_private: bool, allow: &[Cidr]) -> Self {
        Self { allow_private, allow: allow.into(), own: Arc::default(), relayed: Relayed::default() }
    }

    /// Names our listeners. Set once, before the first connection is accepted.
    pub(super) fn set_own(&self, own: Vec<SocketAddr>) {
        let _ = self.own.set(own);
    }

    /// May this resolved address be dialled?
    pub(super) fn permits(&self, address: SocketAddr) -> bool {
        let ip = effective(address.ip());
        if never(ip) || self.is_own_port(ip, address.port()) {
            return false;
        }
        !private(ip) || self.allow_private || self.allow.iter().any(|c| c.contains(ip))
    }

    /// May the operator's own parent proxy be dialled there? It may be anywhere but where nothing ever is, or we are.
    pub(super) fn permits_parent(&self, address: SocketAddr) -> bool {
        let ip = effective(address.ip());
        !never(ip) && !self.is_own_port(ip, address.port())
    }

    /// Did a finished connection end at ourselves after all? Catches our listeners on addresses that are not loopback.
    pub(super) fn is_ourselves(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        effective(local.ip()) == effective(peer.ip()) && self.own.get().is_some_and(|own| own.iter().any(|o| o.port() == peer.port()))
    }

    /// Remembers a connection to a seller before the first byte is relayed on it.
    pub(super) fn mark(&self, seller: &TcpStream) -> Option<Mark> {
        let end = canonical(seller.local_addr().ok()?);
        lock(&self.relayed).insert(end);
        Some(Mark { relayed: self.relayed.clone(), end })
    }

    /// Is this the other end of a connection that we relay? Certain once a byte of it was read.
    pub(super) fn comes_back(&self, remote: SocketAddr) -> bool {
        lock(&self.relayed).contains(&canonical(remote))
    }

    fn is_own_port(&self, ip: IpAddr, port: u16) -> bool {
        let Some(own) = self.own.get() else { return false };
        own.iter()
            .any(|o| o.port() == port && (effective(o.ip()) == ip || ip.is_loopback() && (o.ip().is_loopback() || o.ip().is_unspecified())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn guard(allow_private: bool) -> Guard {
        let guard = Guard::new(allow_private, &[]);
        guard.set_own(vec!["127.0.0.1:8402".parse().unwrap(), "0.0.0.0:9403".parse().unwrap()]);
        guard
    }

    #[test]
    fn s16_some_addresses_are_refused_whatever_the_configuration_says() {
        for text in [
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::1]:80",
            "[fd00:ec2::254]:80",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "100.100.100.200:80",
            "127.0.0.1:8402",
            "127.1.2.3:9403",
            "[::ffff:127.0.0.1]:8402",
            "[::1]:9403",
        ] {
            assert!(!guard(true).permits(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_relayed_connection_is_known_again_until_it_is_over() {
        let guard = guard(true);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_, remote) = listener.accept().await.unwrap();
        let mapped = format!("[::ffff:127.0.0.1]:{}", remote.port()).parse().unwrap();
        assert!(!guard.comes_back(remote));
        let mark = guard.mark(&seller);
        assert!(guard.comes_back(remote) && guard.comes_back(mapped));
        drop(mark);
        assert!(!guard.comes_back(remote));
    }

    #[test]
    fn private_and_loopback_need_permission() {
        for text in [
            "127.0.0.1:80",
            "10.0.0.1:80",
            "192.168.1.1:80",
            "172.16.0.1:80",
            "100.64.0.1:80",
            "[::1]:80",
            "[fd00::1]:80",
            "[::ffff:10.0.0.1]:80",
            "[64:ff9b::a00:1]:80",
        ] {
            assert!(!guard(false).permits(text.parse().unwrap()), "{text}");
            assert!(guard(true).permits(text.parse().unwrap()), "{text}");
        }
        for text in ["93.184.216.34:443", "[2606:4700::1111]:443"] {
            assert!(guard(false).permits(text.parse().unwrap()), "{text}");
        }
    }
}
