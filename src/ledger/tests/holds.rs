//! Reserving, committing, giving back (M1.5, M2).

use super::*;

fn stale(result: Result<Reservation, ReserveError>) -> Option<Violation> {
    match result {
        Err(ReserveError::Stale(violation)) => violation,
        other => panic!("not stale: {other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_reservation_gives_back_money_and_rate_m2_5() {
    let (_dir, ledger) = fresh();
    let reservation = ledger.reserve(approve(7, vec![]), new(1), T0).unwrap();
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (7, 1));
    drop(reservation);
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (0, 0));
    drop(ledger.reserve(approve(7, vec![]), new(1), T0).unwrap().commit());
    assert_eq!(spent(&ledger, hour()), 0, "a commit that was never polled holds nothing");
}

#[tokio::test]
async fn a_dropped_commitment_stays_spent_m1_3() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, 7, 1).await);
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (7, 1));
}

#[tokio::test]
async fn a_limit_is_inclusive_and_its_violation_has_the_numbers_m2_1() {
    let (_dir, ledger) = fresh();
    let held = ledger.reserve(approve(60, vec![cap(hour(), 100)]), new(1), T0).unwrap();
    let exact = ledger.reserve(approve(40, vec![cap(hour(), 100)]), new(2), T0).unwrap();
    drop(exact);
    let v = stale(ledger.reserve(approve(41, vec![cap(hour(), 100)]), new(3), T0)).unwrap();
    assert_eq!(
        (v.reason, v.amount, v.limit, v.remaining),
        (Reason::CapHour, Some(MicroUsd::new(41)), Some(MicroUsd::new(100)), Some(MicroUsd::new(40)))
    );
    assert_eq!((v.resets_at, v.offer, v.rule), (Some(hour().until), Some(0), Some(RuleId("caps.hour".into()))));
    drop(held);
    assert!(ledger.reserve(approve(41, vec![cap(hour(), 100)]), new(3), T0).is_ok());
}

#[tokio::test]
async fn a_cap_for_all_time_never_resets() {
    let (_dir, ledger) = fresh();
    let v = stale(ledger.reserve(approve(2, vec![cap(everything(), 1)]), new(1), T0)).unwrap();
    assert_eq!((v.resets_at, v.remaining), (None, Some(MicroUsd::new(1))));
}

#[tokio::test]
async fn a_limit_below_what_is_spent_leaves_nothing_m2_2() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, 50, 1).await);
    let v = stale(ledger.reserve(approve(1, vec![cap(hour(), 20)]), new(2), T0)).unwrap();
    assert_eq!(v.remaining, Some(MicroUsd::ZERO));
}

#[tokio::test]
async fn a_new_limit_starts_from_history_m2_2() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, 50, 1).await);
    let entry_cap = Check { scope: Scope::Entry(agent(), entry()), ..cap(hour(), 60) };
    assert!(ledger.reserve(approve(10, vec![entry_cap.clone()]), new(2), T0).is_ok());
    assert!(stale(ledger.reserve(approve(11, vec![entry_cap]), new(2), T0)).is_some());
}

#[tokio::test]
async fn all_checks_hold_or_nothing_is_posted_m2_5() {
    let (_dir, ledger) = fresh();
    let other = Check { limit: Limit::Spend(MicroUsd::new(1)), ..cap(everything(), 0) };
    stale(ledger.reserve(approve(5, vec![cap(hour(), 100), other]), new(1), T0));
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (0, 0));
}

#[tokio::test]
async fn an_approval_of_another_epoch_or_an_ended_period_is_decided_again_m2_2() {
    let (_dir, ledger) = fresh();
    assert!(stale(ledger.reserve(approve(1, vec![cap(hour(), 9)]), new(1), T0.plus_secs(3600))).is_none());
    let reservation = ledger.reserve(approve(1, vec![]), new(1), T0).unwrap();
    ledger.set_epoch(1);
    assert!(stale(ledger.reserve(approve(1, vec![]), new(1), T0)).is_none());
    assert!(matches!(reservation.commit().await, Err(ReserveError::Stale(None))), "commit checks the epoch once more");
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (0, 0));
}

#[tokio::test]
async fn a_limit_on_a_counter_we_do_not_post_to_is_never_passed() {
    let (_dir, ledger) = fresh();
    let foreign = Check { scope: Scope::Agent("other".parse().unwrap()), ..cap(hour(), 100) };
    assert!(stale(ledger.reserve(approve(1, vec![foreign]), new(1), T0)).is_none());
}

#[tokio::test]
async fn a_rate_counts_commitments_and_a_void_is_not_refunded_m2_5() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    buy(&ledger, 1, 2).await.void(DefinitelyUnsigned::attest());
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (1, 2));
    let v = stale(ledger.reserve(approve(1, vec![rate(T0, 2)]), new(3), T0)).unwrap();
    assert_eq!((v.reason, v.resets_at, v.limit), (Reason::RateLimited, Some(T0.plus_secs(60)), None));
    assert!(ledger.reserve(approve(1, vec![rate(T0, 3)]), new(3), T0).is_ok());
    let later = T0.plus_secs(60);
    assert!(ledger.reserve(approve(1, vec![rate(later, 1)]), new(3), later).is_ok(), "now - at < span no longer holds");
}

#[tokio::test]
async fn a_commitment_after_the_decision_counts_in_its_rate_m2_5() {
    let (_dir, ledger) = fresh();
    let decided_before = rate(T0, 1);
    drop(buy_at(&ledger, 1, new(1), T0.plus_millis(500)).await);
    assert!(stale(ledger.reserve(approve(1, vec![decided_before]), new(2), T0)).is_some());
}

#[test]
fn concurrent_holds_never_exceed_a_cap_m2_5() {
    let (_dir, ledger) = fresh();
    let kept = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let ledger = &ledger;
                scope.spawn(move || {
                    let attempts = (0..125).map(|_| ledger.reserve(approve(3, vec![cap(hour(), 1000)]), new(1), T0).ok());
                    // Every fifth is given back, while others compete for it.
                    attempts.flatten().enumerate().filter_map(|(i, r)| (i % 5 != 0).then_some(r)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let held = i64::try_from(kept.len()).unwrap() * 3;
    assert_eq!(spent(&ledger, hour()), held);
    assert!(held <= 1000 && held > 700, "{held}");
    assert!(ledger.reserve(approve(1000, vec![cap(hour(), 1000)]), new(1), T0).is_err());
    drop(kept);
    assert_eq!(spent(&ledger, hour()), 0);
}

#[tokio::test]
async fn the_intent_is_complete_before_anything_is_signed_m1_2_m1_5() {
    let (dir, ledger) = fresh();
    let purchase = new(1);
    let (id, payer) = (purchase.id, purchase.payer);
    let commitment = buy_at(&ledger, 9, NewPurchase { valid_after: 17, ..purchase }, T0.plus_millis(999)).await;
    let stored = Ledger::list(dir.path()).unwrap().remove(0);
    for p in [commitment.purchase(), &stored] {
        assert_eq!((p.id, p.nonce, p.state), (id, crate::payment::Nonce::derive(payer.0, &id), PurchaseState::Committed));
        assert_eq!((p.valid_after, p.valid_before), (17, u64::try_from(T0.secs()).unwrap() + 300));
        assert_eq!((p.host.as_str(), p.held, p.amount), ("api.bureau.example", MicroUsd::new(9), U256::from(9)));
        assert_eq!(p.wire, offer(9).wire);
    }
    let request = commitment.sign_request(&usdc()).unwrap();
    assert_eq!((request.authorization().digest(), request.id()), (stored.digest, &id));
    assert_eq!((request.authorization().to, request.authorization().from), (offer(9).payee, payer));
}

#[tokio::test]
async fn only_the_recorded_intent_can_be_signed() {
    let (_dir, ledger) = fresh();
    let commitment = buy(&ledger, 9, 1).await;
    let table = AssetTable::shipped();
    let other = table.iter().find(|a| a.id != usdc().id).unwrap();
    assert!(commitment.sign_request(other).is_none());
    let renamed = Asset { eip712: crate::payment::Eip712Name { name: "Other".into(), version: "2".into() }, ..Asset::clone(&usdc()) };
    assert!(commitment.sign_request(&Arc::new(renamed)).is_none());
}

#[tokio::test]
async fn void_gives_back_in_the_period_of_the_hold_m2_1() {
    let (dir, ledger) = fresh();
    let commitment = buy(&ledger, 9, 1).await;
    drop(buy_at(&ledger, 4, new(2), T0.plus_secs(3600)).await);
    commitment.void(DefinitelyUnsigned::attest());
    let next = Span { from: hour().until, until: hour().until.plus_secs(3600) };
    assert_eq!((spent(&ledger, hour()), spent(&ledger, next)), (0, 4));
    ledger.flush().await.unwrap();
    assert_eq!(Ledger::list(dir.path()).unwrap()[0].state, PurchaseState::Void);
}

#[tokio::test]
async fn void_needs_that_nothing_was_ever_signed_m1_5() {
    let (dir, ledger) = fresh();
    // Asked twice: the proof is about the second time only.
    let twice = buy(&ledger, 1, 1).await;
    let _ = (twice.sign_request(&usdc()), twice.sign_request(&usdc()));
    twice.void(DefinitelyUnsigned::attest());
    // Sent.
    let mut sent = buy(&ledger, 2, 2).await;
    sent.sent();
    sent.void(DefinitelyUnsigned::attest());
    // Adopted: somebody before may have signed.
    drop(buy(&ledger, 4, 3).await);
    adopt(&ledger, 3, T0).void(DefinitelyUnsigned::attest());
    assert_eq!(spent(&ledger, hour()), 7);
    // After a restart: perhaps sent.
    drop(buy(&ledger, 8, 4).await);
    drop(ledger);
    let ledger = open(&dir);
    adopt(&ledger, 4, T0).void(DefinitelyUnsigned::attest());
    assert_eq!(spent(&ledger, hour()), 15);
}

fn again(micro: i64, held: i64, checks: Vec<Check>) -> Approval {
    approve(micro, checks).holding(MicroUsd::new(held))
}

#[tokio::test]
async fn a_re_signature_keeps_the_nonce_and_holds_the_maximum_m1_2() {
    let (dir, ledger) = fresh();
    let mut commitment = buy(&ledger, 50, 1).await;
    let (nonce, digest) = (commitment.purchase().nonce, commitment.purchase().digest);
    let later = T0.plus_secs(3600);
    commitment.resign(again(80, 50, vec![]), 5, later).await.unwrap();
    let next = Span { from: later, until: later.plus_secs(3600) };
    assert_eq!((spent(&ledger, hour()), spent(&ledger, next), commitments(&ledger)), (50, 30, 1));
    commitment.resign(again(10, 80, vec![cap(everything(), 80)]), 5, later).await.unwrap();
    assert_eq!(spent(&ledger, everything()), 80);
    let p = commitment.purchase();
    assert_eq!((p.nonce, p.held, p.amount, p.valid_after), (nonce, MicroUsd::new(80), U256::from(10), 5));
    assert_ne!(p.digest, digest);
    assert_eq!(commitment.sign_request(&usdc()).unwrap().authorization().digest(), p.digest);
    let stored = Ledger::list(dir.path()).unwrap().remove(0);
    assert_eq!((stored.digest, stored.held, stored.amount), (p.digest, p.held, p.amount));
}

#[tokio::test]
async fn a_re_signature_is_checked_again_for_what_it_adds_m1_2() {
    let (_dir, ledger) = fresh();
    let mut commitment = buy(&ledger, 50, 1).await;
    drop(buy(&ledger, 40, 2).await);
    let limits = || vec![cap(hour(), 100), rate(T0, 2)];
    let before = snapshot(&ledger);
    assert!(matches!(commitment.resign(again(61, 50, limits()), 0, T0).await, Err(ReserveError::Stale(Some(_)))));
    assert!(matches!(commitment.resign(again(60, 49, limits()), 0, T0).await, Err(ReserveError::Stale(None))), "held changed since");
    let other_token = AssetTable::shipped().iter().find(|a| a.id != usdc().id).cloned().unwrap();
    let moved = Offer { amount: Amount::new(other_token.id, U256::from(1)), asset: other_token, ..offer(1) };
    let moved = Approval::for_test(agent(), moved, entry(), vec![], 0).holding(MicroUsd::new(50));
    assert!(matches!(commitment.resign(moved, 0, T0).await, Err(ReserveError::Stale(None))), "another token waits for dead");
    assert_eq!(snapshot(&ledger), before);
    commitment.resign(again(60, 50, limits()), 0, T0).await.unwrap();
    assert_eq!(spent(&ledger, hour()), 100);
}

#[tokio::test]
async fn an_unsure_clock_holds_nothing_m1_8() {
    let (_dir, ledger) = fresh();
    let mut commitment = buy(&ledger, 1, 1).await;
    assert!(!ledger.clock(ClockReading { wall: T0.plus_secs(90), boot_ms: reading(0).boot_ms }).sure);
    assert!(matches!(ledger.reserve(approve(1, vec![]), new(2), T0), Err(ReserveError::ClockUnsure)));
    assert!(matches!(commitment.resign(again(1, 1, vec![]), 0, T0).await, Err(ReserveError::ClockUnsure)));
    assert!(ledger.clock(reading(1)).sure);
    assert!(ledger.reserve(approve(1, vec![]), new(2), T0).is_ok());
}

#[tokio::test]
async fn time_in_the_ledger_never_runs_backwards_m1_8() {
    let (_dir, ledger) = fresh();
    drop(buy_at(&ledger, 1, new(1), T0.plus_secs(20)).await);
    let second = buy_at(&ledger, 1, new(2), T0).await;
    assert_eq!(second.purchase().at, T0.plus_secs(20));
}
