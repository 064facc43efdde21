//! What the demo's sellers sell, and what the agent asks for.

use alloy_primitives::{Address, U256, keccak256};

use crate::payment::MicroUsd;

/// The wire version a seller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    V1,
    V2,
}

/// How a seller misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trick {
    None,
    /// Takes the money, then answers 500.
    Crash,
    /// Wants the money in a token that is not USDC by one digit of its address.
    FakeToken,
    /// Names another payee than before.
    OtherPayee,
}

/// One priced address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Good {
    /// The seller's name in the report.
    pub(super) seller: &'static str,
    /// What it is, for people.
    pub(super) item: &'static str,
    pub(super) path: &'static str,
    /// Price in micro-USD, which are USDC's atomic units.
    pub(super) price: i64,
    pub(super) wire: Wire,
    pub(super) trick: Trick,
}

const fn good(seller: &'static str, item: &'static str, path: &'static str, price: i64, wire: Wire, trick: Trick) -> Good {
    Good { seller, item, path, price, wire, trick }
}

pub(super) const WEATHER: Good = good("weather", "forecast", "/weather/today", 10_000, Wire::V2, Trick::None);
pub(super) const RECORDS: Good = good("records", "one record", "/records/one", 20_000, Wire::V1, Trick::None);
const FLAKY: Good = good("flaky", "report", "/flaky/report", 8_000, Wire::V2, Trick::Crash);
const DOSSIER: Good = good("records", "whole dossier", "/records/dossier", 250_000, Wire::V1, Trick::None);
const CASINO: Good = good("casino", "spin", "/casino/spin", 10_000, Wire::V2, Trick::None);
pub(super) const STRANGER: Good = good("stranger", "something", "/offer", 10_000, Wire::V2, Trick::None);
const HIJACKED: Good = good("weather", "forecast, payee swapped", "/weather/hijacked", 10_000, Wire::V2, Trick::OtherPayee);
/// Allowed by the proxy's policy, unknown to the co-signer's.
const NEWCOMER: Good = good("newcomer", "first issue", "/newcomer/first", 5_000, Wire::V2, Trick::None);
const FORGED: Good = good("records", "record for fake USDC", "/records/forged", 10_000, Wire::V1, Trick::FakeToken);

/// Every address the sellers answer at.
pub(super) const GOODS: [Good; 9] = [WEATHER, RECORDS, FLAKY, NEWCOMER, DOSSIER, CASINO, STRANGER, HIJACKED, FORGED];

/// The sellers whose accounts the co-signer knows.
pub(super) const VOUCHED: [Good; 3] = [WEATHER, RECORDS, FLAKY];

/// What the day's budget keeps above the shopping list: less than the cheapest thing on it.
const SPARE: i64 = 4_000;

/// What the co-signer's budget keeps above that: one forecast, so that the thief gets something and then no more.
const THIEF: i64 = 10_000;

impl Good {
    /// The account this seller is paid at.
    pub(super) fn payee(&self) -> Address {
        let name = if self.trick == Trick::OtherPayee { "mallory" } else { self.seller };
        Address::from_word(keccak256(format!("tollpass demo {name}")))
    }

    pub(super) fn atomic(&self) -> U256 {
        U256::from(self.price.unsigned_abs())
    }

    pub(super) const fn price(&self) -> MicroUsd {
        MicroUsd::new(self.price)
    }
}

/// One request of the agent.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) good: Good,
    /// Makes the address unique, except where a request is repeated on purpose.
    pub(super) query: String,
    /// What has to come out: paid, or refused with this code.
    pub(super) expect: Option<&'static str>,
    /// Whether money has to move.
    pub(super) pays: bool,
}

fn buys(good: Good, n: usize) -> Step {
    Step { good, query: format!("n={n}"), expect: None, pays: true }
}

fn refused(good: Good, expect: &'static str) -> Step {
    Step { good, query: "n=0".into(), expect: Some(expect), pays: false }
}

/// The agent's shopping list: `payments` ordinary purchases, then everything that goes wrong.
pub(super) fn list(payments: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = (0..payments).map(|n| buys(if n % 2 == 0 { WEATHER } else { RECORDS }, n)).collect();
    steps.extend([
        refused(DOSSIER, "cap_per_payment"),
        refused(CASINO, "denied"),
        refused(STRANGER, "not_allowed"),
        refused(HIJACKED, "payee_changed"),
        refused(FORGED, "unknown_asset"),
        refused(NEWCOMER, "unverified_payee"),
        // Paid, and the answer is an error. The same request shows the same signature again, which the seller knows as
        // used; from then on the request is refused, so that it is not bought twice.
        Step { expect: Some("paid_not_delivered"), ..buys(FLAKY, 0) },
        refused(FLAKY, "not_accepted_by_seller"),
        refused(FLAKY, "paid_not_delivered"),
        Step { query: format!("n={payments}"), ..refused(WEATHER, "cap_day") },
    ]);
    steps
}

/// What the list costs.
pub(super) fn cost(steps: &[Step]) -> MicroUsd {
    MicroUsd::new(steps.iter().filter(|s| s.pays).map(|s| s.good.price).sum())
}

/// The cap for the day that the last purchase of the list breaks.
pub(super) fn day_cap(steps: &[Step]) -> MicroUsd {
    MicroUsd::new(cost(steps).micro() + SPARE)
}

/// The co-signer's cap for the day.
pub(super) fn cosigner_cap(steps: &[Step]) -> MicroUsd {
    MicroUsd::new(day_cap(steps).micro() + THIEF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_purchase_is_the_one_that_breaks_the_day() {
        let steps = list(5);
        let last = &steps[steps.len() - 1];
        assert_eq!(cost(&steps), MicroUsd::new(3 * 10_000 + 2 * 20_000 + 8_000));
        assert!(cost(&steps).micro() + last.good.price > day_cap(&steps).micro());
        assert!(cost(&steps) < day_cap(&steps));
    }
}
