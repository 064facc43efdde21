//! Questions to people: tickets, their answers, and what a yes is good for (M2.6, M3.4).
//!
//! Nothing is held while people think. A yes is good for one payment: whoever waits for it takes it, or else the next identical
//! request; it is written down as used before anything is held, so a crash can lose a yes and never use it twice. What is decided is
//! decided again by the policy in force: a yes lifts questions, and nothing else.

mod mandate;
mod people;
mod state;
#[cfg(test)]
mod tests;
mod ticket;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub use mandate::Mandate;
pub use people::{Bounds, Refused, Word};
pub use ticket::{Asked, Facts, Given, Group, Link, Standing, Ticket, Vote};

use super::Ask;
use crate::journal::Journal;
use crate::payment::{Challenge, MicroUsd, PurchaseId, Reason, Timestamp};
use crate::policy::{Decision, Input, Policy, Question, View};
use state::{Entry, State};

/// How often somebody who waits looks whether the agent still does.
const GLANCE: Duration = Duration::from_millis(200);

/// All tickets and mandates of one ledger.
#[derive(Debug)]
pub struct Approvals {
    state: Mutex<(State, Journal)>,
    /// Counts answers: who waits looks again.
    changed: watch::Sender<u64>,
}

/// A yes that a request may use.
#[derive(Debug)]
pub struct Yes {
    /// The groups that said it.
    pub groups: Vec<Arc<str>>,
    /// The purchase it is for.
    pub purchase: PurchaseId,
    /// What they said it to.
    facts: Facts,
    ticket: Option<Arc<str>>,
    approvals: Arc<Approvals>,
    spent: bool,
}

/// What became of a question.
#[derive(Debug)]
pub enum Answer {
    /// Go on with this.
    Yes(Box<Yes>),
    /// Not, or not yet; the ticket that people can still answer.
    No(Reason, Option<Arc<str>>),
}

impl Approvals {
    /// Opens `approvals.jsonl` in the private state folder.
    ///
    /// # Errors
    /// I/O, or damage; the message names file and line.
    pub fn open(private: &Path, now: Timestamp) -> io::Result<Arc<Self>> {
        let (mut journal, entries) = Journal::open::<Entry>(&private.join("approvals.jsonl"))?;
        let mut state = State::default();
        let lines = entries.len();
        entries.into_iter().for_each(|entry| state.apply(entry));
        state.forget(now);
        let kept = state.entries();
        if kept.len() < lines {
            journal.rewrite(&kept)?;
        }
        Ok(Arc::new(Self { state: Mutex::new((state, journal)), changed: watch::Sender::new(0) }))
    }

    fn lock(&self) -> MutexGuard<'_, (State, Journal)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `entry` down, then makes it so.
    fn record(&self, guard: &mut (State, Journal), entry: Entry) -> io::Result<()> {
        guard.1.append(&entry)?;
        guard.0.apply(entry);
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Puts a question to people and waits for the answer for as long as the policy says, or until the agent leaves. `held` is
    /// the purchase that is to be signed again, if there is one; a new ticket names its own.
    pub async fn ask(
        self: &Arc<Self>,
        question: &Question,
        ask: &Ask,
        held: Option<PurchaseId>,
        policy: &Policy,
        clock: &Clock<'_>,
    ) -> Answer {
        let mut changed = self.changed.subscribe();
        let give_up = tokio::time::Instant::now() + question.hold;
        let mut waiting: Option<Arc<str>> = None;
        loop {
            changed.mark_unchanged();
            if waiting.as_ref().is_some_and(|id| self.ended(id, (clock.now)())) {
                return Answer::No(Reason::ApprovalTimeout, waiting);
            }
            let (reason, id) = match self.look(question, ask, held, policy, (clock.now)()) {
                Ok(answer @ Answer::Yes(_)) => return answer,
                Ok(Answer::No(Reason::ApprovalRequired, id)) => (Reason::ApprovalRequired, id),
                Ok(no) => return no,
                Err(error) => {
                    tracing::error!(%error, "a question could not be put to people");
                    return Answer::No(Reason::LedgerUnavailable, None);
                }
            };
            waiting.clone_from(&id);
            loop {
                let glance = tokio::time::Instant::now() + GLANCE;
                if tokio::time::Instant::now() >= give_up {
                    return Answer::No(reason, id);
                }
                if !(clock.wanted)() {
                    return Answer::No(Reason::AgentLeft, id);
                }
                match tokio::time::timeout_at(glance.min(give_up), changed.changed()).await {
                    Ok(_) => break,
                    Err(_) if id.as_ref().is_some_and(|id| self.ended(id, (clock.now)())) => break,
                    Err(_) => {}
                }
            }
        }
    }

    fn ended(&self, id: &str, now: Timestamp) -> bool {
        self.lock().0.tickets.get(id).is_none_or(|open| open.ticket.expires <= now)
    }

    /// The ticket of this question as it stands: opened if there is none, taken if people said yes.
    fn look(
        self: &Arc<Self>,
        question: &Question,
        ask: &Ask,
        held: Option<PurchaseId>,
        policy: &Policy,
        now: Timestamp,
    ) -> io::Result<Answer> {
        let facts = Facts::of(question, ask);
        let groups = asked_groups(question, policy);
        let key = facts.key(ask, held, &groups);
        let mut guard = self.lock();
        if let Some(id) = guard.0.by_key.get(&key).cloned()
            && let Some(open) = guard.0.tickets.get_mut(&id)
        {
            match open.ticket.standing(now) {
                Standing::Granted if !open.taken => {
                    open.taken = true;
                    let (groups, purchase) = (open.ticket.granted(), open.ticket.purchase);
                    return Ok(Answer::Yes(Box::new(Yes {
                        groups,
                        purchase,
                        facts,
                        ticket: Some(id),
                        approvals: Arc::clone(self),
                        spent: false,
                    })));
                }
                Standing::Granted | Standing::Pending => return Ok(Answer::No(Reason::ApprovalRequired, Some(id))),
                Standing::Denied => return Ok(Answer::No(Reason::ApprovalDenied, Some(id))),
                Standing::Expired | Standing::Used => {}
            }
        }
        if let Some(id) = guard.0.mandates.values().filter(|m| m.covers(&facts, now)).map(|m| Arc::clone(&m.id)).min() {
            return self.use_mandate(&mut guard, id, facts);
        }
        guard.0.forget(now);
        if !guard.0.has_room(&facts.agent, now) {
            return Ok(Answer::No(Reason::Busy, None));
        }
        let purchase = held.unwrap_or_else(|| PurchaseId::from_bytes(rand::random()));
        let ticket = new_ticket(question, purchase, facts, key, groups, now);
        let id = Arc::clone(&ticket.id);
        tracing::info!(ticket = &*id, agent = &*ticket.facts.agent, host = &*ticket.facts.host, "people are asked about a payment");
        self.record(&mut guard, Entry::Opened(Box::new(ticket)))?;
        Ok(Answer::No(Reason::ApprovalRequired, Some(id)))
    }

    fn use_mandate(self: &Arc<Self>, guard: &mut (State, Journal), id: Arc<str>, facts: Facts) -> io::Result<Answer> {
        self.record(guard, Entry::Spent { id: Arc::clone(&id), micro: facts.micro_usd })?;
        let groups = guard.0.mandates.get(&id).map(|m| m.groups.clone()).unwrap_or_default();
        let purchase = PurchaseId::from_bytes(rand::random());
        Ok(Answer::Yes(Box::new(Yes { groups, purchase, facts, ticket: None, approvals: Arc::clone(self), spent: false })))
    }

    /// Tickets that are shown, the oldest first.
    pub fn tickets(&self) -> Vec<Ticket> {
        let mut all: Vec<Ticket> = self.lock().0.tickets.values().map(|open| open.ticket.clone()).collect();
        all.sort_by(|a, b| (a.opened, &a.id).cmp(&(b.opened, &b.id)));
        all
    }

    /// Mandates that were not taken back, by id.
    pub fn mandates(&self) -> Vec<Mandate> {
        let mut all: Vec<Mandate> = self.lock().0.mandates.values().filter(|m| !m.revoked).cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Changes whenever there is something new to be read here.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How many questions people have not answered.
    pub fn pending(&self, now: Timestamp) -> usize {
        self.lock().0.tickets.values().filter(|open| open.ticket.standing(now) == Standing::Pending).count()
    }
}

/// What the waiting looks at.
pub struct Clock<'a> {
    /// Ledger time.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
    /// Whether the agent still waits.
    pub wanted: &'a (dyn Fn() -> bool + Sync),
}

impl Yes {
    /// Whether `question` is still the one that was answered.
    pub(super) fn answers(&self, question: &Question, ask: &Ask) -> bool {
        Facts::of(question, ask) == self.facts
    }

    /// Writes down that the yes is used: before anything is held for it.
    ///
    /// # Errors
    /// I/O: then it must not be used.
    pub fn spend(&mut self) -> io::Result<()> {
        if let Some(id) = self.ticket.as_ref().filter(|_| !self.spent) {
            self.approvals.record(&mut self.approvals.lock(), Entry::Used { id: Arc::clone(id) })?;
        }
        self.spent = true;
        Ok(())
    }
}

impl Drop for Yes {
    /// A yes that was not used is there for the next identical request, and for one that waits already.
    fn drop(&mut self) {
        let Some(id) = self.ticket.as_ref().filter(|_| !self.spent) else { return };
        if let Some(open) = self.approvals.lock().0.tickets.get_mut(id) {
            open.taken = false;
        }
        self.approvals.changed.send_modify(|n| *n += 1);
    }
}

/// What policy says to a challenge if people said `yes`; true if the yes was to this question.
pub(super) fn decide(
    policy: &Policy,
    input: &Input<'_>,
    challenge: &Challenge,
    books: &dyn View,
    yes: Option<&Yes>,
    ask: &Ask,
) -> (Decision, bool) {
    let groups = yes.map_or(&[][..], |yes| &yes.groups);
    policy.decide(input, challenge, books, groups, |question| yes.is_some_and(|yes| yes.answers(question, ask)))
}

fn new_id() -> Arc<str> {
    alloy_primitives::hex::encode(rand::random::<[u8; 16]>()).into()
}

/// The groups that are asked, as the policy has them now.
fn asked_groups(question: &Question, policy: &Policy) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for name in question.asks.iter().flat_map(|a| &a.any_of) {
        if let Some(group) = policy.approver_groups().get(name).filter(|g| groups.iter().all(|known| known.name != g.name)) {
            let second_factor = group.second_factor.map(MicroUsd::micro);
            groups.push(Group { name: Arc::clone(name), quorum: group.quorum, members: group.members.clone(), second_factor });
        }
    }
    groups
}

fn new_ticket(question: &Question, purchase: PurchaseId, facts: Facts, key: [u8; 32], groups: Vec<Group>, now: Timestamp) -> Ticket {
    let lives = i64::try_from(question.timeout.as_millis()).unwrap_or(i64::MAX);
    let (id, expires) = (new_id(), now.plus_millis(lives));
    let (votes, grants, links, told) = Default::default();
    Ticket { id, purchase, key, facts, groups, opened: now, expires, votes, grants, links, told, used: false }
}
