//! Tollpass: a forward HTTP proxy that pays for agents.
pub mod admin;
pub mod agents;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod failpoint;
pub mod ledger;
pub mod metrics;
pub mod net;
pub mod payment;
pub mod policy;
pub mod protocol;
pub mod proxy;
pub mod reload;
pub mod signer;
pub mod state;
pub mod telemetry;
pub mod treasurer;

pub(crate) use failpoint::failpoint;
