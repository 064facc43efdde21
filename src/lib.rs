//! Tollpass: a forward HTTP proxy that pays for agents.
pub mod admin;
pub mod agents;
pub mod config;
pub mod ledger;
pub mod metrics;
pub mod net;
pub mod payment;
pub mod policy;
pub mod reload;
pub mod telemetry;
