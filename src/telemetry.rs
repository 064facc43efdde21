//! stub
use crate::{ledger::Purchase, metrics::PaymentOutcome, payment::Reason, policy::{Policy, Refusal}, treasurer::Ask};
use std::time::Duration;
/// x
pub fn payment_line(_ask: &Ask, _purchase: &Purchase, _outcome: PaymentOutcome, _reason: Option<Reason>, _took: Duration) {}
/// x
pub fn refusal_line(_ask: &Ask, _refusal: &Refusal, _policy: &Policy) {}
