//! Tollpass: a forward HTTP proxy that pays for agents.
pub mod payment;
pub mod ledger;
pub mod policy;
pub mod protocol;
