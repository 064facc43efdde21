//! What is remembered of questions and answers, and the lines of its journal. Pure: the caller writes the line first.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::mandate::Mandate;
use super::ticket::{Given, Link, Standing, Ticket, Vote};
use crate::payment::Timestamp;

/// Tickets that may be open at once, and of one agent.
pub(super) const MAX_OPEN: usize = 1_000;
pub(super) const MAX_OPEN_OF_AGENT: usize = 100;

/// How long an ended ticket is still shown, ms.
const KEPT: i64 = 3_600_000;

/// One line of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    Opened(Box<Ticket>),
    Voted {
        id: Arc<str>,
        vote: Vote,
        /// The link that led there, by its hash: it is used up by the same line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<[u8; 32]>,
    },
    Signed {
        id: Arc<str>,
        given: Given,
    },
    Linked {
        id: Arc<str>,
        link: Link,
    },
    Told {
        id: Arc<str>,
        notice: Arc<str>,
    },
    Used {
        id: Arc<str>,
    },
    Mandated(Box<Mandate>),
    Spent {
        id: Arc<str>,
        micro: i64,
    },
    Revoked {
        id: Arc<str>,
    },
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tickets: HashMap<Arc<str>, Open>,
    pub(super) by_key: HashMap<[u8; 32], Arc<str>>,
    pub(super) mandates: HashMap<Arc<str>, Mandate>,
    /// The latest time step of each person whose code was taken: that code and older ones are used up.
    pub(super) steps: HashMap<Arc<str>, u64>,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) ticket: Ticket,
    /// A request is about to use the yes.
    pub(super) taken: bool,
}

impl State {
    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Opened(ticket) => {
                ticket.votes.iter().for_each(|vote| self.step(&vote.who, vote.step));
                self.by_key.insert(ticket.key, Arc::clone(&ticket.id));
                self.tickets.insert(Arc::clone(&ticket.id), Open { ticket: *ticket, taken: false });
            }
            Entry::Voted { id, vote, link } => {
                self.step(&vote.who, vote.step);
                self.change(&id, |ticket| ticket.vote(vote, link));
            }
            Entry::Signed { id, given } => self.change(&id, |ticket| ticket.give(given)),
            Entry::Linked { id, link } => self.change(&id, |ticket| ticket.links.push(link)),
            Entry::Told { id, notice } => self.change(&id, |ticket| ticket.told.push(notice)),
            Entry::Used { id } => self.change(&id, |ticket| ticket.used = true),
            Entry::Mandated(mandate) => {
                self.step(&mandate.by, mandate.step);
                self.mandates.insert(Arc::clone(&mandate.id), *mandate);
            }
            Entry::Spent { id, micro } => {
                if let Some(mandate) = self.mandates.get_mut(&id) {
                    mandate.used = mandate.used.saturating_add(micro);
                }
            }
            Entry::Revoked { id } => {
                if let Some(mandate) = self.mandates.get_mut(&id) {
                    mandate.revoked = true;
                }
            }
        }
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Ticket)) {
        if let Some(open) = self.tickets.get_mut(id) {
            change(&mut open.ticket);
        }
    }

    fn step(&mut self, who: &Arc<str>, step: Option<u64>) {
        let Some(step) = step else { return };
        let last = self.steps.entry(Arc::clone(who)).or_default();
        *last = step.max(*last);
    }

    /// Forgets what ended an hour ago.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.tickets.retain(|_, open| open.taken || now.millis() - open.ticket.expires.millis() < KEPT);
        let tickets = &self.tickets;
        self.by_key.retain(|_, id| tickets.contains_key(id));
        self.mandates.retain(|_, m| !m.revoked && now.millis() - m.until.millis() < KEPT);
    }

    /// What a rewritten journal says: everything as it stands.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut tickets: Vec<&Ticket> = self.tickets.values().map(|open| &open.ticket).collect();
        // The latest ticket of a key is the one that counts.
        tickets.sort_by_key(|t| t.opened);
        let mandates = self.mandates.values().map(|m| Entry::Mandated(Box::new(m.clone())));
        tickets.into_iter().map(|t| Entry::Opened(Box::new(t.clone()))).chain(mandates).collect()
    }

    pub(super) fn has_room(&self, agent: &str, now: Timestamp) -> bool {
        let ended = |t: &Ticket| matches!(t.standing(now), Standing::Used | Standing::Expired);
        let open = || self.tickets.values().filter(|open| !ended(&open.ticket));
        open().count() < MAX_OPEN && open().filter(|open| *open.ticket.facts.agent == *agent).count() < MAX_OPEN_OF_AGENT
    }
}
