//! Tollpass: a forward HTTP proxy that pays for agents.
//!
//! An unmodified program sets `HTTP_PROXY`. When a seller answers 402, Tollpass reads the challenge, asks a policy, holds
//! the amount in a durable ledger, has exactly that signed, sends the request once more with the payment, and gives the
//! program the answer. A request that gets no 402 meets a plain proxy.
//!
//! # The path of a request
//!
//! 1. [`proxy`] accepts: absolute-form, or CONNECT, which is tunnelled or looked into as policy and configuration say.
//! 2. It names the caller: [`payment::AgentId`] by [`agents`]' tokens or the loopback default, else 407.
//! 3. It keeps the request body while it streams, if there is one and the policy could pay the host.
//! 4. It checks the resolved address, dials that address, sends. Not 402 → stream the answer back; done.
//! 5. [`protocol`] turns the 402 into a [`payment::Challenge`]. Not ours or malformed → back untouched.
//! 6. [`treasurer`]: an orphan under the same request key is adopted; else [`policy`] judges every offer →
//!    [`policy::Approval`], and [`ledger`] holds the amount and writes the intent in one durable transaction.
//! 7. The [`ledger::Commitment`] derives the one [`ledger::SignRequest`]; a [`signer`] answers; the recovered address must
//!    be the payer's; the protocol writes the credential.
//! 8. The proxy sends once more, follows no redirect, records the outcome, streams the answer back.
//!
//! What is refused comes back as 402 with a [`payment::Reason`], the rule and the numbers.
//!
//! # The layer rule
//!
//! One line, nothing points back: `main → cli → demo → app → {proxy | admin} → treasurer → signer → ledger → policy →
//! payment`, with `protocol → payment` beside it. `payment`, `protocol`, `policy` and the rules of `ledger` are pure: time
//! and random bytes are arguments. hyper lives in `net`, `proxy` and `wire::link`, SQL in `ledger::store`, Prometheus in
//! `metrics`.
//! `tests/it/layering.rs` fails on a name in the wrong place.
//!
//! # What the types prove
//!
//! [`policy::Approval`] (only policy makes one) → [`ledger::Reservation`] (dropped: released) → [`ledger::Commitment`]
//! (dropped: stays spent) → [`ledger::SignRequest`] → [`payment::Signed`]. Nothing that was not approved, held and written
//! down reaches a signer, and nothing a seller says brings money back.
//!
//! ARCHITECTURE.md goes on from here.

pub mod admin;
pub mod agents;
pub mod app;
pub mod ceremony;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cosigner;
pub mod crew;
pub mod custody;
pub mod demo;
pub mod failpoint;
pub mod journal;
pub mod ledger;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod payment;
pub mod policy;
pub mod protocol;
pub mod proxy;
pub mod records;
pub mod reload;
pub mod signer;
mod spelling;
pub mod state;
pub mod stops;
pub mod telemetry;
pub mod treasurer;
pub mod wire;

pub use tollpass_mpc as mpc;

pub(crate) use failpoint::failpoint;
