//! A TCP connection to a host: resolve, check every resolved address, dial the checked addresses themselves (S16), in turn and side
//! by side (RFC 8305).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::guard::Guard;
use super::information;
use super::names::Names;
use super::parent::Parent;
use crate::payment::Reason;
use crate::policy::Host;

/// An attempt gets this much of a start before the next address is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens TCP connections to checked addresses.
pub(super) struct Dial {
    pub(super) guard: Guard,
    connect: Duration,
    names: Names,
    parent: Option<Parent>,
}

/// Our own pages have no address, and a parent proxy is not to hear of them.
fn not_ours(host: &Host) -> Result<(), Reason> {
    if information::is_name(host) { Err(Reason::ForbiddenAddress) } else { Ok(()) }
}

impl Dial {
    /// Connections that `guard` permits, each within `connect`, by way of `parent` where it leads there.
    pub(super) fn new(guard: Guard, connect: Duration, parent: Option<Parent>) -> Self {
        Self { guard, connect, names: Names::default(), parent }
    }

    /// Bytes to and from `host`: a connection to a checked address, or a tunnel that the parent opened.
    pub(super) async fn tcp(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        not_ours(host)?;
        let opening = async {
            let Some(parent) = self.parent_to(host) else { return self.direct(host, port).await };
            let mut stream = self.to_parent(parent, host, port).await?;
            parent.tunnel(&mut stream, host, port).await?;
            Ok(stream)
        };
        tokio::time::timeout(self.connect, opening).await.unwrap_or(Err(Reason::ConnectTimeout))
    }

    /// A connection for plain HTTP requests to `host`: to it, or to the parent, which reads them in absolute form.
    pub(super) async fn plain(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        not_ours(host)?;
        let opening = async {
            match self.parent_to(host) {
                Some(parent) => self.to_parent(parent, host, port).await,
                None => self.direct(host, port).await,
            }
        };
        tokio::time::timeout(self.connect, opening).await.unwrap_or(Err(Reason::ConnectTimeout))
    }

    /// The proxy between us and `host`, if there is one.
    pub(super) fn parent_to(&self, host: &Host) -> Option<&Parent> {
        self.parent.as_ref().filter(|parent| parent.leads_to(host))
    }

    /// Whether the name of `host` is looked up here: not by a parent, and not of our own pages.
    pub(super) fn looks_up(&self, host: &Host) -> bool {
        not_ours(host).is_ok() && self.parent_to(host).is_none()
    }

    /// Looks a name up for the connections that come.
    pub(super) async fn look_up(&self, name: &Arc<str>) {
        let _ = self.names.resolve(name).await;
    }

    /// The parent looks names up, so of the target only an address can be checked here.
    async fn to_parent(&self, parent: &Parent, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        if let Host::Ip(ip) = host
            && !self.guard.permits(SocketAddr::new(*ip, port))
        {
            return Err(Reason::ForbiddenAddress);
        }
        let found = match &parent.host {
            Host::Ip(ip) => [*ip].into(),
            Host::Name(name) => self.names.resolve(name).await.map_err(|_| Reason::ParentFailed)?,
        };
        let all = found.iter().map(|ip| SocketAddr::new(*ip, parent.port));
        let permitted: Vec<SocketAddr> = all.filter(|address| self.guard.permits_parent(*address)).collect();
        let stream = race(permitted).await.map_err(|_| Reason::ParentFailed)?;
        self.checked(stream)
    }

    async fn direct(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        let stream = match host {
            Host::Ip(ip) => {
                let address = SocketAddr::new(*ip, port);
                if !self.guard.permits(address) {
                    return Err(Reason::ForbiddenAddress);
                }
                TcpStream::connect(address).await.map_err(|_| Reason::ConnectFailed)?
            }
            Host::Name(name) => {
                let found = self.names.resolve(name).await?;
                // The checked addresses themselves are dialled: a second look-up could give others.
                race(self.permitted(&found, port)?).await?
            }
        };
        self.checked(stream)
    }

    /// Not ourselves, by whatever address.
    fn checked(&self, stream: TcpStream) -> Result<TcpStream, Reason> {
        if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
            && self.guard.is_ourselves(local, peer)
        {
            return Err(Reason::ForbiddenAddress);
        }
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// The addresses that may be dialled, families in turn, beginning with the one that the resolver put first.
    fn permitted(&self, found: &[std::net::IpAddr], port: u16) -> Result<Vec<SocketAddr>, Reason> {
        let all = found.iter().map(|ip| SocketAddr::new(*ip, port)).filter(|address| self.guard.permits(*address));
        let (mut four, mut six): (VecDeque<_>, VecDeque<_>) = all.partition(SocketAddr::is_ipv4);
        let (mut next, mut other) = match found.first() {
            Some(first) if first.is_ipv6() => (&mut six, &mut four),
            _ => (&mut four, &mut six),
        };
        let mut out = Vec::with_capacity(next.len() + other.len());
        while let Some(address) = next.pop_front().or_else(|| other.pop_front()) {
            out.push(address);
            std::mem::swap(&mut next, &mut other);
        }
        if out.is_empty() { Err(Reason::ForbiddenAddress) } else { Ok(out) }
    }
}

/// The first connection that comes about. The next address is tried when one failed or had its head start; the others go on.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, Reason> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await.map_err(|_| Reason::ConnectFailed);
    }
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    loop {
        if let Some(address) = waiting.next() {
            running.spawn(TcpStream::connect(address));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(_) => {}
                None => return Err(Reason::ConnectFailed),
            },
            () = tokio::time::sleep(HEAD_START), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{IpAddr, TcpListener};
    use std::time::Instant;

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
    }

    fn dial(allow_private: bool) -> Dial {
        Dial::new(Guard::new(allow_private, &[]), Duration::from_secs(5), None)
    }

    fn order(allow_private: bool, found: &[&str]) -> Result<Vec<String>, Reason> {
        let found: Vec<IpAddr> = found.iter().map(|t| t.parse().unwrap()).collect();
        dial(allow_private).permitted(&found, 80).map(|all| all.iter().map(|a| a.ip().to_string()).collect())
    }

    #[test]
    fn families_take_turns_and_forbidden_addresses_none() {
        for (found, expected) in [
            (&["2606:4700::1", "2606:4700::2", "9.9.9.1", "9.9.9.2"][..], &["2606:4700::1", "9.9.9.1", "2606:4700::2", "9.9.9.2"][..]),
            (&["9.9.9.1", "2606:4700::1", "9.9.9.2", "9.9.9.3"], &["9.9.9.1", "2606:4700::1", "9.9.9.2", "9.9.9.3"]),
            (&["9.9.9.1", "9.9.9.2"], &["9.9.9.1", "9.9.9.2"]),
            (&["169.254.169.254", "2606:4700::1", "10.0.0.1", "9.9.9.1"], &["9.9.9.1", "2606:4700::1"]),
        ] {
            assert_eq!(order(false, found).unwrap(), expected, "{found:?}");
        }
        assert_eq!(order(false, &["127.0.0.1", "::1"]), Err(Reason::ForbiddenAddress));
        assert_eq!(order(true, &["169.254.169.254"]), Err(Reason::ForbiddenAddress));
    }

    /// A listener whose queue is full, so that the kernel drops every further SYN.
    fn black_hole() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let fill = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let held = std::iter::from_fn(fill).take(8).collect();
        (socket, address, held)
    }

    #[test]
    fn an_address_that_does_not_answer_costs_its_head_start_and_one_that_refuses_nothing() {
        let (_socket, silent, _held) = black_hole();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = open.local_addr().unwrap();
        run(async {
            let started = Instant::now();
            assert_eq!(race(vec![silent, there]).await.unwrap().peer_addr().unwrap(), there);
            assert!(started.elapsed() >= HEAD_START && started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
            assert_eq!(race(vec![gone, gone, gone, gone, there]).await.unwrap().peer_addr().unwrap(), there);
            assert_eq!(race(vec![gone, gone]).await.err(), Some(Reason::ConnectFailed));
        });
    }

    #[test]
    fn s16_a_name_that_moves_to_a_forbidden_address_is_refused_although_it_is_remembered() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = open.local_addr().unwrap().port();
        let host = Host::parse("localhost").unwrap();
        run(async {
            let dial = Dial::new(Guard::new(true, &[]), Duration::from_secs(5), None);
            assert!(dial.tcp(&host, port).await.is_ok());
            dial.guard.set_own(vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0; 16], port))]);
            assert_eq!(dial.tcp(&host, port).await.err(), Some(Reason::ForbiddenAddress));
        });
    }
}
