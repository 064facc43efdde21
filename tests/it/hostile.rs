//! Sellers that lie, stall, overload or cheat: what the agent sees, what the chain counts, what the books say.

mod after_payment;
mod bodies;
mod challenges;
mod entries;
mod seller_text;

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, U256, hex};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::{Value, json};

use crate::harness::{
    Act, Agent, Call, Chain, Next, Plan, Program, Receipt, Response, Seller, Setup, Terms, X402, challenge, eventually, payer, seller_text,
    sha256, shop,
};
use crate::till::{CENT, Till, decode, hang_up, other_payee, payee, rows, try_get};

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

/// One cent of USDC, with one field changed.
fn entry(field: &str, value: impl Into<Value>) -> Value {
    let mut entry = Terms::entry(payee(), &CENT.to_string());
    entry[field] = value.into();
    entry
}

fn listing(accepts: Vec<Value>) -> Terms {
    let mut terms = Terms::v2(payee(), CENT);
    terms.accepts = accepts;
    terms
}

/// Nothing was signed, sent, moved or booked.
#[track_caller]
fn nothing_happened(till: &Till, what: &str) {
    assert_eq!((till.seller.paid().len(), till.chain.count(), rows(&till.program).len()), (0, 0, 0), "{what}");
}

/// A till whose seller's terms are chosen by the number in the path.
fn menu(setup: Setup, all: Vec<Terms>) -> Till {
    let chain = Chain::new();
    let counted = chain.clone();
    let seller = Seller::http(move |call| {
        let n: usize = call.head.target()[1..].parse().unwrap();
        shop(&counted, all[n].clone(), |_| Plan::ok("sold"))(call)
    });
    Till { chain, seller, program: Program::start(setup) }
}

/// A 402 with these header lines and this body, whatever is presented.
fn fixed(headers: impl Into<String>, body: impl AsRef<[u8]>) -> impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static {
    let (headers, body) = (headers.into(), body.as_ref().to_vec());
    move |call| call.reply(402, &headers, &body)
}

/// An answer of ours: a problem document without a word of the seller's.
#[track_caller]
fn ours(got: &Response, what: &str) {
    assert_eq!(got.head.get("content-type"), Some("application/problem+json"), "{what}");
    let head = format!("{:?}", got.head);
    for text in ["SELLER-CANARY", "X-Evil", "x-evil", "payment-required"] {
        assert!(!got.text().contains(text) && !head.to_lowercase().contains(&text.to_lowercase()), "{what}: {head} {}", got.text());
    }
}
