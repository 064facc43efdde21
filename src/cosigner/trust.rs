//! Three kinds of input (S4): only [`Fact`] and [`Proven`] may allow or widen; [`Claimed`] may only deny.
//!
//! An [`Allowance`] is begun from facts and a proven agent, and ends as an approval. On the way a proof may make an entry count
//! as verified, and a claim may take entries away. There is no way from a claim to anything else: it cannot be read, and what
//! it is asked is a plain function, which has nowhere to keep what it saw.
//!
//! ```
//! use tollpass::cosigner::trust::{Allowance, Claimed};
//! fn narrowed(allowance: &mut Allowance<'_>, word: &Claimed<String>) {
//!     allowance.narrow(word, |word, rule| word == "evil" || rule.opposes(None, None));
//! }
//! ```
//!
//! A claim cannot be read:
//! ```compile_fail,E0616
//! use tollpass::cosigner::trust::Claimed;
//! fn read(word: &Claimed<String>) -> &Option<String> {
//!     &word.0
//! }
//! ```
//! nor carried out of the question it is asked:
//! ```compile_fail,E0308
//! use tollpass::cosigner::trust::{Allowance, Claimed};
//! fn carry(allowance: &mut Allowance<'_>, word: &Claimed<String>) -> bool {
//!     let seen = std::cell::Cell::new(false);
//!     allowance.narrow(word, |word, _| { seen.set(word == "friend"); false });
//!     seen.get()
//! }
//! ```
//! nor take the place of a fact:
//! ```compile_fail,E0308
//! use tollpass::cosigner::trust::{Allowance, Claimed, Proven};
//! use tollpass::payment::AgentId;
//! use tollpass::policy::{Policy, Transfer};
//! fn begin(policy: &Policy, agent: &Proven<AgentId>, transfer: Claimed<Transfer>) {
//!     let _ = Allowance::new(policy, agent, transfer);
//! }
//! ```
//! nor that of a proof:
//! ```compile_fail,E0308
//! use tollpass::cosigner::trust::{Allowance, Claimed, SellerTerms};
//! use tollpass::policy::RuleId;
//! fn prove(allowance: &mut Allowance<'_>, entry: &RuleId, terms: &Claimed<SellerTerms>) {
//!     let _ = allowance.prove(entry, terms);
//! }
//! ```
//! and nobody outside the co-signer makes a fact or a proof:
//! ```compile_fail,E0624
//! use tollpass::cosigner::trust::Proven;
//! let agent = Proven::new("research-bot");
//! ```

use std::sync::Arc;

use alloy_primitives::{Address, U256};

use crate::ledger::NewPurchase;
use crate::payment::{AgentId, AssetId, MicroUsd, Reason};
use crate::policy::{Approval, Ask, Host, Policy, Refusal, RuleId, Selection, Subject, Transfer, View, Violation, Wanted};
use crate::wire::message::Claims;

/// A field that will be signed, or something of our own: clock, ledger, asset table.
#[derive(Clone, Copy, Debug)]
pub struct Fact<T>(T);

/// Backed by a key: the identity and what the registry ties to it, a seller's signed offer, our own probe, a human's grant.
#[derive(Clone, Copy, Debug)]
pub struct Proven<T>(T);

/// Somebody's word. There is no way to read it, only to hold it against something.
#[derive(Clone)]
pub struct Claimed<T>(Option<T>);

impl<T> Fact<T> {
    /// Only the co-signer's own readers make one (a test reads the sources).
    pub(super) const fn new(value: T) -> Self {
        Self(value)
    }
    /// What is so.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

impl<T> Proven<T> {
    /// Only what verified a key makes one (a test reads the sources).
    pub(super) const fn new(value: T) -> Self {
        Self(value)
    }
    /// What is proven.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

impl<T> Claimed<T> {
    /// Anything somebody says.
    pub const fn new(word: T) -> Self {
        Self(Some(word))
    }
    /// Nothing was said.
    pub const fn nothing() -> Self {
        Self(None)
    }
}

impl Claimed<Claims> {
    /// Puts the words beside a purchase that was decided, for people to read. Nothing decides by them.
    pub(super) fn describe(&self, purchase: &mut NewPurchase) {
        let Some(claims) = &self.0 else { return };
        let plain = |text: &str| text.chars().filter(char::is_ascii_graphic).take(255).collect::<String>();
        (purchase.host, purchase.method) = (plain(&claims.host), plain(&claims.method));
    }

    /// The address of a probe: only if it is one that policy names, over TLS. It may be asked although it is a claim, because
    /// what proves something is the answer of that host (S4).
    pub(super) fn address<'h>(&self, mut hosts: impl Iterator<Item = &'h Host>) -> Option<super::probe::Address> {
        let address = super::probe::Address::parse(self.0.as_ref()?.url.as_deref()?)?;
        hosts.any(|h| h == address.host()).then_some(address)
    }
}

impl<T> std::fmt::Debug for Claimed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claimed(..)")
    }
}

/// What a seller's key, or the seller itself, said it wants for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SellerTerms {
    /// Who is to be paid.
    pub payee: Address,
    /// In what.
    pub asset: AssetId,
    /// How much, atomic units.
    pub amount: U256,
    /// The host of what is sold.
    pub host: Host,
}

/// Limits lifted for one payment by people who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifted {
    /// By the names refusals show.
    pub rules: Vec<RuleId>,
    /// The approval's ticket.
    pub ticket: [u8; 16],
}

/// What may be signed, on the way to being decided.
#[derive(Debug)]
pub struct Allowance<'p>(Selection<'p>);

impl<'p> Allowance<'p> {
    /// Every allow entry of the agent that selects the fields.
    ///
    /// # Errors
    /// The one reason why these fields are never signed.
    pub fn new(policy: &'p Policy, agent: &Proven<AgentId>, transfer: Fact<Transfer>) -> Result<Self, Violation> {
        policy.select(&agent.0, transfer.0).map(Self)
    }

    /// Takes away what somebody's word speaks against. `against` sees the word and one rule at a time, and answers whether the
    /// rule is not for it.
    pub fn narrow<T>(&mut self, word: &Claimed<T>, against: fn(&T, &Subject<'_>) -> bool) {
        if let Some(word) = &word.0 {
            self.0.narrow(|rule| against(word, rule));
        }
    }

    /// Keeps only the entry our own ledger knows the purchase under.
    pub fn only(&mut self, entry: &Fact<RuleId>) {
        self.0.only(&entry.0);
    }

    /// Entries whose payee can be proven and is not.
    pub fn wanted(&self) -> Vec<Wanted<'p>> {
        self.0.wanted()
    }

    /// The seller's terms make the payee of `entry` verified, if they are these very fields and sold by a host of the entry.
    ///
    /// # Errors
    /// True terms, about something else.
    pub fn prove(&mut self, entry: &RuleId, terms: &Proven<SellerTerms>) -> Result<(), Differs> {
        let (terms, own) = (&terms.0, self.0.transfer());
        let hosts = self.0.wanted().into_iter().any(|w| w.id() == entry && w.host(&terms.host));
        if !hosts || terms.payee != own.payee.0 || terms.asset != own.asset || terms.amount != own.amount {
            return Err(Differs);
        }
        self.0.prove(entry);
        Ok(())
    }

    /// Notes why a proof failed, for the refusal.
    pub fn unproven(&mut self, entry: &RuleId, reason: Reason) {
        self.0.unproven(entry, reason);
    }

    /// For a purchase that is held already, over the same digest: whether some entry still takes it.
    ///
    /// # Errors
    /// Why not.
    pub fn still(self) -> Result<(), Refusal> {
        self.0.still()
    }

    /// The first entry in file order that permits.
    ///
    /// # Errors
    /// Everything that speaks against each.
    pub fn decide(
        self,
        identity: &Proven<Arc<str>>,
        held: Option<Fact<MicroUsd>>,
        lifted: Option<&Proven<Lifted>>,
        books: &dyn View,
    ) -> Result<Approval, Refusal> {
        let lifted = lifted.map(|l| (l.0.rules.clone(), l.0.ticket));
        let ask = Ask { identity: Arc::clone(&identity.0), held: held.map(|h| h.0), lifted };
        self.0.approve(&ask, books)
    }
}

/// The seller's terms are not what is to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seller's terms are not what is to be signed")]
pub struct Differs;
