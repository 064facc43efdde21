//! What is asked before money is held: policy over the books, the session, people.

use std::sync::Arc;
use std::time::Instant;

use super::approvals::{self, Answer, Yes};
use super::trail::Trail;
use super::{Ask, Treasurer, Waiter};
use crate::ledger::Commitment;
use crate::metrics::Stage;
use crate::payment::{Challenge, MicroUsd, Payer, PurchaseId, Reason, Timestamp};
use crate::policy::{Decision, Input, Policy, Question, Refusal, View};
use crate::records::{Judgement, Verdict, Witness, bounded};

impl Treasurer {
    /// One policy snapshot judges every offer against one view of the books.
    #[expect(clippy::too_many_arguments, reason = "a decision is about all of these")]
    pub(super) fn decide(
        &self,
        ask: &Ask,
        challenge: &Challenge,
        payer: Payer,
        now: Timestamp,
        held: Option<&Commitment>,
        yes: Option<&Yes>,
        trail: &mut Trail,
    ) -> Decision {
        let started = Instant::now();
        let policy = self.policy.load_full();
        let session = self.session_limit(ask, &policy, now);
        let session_max = session.as_ref().ok().copied().flatten();
        let input = Input {
            agent: &ask.agent,
            session: ask.session.as_ref(),
            method: &ask.method,
            https: ask.https,
            host: &ask.host,
            port: ask.port,
            path: &ask.path,
            payer,
            now,
            context: &ask.context,
            granted: &[],
            held: held.map_or(MicroUsd::ZERO, |c| c.purchase().held),
            bound_to: held.map(|c| c.purchase().asset),
            session_max,
        };
        // A purchase that is signed again was in its chain before.
        let chain = held.is_none().then(|| self.redirects.depth(ask, now));
        let (mut decision, used, seen) = self.ledger.read(|books| {
            let witness = Witness::new(books);
            let view: &dyn View = if self.log.is_some() { &witness } else { books };
            let (mut decision, used) = approvals::decide(&policy, &input, challenge, view, yes, ask);
            decision.verdict = bounded(decision.verdict, session_max, chain, view);
            (decision, used, self.log.is_some().then(|| witness.testify(&ask.agent, &ask.host)))
        });
        trail.decided = seen.map(|seen| {
            let granted = yes.filter(|_| used).map(|yes| yes.groups.clone()).unwrap_or_default();
            let (held, bound_to, seen, verdict) = (input.held, input.bound_to, Arc::new(seen), Verdict::of(&decision));
            let judged = Judgement { payer, held, bound_to, granted, session_max, chain, seen, verdict };
            (now, Arc::clone(policy.digest()), judged)
        });
        self.metrics.authorize(&ask.agent, Stage::Policy, started.elapsed());
        if let Err(reason) = session {
            decision.verdict = decision.verdict.and_then(|_| Err(Refusal::because(reason)));
        }
        decision
    }

    /// The first payment under a name that the agent chose opens that session, and waits for the disk (M2.4).
    pub(super) async fn enter_session(&self, ask: &Ask) -> Result<(), Refusal> {
        let Some(sessions) = self.sessions.clone() else { return Ok(()) };
        let Some(rules) = self.policy.load().sessions(&ask.agent).cloned() else { return Ok(()) };
        let (agent, name, now) = (ask.agent.clone(), ask.session.clone(), self.now().now);
        let entering = tokio::task::spawn_blocking(move || sessions.enter(&agent, name.as_ref(), Some(&rules), now));
        entering.await.unwrap_or(Err(Reason::Internal)).map_err(Refusal::because)
    }

    /// Whether the session may still pay, and its own limit; the ledger looks again when it holds the amount.
    fn session_limit(&self, ask: &Ask, policy: &Policy, now: Timestamp) -> Result<Option<MicroUsd>, Reason> {
        let Some(sessions) = &self.sessions else { return Ok(None) };
        sessions.check(&ask.agent, ask.session.as_ref(), policy.sessions(&ask.agent), now)
    }

    /// Asks people and waits as long as the policy says.
    pub(super) async fn put_to_people(
        &self,
        ask: &Ask,
        question: &Question,
        held: Option<PurchaseId>,
        refusal: Refusal,
        waiter: &dyn Waiter,
    ) -> Result<Yes, Refusal> {
        let policy = self.policy.load_full();
        let clock = approvals::Clock { now: &|| self.now().now, wanted: &|| waiter.waits() };
        match self.approvals.ask(question, ask, held, &policy, &clock).await {
            Answer::Yes(yes) => Ok(*yes),
            Answer::No(reason, ticket) => Err(refusal.asked(reason, ticket)),
        }
    }
}
