//! The vocabulary of money: chains, assets, amounts, offers, purchases, authorizations.
//!
//! Everything above speaks these types. Nothing here knows bytes on a wire, a clock, a store or a runtime; `now` and
//! random bytes are arguments. Words are the field's own (README, "Words").

mod amount;
mod asset;
mod authorization;
mod chain;
mod offer;
mod offer_key;
mod party;
mod purchase;
mod reason;
mod receipt;
mod shipped;
mod text;
mod time;

pub use amount::{Amount, MicroUsd, MoneyTextError, Price};
pub use asset::{Asset, AssetId, AssetIdError, AssetTable, Eip712Name, parse_address};
pub use authorization::{Authorization, Signed, SignedError};
pub use chain::{ChainId, ChainIdError};
pub use offer::{Challenge, Flow, Offer, ProtocolId, Rejected, Scheme, TransferMethod, WireEntry};
pub use offer_key::{OfferKey, OfferKeyError};
pub use party::{AgentId, NameError, Payee, Payer, SessionName};
pub use purchase::{Nonce, PurchaseId, RequestKey};
pub use reason::{Reason, Retry};
pub use receipt::Receipt;
pub use text::{SellerText, escape_html, escape_log, escape_slack};
pub use time::Timestamp;
