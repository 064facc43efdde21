//! One rule per row: what is signed and what is refused, and with which code.

use super::*;
use crate::payment::Reason;
use crate::wire::message::Settle;

#[tokio::test]
async fn a_permit_is_the_authorization_of_our_own_table_and_nonce_held_on_disk() {
    let court = Court::new(POLICY);
    let asked = intent(1, 10_000);
    let permit = court.ask(&asked).await.unwrap();
    assert_eq!(permit.digest(), expected(&asked).unwrap().digest(), "what the proxy has in mind, to the byte");
    assert_eq!(permit.authorization().nonce, Nonce::derive(WALLET, &PurchaseId::from_bytes([1; 16])));
    assert_eq!(court.judge.remaining(&permit).unwrap().micro(), 1_490_000);
    let head = court.judge.head();
    court.judge.released(permit);
    let court = court.restart(POLICY);
    assert_eq!(court.held(), 10_000);
    assert!(court.judge.head() >= head);
}

#[tokio::test]
async fn each_fact_that_is_not_so_is_refused_with_its_code_and_holds_nothing() {
    type Change = fn(&mut Intent);
    let table: [(&str, Change); 22] = [
        ("wire_version", |i| i.version = 2),
        ("wallet_unknown", |i| i.wallet = "other".into()),
        ("stale_epoch", |i| i.epoch = 2),
        ("agent_not_tied", |i| i.agent = "other".into()),
        ("agent_not_tied", |i| i.agent = "no such name !".into()),
        ("wrong_payer", |i| i.from = [0xdd; 20]),
        ("unsupported_network", |i| i.chain = 0),
        ("unknown_asset", |i| i.token = [0x77; 20]),
        ("unknown_asset", |i| i.chain = 999_999),
        ("invalid_payee", |i| i.to = [0; 20]),
        ("invalid_payee", |i| i.to = WALLET.into()),
        ("invalid_payee", |i| i.to = i.token),
        ("amount_too_large", |i| i.value = [0xff; 32]),
        ("zero_amount", |i| i.value = [0; 32]),
        ("window_not_open", |i| i.valid_after = u64::try_from(NOW).unwrap() + 1),
        ("window_too_short", |i| i.valid_before = u64::try_from(NOW).unwrap() + 9),
        ("window_too_long", |i| i.valid_before = u64::try_from(NOW).unwrap() + 601),
        ("window_too_long", |i| i.valid_before = u64::MAX),
        ("cap_per_payment", |i| i.value = U256::from(500_001).to_be_bytes()),
        ("cap_unverified", |i| {
            i.to = [0x99; 20];
            i.value = U256::from(20_001).to_be_bytes();
        }),
        ("denied", |i| i.claims.host = "casino.example".into()),
        ("not_allowed", |i| {
            i.claims.host = "api.example.evil".into();
            i.claims.method = "POST".into();
        }),
    ];
    let court = Court::new(POLICY);
    for (i, (reason, change)) in table.into_iter().enumerate() {
        assert_eq!(court.reason(&but(intent(1, 10_000), change)).await, reason, "row {i}");
    }
    assert_eq!(court.held(), 0);
    assert_eq!(court.world.alarms.load(Ordering::Relaxed), 2, "each foreign agent is an alarm");
    for (purchase, left) in [(10, 10), (11, 600)] {
        let fits = but(intent(purchase, 10_000), |i| i.valid_before = u64::try_from(NOW).unwrap() + left);
        assert_eq!(court.reason(&fits).await, "permit", "{left} seconds");
    }
}

#[tokio::test]
async fn a_wallet_made_on_one_host_signs_for_test_networks_only() {
    let court = Court::with(POLICY, Origin::OneHost, None);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "trial_wallet");
    let test = but(intent(2, 10_000), |i| {
        i.chain = 84_532;
        i.token = alloy_primitives::address!("036CbD53842c5426634e7929541eC2318f3dCF7e").into();
        i.claims.host = "test.example".into();
    });
    assert_eq!(court.reason(&test).await, "permit");
}

#[tokio::test]
async fn a_frozen_wallet_or_a_clock_that_jumped_signs_nothing() {
    let court = Court::new(POLICY);
    court.world.frozen.store(true, Ordering::Relaxed);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "wallet_frozen");
    court.world.frozen.store(false, Ordering::Relaxed);
    court.world.jumped.store(200, Ordering::Relaxed);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "clock_unsure");
    court.world.jumped.store(0, Ordering::Relaxed);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "permit");
}

#[tokio::test]
async fn the_same_digest_is_held_once_and_signed_at_most_five_times_s5() {
    let court = Court::new(POLICY);
    for session in 1..=5 {
        assert_eq!(court.reason(&intent(1, 10_000)).await, "permit", "session {session}");
    }
    assert_eq!(court.reason(&intent(1, 10_000)).await, "signed_too_often");
    assert_eq!(court.held(), 10_000);
    let court = court.restart(POLICY);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "signed_too_often", "also after a restart");
    assert_eq!(court.held(), 10_000);
}

#[tokio::test]
async fn one_key_belongs_to_one_digest_for_ever_s5() {
    let court = Court::new(POLICY);
    let first = intent(1, 10_000);
    drop(court.ask(&first).await.unwrap());
    let mut dearer = intent(1, 20_000);
    dearer.key = first.key;
    assert_eq!(court.reason(&dearer).await, "idempotency_conflict");
    let mut foreign = intent(2, 10_000);
    foreign.key = first.key;
    assert_eq!(court.reason(&foreign).await, "idempotency_conflict");
    assert_eq!(court.held(), 10_000, "a conflict holds nothing");
}

#[tokio::test]
async fn new_terms_of_a_purchase_keep_its_nonce_and_hold_the_larger_amount_m1_2() {
    let court = Court::new(POLICY);
    let first = court.ask(&intent(1, 10_000)).await.unwrap();
    let dearer = court.ask(&intent(1, 30_000)).await.unwrap();
    assert_eq!(first.authorization().nonce, dearer.authorization().nonce);
    assert_eq!(court.held(), 30_000);
    let cheaper = court.ask(&intent(1, 20_000)).await.unwrap();
    assert_eq!(cheaper.authorization().value, U256::from(20_000));
    assert_eq!(court.held(), 30_000, "the dearer one may still be used");
    for (what, other) in [
        ("another payee", but(intent(1, 10_000), |i| i.to = [0x12; 20])),
        (
            "another token",
            but(intent(1, 10_000), |i| {
                i.chain = 137;
                i.token = alloy_primitives::address!("3c499c542cEF5E3811e1192ce70d8cC03d5c3359").into();
            }),
        ),
    ] {
        let reason = court.reason(&other).await;
        assert!(matches!(reason.as_str(), "payment_outstanding" | "not_allowed" | "unverified_payee"), "{what}: {reason}");
    }
    let agents = standing("elsewhere", &["bot", "other"]);
    assert_eq!(short(court.judge.consider(&intent(1, 10_000), &agents).await), "payment_outstanding", "another identity");
    let both = standing("sidecar", &["bot", "other"]);
    let other = but(intent(1, 10_000), |i| i.agent = "other".into());
    assert_eq!(short(court.judge.consider(&other, &both).await), "payment_outstanding", "another agent");
    assert_eq!(court.held(), 30_000);
}

#[tokio::test]
async fn an_expired_window_is_signed_again_under_the_same_hold_m1_4() {
    let court = Court::new(POLICY);
    drop(court.ask(&intent(1, 10_000)).await.unwrap());
    court.pass(400);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "window_too_short");
    let later = but(intent(1, 10_000), |i| i.valid_before += 400);
    assert_eq!(court.reason(&later).await, "permit");
    assert_eq!(court.held(), 10_000);
}

#[tokio::test]
async fn before_the_last_message_freeze_revocation_policy_and_time_are_looked_at_again_s5() {
    let court = Court::new(POLICY);
    let permit = court.ask(&intent(1, 10_000)).await.unwrap();
    let at = |s: i64| Timestamp::from_secs(NOW + s);
    assert_eq!(court.judge.still(&permit, at(290)), Ok(()));
    assert_eq!(court.judge.still(&permit, at(291)), Err(Reason::WindowTooShort));
    court.world.frozen.store(true, Ordering::Relaxed);
    assert_eq!(court.judge.still(&permit, at(0)), Err(Reason::WalletFrozen));
    court.world.frozen.store(false, Ordering::Relaxed);
    court.world.revoked.store(true, Ordering::Relaxed);
    assert_eq!(court.judge.still(&permit, at(0)), Err(Reason::IdentityRevoked));
    court.world.revoked.store(false, Ordering::Relaxed);
    *court.world.policy.lock().unwrap() = policy(POLICY, 2);
    assert_eq!(court.judge.still(&permit, at(0)), Err(Reason::PolicyChanged));
}

#[tokio::test]
async fn a_policy_that_no_longer_pays_it_signs_a_held_purchase_no_more() {
    let court = Court::new(POLICY);
    drop(court.ask(&intent(1, 10_000)).await.unwrap());
    *court.world.policy.lock().unwrap() = policy(&POLICY.replace("casino.example", "api.example, methods: [GET]"), 2);
    assert_eq!(court.reason(&intent(1, 10_000)).await, "denied");
    assert_eq!(court.held(), 10_000, "and it stays spent");
}

#[tokio::test]
async fn nothing_a_sidecar_says_of_an_outcome_returns_money_s5() {
    let court = Court::new(POLICY);
    drop(court.ask(&intent(1, 500_000)).await.unwrap());
    drop(court.ask(&intent(2, 500_000)).await.unwrap());
    let told = |purchase: u8, outcome: &str| Settle { wallet: "treasury".into(), purchase: [purchase; 16], outcome: outcome.into() };
    for outcome in ["void", "open", "lost", "settled", "void", "refunded"] {
        court.judge.note(&told(1, outcome), &standing("sidecar", &["bot"])).unwrap();
        assert_eq!(court.held(), 1_000_000, "{outcome}");
        assert_eq!(court.reason(&intent(3, 10_000)).await, "cap_payee", "{outcome}");
    }
    assert!(court.judge.note(&told(1, "settled"), &standing("thief", &["bot"])).is_err(), "not its purchase");
    assert!(court.judge.note(&told(9, "settled"), &standing("sidecar", &["bot"])).is_err(), "no such purchase");
}

#[tokio::test]
async fn a_refusal_carries_the_co_signers_rule_and_numbers() {
    let court = Court::new(POLICY);
    drop(court.ask(&intent(1, 500_000)).await.unwrap());
    drop(court.ask(&intent(2, 400_000)).await.unwrap());
    let refused = court.ask(&intent(3, 200_000)).await.unwrap_err();
    assert_eq!((refused.reason.as_str(), refused.rule.as_deref()), ("cap_payee", Some("caps.payee.day")));
    let numbers = (refused.amount_micro, refused.limit_micro, refused.remaining_micro);
    assert_eq!(numbers, (Some(200_000), Some(1_000_000), Some(100_000)));
    assert!(refused.resets_at_ms.unwrap() > NOW * 1000);
}

#[tokio::test]
async fn the_unverified_budget_is_all_that_unknown_payees_get() {
    let court = Court::new(POLICY);
    let mut paid = 0_u64;
    for n in 1..=20_u8 {
        let asked = but(intent(n, 20_000), |i| i.to = [0xa0 + n; 20]);
        paid += if court.reason(&asked).await == "permit" { 20_000 } else { 0 };
    }
    assert_eq!(paid, 40_000, "two of 0.02 fit into 0.05");
}
