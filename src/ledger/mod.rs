//! State: what was held, signed, sent and settled, durable before anything is signed (M1.5).
//!
//! [`books`] holds the rules (pure: counters, purchases, adoption); [`store`] the one writer thread that makes them durable.
//! Types carry the proof: [`Approval`](crate::policy::Approval) → [`Reservation`] (drop releases) → [`Commitment`] (drop keeps the
//! amount spent) → [`SignRequest`] → [`Signed`](crate::payment::Signed). Nothing a seller says lowers a hold (M1.3).

mod books;
mod clock;
mod commitment;
mod lock;
mod purchase;
mod store;

use std::path::PathBuf;

use alloy_primitives::B256;

pub use books::Books;
pub use clock::{ClockReading, ClockState};
pub use commitment::{Commitment, DefinitelyUnsigned, Reservation, SignContext, SignRequest};
pub use purchase::{Likeness, Outcome, Purchase, PurchaseState};

use crate::payment::{MicroUsd, Payer, PurchaseId, RequestKey, Timestamp};
use crate::policy::{Approval, Violation};

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct Options {
    /// The private state folder (`<state>/private`); holds `ledger.db`, `ledger.lock`, `ledger.head`.
    pub dir: PathBuf,
    /// Accept a store on tmpfs or another memory file system (M1.9); for the demo and tests.
    pub ephemeral_ok: bool,
    /// Take the clock as it is although it ran backwards against the ledger (M1.8).
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
    #[error("{path} ends at {found} but {seen} was seen before: it was restored from a backup, so what it forgot could be paid twice; restore the newest copy")]
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
#[derive(Clone, Debug)]
pub struct Ledger {}

impl Ledger {
    /// Opens or creates the store, takes the lock and replays it into the books. Blocking.
    ///
    /// # Errors
    /// [`OpenError`]; each names the file and the way out.
    pub fn open(options: &Options, clock: ClockReading) -> Result<Self, OpenError> {
        let _ = (options, clock);
        unimplemented!("helper")
    }

    /// Ledger time for a wall-clock reading: max(wall, last recorded), and whether the clock can be trusted (M1.8).
    pub fn clock(&self, reading: ClockReading) -> ClockState {
        let _ = reading;
        unimplemented!("helper")
    }

    /// Reads the books under their lock. Keep it short.
    pub fn read<R>(&self, f: impl FnOnce(&Books) -> R) -> R {
        let _ = f;
        unimplemented!("helper")
    }

    /// From now on only approvals of this policy epoch are held (M2.2).
    pub fn set_epoch(&self, epoch: u64) {
        let _ = epoch;
        unimplemented!("helper")
    }

    /// Finds an orphan of `key` and makes it ours, one to one; most equal headers first, then the oldest (M1.1).
    pub fn claim(&self, key: &RequestKey, likeness: &Likeness, now: Timestamp) -> Claim {
        let _ = (key, likeness, now);
        unimplemented!("helper")
    }

    /// The waiter of a joined exchange went away (M1.1): the purchase is an orphan again.
    pub fn waiter_gone(&self, id: &PurchaseId) {
        let _ = id;
        unimplemented!("helper")
    }

    /// Holds the approved amount against every counter it touches, in memory, all or nothing (M2.5).
    ///
    /// # Errors
    /// [`ReserveError::Stale`] if the policy epoch or a counter changed so that the approval no longer holds.
    pub fn reserve(&self, approval: Approval, purchase: NewPurchase, now: Timestamp) -> Result<Reservation, ReserveError> {
        let _ = (approval, purchase, now);
        unimplemented!("helper")
    }

    /// Waits until everything queued so far is durable: for drain.
    ///
    /// # Errors
    /// [`ReserveError::Unavailable`] if the store failed.
    pub async fn flush(&self) -> Result<(), ReserveError> {
        unimplemented!("helper")
    }

    /// True while the store accepts writes.
    pub fn available(&self) -> bool {
        unimplemented!("helper")
    }

    /// Reads all purchases of a ledger without taking the lock: for `ledger show` beside a running proxy.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn list(dir: &std::path::Path) -> Result<Vec<Purchase>, OpenError> {
        let _ = dir;
        unimplemented!("helper")
    }
}

/// 32-byte digest of what was signed.
pub type Digest = B256;
