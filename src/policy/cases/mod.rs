//! Cases beside a policy, `NAME.test.yaml`: a request, what the seller asks for, what was paid before, and what the policy has to
//! say. They are judged by [`Policy::evaluate`] itself, so that a case that passes is a decision that will be made.

mod offer;
mod past;
mod read;
mod silent;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::Method;

use self::offer::CaseOffer;
use self::past::{Paid, Past};
use super::{Context, Decision, Explanation, Host, Input, Policy, PolicyErrors, RuleId, Source, Standing, Violation};
use crate::payment::{AgentId, AssetTable, Challenge, MicroUsd, Payer, Reason, SessionName, Timestamp};

pub use silent::Spoken;

/// Reads a seller's x402 version 2 document as the protocol layer does; the error says what is wrong with it.
pub type ReadChallenge<'a> = &'a dyn Fn(&serde_json::Value, &AssetTable) -> Result<Challenge, String>;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows; unique in its file.
    pub name: String,
    /// Where it begins, from 1.
    pub line: usize,
    agent: AgentId,
    session: Option<SessionName>,
    at: Timestamp,
    context: Option<String>,
    method: Method,
    https: bool,
    host: Host,
    port: u16,
    path: String,
    offers: Vec<CaseOffer>,
    paid: Vec<Paid>,
    standing: Standing,
    granted: Vec<Arc<str>>,
    wallet: Payer,
    expect: Expect,
}

/// What a case expects; what is absent may be anything.
#[derive(Clone, Debug, Default)]
struct Expect {
    verdict: Option<Say>,
    reasons: Option<BTreeSet<String>>,
    rules: Option<BTreeSet<String>>,
    groups: Option<BTreeSet<String>>,
    entry: Option<String>,
    usd: Option<MicroUsd>,
    offer: Option<usize>,
}

/// A decision in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Allow,
    Ask,
    Deny,
}

/// A case that was judged.
#[derive(Debug)]
pub struct Ran {
    /// What differs from the expectation; empty = it passed.
    pub wrong: Vec<Difference>,
    /// The whole decision.
    pub explanation: Explanation,
}

/// One expectation that was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key of `expect`.
    pub what: &'static str,
    /// What stands there.
    pub expected: String,
    /// What the policy said.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.what, self.expected, self.got)
    }
}

/// Reads a case file for `policy`: its declared context keys and its groups are known by name.
///
/// # Errors
/// Every mistake, each with file, line, column and what to write instead.
pub fn parse(source: &Source, policy: &Policy) -> Result<Vec<Case>, PolicyErrors> {
    read::file(source, policy)
}

impl Case {
    /// Judges the case by `policy` and notes in `spoken` which of its limits and rules had something to say.
    ///
    /// # Errors
    /// What is wrong with the case's offers as a seller's document.
    pub fn run(&self, policy: &Policy, read: ReadChallenge<'_>, spoken: &mut Spoken) -> Result<Ran, String> {
        let challenge = read(&offer::document(&self.offers, policy.assets()), policy.assets())?;
        let context = Context::parse(self.context.as_ref().map(String::as_bytes), policy.context_keys());
        let input = Input {
            agent: &self.agent,
            session: self.session.as_ref(),
            method: &self.method,
            https: self.https,
            host: &self.host,
            port: self.port,
            path: &self.path,
            payer: self.wallet,
            now: self.at,
            held: MicroUsd::ZERO,
            context: &context,
            granted: &self.granted,
            bound_to: None,
            session_max: None,
        };
        let decision = policy.evaluate(&input, &challenge, &Past { paid: &self.paid, standing: &self.standing });
        spoken.note(&self.agent, &decision);
        let explanation = decision.explain(policy, &input, &challenge);
        Ok(Ran { wrong: self.expect.differences(&Outcome::of(&decision)), explanation })
    }
}

impl Say {
    const ALL: [Self; 3] = [Self::Allow, Self::Ask, Self::Deny];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// A decision in the words of `expect`.
#[derive(Debug)]
struct Outcome {
    verdict: Say,
    reasons: BTreeSet<String>,
    rules: BTreeSet<String>,
    groups: BTreeSet<String>,
    entry: Option<String>,
    usd: Option<MicroUsd>,
    offer: Option<usize>,
}

impl Outcome {
    fn of(decision: &Decision) -> Self {
        let mut outcome = Self {
            verdict: Say::Deny,
            reasons: BTreeSet::new(),
            rules: BTreeSet::new(),
            groups: BTreeSet::new(),
            entry: None,
            usd: None,
            offer: None,
        };
        match &decision.verdict {
            Ok(approval) => {
                outcome.verdict = Say::Allow;
                outcome.takes(approval.entry(), approval.offer());
            }
            Err(refusal) => {
                outcome.reasons = refusal.violations.iter().map(|v| v.reason.as_str().to_owned()).collect();
                outcome.rules = refusal.violations.iter().filter_map(rule).collect();
                if let Some(question) = &decision.question {
                    outcome.verdict = Say::Ask;
                    outcome.takes(&question.entry, &question.offer);
                    outcome.groups = question.asks.iter().flat_map(|a| a.any_of.iter().map(ToString::to_string)).collect();
                }
            }
        }
        outcome
    }

    fn takes(&mut self, entry: &RuleId, offer: &crate::payment::Offer) {
        (self.entry, self.usd, self.offer) = (named(entry), Some(offer.price), Some(offer.index));
    }
}

/// What matched nothing has no entry, whatever it is called inside.
fn named(entry: &RuleId) -> Option<String> {
    (*entry.0 != *"unmatched").then(|| entry.to_string())
}

/// The rule that spoke, of the reasons whose rule has a name of its own; for the others it is the entry they are about.
fn rule(violation: &Violation) -> Option<String> {
    use Reason::{NotAllowed, PayeeChanged, PlainHttp, TestnetNotListed, ZeroAmount};
    let of_an_entry = matches!(violation.reason, NotAllowed | PayeeChanged | PlainHttp | TestnetNotListed | ZeroAmount);
    violation.rule.as_ref().filter(|_| !of_an_entry).and_then(named)
}

impl Expect {
    fn differences(&self, got: &Outcome) -> Vec<Difference> {
        let mut wrong = Vec::new();
        let mut check = |what, expected: Option<String>, got: String| {
            if let Some(expected) = expected.filter(|e| *e != got) {
                wrong.push(Difference { what, expected, got });
            }
        };
        let list = |set: &BTreeSet<String>| format!("[{}]", set.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        check("verdict", self.verdict.map(|v| v.as_str().into()), got.verdict.as_str().into());
        check("reasons", self.reasons.as_ref().map(list), list(&got.reasons));
        check("rules", self.rules.as_ref().map(list), list(&got.rules));
        check("groups", self.groups.as_ref().map(list), list(&got.groups));
        check("entry", self.entry.clone(), or_none(got.entry.clone()));
        check("usd", self.usd.map(|u| u.to_string()), or_none(got.usd.map(|u| u.to_string())));
        check("offer", self.offer.map(|o| o.to_string()), or_none(got.offer.map(|o| o.to_string())));
        wrong
    }
}
