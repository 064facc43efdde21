//! A co-signer's ledger: further counters (S4), what is live, and version 1 files.

use super::*;
use crate::policy::Cosigned;

const IDENTITY: &str = "sidecar-7";

fn payer() -> Payer {
    Payer(Address::repeat_byte(0xaa))
}

fn by(identity: &str, unverified: bool) -> Cosigned {
    Cosigned { identity: identity.into(), unverified, ticket: None }
}

/// Seconds after [`T0`] as Unix seconds.
fn until(s: i64) -> u64 {
    u64::try_from(T0.plus_secs(s).secs()).unwrap()
}

fn cosigned(micro: i64, ends: i64) -> Approval {
    approve(micro, vec![]).cosigned_as(by(IDENTITY, false), until(ends))
}

fn sums(ledger: &Ledger) -> [i64; 5] {
    ledger.read(|books| {
        let scopes = [
            Scope::Agent(agent()),
            Scope::Wallet(payer()),
            Scope::Payee(Payee(Address::repeat_byte(0xbb))),
            Scope::Identity(IDENTITY.into()),
            Scope::Unverified,
        ];
        scopes.map(|scope| books.spent(&scope, everything()).micro())
    })
}

async fn hold(ledger: &Ledger, approval: Approval, purchase: NewPurchase, at: Timestamp) -> Commitment {
    ledger.reserve(approval, purchase, at).unwrap().commit().await.unwrap()
}

#[tokio::test]
async fn a_cosigned_hold_counts_for_wallet_payee_identity_and_unverified_also_after_a_restart_s4() {
    let (dir, ledger) = fresh();
    let unverified = approve(5, vec![]).cosigned_as(by(IDENTITY, true), until(60));
    drop(hold(&ledger, cosigned(10, 60), new(1), T0).await);
    drop(hold(&ledger, unverified, new(2), T0).await);
    drop(hold(&ledger, approve(100, vec![]).cosigned_as(by("other", false), until(60)), new(3), T0).await);
    let before = sums(&ledger);
    assert_eq!(before, [115, 115, 115, 15, 5]);
    assert_eq!(ledger.read(|b| b.live_total(T0)).micro(), 115);
    drop(ledger);
    let again = open(&dir);
    assert_eq!(sums(&again), before);
    assert_eq!(again.read(|b| b.live_total(T0)).micro(), 115);
    assert_eq!(again.read(|b| b.live_total(T0.plus_secs(60))).micro(), 0, "every window has ended");
    assert_eq!(again.read(|b| b.open().filter(|p| p.cosigned.as_deref() == Some(&by(IDENTITY, true))).count()), 1);
}

#[tokio::test]
async fn a_proxys_hold_counts_for_agent_and_entry_alone() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, 10, 1).await);
    assert_eq!(sums(&ledger), [10, 0, 0, 0, 0]);
    assert_eq!(ledger.read(|b| b.live_total(T0)).micro(), 0);
}

#[tokio::test]
async fn a_cap_of_a_payee_is_checked_under_the_lock_and_one_on_a_scope_nobody_posts_to_holds_nothing() {
    let (_dir, ledger) = fresh();
    let check = |scope: Scope| Check {
        scope,
        span: everything(),
        limit: Limit::Spend(MicroUsd::new(15)),
        rule: RuleId("caps.payee.day".into()),
        reason: Reason::CapPayee,
    };
    let payee = Scope::Payee(Payee(Address::repeat_byte(0xbb)));
    let capped = |micro| approve(micro, vec![check(payee.clone())]).cosigned_as(by(IDENTITY, false), until(60));
    let _held = hold(&ledger, capped(10), new(1), T0).await;
    let Err(ReserveError::Stale(Some(why))) = ledger.reserve(capped(6), new(2), T0) else { panic!("above the cap") };
    assert_eq!((why.reason, why.remaining), (Reason::CapPayee, Some(MicroUsd::new(5))));
    let _rest = hold(&ledger, capped(5), new(3), T0).await;
    let foreign = approve(1, vec![check(Scope::Unverified)]).cosigned_as(by(IDENTITY, false), until(60));
    assert!(matches!(ledger.reserve(foreign, new(4), T0), Err(ReserveError::Stale(None))), "that limit would never fill");
}

#[tokio::test]
async fn what_is_live_stays_under_its_bound_until_windows_end() {
    let (_dir, ledger) = fresh();
    let held = hold(&ledger, cosigned(10, 60).with_live(20), new(1), T0).await;
    let Err(ReserveError::Stale(Some(why))) = ledger.reserve(cosigned(11, 90).with_live(20), new(2), T0) else { panic!("21 live") };
    assert_eq!((why.reason, why.remaining, why.resets_at), (Reason::LiveTotal, Some(MicroUsd::new(10)), Some(T0.plus_secs(60))));
    let pending = ledger.reserve(cosigned(10, 90).with_live(20), new(3), T0).unwrap();
    assert!(ledger.reserve(cosigned(1, 90).with_live(20), new(4), T0).is_err(), "what is only reserved counts");
    drop(pending);
    assert_eq!(ledger.read(|b| b.live_total(T0)).micro(), 10);
    // At its end the window is over; a new window of the same purchase counts once.
    let mut held = held;
    let again = cosigned(12, 200).holding(MicroUsd::new(10)).with_live(12);
    held.resign(again, 0, T0.plus_secs(60)).await.unwrap();
    assert_eq!(ledger.read(|b| b.live_total(T0.plus_secs(61))).micro(), 12);
    assert_eq!(held.purchase().last_valid_before, until(200));
}

#[tokio::test]
async fn a_shorter_window_does_not_shorten_what_dead_is_measured_against_m1_4() {
    let (dir, ledger) = fresh();
    let mut held = hold(&ledger, cosigned(10, 300), new(1), T0).await;
    held.resign(cosigned(10, 100).holding(MicroUsd::new(10)), 0, T0).await.unwrap();
    assert_eq!((held.purchase().valid_before, held.purchase().last_valid_before), (until(100), until(300)));
    assert_eq!(ledger.read(|b| b.live_total(T0.plus_secs(150))).micro(), 10);
    drop((held, ledger));
    let kept = Ledger::list(dir.path()).unwrap().remove(0);
    assert_eq!((kept.valid_before, kept.last_valid_before), (until(100), until(300)));
}

#[tokio::test]
async fn a_cosigned_purchase_keeps_payee_entry_identity_and_budget_when_it_is_signed_again() {
    let (_dir, ledger) = fresh();
    let mut held = hold(&ledger, cosigned(10, 60), new(1), T0).await;
    let other_payee = {
        let offer = Offer { payee: Payee(Address::repeat_byte(0xcc)), ..offer(10) };
        Approval::for_test(agent(), offer, entry(), vec![], 0).cosigned_as(by(IDENTITY, false), until(60))
    };
    let other_entry = Approval::for_test(agent(), offer(10), RuleId("x".into()), vec![], 0).cosigned_as(by(IDENTITY, false), until(60));
    let other_identity = approve(10, vec![]).cosigned_as(by("b", false), until(60));
    let other_budget = approve(10, vec![]).cosigned_as(by(IDENTITY, true), until(60));
    for (what, approval) in [
        ("payee", other_payee),
        ("entry", other_entry),
        ("identity", other_identity),
        ("budget", other_budget),
        ("proxy", approve(10, vec![])),
    ] {
        let refused = held.resign(approval.holding(MicroUsd::new(10)), 0, T0).await;
        assert!(matches!(refused, Err(ReserveError::Stale(None))), "{what}");
    }
    held.resign(cosigned(12, 90).holding(MicroUsd::new(10)), 0, T0).await.unwrap();
    assert_eq!(sums(&ledger), [12, 12, 12, 12, 0]);
}

#[tokio::test]
async fn a_ticket_belongs_to_one_purchase_also_after_a_restart() {
    let (dir, ledger) = fresh();
    let with_ticket = || approve(10, vec![]).cosigned_as(Cosigned { ticket: Some([9; 16]), ..by(IDENTITY, false) }, until(60));
    drop(ledger.reserve(with_ticket(), new(1), T0).unwrap());
    let _held = hold(&ledger, with_ticket(), new(2), T0).await;
    let second = |ledger: &Ledger| match ledger.reserve(with_ticket(), new(3), T0) {
        Err(ReserveError::Stale(Some(why))) => why.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(second(&ledger), Reason::GrantInvalid);
    drop((_held, ledger));
    assert_eq!(second(&open(&dir)), Reason::GrantInvalid);
}

#[tokio::test]
async fn a_known_purchase_is_taken_and_the_one_before_loses_it() {
    let (_dir, ledger) = fresh();
    let purchase = new(1);
    let id = purchase.id;
    assert!(matches!(ledger.take(&id, T0), Taken::Unknown));
    let first = hold(&ledger, cosigned(10, 60), purchase, T0).await;
    let Taken::Known(second) = ledger.take(&id, T0) else { panic!("known") };
    first.void(DefinitelyUnsigned::attest());
    assert_eq!(sums(&ledger)[0], 10, "only the latest owner may void");
    assert_eq!(second.purchase().held.micro(), 10);
}

#[tokio::test]
async fn the_head_is_the_sequence_of_the_last_durable_change_and_only_grows_s2() {
    let (dir, ledger) = fresh();
    let start = ledger.head();
    let _held = buy(&ledger, 10, 1).await;
    let after = ledger.head();
    assert!(after > start, "a hold is durable before it is answered");
    drop((_held, ledger));
    let again = open(&dir);
    assert!(again.head() >= after);
}

#[tokio::test]
async fn a_version_1_ledger_is_brought_up_to_date_and_counts_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    conn.execute_batch(include_str!("schema_v1.sql")).unwrap();
    let id = [7_u8; 16];
    let nonce = crate::payment::Nonce::derive(payer().0, &PurchaseId::from_bytes(id));
    conn.execute(
        "INSERT INTO purchases VALUES (1, ?1, ?2, 'research-bot', NULL, 'bureau', 'api.example', 'GET', 'x402v2', '{}', NULL, NULL, \
         8453, ?3, 'USDC', '42', ?4, ?5, ?6, 0, ?7, ?8, 42, 'open', NULL, ?9, 0, NULL, x'', 900000, 1, 0, 'd', NULL)",
        rusqlite::params![
            id,
            [1_u8; 32],
            usdc().id.token.as_slice(),
            [0xbb_u8; 20],
            [0xaa_u8; 20],
            nonce.bytes().as_slice(),
            until(77).cast_signed(),
            [3_u8; 32],
            T0.millis()
        ],
    )
    .unwrap();
    let posting = "INSERT INTO postings VALUES (1, 1, 'research-bot', 'bureau', ?1, 42, 'hold')";
    conn.execute(posting, [T0.millis()]).unwrap();
    drop(conn);

    let shown = Ledger::list(dir.path()).unwrap().remove(0);
    assert_eq!((shown.last_valid_before, shown.cosigned), (until(77), None), "readable before it is opened");
    let ledger = open(&dir);
    assert_eq!(sums(&ledger), [42, 0, 0, 0, 0]);
    drop(hold(&ledger, cosigned(10, 60), new(1), T0).await);
    assert_eq!(sums(&ledger), [52, 10, 10, 10, 0]);
    drop(ledger);
    let again = open(&dir);
    assert_eq!(sums(&again), [52, 10, 10, 10, 0]);
    let windows: Vec<u64> = Ledger::list(dir.path()).unwrap().iter().map(|p| p.last_valid_before).collect();
    assert_eq!(windows, [until(77), until(60)]);
    drop(again);
    let conn = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    let version: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
    assert_eq!(version, 3);
}
