//! The books themselves, where a boundary or a second time decides.

use super::*;
use crate::ledger::books::PinKey;
use crate::policy::{Cosigned, Host, Members, Standing, Stopped};

fn stale(result: Result<Reservation, ReserveError>) -> Option<Violation> {
    match result {
        Err(ReserveError::Stale(violation)) => violation,
        other => panic!("not stale: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_open_is_found_by_its_id_and_counted_for_its_agent_until_its_window_ends() {
    let (_dir, ledger) = fresh();
    let purchase = new(1);
    let id = purchase.id;
    let commitment = buy_at(&ledger, 5, purchase, T0).await;
    let end = i64::try_from(commitment.purchase().valid_before).unwrap();
    assert_eq!(ledger.read(|b| b.purchase(&id).map(|p| p.held)), Some(MicroUsd::new(5)));
    let open = |who: &AgentId, at: i64| ledger.read(|b| b.open_authorizations(who, Timestamp::from_secs(at)));
    let other: AgentId = "other".parse().unwrap();
    assert_eq!([open(&agent(), T0.secs()), open(&agent(), end - 1), open(&agent(), end), open(&agent(), end + 1)], [1, 1, 0, 0]);
    assert_eq!(open(&other, T0.secs()), 0);
    let second = buy(&ledger, 6, 2).await;
    assert_eq!(open(&agent(), T0.secs()), 2);
    let mut settled = second;
    settled.sent();
    assert_eq!(open(&agent(), T0.secs()), 2, "sent may still be used");
    settled.outcome(Outcome::Settled, None);
    assert_eq!(open(&agent(), T0.secs()), 1, "settled is used");
    commitment.consumed();
    assert!(ledger.read(|b| b.purchase(&id).is_none()));
}

#[tokio::test]
async fn m3_3_the_first_consumed_purchase_sets_the_pin_and_no_later_one() {
    let (dir, ledger) = fresh();
    let paid_to = |payee: u8| {
        let offer = Offer { payee: Payee(Address::repeat_byte(payee)), ..offer(1) };
        Approval::for_test(agent(), offer, entry(), vec![], 0)
    };
    let host = Host::parse("api.bureau.example").unwrap();
    let pin = |ledger: &Ledger| ledger.read(|b| b.pin(&agent(), &entry(), &host, usdc().id.chain));
    for (key, payee) in [(1, 0xb1), (2, 0xb2)] {
        ledger.reserve(paid_to(payee), new(key), T0).unwrap().commit().await.unwrap().consumed();
        assert_eq!(pin(&ledger), Some(Address::repeat_byte(0xb1)));
    }
    drop(ledger);
    let again = open(&dir);
    assert_eq!(pin(&again), Some(Address::repeat_byte(0xb1)));
    let key = PinKey { agent: agent(), entry: entry(), host: "new.example".into(), chain: usdc().id.chain };
    let set = |payee: u8| again.shared.state().books.pin_first(key.clone(), Payee(Address::repeat_byte(payee)));
    assert_eq!([set(1), set(1), set(2)], [true, false, false]);
}

#[tokio::test]
async fn a_decision_sees_what_is_stopped_and_when_a_rate_frees_up() {
    let (_dir, ledger) = fresh();
    let stopped = Stopped { by: "operator".into(), why: "test".into(), at: T0 };
    ledger.set_standing(Standing { killed: Some(stopped), ..Standing::default() }.into());
    assert!(ledger.read(|b| b.standing().killed.is_some()));
    ledger.set_standing(Standing::default().into());
    for (key, ms) in [(1, 0), (2, 10), (3, 20)] {
        drop(buy_at(&ledger, 1, new(key), T0.plus_millis(ms)).await);
    }
    let scope = Scope::Agent(agent());
    let nth = |from: i64, n: u32| {
        let span = Span { from: T0.plus_millis(from), until: Timestamp::from_millis(i64::MAX) };
        ledger.read(|b| b.nth_commitment(&scope, span, n)).map(|t| t.millis() - T0.millis())
    };
    assert_eq!(
        [nth(0, 0), nth(0, 2), nth(0, 3), nth(10, 0), nth(11, 0), nth(10, 1)],
        [Some(0), Some(20), None, Some(10), Some(20), Some(20)]
    );
}

#[tokio::test]
async fn m2_5_a_rate_that_is_full_says_when_as_many_have_left_as_must() {
    let (_dir, ledger) = fresh();
    for (key, ms) in [(1, 0), (2, 1_000), (3, 2_000)] {
        drop(buy_at(&ledger, 1, new(key), T0.plus_millis(ms)).await);
    }
    let now = T0.plus_millis(2_000);
    for (limit, frees_at) in [(3, 60_000), (2, 61_000), (1, 62_000)] {
        let v = stale(ledger.reserve(approve(1, vec![rate(now, limit)]), new(9), now)).unwrap();
        assert_eq!(v.resets_at, Some(T0.plus_millis(frees_at)), "{limit}");
    }
    let v = stale(ledger.reserve(approve(1, vec![rate(now, 0)]), new(9), now)).unwrap();
    assert_eq!(v.resets_at, None, "no passing of time helps");
    assert!(ledger.reserve(approve(1, vec![rate(now, 4)]), new(9), now).is_ok());
}

#[tokio::test]
async fn a_price_below_nothing_is_never_held_and_one_of_nothing_is() {
    let (_dir, ledger) = fresh();
    assert!(stale(ledger.reserve(approve(-1, vec![]), new(1), T0)).is_none());
    assert!(ledger.reserve(approve(0, vec![]), new(1), T0).is_ok());
    assert_eq!(commitments(&ledger), 0);
}

#[tokio::test]
async fn a_re_signature_that_adds_nothing_posts_nothing_m1_2() {
    let (_dir, ledger) = fresh();
    let commitment = buy(&ledger, 50, 1).await;
    for (price, posted) in [(50, None), (49, None), (51, Some(1))] {
        let approval = approve(price, vec![]).holding(MicroUsd::new(50));
        let mut state = ledger.shared.state();
        let before = Arc::clone(&state.books.index().get_mut(&commitment.purchase().id).unwrap().purchase);
        let (after, posting) = state.books.raise(&approval, &before, 0, T0).unwrap();
        assert_eq!((posting.as_ref().map(|p| p.micro), after.held.micro()), (posted, price.max(50)));
        state.books.undo_raise(&before.id, &before, posting.as_ref());
    }
    assert_eq!(spent(&ledger, hour()), 50, "what was undone was never posted");
    ledger.shared.state().books.undo_hold(&commitment.purchase().id);
    assert_eq!((spent(&ledger, hour()), commitments(&ledger)), (0, 0));
    assert!(ledger.read(|b| b.purchase(&commitment.purchase().id).is_none()));
}

#[tokio::test]
async fn an_undone_raise_takes_back_its_own_posting_and_no_other() {
    let (_dir, ledger) = fresh();
    let mut commitment = buy(&ledger, 50, 1).await;
    commitment.resign(approve(60, vec![]).holding(MicroUsd::new(50)), 0, T0).await.unwrap();
    {
        let mut state = ledger.shared.state();
        let before = Arc::clone(&state.books.index().get_mut(&commitment.purchase().id).unwrap().purchase);
        let again = approve(75, vec![]).holding(MicroUsd::new(60));
        let (_, posting) = state.books.raise(&again, &before, 0, T0).unwrap();
        state.books.undo_raise(&before.id, &before, posting.as_ref());
        let live = state.books.index().get_mut(&before.id).unwrap();
        assert_eq!(live.postings.iter().map(|p| p.micro).collect::<Vec<_>>(), [50, 10]);
        assert!(!live.writing);
    }
    commitment.resign(approve(80, vec![]).holding(MicroUsd::new(60)), 0, T0).await.unwrap();
    assert_eq!(spent(&ledger, hour()), 80);
}

#[tokio::test]
async fn a_counter_that_is_full_to_the_brim_takes_no_more_and_a_reset_at_the_end_of_time_is_never() {
    let (_dir, ledger) = fresh();
    drop(buy(&ledger, i64::MAX - 5, 1).await);
    assert_eq!(stale(ledger.reserve(approve(6, vec![]), new(2), T0)).unwrap().reason, Reason::AmountTooLarge);
    assert!(ledger.reserve(approve(5, vec![]), new(2), T0).is_ok());
    for (until, resets) in [(253_402_300_799_999, true), (253_402_300_800_000, false)] {
        let span = Span { from: T0, until: Timestamp::from_millis(until) };
        let v = stale(ledger.reserve(approve(1, vec![cap(span, 1)]), new(2), T0)).unwrap();
        assert_eq!(v.resets_at.is_some(), resets, "{until}");
    }
}

#[tokio::test]
async fn m2_2_a_list_that_the_policy_no_longer_names_is_no_longer_counted() {
    let (_dir, ledger) = fresh();
    let list = |names: &[&str]| Members::of(names.iter().map(|n| n.parse::<AgentId>().unwrap()));
    let (ours, theirs) = (list(&["research-bot", "x"]), list(&["research-bot", "y"]));
    let follow = |lists: &[&Members]| ledger.shared.state().books.follow(0, lists.iter().copied().cloned());
    let sums = || [&ours, &theirs].map(|m| ledger.read(|b| b.spent(&Scope::Shared(m.clone(), None), everything()).micro()));
    follow(&[&ours, &theirs]);
    drop(buy(&ledger, 7, 1).await);
    assert_eq!(sums(), [7, 7]);
    follow(&[&ours]);
    assert_eq!(sums(), [7, 0], "the one that stays keeps its sum");
    drop(buy(&ledger, 5, 2).await);
    assert_eq!(sums(), [12, 0]);
    follow(&[&ours, &theirs]);
    assert_eq!(sums(), [12, 12], "and the other starts from history again");
    follow(&[]);
    assert_eq!(sums(), [0, 0]);
}

fn live(micro: i64, ends: i64, ticket: Option<[u8; 16]>) -> Approval {
    let until = u64::try_from(T0.plus_secs(ends).secs()).unwrap();
    approve(micro, vec![]).cosigned_as(Cosigned { identity: "sidecar".into(), unverified: false, ticket }, until).with_live(20)
}

#[tokio::test]
async fn s4_what_is_live_tells_its_bound_and_counts_a_purchase_that_is_signed_again_once() {
    let (_dir, ledger) = fresh();
    let mut first = ledger.reserve(live(12, 60, None), new(1), T0).unwrap().commit().await.unwrap();
    let v = stale(ledger.reserve(live(9, 60, None), new(2), T0)).unwrap();
    assert_eq!((v.reason, v.offer, v.amount, v.rule), (Reason::LiveTotal, Some(0), Some(MicroUsd::new(9)), Some(RuleId("live".into()))));
    assert_eq!((v.limit, v.remaining), (Some(MicroUsd::new(20)), Some(MicroUsd::new(8))));
    // While its window is open its own 12 do not stand in its way; 21 would.
    let at = T0.plus_secs(59);
    let over = first.resign(live(21, 90, None).holding(MicroUsd::new(12)), 0, at).await;
    assert!(matches!(over, Err(ReserveError::Stale(Some(v))) if v.reason == Reason::LiveTotal && v.remaining == Some(MicroUsd::new(20))));
    first.resign(live(20, 90, None).holding(MicroUsd::new(12)), 0, at).await.unwrap();
    assert_eq!(ledger.read(|b| b.live_total(at)).micro(), 20);
    // When the window ends another one may take its place, and then there is no room to sign the first again.
    let end = T0.plus_secs(90);
    let _second = ledger.reserve(live(15, 200, None), new(3), end).unwrap().commit().await.unwrap();
    let again = first.resign(live(6, 200, None).holding(MicroUsd::new(20)), 0, end).await;
    assert!(matches!(again, Err(ReserveError::Stale(Some(v))) if v.remaining == Some(MicroUsd::new(5))), "what ended no longer makes room");
}

#[tokio::test]
async fn a_ticket_serves_the_purchase_it_was_used_for_again_and_no_other() {
    let (_dir, ledger) = fresh();
    let ticket = Some([9; 16]);
    let mut owner = ledger.reserve(live(5, 60, ticket), new(1), T0).unwrap().commit().await.unwrap();
    let mut other = ledger.reserve(live(5, 60, None), new(2), T0).unwrap().commit().await.unwrap();
    owner.resign(live(6, 70, ticket).holding(MicroUsd::new(5)), 0, T0).await.unwrap();
    let taken = other.resign(live(6, 70, ticket).holding(MicroUsd::new(5)), 0, T0).await;
    assert!(matches!(taken, Err(ReserveError::Stale(Some(v))) if v.reason == Reason::GrantInvalid));
}

#[tokio::test]
async fn m3_3_the_prices_behind_a_history_are_told_with_their_times() {
    let (_dir, ledger) = fresh();
    let host = Host::parse("api.bureau.example").unwrap();
    let prices = |method: &str| ledger.read(|b| b.prices(&agent(), &entry(), &host, method));
    assert_eq!(prices("GET"), (None, vec![]));
    let later = T0.plus_secs(1);
    for (key, micro, at) in [(1, 7, T0), (2, 3, later)] {
        buy_at(&ledger, micro, new(key), at).await.consumed();
    }
    assert_eq!(prices("GET"), (Some(MicroUsd::new(7)), vec![(T0, MicroUsd::new(7)), (later, MicroUsd::new(3))]));
    assert_eq!(prices("POST"), (None, vec![]));
}
