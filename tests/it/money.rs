//! The life of a purchase (M1.1–M1.9), budgets and repeats, as counted by the chain.

mod adoption;
mod budgets;
mod one_ledger;
mod one_nonce;
mod outcomes;
mod undelivered;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use alloy_primitives::U256;
use serde_json::json;

use crate::harness::{
    Act, Agent, Call, Chain, Next, Plan, Program, Receipt, Response, Seller, Setup, Terms, challenge, eventually, payer, shop,
};
use crate::till::{CENT, Gate, Till, hang_up, other_payee, payee, rows, signer_of, spent, try_get};

const MANY: usize = 20;

fn answer(status: u16) -> Act {
    Act::Answer(status, String::new(), Vec::new())
}

/// The default policy with further keys of its allow entry.
fn entry(keys: &str) -> Setup {
    Setup::new().policy(Setup::policy_with("per_payment: 5, day: 1000", keys, ""))
}

/// A seller whose terms change: the handlers in turn, by `which`.
fn turncoat(
    which: &Arc<AtomicUsize>,
    first: impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static,
    then: impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static,
) -> Seller {
    let which = which.clone();
    Seller::http(move |call| if which.load(Ordering::Acquire) == 0 { first(call) } else { then(call) })
}

/// The kept answers on the disk.
fn kept(program: &Program) -> Vec<String> {
    let dir = program.path("state/private/kept");
    let files = fs::read_dir(dir).into_iter().flatten().map_while(Result::ok);
    files.map(|f| f.file_name().to_string_lossy().into_owned()).filter(|n| !n.starts_with('.')).collect()
}

/// A till whose seller takes paid requests at once and answers when the gate opens.
fn gated(gate: &Gate) -> Till {
    let gate = gate.clone();
    Till::new(Setup::new(), move |visit| {
        gate.pass();
        Plan::ok(format!("sold {}", visit.before))
    })
}
