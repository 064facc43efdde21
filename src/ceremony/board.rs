//! The board: what the parties of one ceremony post, kept in memory by one of them. It sees sealed and signed bytes only.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::post::{MAX_POST, Slot, decode, round};
use crate::mpc::{Fingerprint, Party};
use crate::payment::Timestamp;
use crate::wire::link::{Client, Incoming, LinkError, Reply, Service};

/// The path of every request.
pub const PATH: &str = "/v1/board";

/// Everything that one ceremony may post.
const MAX_TOTAL: usize = 8 << 20;
/// How long a request for something that is not there yet waits.
const LINGER: Duration = Duration::from_secs(3);
/// How long a party may be without a connection in the middle of a ceremony.
const GRACE: Duration = Duration::from_secs(4);
/// How long an answer may take beyond the lingering.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
enum Ask {
    Put(Slot, Vec<u8>),
    Get(Slot),
}

/// What the board says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Kept, or there already with the same bytes.
    Kept,
    /// Somebody else's slot, another text in it already, or too much.
    Refused,
    /// The post.
    Post(Vec<u8>),
    /// Nothing there yet: ask again.
    NotYet,
    /// This party has stopped the ceremony; its signed word.
    Stopped(Party, Vec<u8>),
    /// This party's connection is gone.
    Left(Party),
}

/// The posts of one ceremony.
pub struct Board {
    pins: Vec<(Party, Fingerprint)>,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    /// Called with the fingerprint of somebody who is not of the ceremony.
    stranger: Box<dyn Fn(Fingerprint) + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    posts: HashMap<Slot, Vec<u8>>,
    total: usize,
    /// Which connection a party spoke over last, and since when it is gone.
    connections: HashMap<Party, (u64, Option<Instant>)>,
}

impl Board {
    /// A board for these parties.
    pub fn new(pins: Vec<(Party, Fingerprint)>, stranger: impl Fn(Fingerprint) + Send + Sync + 'static) -> Self {
        let (changed, _) = watch::channel(0);
        Self { pins, inner: Mutex::default(), changed, stranger: Box::new(stranger) }
    }

    /// Everything that was posted: for a test that looks for secrets in it.
    pub fn transcript(&self) -> Vec<(Slot, Vec<u8>)> {
        self.lock().posts.iter().map(|(slot, bytes)| (*slot, bytes.clone())).collect()
    }

    fn party(&self, key: Fingerprint) -> Option<Party> {
        self.pins.iter().find(|(_, pin)| *pin == key).map(|(party, _)| *party)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, by: Party, slot: Slot, bytes: Vec<u8>) -> Told {
        let mut inner = self.lock();
        if slot.from != by || bytes.len() > MAX_POST || inner.total + bytes.len() > MAX_TOTAL {
            return Told::Refused;
        }
        if let Some(there) = inner.posts.get(&slot) {
            return if *there == bytes { Told::Kept } else { Told::Refused };
        }
        inner.total += bytes.len();
        inner.posts.insert(slot, bytes);
        drop(inner);
        self.changed.send_modify(|n| *n += 1);
        Told::Kept
    }

    fn look(&self, by: Party, slot: Slot) -> Told {
        let inner = self.lock();
        // A sealed post is of use to its receiver alone; nobody else needs even that.
        if slot.to.is_some_and(|to| to != by) {
            return Told::Refused;
        }
        let stop = |party| Slot { round: round::STOP, from: party, to: None };
        if let Some((party, word)) = Party::ALL.into_iter().find_map(|p| Some((p, inner.posts.get(&stop(p))?.clone()))) {
            return Told::Stopped(party, word);
        }
        if let Some(post) = inner.posts.get(&slot) {
            return Told::Post(post.clone());
        }
        let bye = |party| inner.posts.contains_key(&Slot { round: round::BYE, from: party, to: None });
        let left = |(party, (_, since)): (&Party, &(u64, Option<Instant>))| {
            (since.is_some_and(|s| s.elapsed() > GRACE) && !bye(*party)).then_some(*party)
        };
        inner.connections.iter().find_map(left).map_or(Told::NotYet, Told::Left)
    }

    async fn wait(&self, by: Party, slot: Slot) -> Told {
        let mut changed = self.changed.subscribe();
        let until = tokio::time::Instant::now() + LINGER;
        loop {
            match self.look(by, slot) {
                Told::NotYet => {}
                told => return told,
            }
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return self.look(by, slot);
            }
        }
    }

    async fn answered(self: Arc<Self>, request: Incoming) -> Reply {
        let Some(by) = self.party(request.sender.fingerprint()) else { return Reply::Close };
        self.lock().connections.insert(by, (request.connection, None));
        let told = match decode::<Ask>(&request.opened.payload) {
            Some(Ask::Put(slot, bytes)) => self.put(by, slot, bytes),
            Some(Ask::Get(slot)) => self.wait(by, slot).await,
            None => return Reply::Close,
        };
        postcard::to_allocvec(&told).map_or(Reply::Close, Reply::Payload)
    }
}

impl Service for Board {
    fn admits(&self, key: Fingerprint, path: &str) -> bool {
        let known = self.party(key).is_some();
        if !known {
            (self.stranger)(key);
        }
        known && path == PATH
    }

    fn answer(self: Arc<Self>, request: Incoming) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(self.answered(request))
    }

    fn gone(&self, connection: u64) {
        for (last, since) in self.lock().connections.values_mut() {
            if *last == connection {
                *since = Some(Instant::now());
            }
        }
    }

    fn now(&self) -> Timestamp {
        crate::clock::read().wall
    }
}

/// A party's way to the board: its own, or over a link.
pub enum Line {
    /// This party serves it.
    Own(Arc<Board>),
    /// Another party does.
    Far(Client),
}

impl Line {
    /// Posts, once; the same bytes again are no error.
    ///
    /// # Errors
    /// The link's, for the caller to try again.
    pub async fn put(&self, me: Party, slot: Slot, bytes: &[u8]) -> Result<Told, LinkError> {
        match self {
            Self::Own(board) => Ok(board.put(me, slot, bytes.to_vec())),
            Self::Far(client) => call(client, &Ask::Put(slot, bytes.to_vec())).await,
        }
    }

    /// Asks for a post; waits a while for it.
    ///
    /// # Errors
    /// The link's, for the caller to try again.
    pub async fn get(&self, me: Party, slot: Slot) -> Result<Told, LinkError> {
        match self {
            Self::Own(board) => Ok(board.wait(me, slot).await),
            Self::Far(client) => call(client, &Ask::Get(slot)).await,
        }
    }
}

async fn call(client: &Client, ask: &Ask) -> Result<Told, LinkError> {
    let garbage = || LinkError::Garbage("not of a board".into());
    let payload = postcard::to_allocvec(ask).map_err(|_| garbage())?;
    let answer = client.call(PATH, 0, &payload, Instant::now() + LINGER + ANSWER).await?;
    let (told, rest) = postcard::take_from_bytes(&answer).map_err(|_| garbage())?;
    if rest.is_empty() { Ok(told) } else { Err(garbage()) }
}
