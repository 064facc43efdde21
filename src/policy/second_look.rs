//! What a decision read of the books beside its limits, and the judgement of it once more (M2.5): conditions over counters and
//! history, and the payee that an entry is pinned to.
//!
//! A limit is two numbers, and the ledger compares them by itself. A condition is any expression, and a pin is set by whoever is
//! first, so an approval carries what is needed to ask again. Asking again is better than asking whether anything changed: of
//! requests at once, each changes the counters of all others, and only the one for which the rule now speaks has to be refused.

use std::sync::Arc;

use http::Method;
use jiff::tz::TimeZone;

use super::condition::Facts;
use super::rules::Rule;
use super::{Approval, Context, Host, Input, Scope, View, Violation, Window};
use crate::payment::{MicroUsd, Payer, Reason, Timestamp};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reread {
    /// Rules over counters or history, and whether each spoke. One that did was answered by people, or there would be no approval.
    pub(super) rules: Vec<(Arc<Rule>, bool)>,
    /// The payee is the one that the entry is pinned to, or the first.
    pub(super) pinned: bool,
}

/// What an approval carries of it.
#[derive(Debug, Default)]
pub(super) struct SecondLook {
    pub(super) pinned: bool,
    pub(super) conditions: Option<Box<Conditions>>,
}

/// The rules, and the facts for them that the approval itself does not hold.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) rules: Vec<(Arc<Rule>, bool)>,
    pub(super) method: Method,
    pub(super) https: bool,
    pub(super) port: u16,
    pub(super) path: Box<str>,
    pub(super) payer: Payer,
    pub(super) context: Context,
    /// The agent's own counter.
    pub(super) counter: Scope,
    pub(super) session_max: Option<MicroUsd>,
    pub(super) zone: TimeZone,
}

impl SecondLook {
    /// The same questions at `at`. Periods are those of that instant: what is held then belongs to them.
    pub(super) fn again(&self, approval: &Approval, books: &dyn View, at: Timestamp) -> Result<(), Violation> {
        if !self.pinned && self.conditions.is_none() {
            return Ok(());
        }
        // Only a co-signer knows no host, and it reads neither.
        let Some(host) = approval.host() else { return Err(Violation::new(Reason::Internal)) };
        let (entry, offer) = (approval.entry(), approval.offer());
        let pin = || books.pin(approval.agent(), entry, host, offer.asset.id.chain);
        if self.pinned && pin().is_some_and(|pinned| pinned != offer.payee.0) {
            return Err(Violation { rule: Some(entry.clone()), ..Violation::new(Reason::PayeeChanged) });
        }
        self.conditions.as_ref().map_or(Ok(()), |conditions| conditions.again(approval, host, books, at))
    }
}

impl Conditions {
    fn again(&self, approval: &Approval, host: &Host, books: &dyn View, at: Timestamp) -> Result<(), Violation> {
        let input = Input {
            agent: approval.agent(),
            session: approval.session(),
            method: &self.method,
            https: self.https,
            host,
            port: self.port,
            path: &self.path,
            payer: self.payer,
            now: at,
            held: approval.held(),
            context: &self.context,
            granted: &[],
            bound_to: None,
            session_max: None,
        };
        let span = |window: Window| window.span(at, &self.zone);
        let offer = approval.offer();
        let facts = Facts {
            input: &input,
            offer,
            price: offer.price,
            entry: Some(approval.entry()),
            scope: &self.counter,
            session_max: self.session_max,
            span: &span,
            books,
        };
        for (rule, answered) in &self.rules {
            let reason = match rule.when.holds(&facts) {
                Ok(false) => continue,
                Ok(true) if *answered => continue,
                Ok(true) if rule.ask.is_some() => Reason::ApprovalRequired,
                Ok(true) => Reason::RuleDenied,
                Err(_) => Reason::RuleError,
            };
            return Err(Violation { rule: Some(rule.id.clone()), ..Violation::new(reason) });
        }
        Ok(())
    }
}
