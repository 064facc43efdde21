//! Every listening socket of the process, by its key in `listen`: bound here, or taken over from the process before.

use std::io;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use crate::proxy::Phase;

/// One address of `listen`.
#[derive(Debug)]
pub(super) struct Door {
    /// Its key in the configuration.
    pub(super) key: &'static str,
    /// The address as it is configured: port 0 stays 0.
    pub(super) asked: SocketAddr,
    /// The address it has.
    pub(super) bound: SocketAddr,
    /// The sockets, kept to be handed over; whoever accepts has copies.
    pub(super) sockets: Vec<TcpListener>,
    phase: watch::Sender<Phase>,
}

/// What another process hands over.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) key: String,
    pub(super) asked: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

impl Door {
    /// Takes the sockets of `offered` for this key and address, or binds new ones.
    pub(super) fn open(
        key: &'static str,
        asked: SocketAddr,
        offered: &mut Vec<Offered>,
        bind: impl FnOnce() -> io::Result<Vec<TcpListener>>,
    ) -> Result<Self> {
        let shown = || format!("cannot listen on {asked} (listen.{key})");
        let found = offered.iter().position(|o| o.key == key && o.asked == asked && !o.sockets.is_empty());
        let sockets = match found {
            Some(at) => offered.swap_remove(at).sockets,
            None => bind().with_context(shown)?,
        };
        let bound = sockets.first().context("no socket").and_then(|s| Ok(s.local_addr()?)).with_context(shown)?;
        Ok(Self { key, asked, bound, sockets, phase: watch::Sender::new(Phase::Serving) })
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Lets go of the sockets for good: whoever accepts has the last copies, unless another process has some.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
        let yielded = *self.phase.borrow() == Phase::Yielding;
        self.set(if yielded { Phase::Left } else { Phase::Stopping });
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Copies of the sockets for worker `n` of `workers`. Every socket has an owner, for the kernel spreads connections over
    /// all of them; workers that are left over share.
    pub(super) fn share(&self, n: usize, workers: usize) -> Result<Vec<TcpListener>> {
        let mine = self.sockets.iter().enumerate().filter(|(i, _)| i % workers == n || n % self.sockets.len() == *i);
        mine.map(|(_, socket)| Ok(socket.try_clone()?)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(key: &'static str, asked: &str, count: usize, offered: &mut Vec<Offered>) -> Door {
        let asked = asked.parse().unwrap();
        Door::open(key, asked, offered, || crate::proxy::server::bind(asked, count)).unwrap()
    }

    #[test]
    fn every_socket_has_an_owner_and_every_worker_a_socket() {
        for (sockets, workers) in [(1, 1), (2, 2), (3, 2), (2, 3), (5, 2), (1, 4)] {
            let door = open("proxy", "127.0.0.1:0", sockets, &mut Vec::new());
            let shares: Vec<usize> = (0..workers).map(|n| door.share(n, workers).unwrap().len()).collect();
            assert!(shares.iter().all(|n| *n >= 1), "{sockets} sockets, {workers} workers: {shares:?}");
            assert!(shares.iter().sum::<usize>() == sockets.max(workers), "{sockets} sockets, {workers} workers: {shares:?}");
        }
    }

    #[test]
    fn only_sockets_for_the_same_key_and_address_are_taken() {
        let old = open("proxy", "127.0.0.1:0", 2, &mut Vec::new());
        let asked = old.asked;
        let offer = |key: &str| Offered { key: key.into(), asked, sockets: old.sockets.iter().map(|s| s.try_clone().unwrap()).collect() };
        let mut offered = vec![offer("proxy"), offer("health")];
        assert_ne!(open("admin", "127.0.0.1:0", 1, &mut offered).bound, old.bound);
        assert_ne!(open("proxy", "127.0.0.2:0", 1, &mut offered).bound, old.bound);
        let taken = open("proxy", "127.0.0.1:0", 4, &mut offered);
        assert_eq!((taken.bound, taken.sockets.len()), (old.bound, 2));
        assert_eq!(offered.len(), 1);
    }
}
