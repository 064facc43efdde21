//! Tollpass: a forward HTTP proxy that pays for agents.
pub mod failpoint;
pub(crate) use failpoint::failpoint;
pub mod payment;
pub mod ledger;
pub mod policy;
