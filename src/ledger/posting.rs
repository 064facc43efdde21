//! One line of the account, and the counters it belongs to.

use std::sync::Arc;

use super::shared::Shares;
use crate::payment::{AgentId, Payee, Payer, SessionName, Timestamp};
use crate::policy::{Approval, Cosigned, RuleId, Scope};

/// Why a posting was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new purchase: one commitment.
    Hold,
    /// A re-signature above what was held.
    Raise,
    /// Money back, in the period of what it gives back.
    Release,
}

/// One line of the account: `micro` micro-USD in the period of `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) agent: AgentId,
    pub(super) entry: RuleId,
    pub(super) at: Timestamp,
    pub(super) micro: i64,
    pub(super) kind: Kind,
    pub(super) tags: Option<Arc<Tags>>,
    pub(super) by: Option<Arc<By>>,
}

/// The further counters of a posting on a proxy: what its agent pays where, in which session, for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) host: Arc<str>,
    pub(super) payee: Payee,
    pub(super) session: Option<SessionName>,
    pub(super) customer: Option<Arc<str>>,
    /// People said yes to a limit that it exceeds (M2.6).
    pub(super) granted: bool,
}

/// The further counters of a posting on a co-signer (S4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct By {
    pub(super) wallet: Payer,
    pub(super) payee: Payee,
    pub(super) identity: Arc<str>,
    pub(super) unverified: bool,
}

impl Tags {
    /// Of an approval; `None` on a co-signer, which sees no request.
    pub(super) fn of(approval: &Approval) -> Option<Arc<Self>> {
        let host = approval.host()?.to_string().into();
        let (session, customer) = (approval.session().cloned(), approval.customer().cloned());
        Some(Arc::new(Self { host, payee: approval.offer().payee, session, customer, granted: approval.granted() }))
    }
}

impl By {
    /// Of an approval for `wallet`; `None` on a proxy.
    pub(super) fn of(approval: &Approval, wallet: Payer) -> Option<Arc<Self>> {
        let Cosigned { identity, unverified, .. } = approval.cosigned()?;
        let (payee, identity, unverified) = (approval.offer().payee, Arc::clone(identity), *unverified);
        Some(Arc::new(Self { wallet, payee, identity, unverified }))
    }

    fn scopes(&self, all: &mut Vec<Scope>) {
        all.extend([Scope::Wallet(self.wallet), Scope::Payee(self.payee), Scope::Identity(Arc::clone(&self.identity))]);
        all.extend(self.unverified.then_some(Scope::Unverified));
    }
}

impl Posting {
    /// The counters a posting is summed in.
    pub(super) fn scopes(&self, shares: &Shares) -> Vec<Scope> {
        scopes(&self.agent, &self.entry, self.tags.as_deref(), self.by.as_deref(), shares)
    }

    /// True if people said yes to a limit that it exceeds.
    pub(super) fn granted(&self) -> bool {
        self.tags.as_ref().is_some_and(|tags| tags.granted)
    }

    /// The same money back, in the same period.
    pub(super) fn released(&self) -> Self {
        Self { micro: -self.micro, kind: Kind::Release, ..self.clone() }
    }
}

/// The two counters whose commitments are counted as well: rates are of agents, and of their entries.
pub(super) fn own(agent: &AgentId, entry: &RuleId) -> [Scope; 2] {
    [Scope::Agent(agent.clone()), Scope::Entry(agent.clone(), entry.clone())]
}

/// Every counter that a payment with these marks is posted to.
pub(super) fn scopes(agent: &AgentId, entry: &RuleId, tags: Option<&Tags>, by: Option<&By>, shares: &Shares) -> Vec<Scope> {
    let mut all = Vec::with_capacity(10);
    all.extend(own(agent, entry));
    if let Some(tags) = tags {
        all.push(Scope::Host(agent.clone(), Arc::clone(&tags.host)));
        all.push(Scope::AgentPayee(agent.clone(), tags.payee));
        all.extend(tags.session.as_ref().map(|s| Scope::Session(agent.clone(), s.clone())));
        shares.scopes(agent, tags.customer.as_ref(), &mut all);
    }
    if let Some(by) = by {
        by.scopes(&mut all);
    }
    all
}
