//! The order of evaluation, M3.4: gates, each offer alone, everything that speaks against each offer, rank.
//!
//! Frozen agents, the ledger, the clock and the replayable body are gates of the caller: it knows them before it asks.

use std::sync::Arc;

use alloy_primitives::Address;
use http::Method;

use super::judge::{Judge, Verdict};
use super::pattern::RequestPath;
use super::rule::{Agent, Request};
use super::{
    Approval, AskFor, Considered, Context, Decision, History, Host, Policy, Question, Refusal, RuleId, Scope, Span, Standing, Violation,
};
use crate::payment::{AgentId, ChainId, Challenge, MicroUsd, Payer, Reason, SessionName, Timestamp};

/// What the request is, as the proxy knows it: nothing here is the agent's or the seller's say-so.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The authenticated caller.
    pub agent: &'a AgentId,
    /// Its session.
    pub session: Option<&'a SessionName>,
    /// Request method.
    pub method: &'a Method,
    /// True if the upstream leg is TLS.
    pub https: bool,
    /// The host that is really connected to: CONNECT authority or absolute-form authority.
    pub host: &'a Host,
    /// Its port.
    pub port: u16,
    /// Path as sent, without the query.
    pub path: &'a str,
    /// The account that would pay.
    pub payer: Payer,
    /// Ledger time.
    pub now: Timestamp,
    /// What the purchase being re-signed already holds; zero for a new one (M1.2).
    pub held: MicroUsd,
    /// The request's own words, declared keys only: they can only tighten (M3.2).
    pub context: &'a Context,
    /// Approver groups whose people said yes to exactly this payment (M2.6).
    pub granted: &'a [Arc<str>],
    /// A re-signature must stay on this chain and token; other offers are skipped with `payment_outstanding`.
    pub bound_to: Option<crate::payment::AssetId>,
    /// The limit of the session as it was issued (M2.4); the policy may set a smaller one.
    pub session_max: Option<MicroUsd>,
}

impl Input<'_> {
    /// True if a purchase is signed again, which is no new commitment (M1.2, M2.5).
    pub(super) fn is_resigning(&self) -> bool {
        self.held > MicroUsd::ZERO || self.bound_to.is_some()
    }
}

/// The books, as a decision reads them.
pub trait View {
    /// Micro-USD posted to `scope` within `span`.
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd;
    /// Commitments of `scope` with `now − at < span` (M3.7).
    fn commitments(&self, scope: &Scope, span: Span) -> u32;
    /// The payee pinned for this entry, host and network by the first consumed purchase (M3.3).
    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address>;
    /// What was bought under this entry at this host with this method: the last 50 consumed purchases within 30 days (M3.3).
    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History;
    /// What is stopped now.
    fn standing(&self) -> &Standing;
    /// When the `n`-th commitment of `scope` within `span` was made, from zero, the oldest first: a rate frees up when it leaves.
    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp>;
}

impl Policy {
    /// Judges every offer of `challenge` for `input` against `books`.
    pub fn evaluate(&self, input: &Input<'_>, challenge: &Challenge, books: &dyn View) -> Decision {
        let (agent, request) = match self.gates(input, books) {
            Ok(passed) => passed,
            Err(reason) => return Decision { verdict: Err(Refusal::because(reason)), question: None, considered: Vec::new() },
        };
        let judge = Judge::new(self, agent, input, request, books);
        let verdicts: Vec<Verdict<'_>> = challenge.offers.iter().map(|offer| judge.offer(offer)).collect();
        let open = || verdicts.iter().filter(|v| v.considered.violations.is_empty());
        let best = open().filter(|v| v.considered.asks.is_empty()).min_by(|a, b| a.rank(b));
        let asked = open().filter(|_| best.is_none()).min_by(|a, b| a.rank(b));
        let verdict = match best {
            Some(best) => self.approve(&judge, best).ok_or_else(|| Refusal::because(Reason::Internal)),
            None => Err(refuse(&verdicts, asked, challenge)),
        };
        let question = asked.and_then(|asked| self.question(asked));
        let rejected = challenge.rejected.iter().map(|r| {
            let violations = vec![Violation { offer: Some(r.index), ..Violation::new(r.reason) }];
            Considered { offer: r.index, entry: None, checks: Vec::new(), violations, asks: Vec::new() }
        });
        Decision { verdict, question, considered: verdicts.into_iter().map(|v| v.considered).chain(rejected).collect() }
    }

    /// What this policy says if the people of `groups` have said yes to a question: it lifts what they saw, its terms and its reasons
    /// to ask. `theirs` tells whether a question is the one they answered. With the groups alone a yes would also let the same
    /// challenge's dearer offer pass, or a budget that was used up while they thought. True if the yes was used.
    pub fn decide(
        &self,
        input: &Input<'_>,
        challenge: &Challenge,
        books: &dyn View,
        groups: &[Arc<str>],
        theirs: impl FnOnce(&Question) -> bool,
    ) -> (Decision, bool) {
        let asked = self.evaluate(input, challenge, books);
        let Some(question) = asked.question.as_ref().filter(|q| !groups.is_empty() && theirs(q)) else { return (asked, false) };
        let granted = self.evaluate(&Input { granted: groups, ..input.clone() }, challenge, books);
        if granted.verdict.as_ref().is_ok_and(|approval| !approval.offer().same_terms(&question.offer)) {
            return (Decision { question: None, ..asked }, true);
        }
        (granted, true)
    }

    /// What people are asked about the best offer that only they stand before.
    fn question(&self, asked: &Verdict<'_>) -> Option<Question> {
        let (entry, (asset, price)) = (asked.entry?, asked.priced.as_ref()?);
        let mut offer = asked.offer.clone();
        (offer.asset, offer.price) = (asset.clone(), *price);
        let asks: Vec<AskFor> = asked.considered.asks.iter().map(|(ask, _)| ask.clone()).collect();
        let groups = asks.iter().flat_map(|ask| &ask.any_of).filter_map(|name| self.approvers.get(name));
        let timeout = groups.map(|group| group.timeout).min()?;
        Some(Question { offer, entry: entry.id.clone(), asks, hold: self.hold, timeout })
    }

    /// The gates that policy itself knows; the first that closes ends the decision with its reason alone (M3.7).
    fn gates<'a>(&self, input: &Input<'a>, books: &dyn View) -> Result<(&Agent, Request<'a>), Reason> {
        if !self.connects(input.agent, input.host) {
            return Err(Reason::EgressDenied);
        }
        let agent = self.agents.get(input.agent).ok_or(Reason::UnknownAgent)?;
        if let Some(reason) = books.standing().closed(input.agent, input.host) {
            return Err(reason);
        }
        if input.session.is_none() && agent.sessions.as_ref().is_some_and(|s| s.required) {
            return Err(Reason::SessionRequired);
        }
        if matches!(*input.method, Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT) {
            return Err(Reason::MethodNotPayable);
        }
        let path = RequestPath::new(input.path).ok_or(Reason::PathNotNormal)?;
        Ok((agent, Request { host: input.host, port: input.port, https: input.https, method: input.method, path }))
    }

    fn approve(&self, judge: &Judge<'_>, best: &Verdict<'_>) -> Option<Approval> {
        let (entry, (asset, price)) = (best.entry?, best.priced.as_ref()?);
        let mut offer = best.offer.clone();
        // Facts of this snapshot, also if the challenge was parsed under an older one.
        (offer.asset, offer.price) = (asset.clone(), *price);
        let asked = std::time::Duration::from_secs(offer.max_timeout);
        Some(Approval {
            agent: judge.input.agent.clone(),
            session: judge.input.session.cloned(),
            host: Some(judge.input.host.clone()),
            customer: judge.input.context.customer(),
            granted: best.granted,
            offer,
            entry: entry.id.clone(),
            lifetime: asked.min(entry.lifetime),
            checks: best.rechecks.clone(),
            second_look: judge.second_look(&best.reread),
            scopes: vec![judge.agent.limits.scope.clone(), entry.limits.scope.clone()],
            held: judge.input.held,
            repeats: entry.repeats,
            digest: self.digest.clone(),
            epoch: self.epoch,
            cosigned: None,
            valid_before: None,
            live: None,
        })
    }
}

/// The reasons of all offers (M3.7): those of the one that people are asked about first, then of the one that came nearest.
fn refuse(verdicts: &[Verdict<'_>], asked: Option<&Verdict<'_>>, challenge: &Challenge) -> Refusal {
    let mut order: Vec<&Verdict<'_>> = verdicts.iter().collect();
    order.sort_by_key(|v| (asked.is_none_or(|a| a.considered.offer != v.considered.offer), v.distance()));
    let of = |v: &Verdict<'_>| {
        let asks = v.considered.asks.iter().map(|(_, violation)| violation.clone());
        v.considered.violations.iter().cloned().chain(asks).collect::<Vec<_>>()
    };
    let mut violations: Vec<Violation> = order.into_iter().flat_map(of).collect();
    violations.extend(challenge.rejected.iter().map(|r| Violation { offer: Some(r.index), ..Violation::new(r.reason) }));
    if violations.is_empty() {
        return Refusal::because(Reason::MalformedOffer);
    }
    Refusal { violations, ticket: None }
}
