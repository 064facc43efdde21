//! Counters per host, payee, session, customer and list of agents: each is the sum of the postings that belong to it, whatever the
//! policy in force named before (M2.2), and a restart changes none of them.

use proptest::prelude::*;

use super::*;
use crate::policy::{History, Members, Standing, Stopped};

const AGENTS: [&str; 3] = ["a", "b", "c"];
const HOSTS: [&str; 2] = ["one.example", "two.example"];
const CUSTOMERS: [Option<&str>; 3] = [None, Some("acme"), Some("zeta")];
const SESSIONS: [Option<&str>; 2] = [None, Some("s")];

fn id(name: &str) -> AgentId {
    name.parse().unwrap()
}

fn members(names: &[&str]) -> Members {
    Members::of(names.iter().map(|n| id(n)))
}

/// Every list that some policy of the test names.
fn lists() -> [Members; 3] {
    [members(&["a", "b"]), members(&["b", "c"]), members(&["a", "b", "c"])]
}

#[derive(Clone, Debug)]
struct Paid {
    agent: usize,
    host: usize,
    customer: usize,
    session: usize,
    micro: i64,
    at: i64,
    void: bool,
}

impl Paid {
    fn approval(&self) -> Approval {
        let made = Approval::for_test(id(AGENTS[self.agent]), offer(self.micro), entry(), vec![], 0);
        made.tagged(HOSTS[self.host], SESSIONS[self.session], CUSTOMERS[self.customer], false)
    }

    fn within(&self, scope: &Scope, span: Span) -> bool {
        let agent = id(AGENTS[self.agent]);
        let at = span.contains(T0.plus_secs(self.at));
        at && match scope {
            Scope::Agent(a) | Scope::Entry(a, _) | Scope::AgentPayee(a, _) => *a == agent,
            Scope::Host(a, host) => *a == agent && **host == *HOSTS[self.host],
            Scope::Session(a, session) => *a == agent && Some(session.as_str()) == SESSIONS[self.session],
            Scope::Shared(m, customer) => {
                m.contains(&agent) && customer.as_deref().is_none_or(|c| c == CUSTOMERS[self.customer].unwrap_or(""))
            }
            _ => false,
        }
    }
}

fn scopes(followed: &[Members]) -> Vec<Scope> {
    let mut all = Vec::new();
    for agent in AGENTS.map(id) {
        all.extend([Scope::Agent(agent.clone()), Scope::Entry(agent.clone(), entry())]);
        all.push(Scope::AgentPayee(agent.clone(), Payee(Address::repeat_byte(0xbb))));
        all.extend(HOSTS.map(|h| Scope::Host(agent.clone(), h.into())));
        all.push(Scope::Session(agent.clone(), "s".parse().unwrap()));
    }
    for m in followed.iter().chain([&Members::ALL]) {
        all.push(Scope::Shared(m.clone(), None));
        all.extend(["", "acme", "zeta"].map(|c| Scope::Shared(m.clone(), Some(c.into()))));
    }
    all
}

fn agree(ledger: &Ledger, paid: &[Paid], followed: &[Members]) -> Result<(), TestCaseError> {
    let quarter = Span { from: T0.plus_secs(900), until: T0.plus_secs(2700) };
    let sliding = Span { from: T0.plus_secs(1260), until: Timestamp::from_millis(i64::MAX) };
    ledger.read(|books| {
        for scope in scopes(followed) {
            for span in [everything(), hour(), quarter, sliding] {
                let naive: i64 = paid.iter().filter(|p| !p.void && p.within(&scope, span)).map(|p| p.micro).sum();
                prop_assert_eq!(books.spent(&scope, span).micro(), naive, "{:?} {:?}", scope, span);
            }
        }
        Ok(())
    })
}

/// Opened again when every payment of the test is past.
fn later(dir: &TempDir) -> Ledger {
    Ledger::open(&options(dir.path()), reading(7200)).unwrap()
}

fn payments() -> impl Strategy<Value = Vec<(Paid, u8)>> {
    let paid = (0_usize..3, 0_usize..2, 0_usize..3, 0_usize..2, 1_i64..50, 0_i64..120, any::<bool>());
    let paid = paid.prop_map(|(agent, host, customer, session, micro, minute, void)| Paid {
        agent,
        host,
        customer,
        session,
        micro,
        at: minute * 60 + 7,
        void,
    });
    prop::collection::vec((paid, 0_u8..10), 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_counter_is_the_sum_of_its_postings(payments in payments()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (dir, mut ledger) = fresh();
            let (mut done, mut followed): (Vec<Paid>, Vec<Members>) = (Vec::new(), Vec::new());
            for (n, (paid, then)) in payments.into_iter().enumerate() {
                match then {
                    0..=2 => {
                        followed = lists()[..usize::from(then) + 1].to_vec();
                        ledger.shared.state().books.follow(0, followed.clone());
                    }
                    3 => {
                        followed = lists()[1..].to_vec();
                        ledger.shared.state().books.follow(0, followed.clone());
                    }
                    4 => {
                        drop(ledger);
                        ledger = later(&dir);
                        ledger.shared.state().books.follow(0, followed.clone());
                    }
                    _ => {}
                }
                let key = u8::try_from(n).unwrap();
                let at = T0.plus_secs(paid.at);
                let reservation = ledger.reserve(paid.approval(), new(key), at).unwrap();
                let commitment = reservation.commit().await.unwrap();
                // Ledger time never runs backwards, so the period is that of what was recorded.
                let at = commitment.purchase().at.secs() - T0.secs();
                if paid.void {
                    commitment.void(DefinitelyUnsigned::attest());
                }
                done.push(Paid { at, ..paid });
                agree(&ledger, &done, &followed)?;
            }
            drop(ledger);
            let again = later(&dir);
            again.shared.state().books.follow(0, followed.clone());
            agree(&again, &done, &followed)
        })?;
    }
}

#[tokio::test]
async fn m2_2_a_hold_for_what_is_stopped_meanwhile_is_refused_with_the_reason() {
    let (_dir, ledger) = fresh();
    let stopped = Stopped { by: "operator".into(), why: "test".into(), at: T0 };
    let frozen = Standing { agents: [("research-bot".into(), stopped.clone())].into(), ..Standing::default() };
    let killed = Standing { killed: Some(stopped), ..Standing::default() };
    let reason = |e: ReserveError| match e {
        ReserveError::Stale(Some(v)) => v.reason,
        other => panic!("{other}"),
    };
    let early = ledger.reserve(approve(5, vec![]), new(1), T0).unwrap();
    ledger.set_standing(frozen.into());
    assert_eq!(reason(ledger.reserve(approve(5, vec![]), new(2), T0).unwrap_err()), Reason::AgentFrozen);
    assert_eq!(reason(early.commit().await.unwrap_err()), Reason::AgentFrozen, "held before, not written");
    ledger.set_standing(killed.into());
    assert_eq!(reason(ledger.reserve(approve(5, vec![]), new(3), T0).unwrap_err()), Reason::Killed);
    assert_eq!(spent(&ledger, everything()), 0);
    ledger.set_standing(Standing::default().into());
    drop(buy(&ledger, 5, 4).await);
    assert_eq!(spent(&ledger, everything()), 5);
}

#[tokio::test]
async fn a_limit_on_a_list_that_is_not_counted_is_never_taken_for_kept() {
    let (_dir, ledger) = fresh();
    let shared = Scope::Shared(members(&["research-bot", "x"]), None);
    let check = Check { scope: shared, ..cap(everything(), 100) };
    assert!(matches!(ledger.reserve(approve(5, vec![check.clone()]), new(1), T0), Err(ReserveError::Stale(None))));
    ledger.shared.state().books.follow(0, [members(&["x", "research-bot"])]);
    drop(ledger.reserve(approve(60, vec![check.clone()]), new(2), T0).unwrap().commit().await.unwrap());
    let over = ledger.reserve(approve(41, vec![check.clone()]), new(3), T0).unwrap_err();
    assert!(matches!(over, ReserveError::Stale(Some(v)) if v.remaining == Some(MicroUsd::new(40))));
    drop(ledger.reserve(approve(40, vec![check]), new(4), T0).unwrap());
}

#[tokio::test]
async fn m3_7_what_remains_is_below_zero_only_where_people_said_yes() {
    let (dir, ledger) = fresh();
    let scope = Scope::Shared(Members::ALL, None);
    let left = |ledger: &Ledger, limit: i64| ledger.read(|b| b.remaining(&scope, hour(), MicroUsd::new(limit)).micro());
    drop(buy(&ledger, 30, 1).await);
    assert_eq!((left(&ledger, 40), left(&ledger, 20)), (10, 0), "a limit that was lowered");
    let granted = approve(30, vec![]).tagged("api.example", None, None, true);
    drop(ledger.reserve(granted, new(2), T0).unwrap().commit().await.unwrap());
    assert_eq!((left(&ledger, 70), left(&ledger, 20)), (10, -40));
    drop(ledger);
    assert_eq!(left(&open(&dir), 20), -40);
}

#[tokio::test]
async fn m3_3_history_is_of_consumed_purchases_and_outlives_a_restart() {
    let (dir, ledger) = fresh();
    let history = |ledger: &Ledger| {
        let host = crate::policy::Host::parse("api.bureau.example").unwrap();
        ledger.read(|b| b.history(&agent(), &entry(), &host, &http::Method::GET, T0.plus_secs(60)))
    };
    drop(buy(&ledger, 90, 1).await);
    assert_eq!(history(&ledger), History::default(), "nothing was delivered");
    for (key, micro) in [(2, 30), (3, 10), (4, 20)] {
        buy(&ledger, micro, key).await.consumed();
    }
    let expected = History { count: 3, median: MicroUsd::new(20), last: MicroUsd::new(20), first: Some(MicroUsd::new(30)) };
    assert_eq!(history(&ledger), expected);
    drop(ledger);
    assert_eq!(history(&open(&dir)), expected);
}

#[test]
fn a_version_2_ledger_knows_where_its_money_went() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let conn = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    conn.execute_batch(
        "ALTER TABLE purchases DROP COLUMN customer; ALTER TABLE postings DROP COLUMN host; ALTER TABLE postings DROP COLUMN session;
         ALTER TABLE postings DROP COLUMN customer; ALTER TABLE postings DROP COLUMN granted; PRAGMA user_version = 2;",
    )
    .unwrap();
    let nonce = crate::payment::Nonce::derive(Address::repeat_byte(0xaa), &PurchaseId::from_bytes([7; 16]));
    conn.execute(
        "INSERT INTO purchases VALUES (1, ?1, ?2, 'research-bot', 's', 'bureau', 'api.example', 'GET', 'x402v2', '{}', NULL, NULL, \
         8453, ?3, 'USDC', '42', ?4, ?5, ?6, 0, 99, ?7, 42, 'open', NULL, ?8, 0, NULL, x'', 900000, 1, 0, 'd', NULL, 99, NULL, 0, NULL)",
        rusqlite::params![
            [7_u8; 16],
            [1_u8; 32],
            usdc().id.token.as_slice(),
            [0xbb_u8; 20],
            [0xaa_u8; 20],
            nonce.bytes().as_slice(),
            [3_u8; 32],
            T0.millis()
        ],
    )
    .unwrap();
    let posting = "INSERT INTO postings VALUES (1, 1, 'research-bot', 'bureau', ?1, 42, 'hold', NULL, NULL, NULL, 0)";
    conn.execute(posting, [T0.millis()]).unwrap();
    drop(conn);
    assert_eq!(Ledger::list(dir.path()).unwrap().len(), 1, "readable before it is opened");
    let ledger = open(&dir);
    for scope in [
        Scope::Host(agent(), "api.example".into()),
        Scope::AgentPayee(agent(), Payee(Address::repeat_byte(0xbb))),
        Scope::Session(agent(), "s".parse().unwrap()),
        Scope::Shared(Members::ALL, None),
        Scope::Shared(Members::ALL, Some("".into())),
    ] {
        assert_eq!(ledger.read(|b| b.spent(&scope, everything())).micro(), 42, "{scope:?}");
    }
}
