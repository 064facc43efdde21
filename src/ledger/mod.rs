//! State: what was held, signed, sent and settled, durable before anything is signed (M1.5).
//!
//! `books` holds the rules (pure: counters, purchases, adoption); `store` the one writer thread that makes them durable.
//! Types carry the proof: [`Approval`] → [`Reservation`] (drop releases) → [`Commitment`] (drop keeps the
//! amount spent) → [`SignRequest`] → [`Signed`](crate::payment::Signed). Nothing a seller says lowers a hold (M1.3).

mod books;
mod clock;
mod commitment;
mod counters;
mod history;
mod index;
mod lock;
mod posting;
mod purchase;
mod reservation;
mod shared;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;

use clock::Clock;
use index::Found;
use store::{Answer, Change, Failed, Store};

pub use books::Books;
pub use clock::{ClockReading, ClockState};
pub use commitment::{Commitment, DefinitelyUnsigned, SignContext, SignRequest, Unlogged};
pub use purchase::{Likeness, Outcome, Purchase, PurchaseState};
pub use reservation::Reservation;

use crate::payment::{MicroUsd, Payer, PurchaseId, RequestKey, Timestamp};
use crate::policy::{Approval, Policy, Standing, Violation};

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct Options {
    /// The private state folder (`<state>/private`); holds `ledger.db`, `ledger.lock`, `ledger.head`.
    pub dir: PathBuf,
    /// Accept a store on tmpfs or another memory file system (M1.9); for the demo and tests.
    pub ephemeral_ok: bool,
    /// Take the clock as it is although it ran backwards against the ledger (M1.8): ledger time starts again from the wall.
    pub accept_clock: bool,
}

/// What identifies a purchase and its request, beside the approval.
#[derive(Clone, Debug)]
pub struct NewPurchase {
    /// Fresh random id.
    pub id: PurchaseId,
    /// The request key (M1.1).
    pub key: RequestKey,
    /// The other headers, for choosing among orphans.
    pub likeness: Likeness,
    /// The account that pays.
    pub payer: Payer,
    /// The seller's host as connected to.
    pub host: String,
    /// Request method.
    pub method: String,
    /// validAfter, unix seconds, by the wire protocol.
    pub valid_after: u64,
}

/// What the ledger says about a request that was challenged (M1.1, M1.6).
#[derive(Debug)]
pub enum Claim {
    /// No orphan: buy.
    New,
    /// An orphan without a running exchange; it is now ours.
    Adopted(Commitment),
    /// An orphan whose exchange still runs; attach to it.
    Join(PurchaseId),
    /// Paid and lost: refused until then.
    Lost {
        /// When it may be bought anew.
        until: Timestamp,
        /// What was paid.
        price: MicroUsd,
    },
}

/// What [`Ledger::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// No such purchase.
    Unknown,
    /// Its hold is on its way to the disk for somebody else.
    Busy,
    /// Ours now.
    Known(Box<Commitment>),
}

/// Why nothing was held.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Policy changed or a counter that was read no longer fits: decide again (M3.4 step 4).
    #[error("the decision is stale")]
    Stale(Option<Violation>),
    /// The clock is unsure (M1.8).
    #[error("the clock is unsure")]
    ClockUnsure,
    /// The store failed; nothing can be held.
    #[error("the ledger is unavailable")]
    Unavailable,
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock (M1.9).
    #[error("another process holds {0}: stop it first, or give this one its own `state` folder")]
    Locked(PathBuf),
    /// tmpfs, ramfs or overlay without persistence (M1.9).
    #[error("{0} is on a memory file system, where a restart forgets what was spent: use a disk, or set `ledger: {{ ephemeral: accept }}`")]
    Ephemeral(PathBuf),
    /// The store is older than the last one seen (M1.9).
    #[error(
        "{path} ends at {found} but {seen} was seen before: it was restored from a backup, so what it forgot could be paid twice; restore the newest copy"
    )]
    Rollback {
        /// The database.
        path: PathBuf,
        /// Sequence in it.
        found: u64,
        /// Sequence last seen.
        seen: u64,
    },
    /// Written by a version this one does not know.
    #[error("{path} has schema version {found}, this program knows {known}: use the version of tollpass that wrote it")]
    Schema {
        /// The database.
        path: PathBuf,
        /// Version in it.
        found: i64,
        /// Version we write.
        known: i64,
    },
    /// SQLite said no.
    #[error("cannot use the ledger {path}")]
    Store {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The ledger of one process: books in memory, one durable writer behind them. Cheap to clone.
///
/// When the last clone, [`Reservation`] and [`Commitment`] are gone, what is queued is written and the lock falls.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

/// What every clone, reservation and commitment shares. Fields drop in this order: the lock falls after the last write.
pub(crate) struct Shared {
    store: Store,
    state: Arc<Mutex<State>>,
    _lock: File,
}

/// What the one lock of a ledger guards. Never held across an await.
#[derive(Debug)]
pub(crate) struct State {
    books: Books,
    clock: Clock,
}

impl Shared {
    /// A panic under the lock can only come from a reader's closure, which changes nothing: the books stay whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("available", &self.available()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens or creates the store, takes the lock and replays it into the books. Blocking.
    ///
    /// # Errors
    /// [`OpenError`]; each names the file and the way out.
    pub fn open(options: &Options, clock: ClockReading) -> Result<Self, OpenError> {
        if !options.ephemeral_ok {
            lock::refuse_memory(&options.dir)?;
        }
        let lock = lock::take(&options.dir)?;
        let (opened, loaded) = store::open(&options.dir)?;
        let clock = Clock::open(loaded.last, clock, options.accept_clock);
        let state = Arc::new(Mutex::new(State { books: loaded.books, clock }));
        let store = Store::start(opened, Arc::clone(&state));
        let store = store.map_err(|e| OpenError::Store { path: options.dir.clone(), source: e.into() })?;
        Ok(Self { shared: Arc::new(Shared { store, state, _lock: lock }) })
    }

    /// Ledger time for a wall-clock reading: max(wall, last recorded), and whether the clock can be trusted (M1.8).
    pub fn clock(&self, reading: ClockReading) -> ClockState {
        self.shared.state().clock.read(reading)
    }

    /// An operator vouches for this reading although the clock jumped (M1.8).
    pub fn accept_clock(&self, reading: ClockReading) {
        self.shared.state().clock.accept(reading);
    }

    /// Reads the books under their lock. Keep it short, and do not call the ledger from inside.
    pub fn read<R>(&self, f: impl FnOnce(&Books) -> R) -> R {
        f(&self.shared.state().books)
    }

    /// From now on only approvals of this policy are held, and the lists of agents that it counts together are counted (M2.2).
    pub fn follow(&self, policy: &Policy) {
        self.shared.state().books.follow(policy.epoch(), policy.members());
    }

    /// [`Self::follow`] of a policy without lists.
    #[cfg(test)]
    pub(crate) fn set_epoch(&self, epoch: u64) {
        self.shared.state().books.follow(epoch, []);
    }

    /// What is stopped from now on: decisions and holds see it at once (M2.2).
    pub fn set_standing(&self, standing: Arc<Standing>) {
        self.shared.state().books.set_standing(standing);
    }

    /// Finds an orphan of `key` and makes it ours, one to one; most equal headers first, then the oldest (M1.1).
    pub fn claim(&self, key: &RequestKey, likeness: &Likeness, now: Timestamp) -> Claim {
        let found = self.shared.state().books.index().claim(key, likeness, now);
        match found {
            Found::New => Claim::New,
            Found::Join(id) => Claim::Join(id),
            Found::Lost { until, price } => Claim::Lost { until, price },
            Found::Adopted { id, owner } => Commitment::adopt(&self.shared, id, owner, now).map_or(Claim::New, Claim::Adopted),
        }
    }

    /// The waiter of a joined exchange went away (M1.1): the purchase is an orphan again.
    pub fn waiter_gone(&self, id: &PurchaseId) {
        if let Some(live) = self.shared.state().books.index().get_mut(id) {
            live.waiter = false;
        }
    }

    /// Holds the approved amount against every counter it touches, in memory, all or nothing (M2.5).
    ///
    /// # Errors
    /// [`ReserveError::Stale`] if the policy epoch or a counter changed so that the approval no longer holds.
    pub fn reserve(&self, approval: Approval, purchase: NewPurchase, now: Timestamp) -> Result<Reservation, ReserveError> {
        Reservation::new(&self.shared, &approval, purchase, now)
    }

    /// Waits until everything queued so far is durable: for drain.
    ///
    /// # Errors
    /// [`ReserveError::Unavailable`] if the store failed.
    pub async fn flush(&self) -> Result<(), ReserveError> {
        durable(self.shared.store.submit(None).ok_or(ReserveError::Unavailable)?).await
    }

    /// The sequence of the last durable change: it only grows, and a smaller one than a peer has seen is a rollback (S2).
    pub fn head(&self) -> u64 {
        self.shared.store.head()
    }

    /// Takes a known purchase to sign it again, on a co-signer: whoever took it before loses it, and what it holds stays held.
    pub fn take(&self, id: &PurchaseId, now: Timestamp) -> Taken {
        let owner = {
            let mut state = self.shared.state();
            let Some(live) = state.books.index().get_mut(id) else { return Taken::Unknown };
            if live.writing {
                return Taken::Busy;
            }
            (live.owner, live.exchange, live.waiter) = (live.owner + 1, true, true);
            live.owner
        };
        Commitment::adopt(&self.shared, *id, owner, now).map_or(Taken::Unknown, |c| Taken::Known(Box::new(c)))
    }

    /// Records what somebody says of an outcome, for tables and logs. Nothing held changes. Queued, not waited for.
    pub fn remark(&self, id: &PurchaseId, outcome: Outcome) {
        let mut state = self.shared.state();
        let Some(live) = state.books.index().get_mut(id).filter(|live| !live.writing) else { return };
        live.edit().conclude(outcome, None);
        let change = Change::Status { num: live.num, purchase: Arc::clone(&live.purchase), pin: None };
        drop(state);
        self.shared.store.queue(change);
    }

    /// True while the store accepts writes.
    pub fn available(&self) -> bool {
        self.shared.store.available()
    }

    /// Reads all purchases of a ledger without taking the lock: for `ledger show` beside a running proxy.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn list(dir: &Path) -> Result<Vec<Purchase>, OpenError> {
        store::list(dir)
    }
}

/// Waits for the writer's answer; one that never comes is a failure.
async fn durable(answer: Answer) -> Result<(), ReserveError> {
    match answer.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failed)) | Err(_) => Err(ReserveError::Unavailable),
    }
}

/// 32-byte digest of what was signed.
pub type Digest = B256;
