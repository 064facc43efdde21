//! What a decision reads of the books, noted while it reads: whichever rule asks, it asks through this view.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;

use alloy_primitives::Address;
use http::Method;
use sha2::{Digest as _, Sha256};

use super::row::Read;
use crate::payment::{AgentId, ChainId, MicroUsd, Reason, Timestamp};
use crate::policy::{History, Host, RuleId, Scope, Span, Standing, View};

/// The books, with a witness of every question and its answer.
pub struct Witness<'a> {
    books: &'a dyn View,
    seen: RefCell<Seen>,
}

/// Questions and answers, in their order.
#[derive(Debug, Default)]
pub struct Seen {
    spent: Vec<(Scope, Span, MicroUsd)>,
    made: Vec<(Scope, Span, u32)>,
    nth: Vec<(Scope, Span, u32, Option<Timestamp>)>,
    pins: Vec<(RuleId, ChainId, Option<Address>)>,
    history: Vec<(RuleId, History)>,
    stopped: Option<Reason>,
}

impl<'a> Witness<'a> {
    /// Of these books.
    pub fn new(books: &'a dyn View) -> Self {
        Self { books, seen: RefCell::default() }
    }

    /// What was read, and the gate that is closed for `agent` at `host`.
    pub fn testify(self, agent: &AgentId, host: &Host) -> Seen {
        let stopped = self.books.standing().closed(agent, host);
        Seen { stopped, ..self.seen.into_inner() }
    }
}

impl View for Witness<'_> {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        let value = self.books.spent(scope, span);
        self.seen.borrow_mut().spent.push((scope.clone(), span, value));
        value
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        let value = self.books.commitments(scope, span);
        self.seen.borrow_mut().made.push((scope.clone(), span, value));
        value
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        let value = self.books.nth_commitment(scope, span, n);
        self.seen.borrow_mut().nth.push((scope.clone(), span, n, value));
        value
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        let value = self.books.pin(agent, entry, host, chain);
        self.seen.borrow_mut().pins.push((entry.clone(), chain, value));
        value
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        let value = self.books.history(agent, entry, host, method, now);
        self.seen.borrow_mut().history.push((entry.clone(), value));
        value
    }

    fn standing(&self) -> &Standing {
        self.books.standing()
    }
}

impl Seen {
    /// As a line has it: each question once.
    pub(super) fn to_read(&self) -> Read {
        Read {
            stopped: self.stopped.map(|reason| reason.as_str().to_owned()),
            spent: once(&self.spent, |(scope, span, _)| (scope, *span))
                .map(|(scope, span, value)| (counter(scope), span.from.millis(), span.until.millis(), value.micro()))
                .collect(),
            made: once(&self.made, |(scope, span, _)| (scope, *span))
                .map(|(scope, span, value)| (counter(scope), span.from.millis(), span.until.millis(), *value))
                .collect(),
            nth: once(&self.nth, |(scope, span, n, _)| (scope, *span, *n))
                .map(|(scope, span, n, at)| (counter(scope), span.from.millis(), span.until.millis(), *n, at.map(Timestamp::millis)))
                .collect(),
            pins: once(&self.pins, |(entry, chain, _)| (entry, *chain))
                .map(|(entry, chain, payee)| (entry.to_string(), chain.to_string(), payee.map(|p| format!("{p:#x}"))))
                .collect(),
            history: once(&self.history, |(entry, _)| entry)
                .map(|(entry, h)| (entry.to_string(), h.count, h.median.micro(), h.last.micro(), h.first.map(MicroUsd::micro)))
                .collect(),
        }
    }
}

/// The first of each key, in order. Under one lock the books give one answer to one question.
fn once<'a, T, K: Eq + Hash>(all: &'a [T], key: impl Fn(&'a T) -> K) -> impl Iterator<Item = &'a T> {
    let mut known = HashSet::new();
    all.iter().filter(move |item| known.insert(key(item)))
}

/// The name of a counter in a line. A list of agents is named by its digest, as two lists of the same agents are one counter.
pub fn counter(scope: &Scope) -> String {
    match scope {
        Scope::Agent(agent) => format!("agent {agent}"),
        Scope::Entry(agent, entry) => format!("entry {agent} {entry}"),
        Scope::Host(agent, host) => format!("host {agent} {host}"),
        Scope::AgentPayee(agent, payee) => format!("payee {agent} {:#x}", payee.0),
        Scope::Session(agent, session) => format!("session {agent} {}", session.as_str()),
        Scope::Shared(members, customer) => {
            let list = members.listed().map_or_else(
                || "all".to_owned(),
                |agents| {
                    let mut hash = Sha256::new();
                    agents.iter().for_each(|agent| hash.update(format!("{agent}\n")));
                    alloy_primitives::hex::encode(&hash.finalize()[..8])
                },
            );
            customer.as_ref().map_or_else(|| format!("shared {list}"), |customer| format!("shared {list} for {customer}"))
        }
        Scope::Wallet(payer) => format!("wallet {:#x}", payer.0),
        Scope::Payee(payee) => format!("paid {:#x}", payee.0),
        Scope::Identity(name) => format!("identity {name}"),
        Scope::Unverified => "unverified".to_owned(),
    }
}

impl Read {
    /// What was read of this counter, if it was.
    pub fn spent(&self, scope: &Scope, span: Span) -> Option<MicroUsd> {
        if self.spent.is_empty() {
            return None;
        }
        let name = counter(scope);
        let found = self.spent.iter().find(|(n, from, until, _)| *n == name && is(span, *from, *until));
        found.map(|(.., value)| MicroUsd::new(*value))
    }

    /// How many commitments were read.
    pub fn made(&self, scope: &Scope, span: Span) -> Option<u32> {
        if self.made.is_empty() {
            return None;
        }
        let name = counter(scope);
        self.made.iter().find(|(n, from, until, _)| *n == name && is(span, *from, *until)).map(|(.., value)| *value)
    }

    /// When the `n`-th was made, if that was read.
    pub fn nth(&self, scope: &Scope, span: Span, n: u32) -> Option<Option<Timestamp>> {
        if self.nth.is_empty() {
            return None;
        }
        let name = counter(scope);
        let found = self.nth.iter().find(|(c, from, until, m, _)| *c == name && *m == n && is(span, *from, *until));
        found.map(|(.., at)| at.map(Timestamp::from_millis))
    }

    /// The pinned payee, if it was looked for.
    pub fn pin(&self, entry: &RuleId, chain: ChainId) -> Option<Option<Address>> {
        let chain = chain.to_string();
        let found = self.pins.iter().find(|(e, c, _)| **e == *entry.0 && *c == chain);
        found.map(|(.., payee)| payee.as_deref().and_then(crate::payment::parse_address))
    }

    /// The history of an entry, if it was looked at.
    pub fn history(&self, entry: &RuleId) -> Option<History> {
        let (_, count, median, last, first) = self.history.iter().find(|(e, ..)| **e == *entry.0)?;
        let (median, last, first) = (MicroUsd::new(*median), MicroUsd::new(*last), first.map(MicroUsd::new));
        Some(History { count: *count, median, last, first })
    }
}

fn is(span: Span, from: i64, until: i64) -> bool {
    span.from.millis() == from && span.until.millis() == until
}
