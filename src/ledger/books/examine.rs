//! The second look (M2.5, M3.4 step 4): an approval against the books as they are now, and what it holds if it still fits.
//!
//! What compares also posts, in one call under one lock: between the two nothing else may happen.

use std::sync::Arc;

use super::{Books, Stale};
use crate::ledger::Purchase;
use crate::ledger::index::Live;
use crate::ledger::posting::{Kind, Posting};
use crate::payment::{AgentId, MicroUsd, Payer, PurchaseId, Reason, Timestamp};
use crate::policy::{Approval, Check, Host, Limit, Scope, View as _, Violation};

/// A reset later than this is never: `caps.total` does not reset.
const END_OF_TIME_MS: i64 = 253_402_300_800_000;

/// The first owner of a purchase.
const FIRST: u64 = 1;

impl Books {
    /// Compares, and posts a new purchase to every counter, all or nothing (M2.5).
    pub(in crate::ledger) fn hold(&mut self, approval: &Approval, payer: Payer, id: &PurchaseId, at: Timestamp) -> Result<Posting, Stale> {
        let posting = Posting::of(approval, payer, Kind::Hold, approval.offer().price.max(MicroUsd::ZERO).micro(), at);
        self.examine(approval, &posting, None)?;
        self.post(&posting);
        self.enter_live_as(approval, id, posting.micro);
        Ok(posting)
    }

    /// Takes up a purchase that is held, on its way to the disk; answers its row and its owner. Freeze and policy epoch are
    /// looked at once more (M2.2), and nothing changes if they speak against it.
    pub(in crate::ledger) fn enter(&mut self, purchase: &Arc<Purchase>, posting: &Posting, epoch: u64) -> Result<(i64, u64), Stale> {
        // A co-signer sees no host, and has gates of its own.
        if purchase.cosigned.is_none() {
            self.gates(&purchase.agent, Host::parse(&purchase.host).ok().as_ref())?;
        }
        if epoch < self.epoch || self.purchase(&purchase.id).is_some() {
            return Err(None);
        }
        let (num, purchase, postings) = (self.index.number(), Arc::clone(purchase), vec![posting.clone()]);
        self.index.insert(Live { purchase, num, postings, writing: true, waiter: true, exchange: true, owner: FIRST });
        Ok((num, FIRST))
    }

    /// Compares, and takes the new terms of a known purchase with what they hold on top (M1.2), on its way to the disk.
    pub(in crate::ledger) fn raise(
        &mut self,
        approval: &Approval,
        before: &Purchase,
        valid_after: u64,
        at: Timestamp,
    ) -> Result<(Arc<Purchase>, Option<Posting>), Stale> {
        let mut after = before.clone();
        after.sign_again(approval, valid_after, at);
        let posting = Posting::of(approval, after.payer, Kind::Raise, after.held.saturating_sub(before.held).micro(), at);
        self.examine(approval, &posting, Some(before))?;
        let posting = Some(posting).filter(|p| p.micro > 0);
        self.leave_live(before);
        self.enter_live(&after);
        posting.iter().for_each(|p| self.post(p));
        let after = Arc::new(after);
        if let Some(live) = self.index.get_mut(&before.id) {
            live.purchase = Arc::clone(&after);
            live.postings.extend(posting.clone());
            live.writing = true;
        }
        Ok((after, posting))
    }

    /// What is stopped ends it alone (M3.4 step 0), also what was decided or held before.
    fn gates(&self, agent: &AgentId, host: Option<&Host>) -> Result<(), Stale> {
        let closed = match host {
            Some(host) => self.standing.closed(agent, host),
            None => self.standing.killed.as_ref().map(|_| Reason::Killed),
        };
        closed.map_or(Ok(()), |reason| Err(Some(Violation::new(reason))))
    }

    /// Compares an approval with the counters as they are now; `posting` is what it would add to them, and `signed` the purchase
    /// that is signed again.
    fn examine(&self, approval: &Approval, posting: &Posting, signed: Option<&Purchase>) -> Result<(), Stale> {
        self.gates(approval.agent(), approval.host())?;
        let own = posting.scopes(&self.shares);
        let known = |scope: &Scope| own.contains(scope);
        let (price, at) = (approval.offer().price, posting.at);
        let held = signed.map_or(MicroUsd::ZERO, |p| p.held);
        // A scope we do not post to would be a limit that never fills: fail closed.
        let unknown = !approval.scopes().iter().all(known) || !approval.checks().iter().all(|c| known(&c.scope));
        if approval.epoch() < self.epoch || approval.held() != held || price < MicroUsd::ZERO || unknown {
            return Err(None);
        }
        let more = price.saturating_sub(approval.held()).max(MicroUsd::ZERO);
        for check in approval.checks() {
            self.examine_one(check, more, usize::from(signed.is_none()), at).map_err(|stale| {
                stale.map(|v| Violation { offer: Some(approval.offer().index), amount: Some(price), rule: Some(check.rule.clone()), ..v })
            })?;
        }
        let speaks = |v| Some(Violation { offer: Some(approval.offer().index), amount: Some(price), ..v });
        approval.still_holds(self, at).map_err(speaks)?;
        self.examine_live(approval, signed, at)?;
        let full = |scope| self.money.get(scope).is_some_and(|m| !m.has_room(more.micro()));
        if own.iter().any(full) { Err(Some(Violation::new(Reason::AmountTooLarge))) } else { Ok(()) }
    }

    fn examine_one(&self, check: &Check, more: MicroUsd, commitments: usize, at: Timestamp) -> Result<(), Stale> {
        match check.limit {
            // The period ended between the decision and now: another one is to be judged.
            Limit::Spend(_) if at < check.span.from || at >= check.span.until => Err(None),
            Limit::Spend(limit) => {
                let spent = self.spent(&check.scope, check.span);
                if spent.checked_add(more).is_some_and(|sum| sum <= limit) {
                    return Ok(());
                }
                Err(Some(Violation {
                    limit: Some(limit),
                    remaining: Some(limit.saturating_sub(spent).max(MicroUsd::ZERO)),
                    resets_at: Some(check.span.until).filter(|t| t.millis() < END_OF_TIME_MS),
                    ..Violation::new(check.reason)
                }))
            }
            Limit::Count(limit) => {
                // Up to now, not to the end of the decision's span: commitments made since then count.
                let instants = self.instants.get(&check.scope);
                let count = instants.map_or(0, |i| i.since(check.span.from));
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                if count + commitments <= limit {
                    return Ok(());
                }
                let width = check.span.until.millis().saturating_sub(check.span.from.millis());
                let leaves = instants.and_then(|i| i.nth_since(check.span.from, count - limit.min(count)));
                Err(Some(Violation { resets_at: leaves.map(|t| t.plus_millis(width)), ..Violation::new(check.reason) }))
            }
        }
    }

    /// What may still be used, with this payment, stays under its bound; and a ticket stays with its purchase.
    fn examine_live(&self, approval: &Approval, signed: Option<&Purchase>, at: Timestamp) -> Result<(), Stale> {
        if let Some(ticket) = approval.cosigned().and_then(|c| c.ticket)
            && self.tickets.get(&ticket).is_some_and(|id| signed.is_none_or(|p| p.id != *id))
        {
            return Err(Some(Violation::new(Reason::GrantInvalid)));
        }
        let Some(bound) = approval.live() else { return Ok(()) };
        let own = signed.filter(|p| p.live_until() > at).map_or(0, |p| p.held.micro());
        let others = self.live.total(at).saturating_sub(own);
        let held = approval.offer().price.max(approval.held()).micro();
        if others.checked_add(held).is_some_and(|sum| sum <= bound.limit.micro()) {
            return Ok(());
        }
        Err(Some(Violation {
            offer: Some(approval.offer().index),
            amount: Some(approval.offer().price),
            rule: Some(bound.rule.clone()),
            limit: Some(bound.limit),
            remaining: Some(MicroUsd::new(bound.limit.micro().saturating_sub(others).max(0))),
            resets_at: self.live.next_end(at),
            ..Violation::new(Reason::LiveTotal)
        }))
    }

    /// [`Self::enter_live`] for a purchase that is being made.
    fn enter_live_as(&mut self, approval: &Approval, id: &PurchaseId, micro: i64) {
        let (Some(cosigned), Some(end)) = (approval.cosigned(), approval.valid_before()) else { return };
        self.live.add(Timestamp::from_secs(i64::try_from(end).unwrap_or(i64::MAX)), micro);
        if let Some(ticket) = cosigned.ticket {
            self.tickets.insert(ticket, *id);
        }
    }
}
