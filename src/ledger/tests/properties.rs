//! Any sequence of operations: no cap is exceeded, and a restart changes nothing.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Act {
    Reserve { price: i64, key: u8 },
    Release(usize),
    Commit(usize),
    Leave(usize),
    Void(usize),
    Resign(usize, i64),
    Sent(usize),
    Outcome(usize, u8),
    Consume(usize),
    Claim(u8),
    Wait(i64),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let i = 0_usize..6;
    let act = prop_oneof![
        6 => (1_i64..60, 0_u8..3).prop_map(|(price, key)| Act::Reserve { price, key }),
        1 => i.clone().prop_map(Act::Release),
        6 => i.clone().prop_map(Act::Commit),
        2 => i.clone().prop_map(Act::Leave),
        2 => i.clone().prop_map(Act::Void),
        3 => (i.clone(), 1_i64..90).prop_map(|(i, price)| Act::Resign(i, price)),
        1 => i.clone().prop_map(Act::Sent),
        2 => (i.clone(), 0_u8..3).prop_map(|(i, o)| Act::Outcome(i, o)),
        1 => i.prop_map(Act::Consume),
        2 => (0_u8..3).prop_map(Act::Claim),
        1 => (1_i64..2000).prop_map(Act::Wait),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..60)
}

/// The ledger, and beside it the naive sums it must agree with.
struct World {
    dir: TempDir,
    ledger: Option<Ledger>,
    reservations: Vec<Reservation>,
    commitments: Vec<Commitment>,
    now: Timestamp,
}

const HOUR_CAP: i64 = 120;
const TOTAL_CAP: i64 = 300;

impl World {
    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap()
    }

    fn hour(&self) -> Span {
        let from = T0.plus_secs((self.now.secs() - T0.secs()).div_euclid(3600) * 3600);
        Span { from, until: from.plus_secs(3600) }
    }

    fn limits(&self) -> Vec<Check> {
        vec![cap(self.hour(), HOUR_CAP), cap(everything(), TOTAL_CAP)]
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Reserve { price, key } => {
                self.reservations.extend(self.ledger().reserve(approve(price, self.limits()), new(key), self.now));
            }
            Act::Release(i) if i < self.reservations.len() => drop(self.reservations.swap_remove(i)),
            Act::Commit(i) if i < self.reservations.len() => {
                self.commitments.push(self.reservations.swap_remove(i).commit().await.unwrap());
            }
            Act::Claim(key) => {
                if let Claim::Adopted(c) = claim(self.ledger(), key, self.now) {
                    self.commitments.push(c);
                }
            }
            Act::Wait(s) => self.now = self.now.plus_secs(s),
            Act::Restart => self.restart().await,
            Act::Leave(i) | Act::Void(i) | Act::Resign(i, _) | Act::Sent(i) | Act::Outcome(i, _) | Act::Consume(i)
                if i < self.commitments.len() =>
            {
                self.act_on_commitment(i, act).await;
            }
            _ => {}
        }
    }

    async fn act_on_commitment(&mut self, i: usize, act: Act) {
        let limits = self.limits();
        let commitment = &mut self.commitments[i];
        match act {
            Act::Leave(_) => drop(self.commitments.swap_remove(i)),
            Act::Void(_) => self.commitments.swap_remove(i).void(DefinitelyUnsigned::attest()),
            Act::Consume(_) => self.commitments.swap_remove(i).consumed(),
            Act::Sent(_) => commitment.sent(),
            Act::Outcome(_, 0) => commitment.outcome(Outcome::Open, None),
            Act::Outcome(_, 1) => commitment.outcome(Outcome::Settled, Some("0x1".into())),
            Act::Outcome(..) => commitment.outcome(Outcome::Lost { until: self.now.plus_secs(900) }, None),
            Act::Resign(_, price) => {
                let held = commitment.purchase().held;
                let nonce = commitment.purchase().nonce;
                let _ = commitment.resign(approve(price, limits).holding(held), 0, self.now).await;
                assert_eq!(commitment.purchase().nonce, nonce);
            }
            _ => {}
        }
    }

    /// Everybody hangs up; then what was, is.
    async fn restart(&mut self) {
        self.reservations.clear();
        self.commitments.clear();
        // A claim marks what has expired, so it comes before the picture.
        let claims: Vec<_> = (0..3).map(|key| format!("{:?}", peek(self.ledger(), key, self.now))).collect();
        let (before, rates) = (snapshot(self.ledger()), self.recent());
        self.ledger = None;
        let elapsed = self.now.secs() - T0.secs();
        self.ledger = Some(Ledger::open(&options(self.dir.path()), reading(elapsed)).unwrap());
        assert_eq!(snapshot(self.ledger()), before);
        assert_eq!(self.recent(), rates);
        let again: Vec<_> = (0..3).map(|key| format!("{:?}", peek(self.ledger(), key, self.now))).collect();
        assert_eq!(again, claims);
    }

    fn recent(&self) -> u32 {
        let span = Span { from: self.now.plus_secs(-3599), until: self.now.plus_secs(1) };
        self.ledger().read(|b| b.commitments(&Scope::Agent(agent()), span))
    }

    fn check(&self) {
        let (in_hour, total) = (spent(self.ledger(), self.hour()), spent(self.ledger(), everything()));
        assert!((0..=HOUR_CAP).contains(&in_hour) && (0..=TOTAL_CAP).contains(&total), "{in_hour} {total}");
        let open: i64 = self.ledger().read(|b| b.open().map(|p| p.held.micro()).sum());
        assert!(open <= total, "what is open is spent");
    }
}

/// What an identical request would get, given back at once.
fn peek(ledger: &Ledger, key: u8, now: Timestamp) -> Option<PurchaseId> {
    match claim(ledger, key, now) {
        Claim::Adopted(c) => Some(c.purchase().id),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn held_and_spent_never_exceed_a_cap_and_a_restart_changes_nothing_m2_5(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (dir, ledger) = fresh();
            let mut world = World { dir, ledger: Some(ledger), reservations: vec![], commitments: vec![], now: T0 };
            for act in acts {
                world.act(act).await;
                world.check();
            }
            world.restart().await;
            world.check();
        });
    }
}
