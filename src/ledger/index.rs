//! Purchases that may still be delivered, and who may take one over (M1.1).
//!
//! An *orphan* is a purchase whose waiter is gone or got an error. Its exchange may still run: then a claim joins it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::posting::Posting;
use super::{Likeness, Purchase, PurchaseState};
use crate::payment::{MicroUsd, PurchaseId, RequestKey, Timestamp};

/// A purchase that is neither consumed nor void.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) purchase: Arc<Purchase>,
    /// Row in the store, counted up: of two with the same instant the lower is older.
    pub(super) num: i64,
    /// What this process posted for it; empty after a restart, when nothing can be void any more (M1.5).
    pub(super) postings: Vec<Posting>,
    /// A hold or raise is on its way to the disk: nobody may sign yet, so nobody may adopt.
    pub(super) writing: bool,
    /// Somebody waits for the answer.
    pub(super) waiter: bool,
    /// An exchange runs that will end with an answer or an outcome.
    pub(super) exchange: bool,
    /// Counts the owners; only the latest one's word counts.
    pub(super) owner: u64,
}

/// What a claim found.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing to take over.
    New,
    /// Ours now, under this owner number.
    Adopted { id: PurchaseId, owner: u64 },
    /// Its exchange runs and has us as the waiter now.
    Join(PurchaseId),
    /// Paid and lost.
    Lost { until: Timestamp, price: MicroUsd },
}

/// Live purchases by id and by request key.
#[derive(Debug, Default)]
pub(super) struct Index {
    live: HashMap<PurchaseId, Live>,
    by_key: HashMap<RequestKey, Vec<PurchaseId>>,
    next: i64,
}

impl Index {
    /// Adds a purchase; `None` if its id is taken, which fresh random ids never are.
    pub(super) fn insert(&mut self, live: Live) -> Option<()> {
        let (id, key) = (live.purchase.id, live.purchase.key);
        if self.live.contains_key(&id) {
            return None;
        }
        self.next = self.next.max(live.num + 1);
        self.by_key.entry(key).or_default().push(id);
        self.live.insert(id, live);
        Some(())
    }

    /// The next free row number.
    pub(super) const fn number(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    /// Row numbers below `next` are taken.
    pub(super) fn start_at(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    pub(super) fn get(&self, id: &PurchaseId) -> Option<&Live> {
        self.live.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &PurchaseId) -> Option<&mut Live> {
        self.live.get_mut(id)
    }

    /// The purchase, if `owner` is its latest owner.
    pub(super) fn owned(&mut self, id: &PurchaseId, owner: u64) -> Option<&mut Live> {
        self.live.get_mut(id).filter(|live| live.owner == owner)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }

    pub(super) fn remove(&mut self, id: &PurchaseId) -> Option<Live> {
        let live = self.live.remove(id)?;
        let key = live.purchase.key;
        if let Some(ids) = self.by_key.get_mut(&key) {
            ids.retain(|i| i != id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
        Some(live)
    }

    /// Takes over an orphan of `key`, one to one: most equal headers first, then the oldest (M1.1).
    pub(super) fn claim(&mut self, key: &RequestKey, likeness: &Likeness, now: Timestamp) -> Found {
        let Some(ids) = self.by_key.get(key) else { return Found::New };
        let all = || ids.iter().filter_map(|id| self.live.get(id));
        let rank = |l: &&Live| (Reverse(l.purchase.likeness.in_common(likeness)), l.purchase.at, l.num);
        let Some(id) = all().filter(|l| l.is_orphan()).min_by_key(rank).map(|l| l.purchase.id) else {
            let lost = all().filter_map(|l| Some((l.purchase.lost_until?, l.purchase.held))).filter(|(until, _)| *until > now).max();
            return lost.map_or(Found::New, |(until, price)| Found::Lost { until, price });
        };
        let Some(live) = self.live.get_mut(&id) else { return Found::New };
        live.waiter = true;
        if live.exchange {
            return Found::Join(id);
        }
        live.exchange = true;
        live.owner += 1;
        Found::Adopted { id, owner: live.owner }
    }
}

impl Live {
    /// The purchase, to be changed in place of the shared copy.
    pub(super) fn edit(&mut self) -> &mut Purchase {
        Arc::make_mut(&mut self.purchase)
    }

    /// One that is still being written can be joined by who waits for its exchange.
    fn is_orphan(&self) -> bool {
        !self.waiter && (self.exchange || !self.writing) && self.purchase.state != PurchaseState::Lost
    }
}

impl Likeness {
    /// How many entries two sorted lists share.
    fn in_common(&self, other: &Self) -> usize {
        let (mut a, mut b, mut common) = (0, 0, 0);
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            common += usize::from(x == y);
            a += usize::from(x <= y);
            b += usize::from(y <= x);
        }
        common
    }
}
