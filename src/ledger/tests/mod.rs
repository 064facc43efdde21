//! What the ledger promises, one behaviour per test.
#![allow(clippy::unwrap_used)]

mod claims;
mod conditions;
mod cosigned;
mod counted;
#[cfg(feature = "failpoints")]
mod crash;
mod durability;
mod holds;
mod interleavings;
mod properties;
mod shared;
mod speed;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, U256};
use tempfile::TempDir;

use super::*;
use crate::payment::{AgentId, Amount, Asset, AssetTable, Flow, Offer, Payee, ProtocolId, Reason, Scheme, TransferMethod, WireEntry};
use crate::policy::{Check, Limit, RuleId, Scope, Span, View};

/// 2026-11-21 10:00 UTC: a full hour.
const T0: Timestamp = Timestamp::from_secs(1_795_255_200);

/// A reading of clocks that agree, `s` seconds after [`T0`].
fn reading(s: i64) -> ClockReading {
    ClockReading { wall: T0.plus_secs(s), boot_ms: 1_000_000 + s * 1000 }
}

fn options(dir: &Path) -> Options {
    Options { dir: dir.to_owned(), ephemeral_ok: true, accept_clock: false }
}

fn open(dir: &TempDir) -> Ledger {
    Ledger::open(&options(dir.path()), reading(0)).unwrap()
}

fn fresh() -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir);
    (dir, ledger)
}

fn agent() -> AgentId {
    "research-bot".parse().unwrap()
}

fn entry() -> RuleId {
    RuleId("bureau".into())
}

fn usdc() -> Arc<Asset> {
    let id = "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".parse().unwrap();
    Arc::clone(AssetTable::shipped().get(&id).unwrap())
}

fn offer(micro: i64) -> Offer {
    let asset = usdc();
    Offer {
        index: 0,
        protocol: ProtocolId::X402V2,
        scheme: Scheme::Exact,
        flow: Flow::Authorization,
        transfer: TransferMethod::Eip3009,
        amount: Amount::new(asset.id, U256::from(micro.unsigned_abs())),
        asset,
        price: MicroUsd::new(micro),
        payee: Payee(Address::repeat_byte(0xbb)),
        max_timeout: 60,
        wire: WireEntry { accepted: format!(r#"{{"amount":"{micro}"}}"#).into(), resource: Some("{}".into()), extensions: None },
    }
}

/// The hour of [`T0`].
fn hour() -> Span {
    Span { from: T0, until: T0.plus_secs(3600) }
}

fn everything() -> Span {
    Span { from: Timestamp::from_millis(0), until: Timestamp::from_millis(i64::MAX) }
}

fn cap(span: Span, micro: i64) -> Check {
    let rule = RuleId("caps.hour".into());
    Check { scope: Scope::Agent(agent()), span, limit: Limit::Spend(MicroUsd::new(micro)), rule, reason: Reason::CapHour }
}

fn rate(now: Timestamp, count: u32) -> Check {
    let span = Span { from: now.plus_millis(1 - 60_000), until: now.plus_millis(1) };
    Check {
        scope: Scope::Agent(agent()),
        span,
        limit: Limit::Count(count),
        rule: RuleId("rate.per_minute".into()),
        reason: Reason::RateLimited,
    }
}

fn approve(micro: i64, checks: Vec<Check>) -> Approval {
    Approval::for_test(agent(), offer(micro), entry(), checks, 0)
}

/// A purchase under request key `key`.
fn new(key: u8) -> NewPurchase {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    NewPurchase {
        id: PurchaseId::from_bytes(id),
        key: RequestKey([key; 32]),
        likeness: Likeness::default(),
        payer: Payer(Address::repeat_byte(0xaa)),
        host: "API.bureau.example.".into(),
        method: "GET".into(),
        valid_after: 0,
    }
}

fn like(key: u8, likeness: &[u64]) -> NewPurchase {
    NewPurchase { likeness: Likeness(likeness.to_vec()), ..new(key) }
}

async fn buy_at(ledger: &Ledger, micro: i64, purchase: NewPurchase, at: Timestamp) -> Commitment {
    ledger.reserve(approve(micro, vec![]), purchase, at).unwrap().commit().await.unwrap()
}

async fn buy(ledger: &Ledger, micro: i64, key: u8) -> Commitment {
    buy_at(ledger, micro, new(key), T0).await
}

fn spent(ledger: &Ledger, span: Span) -> i64 {
    ledger.read(|books| {
        let (agent, entry) = (Scope::Agent(agent()), Scope::Entry(agent(), entry()));
        let spent = books.spent(&agent, span).micro();
        assert_eq!(books.spent(&entry, span).micro(), spent, "agent and entry are posted together");
        spent
    })
}

fn commitments(ledger: &Ledger) -> u32 {
    ledger.read(|books| books.commitments(&Scope::Agent(agent()), everything()))
}

fn claim(ledger: &Ledger, key: u8, now: Timestamp) -> Claim {
    ledger.claim(&RequestKey([key; 32]), &Likeness::default(), now)
}

fn adopt(ledger: &Ledger, key: u8, now: Timestamp) -> Commitment {
    match claim(ledger, key, now) {
        Claim::Adopted(commitment) => commitment,
        other => panic!("not adopted: {other:?}"),
    }
}

/// What a restart must preserve.
fn snapshot(ledger: &Ledger) -> String {
    ledger.read(|books| {
        let mut open: Vec<_> = books
            .open()
            .map(|p| {
                format!(
                    "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
                    p, p.key, p.at, p.held, p.amount, p.valid_before, p.digest, p.signature, p.lost_until
                )
            })
            .collect();
        open.sort();
        let hours: Vec<_> = (0..6)
            .map(|h| Span { from: T0.plus_secs(h * 3600), until: T0.plus_secs(h * 3600 + 3600) })
            .map(|span| books.spent(&Scope::Agent(agent()), span))
            .collect();
        let entry_total = books.spent(&Scope::Entry(agent(), entry()), everything());
        let pin = books.pin(&agent(), &entry(), &crate::policy::Host::parse("api.bureau.example").unwrap(), usdc().id.chain);
        format!("{open:#?}\n{hours:?}\n{entry_total:?}\n{pin:?}")
    })
}
