//! What a seller claims about the settlement.

use super::SellerText;

/// A decoded `PAYMENT-RESPONSE` / `X-PAYMENT-RESPONSE`. An unsigned claim: it never lowers a hold (M1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The seller says the payment was settled.
    pub success: bool,
    /// The transaction hash it names, if it is a well-formed 32-byte hash.
    pub transaction: Option<String>,
    /// Its machine reason for a failure.
    pub error: Option<SellerText>,
}
