//! The log lines of this edge: which facts of an ask, a purchase or a refusal go into them.

use std::time::Duration;

use crate::ledger::Purchase;
use crate::metrics::PaymentOutcome;
use crate::payment::Reason;
use crate::policy::{By, Policy, Refusal};
use crate::telemetry::{self, RequestLine, TermsLine};
use crate::treasurer::Ask;

/// One payment. A technical reason for a missing answer has a line of its own, tied by the purchase.
pub(super) fn payment(ask: &Ask, purchase: &Purchase, outcome: PaymentOutcome, reason: Option<Reason>, took: Duration) {
    let host = ask.host.to_string();
    let terms = TermsLine {
        protocol: Some(purchase.protocol),
        network: Some(purchase.asset.chain),
        asset: Some(&purchase.symbol),
        amount: Some(purchase.held),
        payee: Some(purchase.payee),
        rule: Some(&purchase.entry),
        purchase: Some(&purchase.id),
    };
    telemetry::payment_line(&request(ask, &host, &purchase.policy_digest, took), &terms, outcome);
    if let Some(reason) = reason {
        tracing::warn!(purchase = %purchase.id, agent = %ask.agent, host, %reason, "a paid request was not served; the amount stays spent");
    }
}

/// One refusal.
pub(super) fn refusal(ask: &Ask, refusal: &Refusal, policy: &Policy, took: Duration) {
    let host = ask.host.to_string();
    let lead = refusal.violations.first();
    let terms = TermsLine { amount: lead.and_then(|v| v.amount), rule: lead.and_then(|v| v.rule.as_ref()), ..TermsLine::default() };
    telemetry::refusal_line(&request(ask, &host, policy.digest(), took), &terms, refusal.reason(), lead.map_or(By::Policy, |v| v.by));
}

fn request<'a>(ask: &'a Ask, host: &'a str, policy: &'a str, took: Duration) -> RequestLine<'a> {
    RequestLine { agent: &ask.agent, session: ask.session.as_ref(), host, method: &ask.method, path: &ask.path, policy, took }
}
