//! What every test needs: the program, sellers, agents, a chain that counts.

mod agent;
mod chain;
#[cfg(feature = "failpoints")]
mod cosigner;
mod http2;
mod minisign;
mod program;
mod seller;
mod setup;
mod tls;
mod wire;
mod x402;

use std::time::{Duration, Instant};

pub(crate) use agent::{Agent, Response, basic};
pub(crate) use chain::Chain;
#[cfg(feature = "failpoints")]
pub(crate) use cosigner::{Cosigner, Wallet, tollpass};
pub(crate) use http2::{Agent2, Message, Seen2, Seller2, agreed, get};
pub(crate) use minisign::Minisign;
pub(crate) use program::{Program, payer};
pub(crate) use seller::{Call, Next, Seller, seller_text};
pub(crate) use setup::Setup;
pub(crate) use tls::TestCa;
pub(crate) use wire::{Head, Wire, free_port, sha256};
#[cfg(feature = "failpoints")]
pub(crate) use x402::worth;
pub(crate) use x402::{Act, Plan, Receipt, Terms, TransferWithAuthorization, Visit, X402, challenge, present, shop};

/// Nothing in these tests legitimately takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `cond` holds; panics with `what` if it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut cond: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !cond() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
