//! The outcome table (M1.3, M1.6, M1.7): what may be concluded from the answer to a paid request. Never "money back".

use std::time::Duration;

use http::StatusCode;

use crate::ledger::Outcome;
use crate::payment::{Flow, Receipt, SellerText, Timestamp};

/// The head of an answer to a request that carried a payment.
#[derive(Clone, Debug)]
pub struct Answered<'a> {
    /// Status.
    pub status: StatusCode,
    /// Decoded receipt header, a claim.
    pub receipt: Option<&'a Receipt>,
    /// The `error` of a challenge that came back, a claim.
    pub error: Option<&'a SellerText>,
    /// The flow that was paid under.
    pub flow: Flow,
    /// These bytes had been presented before.
    pub again: bool,
}

/// Codes by which sellers say that an authorization was used up (x402 reference §8).
const USED: [&str; 3] = ["nonce_already_used", "authorization_used", "authorization is used"];

/// Judges an answer's head. `settled` may still become `lost` if the body is cut short.
pub fn judge(answer: &Answered<'_>, now: Timestamp, lost_hold: Duration) -> Outcome {
    let until = now.plus_millis(i64::try_from(lost_hold.as_millis()).unwrap_or(i64::MAX));
    let claimed = answer.receipt.is_some_and(|r| r.success);
    if answer.status.as_u16() < 400 {
        // The default flow settles every status below 400, so 204, 302 and 304 are bought too; a failed receipt beside
        // a good answer proves nothing either way.
        let denied = answer.receipt.is_some_and(|r| !r.success);
        return if denied { Outcome::Open } else { Outcome::Settled };
    }
    if claimed || answer.flow != Flow::Authorization {
        return Outcome::Lost { until };
    }
    let says_used = |text: &SellerText| USED.iter().any(|code| text.mentions(code));
    let used = answer.error.is_some_and(says_used) || answer.receipt.and_then(|r| r.error.as_ref()).is_some_and(says_used);
    if used && answer.again { Outcome::Lost { until } } else { Outcome::Open }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m1_7_the_outcome_table() {
        let ok = Receipt { success: true, transaction: None, error: None };
        let failed = Receipt { success: false, transaction: None, error: Some(SellerText::new("invalid_exact_evm_nonce_already_used")) };
        let text = SellerText::new("invalid_exact_evm_nonce_already_used");
        let (settled, open) = (Outcome::Settled, Outcome::Open);
        let lost = Outcome::Lost { until: Timestamp::from_secs(60) };
        let row = |status, receipt, error, flow, again| {
            let answer = Answered { status: StatusCode::from_u16(status).unwrap_or_default(), receipt, error, flow, again };
            judge(&answer, Timestamp::from_secs(0), Duration::from_secs(60))
        };
        use Flow::{Authorization as A, Upfront as U};
        for status in [200, 204, 302, 304] {
            assert_eq!(row(status, None, None, A, false), settled, "{status}");
        }
        assert_eq!(row(200, Some(&failed), None, A, false), open);
        assert_eq!(row(500, None, None, A, false), open);
        assert_eq!(row(500, Some(&ok), None, A, false), lost);
        assert_eq!(row(500, None, None, U, false), lost);
        assert_eq!(row(402, None, None, A, false), open);
        assert_eq!(row(402, Some(&failed), None, A, true), lost);
        assert_eq!(row(402, None, Some(&text), A, true), lost);
        assert_eq!(row(402, None, Some(&text), A, false), open, "first use: the seller's word proves nothing");
    }
}
