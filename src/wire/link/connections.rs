//! The open connections of a server, so that a key's can be closed at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::mpc::Fingerprint;

/// Most connections of one key: one is warm, others are left from a broken network. Past it the oldest is closed.
const PER_KEY: usize = 8;

/// A handle on the open connections of one or more servers. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    key: Fingerprint,
    close: Arc<watch::Sender<bool>>,
}

/// One connection's entry; it leaves the table when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    close: Arc<watch::Sender<bool>>,
    connections: Connections,
}

impl Connections {
    /// Closes all connections of `key` (GOAWAY): revocation. From now on none of them takes a request. Answers how many.
    pub fn close(&self, key: Fingerprint) -> usize {
        let table = self.lock();
        let its: Vec<&Open> = table.open.values().filter(|open| open.key == key).collect();
        for open in &its {
            open.close.send_replace(true);
        }
        its.len()
    }

    /// Closes one.
    pub fn close_one(&self, connection: u64) {
        if let Some(open) = self.lock().open.get(&connection) {
            open.close.send_replace(true);
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Enters a connection; ids begin at 1 and are never used again.
    pub(super) fn enter(&self, key: Fingerprint) -> Entry {
        let mut table = self.lock();
        let its = table.open.iter().filter(|(_, open)| open.key == key && !*open.close.borrow());
        let (count, oldest) = its.fold((0, None), |(n, oldest), (id, _)| (n + 1, Some(oldest.map_or(*id, |o: u64| o.min(*id)))));
        if count >= PER_KEY
            && let Some(open) = oldest.and_then(|id| table.open.get(&id))
        {
            open.close.send_replace(true);
        }
        table.last += 1;
        let (id, close) = (table.last, Arc::new(watch::Sender::new(false)));
        table.open.insert(id, Open { key, close: close.clone() });
        Entry { id, close, connections: self.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Closes this connection.
    pub(super) fn close(&self) {
        self.close.send_replace(true);
    }

    /// It is to be closed: no request is taken any more.
    pub(super) fn is_closing(&self) -> bool {
        *self.close.borrow()
    }

    /// Ready when it is to be closed.
    pub(super) async fn closing(&self) {
        // The sender lives in `self`: this cannot fail.
        let _ = self.close.subscribe().wait_for(|closing| *closing).await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_a_key_closes_all_its_connections_and_no_other() {
        let connections = Connections::default();
        let (one, two) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let (a, b, c) = (connections.enter(one), connections.enter(two), connections.enter(one));
        assert_eq!(connections.close(one), 2);
        assert_eq!((a.is_closing(), b.is_closing(), c.is_closing()), (true, false, true));
        drop((a, c));
        assert_eq!((connections.count(), connections.close(one)), (1, 0));
    }

    #[test]
    fn one_key_cannot_hold_more_than_its_share_of_connections() {
        let connections = Connections::default();
        let other = connections.enter(Fingerprint([2; 32]));
        let all: Vec<Entry> = (0..PER_KEY + 2).map(|_| connections.enter(Fingerprint([1; 32]))).collect();
        let closed: Vec<bool> = all.iter().map(Entry::is_closing).collect();
        assert_eq!(closed.iter().filter(|c| **c).count(), 2);
        assert!(closed[0] && closed[1] && !other.is_closing());
    }
}
