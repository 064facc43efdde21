//! Under any interleaving of intents no cap of the co-signer is exceeded.

use proptest::prelude::*;

use super::*;

/// Held per payee, over all and unproven, by the purchases themselves and not by the counters.
fn sums(court: &Court) -> (Vec<i64>, i64, i64) {
    court.ledger.read(|books| {
        let of = |payee: u8| books.open().filter(|p| p.payee.0 == Address::repeat_byte(payee)).map(|p| p.held.micro()).sum();
        let unverified = books.open().filter(|p| p.cosigned.as_ref().is_some_and(|c| c.unverified)).map(|p| p.held.micro()).sum();
        ([0x11, 0x12, 0x33, 0x44].map(of).to_vec(), books.open().map(|p| p.held.micro()).sum(), unverified)
    })
}

#[derive(Clone, Debug)]
struct Step {
    purchase: u8,
    micro: u64,
    to: u8,
    identity: bool,
    host: &'static str,
    wait: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (1_u8..9, prop_oneof![1_u64..60_000, 100_000_u64..600_000], prop::sample::select(vec![0x11, 0x12, 0x33, 0x44]), any::<bool>())
            .prop_flat_map(|(purchase, micro, to, identity)| {
                let host = prop::sample::select(vec!["api.example", "x.example", ""]);
                (host, prop_oneof![4 => Just(0_i64), 1 => 1_i64..400]).prop_map(move |(host, wait)| Step {
                    purchase,
                    micro,
                    to,
                    identity,
                    host,
                    wait,
                })
            });
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_interleaving_of_intents_holds_more_than_any_cap(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let court = Arc::new(Court::new(POLICY));
        // Eight at a time, all at once; a wait moves the clock between the groups.
        for group in steps.chunks(8) {
            runtime.block_on(async {
                let mut all = tokio::task::JoinSet::new();
                let shift = court.world.seconds.load(Ordering::Relaxed);
                for step in group.iter().cloned() {
                    let court = Arc::clone(&court);
                    all.spawn(async move {
                        let name = if step.identity { "sidecar" } else { "second" };
                        let asked = but(intent(step.purchase, step.micro), |i| {
                            i.to = [step.to; 20];
                            i.claims.host = step.host.into();
                            i.valid_before += u64::try_from(shift).unwrap();
                        });
                        drop(court.judge.consider(&asked, &standing(name, &["bot"])).await);
                    });
                }
                while all.join_next().await.is_some() {}
            });
            let (payees, total, unverified) = sums(&court);
            prop_assert!(payees.iter().all(|p| *p <= 1_000_000), "caps.payee.day: {payees:?}");
            prop_assert!(total <= 1_500_000, "caps.day of the agent: {total}");
            prop_assert!(unverified <= 50_000, "unverified.day: {unverified}");
            let live = court.ledger.read(|b| b.live_total(court.ledger_now())).micro();
            prop_assert!(live <= 2_500_000, "live: {live}");
            court.pass(group.iter().map(|s| s.wait).sum());
        }
    }

    #[test]
    fn a_key_is_answered_for_one_digest_only(terms in prop::collection::vec((1_u8..4, 1_u64..5, 0_u8..3), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let court = Court::new(POLICY);
        let mut first = std::collections::HashMap::new();
        for (purchase, micro, key) in terms {
            let mut asked = intent(purchase, micro * 1000);
            asked.key = [key; 16];
            let digest = expected(&asked).unwrap().digest();
            let answer = runtime.block_on(court.reason(&asked));
            let own = *first.entry(key).or_insert(digest);
            match answer.as_str() {
                "permit" | "signed_too_often" => prop_assert_eq!(own, digest),
                "idempotency_conflict" => prop_assert_ne!(own, digest),
                other => prop_assert!(false, "{}", other),
            }
        }
    }
}

impl Court {
    fn ledger_now(&self) -> Timestamp {
        self.world.clock().wall
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once_hold_exactly_what_fits() {
    let court = Arc::new(Court::new(POLICY));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..100 {
        let court = Arc::clone(&court);
        all.spawn(async move { court.reason(&intent(n, 90_000)).await });
    }
    let mut permits = 0;
    while let Some(answer) = all.join_next().await {
        permits += i64::from(answer.unwrap() == "permit");
    }
    assert_eq!((permits, court.held()), (11, 990_000), "caps.payee.day is 1.00");
}
