//! The judge with share 2: it signs nothing that it did not judge by itself (S4, S5).
//!
//! `server` takes verified envelopes and looks the identity up on every request; `registry` knows identities, agents and
//! revocations; `trust` separates Fact, Proven and Claimed in types; `judge` turns an intent into a [`judge::Permit`] over its
//! own policy and ledger; `sessions` runs the two round trips of a permit and nothing else; `store` is what must be durable
//! beside the ledger: keys and digests, replay ids, the registry, turns. `offer`, `probe` and `grant` are the three ways a
//! payee or a limit can be proven.

pub mod balance;
pub mod config;
pub mod facts;
pub mod grant;
pub mod judge;
pub mod offer;
pub mod probe;
pub mod registry;
pub mod run;
pub mod server;
pub mod sessions;
pub mod store;
pub mod trust;

#[cfg(test)]
mod tests;
