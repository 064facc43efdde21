//! What people say, and what they are told.

use std::io;
use std::sync::Arc;

use super::state::{Entry, Open};
use super::ticket::{Given, Link, Standing, Ticket, Vote};
use super::{Approvals, Mandate, new_id};
use crate::payment::{PurchaseId, Timestamp};

/// Longest that all grants of one ticket are together, bytes: what a co-signer reads.
pub(super) const MAX_GRANT: usize = 4 << 10;

/// A code that came with a yes is good for a mandate made from it, this long, ms: one code, one question.
const CODE_COUNTS: i64 = 120_000;

/// Links to one ticket that are kept: each notice carries one, and a receiver that fails gets it again after a restart.
const MAX_LINKS: usize = 100;

/// Why an operator's word changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such ticket or mandate.
    #[error("there is none with this id")]
    Unknown,
    /// It has ended, or was used.
    #[error("it is {0:?} and cannot be decided any more")]
    Ended(Standing),
    /// The voter belongs to no group that is asked.
    #[error("`{0}` belongs to no group that is asked; see `members` under `approvers`")]
    NotAsked(Arc<str>),
    /// Its amount asks for a second factor, and there was none.
    #[error("this amount needs a code of `{0}` too: see `second_factor` under `approvers`")]
    CodeNeeded(Arc<str>),
    /// The code was used before.
    #[error("this code was used before: wait for the next one")]
    CodeUsed,
    /// The link has ended, or somebody decided through it.
    #[error("this link has ended or was used")]
    Link,
    /// Only a ticket that was granted or is pending can be remembered, and within bounds.
    #[error("{0}")]
    Bounds(String),
    /// The journal cannot be written.
    #[error("the journal of approvals cannot be written")]
    Journal(#[from] io::Error),
}

/// What one person says, as far as it was proven.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// Who; proven by a token, or by the socket.
    pub who: &'a Arc<str>,
    /// Yes or no.
    pub yes: bool,
    /// The time step of a code of theirs that was right.
    pub step: Option<u64>,
    /// The link that led there, by its hash.
    pub link: Option<[u8; 32]>,
}

/// The bounds of a mandate.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Per payment, micro-USD.
    pub max: i64,
    /// In all, micro-USD.
    pub total: i64,
    /// Until then.
    pub until: Timestamp,
}

/// Passes a ticket that can still be decided.
fn open(open: &Open, now: Timestamp) -> Result<&Ticket, Refused> {
    match open.ticket.standing(now) {
        Standing::Pending | Standing::Granted if !open.taken => Ok(&open.ticket),
        ended => Err(Refused::Ended(ended)),
    }
}

impl Approvals {
    /// What somebody says about ticket `id`. Through a link they decide once: the same journal line uses the link up (S18).
    ///
    /// # Errors
    /// [`Refused`]; nothing changed then.
    pub fn vote(&self, id: &str, word: Word<'_>, now: Timestamp) -> Result<Ticket, Refused> {
        let mut guard = self.lock();
        let state = &guard.0;
        let known = state.tickets.get(id).ok_or(Refused::Unknown)?;
        let live = |hash| known.ticket.links.iter().any(|link| link.hash == hash && !link.used && now < link.until);
        if word.link.is_some_and(|hash| !live(hash)) {
            return Err(Refused::Link);
        }
        let ticket = open(known, now)?;
        if !ticket.concerns(word.who) {
            return Err(Refused::NotAsked(Arc::clone(word.who)));
        }
        if word.yes && word.step.is_none() && ticket.needs_code(word.who, ticket.facts.micro_usd) {
            return Err(Refused::CodeNeeded(Arc::clone(word.who)));
        }
        if word.step.is_some_and(|step| state.steps.get(word.who).is_some_and(|last| step <= *last)) {
            return Err(Refused::CodeUsed);
        }
        let id = Arc::clone(&ticket.id);
        let vote = Vote { who: Arc::clone(word.who), yes: word.yes, at: now, step: word.step };
        self.record(&mut guard, Entry::Voted { id: Arc::clone(&id), vote, link: word.link })?;
        guard.0.tickets.get(&id).map(|open| open.ticket.clone()).ok_or(Refused::Unknown)
    }

    /// Keeps a signed grant that `who` brought with ticket `id`. It is no vote: here the ticket's people decide, and at the
    /// co-signer the grants (S5). The latest one of each person counts.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed then.
    pub fn attach(&self, id: &str, who: &Arc<str>, grant: Vec<u8>, now: Timestamp) -> Result<Ticket, Refused> {
        let mut guard = self.lock();
        let ticket = open(guard.0.tickets.get(id).ok_or(Refused::Unknown)?, now)?;
        if !ticket.concerns(who) {
            return Err(Refused::NotAsked(Arc::clone(who)));
        }
        let others: usize = ticket.grants.iter().filter(|given| given.who != *who).map(|given| given.grant.len()).sum();
        if grant.is_empty() || grant.len().saturating_add(others) > MAX_GRANT {
            return Err(Refused::Bounds(format!("the grants of one question have 1 to {MAX_GRANT} bytes together")));
        }
        let (id, given) = (Arc::clone(&ticket.id), Given { who: Arc::clone(who), grant });
        self.record(&mut guard, Entry::Signed { id: Arc::clone(&id), given })?;
        guard.0.tickets.get(&id).map(|open| open.ticket.clone()).ok_or(Refused::Unknown)
    }

    /// The grants for `purchase`, one after another, if approvers signed some: sent with each of its signatures, also after a
    /// restart.
    pub fn grant(&self, purchase: &PurchaseId) -> Option<Vec<u8>> {
        let guard = self.lock();
        let open = guard.0.tickets.values().find(|open| open.ticket.purchase == *purchase)?;
        let all: Vec<u8> = open.ticket.grants.iter().flat_map(|given| given.grant.iter().copied()).collect();
        (!all.is_empty()).then_some(all)
    }

    /// A yes for later questions like that of ticket `id`, for the groups that have said yes to it. `step` is that of a right
    /// code; the one that came with `who`'s own yes to this ticket a moment ago may be shown again.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn remember(&self, id: &str, who: &Arc<str>, step: Option<u64>, bounds: Bounds, now: Timestamp) -> Result<Mandate, Refused> {
        let mut guard = self.lock();
        let ticket = &guard.0.tickets.get(id).ok_or(Refused::Unknown)?.ticket;
        // Where it stands, not who said yes: a no that came after the quorum, or the end of the time, took the yes back.
        match ticket.standing(now) {
            Standing::Granted | Standing::Used => {}
            Standing::Pending => return Err(Refused::Bounds("only what was approved can be remembered: approve it first".into())),
            ended @ (Standing::Denied | Standing::Expired) => return Err(Refused::Ended(ended)),
        }
        if bounds.max <= 0 || bounds.total < bounds.max || bounds.until <= now {
            return Err(Refused::Bounds(
                "a mandate has a `max` above zero, a `total` of at least `max`, and an `until` that is to come".into(),
            ));
        }
        // Shown again, not taken for granted: a stolen token is not to ride on the code that its owner gave a moment ago.
        if step.is_none() && ticket.needs_code(who, bounds.total) {
            return Err(Refused::CodeNeeded(Arc::clone(who)));
        }
        let fresh = |vote: &Vote| vote.yes && now.millis() - vote.at.millis() < CODE_COUNTS;
        let own = |step| ticket.votes.iter().any(|vote| vote.who == *who && vote.step == Some(step) && fresh(vote));
        if step.is_some_and(|step| !own(step) && guard.0.steps.get(who).is_some_and(|last| step <= *last)) {
            return Err(Refused::CodeUsed);
        }
        let facts = &ticket.facts;
        let mandate = Mandate {
            id: new_id(),
            by: Arc::clone(who),
            agent: Arc::clone(&facts.agent),
            host: Arc::clone(&facts.host),
            payee: Arc::clone(&facts.payee),
            groups: ticket.granted(),
            rules: facts.asks.iter().map(|a| Arc::clone(&a.rule)).collect(),
            max: bounds.max,
            total: bounds.total,
            until: bounds.until,
            used: 0,
            revoked: false,
            step,
        };
        self.record(&mut guard, Entry::Mandated(Box::new(mandate.clone())))?;
        Ok(mandate)
    }

    /// Takes a mandate back.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn revoke(&self, id: &str) -> Result<(), Refused> {
        let mut guard = self.lock();
        let id = guard.0.mandates.get(id).map(|m| Arc::clone(&m.id)).ok_or(Refused::Unknown)?;
        Ok(self.record(&mut guard, Entry::Revoked { id })?)
    }

    /// A link to ticket `id` goes out.
    ///
    /// # Errors
    /// [`Refused`]; it must not go out then.
    pub fn link(&self, id: &str, hash: [u8; 32], until: Timestamp) -> Result<(), Refused> {
        let mut guard = self.lock();
        let ticket = &guard.0.tickets.get(id).ok_or(Refused::Unknown)?.ticket;
        if ticket.links.len() >= MAX_LINKS {
            return Err(Refused::Bounds("too many links to this question were sent".into()));
        }
        let (id, link) = (Arc::clone(&ticket.id), Link { hash, until, used: false });
        Ok(self.record(&mut guard, Entry::Linked { id, link })?)
    }

    /// The ticket that the link with this hash leads to, and the link.
    pub fn linked(&self, hash: &[u8; 32]) -> Option<(Ticket, Link)> {
        let guard = self.lock();
        guard.0.tickets.values().find_map(|open| {
            let link = open.ticket.links.iter().find(|link| link.hash == *hash)?;
            Some((open.ticket.clone(), link.clone()))
        })
    }

    /// Notice `notice` about ticket `id` has arrived and is not sent again.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn told(&self, id: &str, notice: &Arc<str>) -> Result<(), Refused> {
        let mut guard = self.lock();
        let id = guard.0.tickets.get(id).map(|open| Arc::clone(&open.ticket.id)).ok_or(Refused::Unknown)?;
        Ok(self.record(&mut guard, Entry::Told { id, notice: Arc::clone(notice) })?)
    }
}
