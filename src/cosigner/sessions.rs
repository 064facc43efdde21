//! Signing sessions between their two round trips, and finished presignatures. Both are taken out by value: each gives at
//! most one partial (S5, S9). All of it is in memory only; a crash loses it, which is the safe outcome.
//!
//! An entry belongs to one identity and one connection. It goes when its time is over, when the connection goes, when the
//! identity is revoked, and on a ban.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::judge::Permit;
use crate::custody::OpenSession;
use crate::mpc::{Fingerprint, Joined, PreJoined, ResponderPresignature};
use crate::payment::PurchaseId;

/// Half-open sessions per identity (S11).
pub const MAX_OPEN: usize = 64;
/// How long a session may stay half open (S11).
pub const OPEN_FOR: Duration = Duration::from_secs(10);
/// Presignatures per identity, those in the making included (mpc.md §5).
pub const MAX_PRESIGNED: usize = 96;
/// How long one is kept.
pub const PRESIGNED_FOR: Duration = Duration::from_secs(180);

/// Whom an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The identity's key.
    pub key: Fingerprint,
    /// Its connection.
    pub connection: u64,
}

/// Counts what an identity has, up to a bound.
type Counts = Arc<Mutex<HashMap<Fingerprint, usize>>>;

/// One of the places an identity has; given back when dropped.
#[derive(Debug)]
pub struct Place {
    counts: Counts,
    key: Fingerprint,
}

impl Place {
    fn take(counts: &Counts, key: Fingerprint, most: usize) -> Option<Self> {
        let mut held = lock(counts);
        let count = held.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { counts: Arc::clone(counts), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.counts);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// What waits for its second message.
pub enum Stage {
    /// A signature.
    Sign {
        /// What may be signed.
        permit: Box<Permit>,
        /// Our side of the protocol.
        joined: Box<Joined>,
    },
    /// A presignature.
    Prepare {
        /// Our side of the protocol.
        joined: Box<PreJoined>,
        /// Its place among the identity's presignatures.
        place: Place,
    },
}

/// A half-open session.
pub struct Session {
    /// What it is.
    pub stage: Stage,
    /// A stop now is an unclean one.
    pub mark: OpenSession,
    owner: Owner,
    until: Instant,
    _place: Place,
}

/// A presignature that waits to be used once.
struct Presigned {
    half: Box<ResponderPresignature>,
    owner: Owner,
    until: Instant,
    /// Epoch of the policy it was made under.
    policy: u64,
    _place: Place,
}

/// All of them.
#[derive(Default)]
pub struct Sessions {
    open_counts: Counts,
    presigned_counts: Counts,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    open: HashMap<[u8; 16], Session>,
    presigned: HashMap<[u8; 16], Presigned>,
    /// Frozen: nothing is taken in or given out any more.
    closed: bool,
}

impl Sessions {
    /// A place for a session to come; `None` if the identity has [`MAX_OPEN`].
    pub fn place(&self, owner: Owner) -> Option<Place> {
        Place::take(&self.open_counts, owner.key, MAX_OPEN)
    }

    /// A place for a presignature to come; `None` if the identity has [`MAX_PRESIGNED`].
    pub fn presigned_place(&self, owner: Owner) -> Option<Place> {
        Place::take(&self.presigned_counts, owner.key, MAX_PRESIGNED)
    }

    /// Keeps a session for its second message; answers its id. `None` after a ban.
    pub fn open(&self, owner: Owner, stage: Stage, place: Place, mark: OpenSession) -> Option<[u8; 16]> {
        let id = rand::random();
        let session = Session { stage, owner, until: Instant::now() + OPEN_FOR, _place: place, mark };
        let mut inner = self.inner();
        (!inner.closed).then(|| inner.open.insert(id, session)).map(|_| id)
    }

    /// Takes a session out, whatever becomes of it then. Somebody else's stays where it is.
    pub fn take(&self, id: [u8; 16], owner: Owner) -> Option<Session> {
        let mut inner = self.inner();
        if inner.open.get(&id).is_none_or(|s| s.owner != owner) {
            return None;
        }
        inner.open.remove(&id).filter(|s| s.until > Instant::now())
    }

    /// Drops what an identity had open for a purchase: it asks again, so it gave that session up, and the hold is free for the
    /// new one.
    pub fn supersede(&self, key: Fingerprint, purchase: PurchaseId) {
        let same = |s: &Session| s.owner.key == key && matches!(&s.stage, Stage::Sign { permit, .. } if permit.purchase() == purchase);
        let old: Vec<Session> = self.inner().open.extract_if(|_, s| same(s)).map(|(_, s)| s).collect();
        drop(old);
    }

    /// Keeps a presignature for one use.
    pub fn keep(&self, id: [u8; 16], owner: Owner, half: ResponderPresignature, place: Place, policy: u64) -> bool {
        let kept = Presigned { half: Box::new(half), owner, until: Instant::now() + PRESIGNED_FOR, policy, _place: place };
        let mut inner = self.inner();
        !inner.closed && inner.presigned.insert(id, kept).is_none()
    }

    /// Takes a presignature out for good (S9): call it before any check that may fail. One of another policy is no use.
    pub fn take_presigned(&self, id: [u8; 16], owner: Owner, policy: u64) -> Option<ResponderPresignature> {
        let mut inner = self.inner();
        if inner.presigned.get(&id).is_none_or(|p| p.owner != owner) {
            return None;
        }
        inner.presigned.remove(&id).filter(|p| p.until > Instant::now() && p.policy == policy).map(|p| *p.half)
    }

    /// Drops what is bound to a connection.
    pub fn gone(&self, connection: u64) {
        self.retain(|owner, _| owner.connection != connection);
    }

    /// Drops what belongs to a revoked identity.
    pub fn revoked(&self, key: Fingerprint) {
        self.retain(|owner, _| owner.key != key);
    }

    /// Drops what is over, and presignatures of another policy.
    pub fn sweep(&self, policy: u64) {
        let now = Instant::now();
        self.retain(|_, until| until > now);
        let old: Vec<Presigned> = self.inner().presigned.extract_if(|_, p| p.policy != policy).map(|(_, p)| p).collect();
        drop(old);
    }

    /// A ban: nothing goes on (S3).
    pub fn close(&self) {
        self.inner().closed = true;
        self.retain(|_, _| false);
    }

    /// Half-open sessions and presignatures, for the gauges.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.open.len(), inner.presigned.len())
    }

    /// What goes is dropped outside the lock: a mark may wait for the disk.
    fn retain(&self, keep: impl Fn(Owner, Instant) -> bool) {
        let mut inner = self.inner();
        let open: Vec<Session> = inner.open.extract_if(|_, s| !keep(s.owner, s.until)).map(|(_, s)| s).collect();
        let presigned: Vec<Presigned> = inner.presigned.extract_if(|_, p| !keep(p.owner, p.until)).map(|(_, p)| p).collect();
        drop(inner);
        drop((open, presigned));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
