//! The real program on port 0 against sellers and agents in this process. One file per theme, one behaviour per test,
//! named as a rule. `harness` starts things; nothing in it knows how the program works inside.
#![allow(clippy::unwrap_used)]

mod access_log;
#[cfg(feature = "failpoints")]
mod adversary;
mod approvals;
#[cfg(feature = "failpoints")]
mod bans;
mod ceremony;
mod ceremony_crash;
#[cfg(feature = "failpoints")]
mod cosigner;
#[cfg(feature = "failpoints")]
mod cosigner_crash;
mod crash;
mod demo;
mod docs;
mod durability;
mod edge_body;
mod edge_http;
mod edge_operator;
mod edge_tunnel;
mod egress;
#[cfg(feature = "failpoints")]
mod fuzzed;
#[cfg(feature = "failpoints")]
mod grants;
mod handover;
mod handover_ways;
mod harness;
mod head_case;
mod hostile;
mod http2;
mod http2_corpus;
mod http2_only;
mod interim;
mod layering;
mod limits;
mod lines;
mod money;
#[cfg(feature = "failpoints")]
mod mtls;
mod naive;
mod parent;
mod people;
mod proxy_agents;
mod proxy_bodies;
mod proxy_challenges;
mod proxy_operator;
mod proxy_refusals;
mod proxy_reload;
mod proxy_requests;
mod proxy_tunnels;
mod proxy_upstream;
mod records;
mod reload_load;
mod risk;
mod second_opinion;
#[cfg(feature = "failpoints")]
mod secrets;
mod sessions;
mod signed;
mod smuggling;
mod soak;
mod spill;
mod stops;
mod supply;
#[cfg(feature = "failpoints")]
mod thief;
mod till;
mod trailers;
mod trust;
mod ways_in;
#[cfg(feature = "failpoints")]
mod wire_adversary;
