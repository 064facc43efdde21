//! Who may take over a purchase (M1.1, M1.4, M1.6).

use super::*;

fn joined(claim: &Claim) -> PurchaseId {
    match claim {
        Claim::Join(id) => *id,
        other => panic!("not joined: {other:?}"),
    }
}

#[tokio::test]
async fn identical_live_requests_are_separate_purchases_m1_1() {
    let (_dir, ledger) = fresh();
    let _first = buy(&ledger, 1, 1).await;
    assert!(matches!(claim(&ledger, 1, T0), Claim::New));
}

#[tokio::test]
async fn a_running_exchange_without_a_waiter_is_joined_once_m1_1() {
    let (_dir, ledger) = fresh();
    let mut running = buy(&ledger, 1, 1).await;
    let id = running.purchase().id;
    running.waiter(false);
    assert_eq!(joined(&claim(&ledger, 1, T0)), id);
    assert!(matches!(claim(&ledger, 1, T0), Claim::New), "it has a waiter again");
    ledger.waiter_gone(&id);
    assert_eq!(joined(&claim(&ledger, 1, T0)), id);
    running.consumed();
    ledger.waiter_gone(&id);
    assert!(matches!(claim(&ledger, 1, T0), Claim::New), "delivered");
}

#[tokio::test]
async fn who_repeats_while_a_purchase_is_on_its_way_to_the_disk_joins_it_once_its_waiter_is_gone_m1_1() {
    let (_dir, ledger) = fresh();
    let purchase = new(1);
    let id = purchase.id;
    let entered = || {
        assert!(matches!(claim(&ledger, 1, T0), Claim::New), "somebody waits");
        ledger.waiter_gone(&id);
        assert_eq!(joined(&claim(&ledger, 1, T0)), id);
        assert!(matches!(claim(&ledger, 1, T0), Claim::New), "one to one");
    };
    let commitment = ledger.reserve(approve(1, vec![]), purchase, T0).unwrap().commit_and(entered).await.unwrap();
    drop(commitment);
    assert_eq!(adopt(&ledger, 1, T0).purchase().id, id);
}

#[tokio::test]
async fn abandoned_purchases_are_adopted_one_to_one_oldest_first_m1_1() {
    let (_dir, ledger) = fresh();
    let mut left = Vec::new();
    for s in 0..20 {
        left.push(buy_at(&ledger, 1, new(1), T0.plus_secs(s)).await.purchase().id);
    }
    let adopted: Vec<_> = (0..20).map(|_| adopt(&ledger, 1, T0)).collect();
    assert_eq!(adopted.iter().map(|c| c.purchase().id).collect::<Vec<_>>(), left);
    assert!(matches!(claim(&ledger, 1, T0), Claim::New));
    assert!(matches!(claim(&ledger, 2, T0), Claim::New));
    drop(adopted);
    assert_eq!(adopt(&ledger, 1, T0).purchase().id, left[0]);
}

#[tokio::test]
async fn two_claims_at_once_never_get_the_same_purchase_m1_1() {
    let (_dir, ledger) = fresh();
    for _ in 0..20 {
        drop(buy(&ledger, 1, 1).await);
    }
    let claimed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..10).map(|_| claim(&ledger, 1, T0)).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let ids: std::collections::HashSet<_> =
        claimed.iter().filter_map(|c| if let Claim::Adopted(c) = c { Some(c.purchase().id) } else { None }).collect();
    let nothing = claimed.iter().filter(|c| matches!(c, Claim::New)).count();
    assert_eq!((ids.len(), nothing), (20, 20));
}

#[tokio::test]
async fn the_orphan_with_most_equal_headers_is_preferred_m1_1() {
    let (_dir, ledger) = fresh();
    let mut ids = Vec::new();
    for likeness in [&[1, 2][..], &[2, 3, 5], &[3, 5, 9], &[]] {
        ids.push(buy_at(&ledger, 1, like(1, likeness), T0).await.purchase().id);
    }
    let mut order = Vec::new();
    let mut kept = Vec::new();
    while let Claim::Adopted(c) = ledger.claim(&RequestKey([1; 32]), &Likeness(vec![3, 5, 9]), T0) {
        order.push(ids.iter().position(|id| *id == c.purchase().id).unwrap());
        kept.push(c);
    }
    assert_eq!(order, [2, 1, 0, 3]);
}

#[tokio::test]
async fn an_error_answer_leaves_an_orphan_and_a_delivery_none_m1_1() {
    let (_dir, ledger) = fresh();
    let mut failed = buy(&ledger, 1, 1).await;
    failed.outcome(Outcome::Open, None);
    assert!(matches!(claim(&ledger, 1, T0), Claim::New), "its waiter still reads the answer");
    drop(failed);
    let mut again = adopt(&ledger, 1, T0);
    again.outcome(Outcome::Settled, Some("0xabc".into()));
    again.consumed();
    assert!(matches!(claim(&ledger, 1, T0), Claim::New));
    assert_eq!(spent(&ledger, hour()), 1);
}

#[tokio::test]
async fn an_answer_is_joined_while_it_streams_and_adopted_when_its_keeper_let_go_m1_6() {
    let (_dir, ledger) = fresh();
    let mut keeper = buy(&ledger, 1, 1).await;
    keeper.waiter(false);
    keeper.outcome(Outcome::Settled, None);
    let Claim::Join(id) = claim(&ledger, 1, T0) else { panic!("the body still streams") };
    ledger.waiter_gone(&id);
    drop(keeper);
    let second = adopt(&ledger, 1, T0);
    assert_eq!(second.purchase().state, PurchaseState::Settled);
    assert!(matches!(claim(&ledger, 1, T0), Claim::New), "the second owner has it");
    drop(second);
    assert_eq!(adopt(&ledger, 1, T0).purchase().state, PurchaseState::Settled);
}

#[tokio::test]
async fn what_is_settled_stays_settled_when_its_bytes_are_shown_again_m1_3() {
    let (_dir, ledger) = fresh();
    let mut settled = buy(&ledger, 1, 1).await;
    settled.outcome(Outcome::Settled, Some("0xabc".into()));
    settled.sent();
    settled.outcome(Outcome::Open, None);
    assert_eq!((settled.purchase().state, settled.purchase().claimed_tx.as_deref()), (PurchaseState::Settled, Some("0xabc")));
}

#[tokio::test]
async fn a_lost_answer_refuses_the_identical_request_until_the_hold_ends_m1_6() {
    let (dir, ledger) = fresh();
    let until = T0.plus_secs(900);
    let mut lost = buy(&ledger, 5, 1).await;
    lost.outcome(Outcome::Lost { until }, None);
    drop(lost);
    let refused =
        |ledger: &Ledger, now| matches!(claim(ledger, 1, now), Claim::Lost { until: u, price } if u == until && price.micro() == 5);
    assert!(refused(&ledger, T0) && refused(&ledger, until.plus_millis(-1)));
    assert!(matches!(claim(&ledger, 1, until), Claim::New), "bought anew");
    drop(buy(&ledger, 1, 1).await);
    assert!(matches!(claim(&ledger, 1, T0), Claim::Adopted(_)), "another orphan comes before the refusal");
    drop(ledger);
    assert!(matches!(claim(&open(&dir), 1, T0), Claim::Adopted(_)));
    let ledger = open(&dir);
    let _kept = adopt(&ledger, 1, T0);
    assert!(refused(&ledger, T0));
}

#[tokio::test]
async fn an_orphan_past_its_window_is_still_adopted_and_marked_m1_4() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    assert_eq!(adopt(&ledger, 1, T0.plus_secs(299)).purchase().state, PurchaseState::Committed);
    let mut adopted = adopt(&ledger, 1, T0.plus_secs(300));
    assert_eq!(adopted.purchase().state, PurchaseState::ExpiredUnverified);
    let nonce = adopted.purchase().nonce;
    adopted.resign(approve(1, vec![]).holding(MicroUsd::new(1)), 0, T0.plus_secs(300)).await.unwrap();
    assert_eq!((adopted.purchase().state, adopted.purchase().nonce), (PurchaseState::Committed, nonce));
}

#[tokio::test]
async fn nobody_adopts_a_hold_that_is_not_durable_yet_m1_5() {
    let (dir, ledger) = fresh();
    let blocker = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = tokio::spawn(ledger.reserve(approve(1, vec![]), new(1), T0).unwrap().commit());
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    waiting.abort();
    let _ = waiting.await;
    assert!(matches!(claim(&ledger, 1, T0), Claim::New));
    assert_eq!(spent(&ledger, hour()), 1);
    blocker.execute_batch("ROLLBACK").unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(spent(&ledger, hour()), 1, "the caller hung up, the row was written: it counts");
    assert!(matches!(claim(&ledger, 1, T0), Claim::Adopted(_)));
}

#[tokio::test]
async fn the_first_delivery_sets_the_pin_m3_3() {
    let (dir, ledger) = fresh();
    let host = crate::policy::Host::parse("api.bureau.example").unwrap();
    let pin = |ledger: &Ledger| ledger.read(|b| b.pin(&agent(), &entry(), &host, usdc().id.chain));
    let first = buy(&ledger, 1, 1).await;
    assert_eq!(pin(&ledger), None, "a 402 or an authorization pins nothing");
    first.consumed();
    assert_eq!(pin(&ledger), Some(offer(1).payee.0));
    let moved = Offer { payee: Payee(Address::repeat_byte(0xcc)), ..offer(1) };
    let second = ledger.reserve(Approval::for_test(agent(), moved, entry(), vec![], 0), new(2), T0).unwrap();
    second.commit().await.unwrap().consumed();
    assert_eq!(pin(&ledger), Some(offer(1).payee.0));
    drop(ledger);
    assert_eq!(pin(&open(&dir)), Some(offer(1).payee.0));
}
