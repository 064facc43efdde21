//! What a yes is good for, one behaviour per test.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::people::MAX_GRANT;
use super::state::MAX_OPEN_OF_AGENT;
use super::*;
use crate::payment::{AgentId, ChainId, MicroUsd, Offer, Payer, RequestKey};
use crate::policy::{AskFor, Host, RuleId, Source};

const POLICY: &str = "version: 1
approvers:
  finance: { timeout: 10m }
  board: { quorum: 2, members: [ann, bob, cid], timeout: 10m }
";

fn policy() -> Policy {
    Policy::parse(&[Source { name: "p".into(), text: POLICY.into() }], 1).unwrap()
}

fn question(hold_ms: u64, groups: &[&[&str]]) -> Question {
    let asks = groups.iter().enumerate().map(|(n, any_of)| AskFor {
        any_of: any_of.iter().map(|g| (*g).into()).collect(),
        rule: RuleId(format!("rule{n}").into()),
        reason: Reason::ApprovalRequired,
        exceeds: false,
    });
    let (hold, timeout) = (Duration::from_millis(hold_ms), Duration::from_secs(600));
    Question { offer: crate::policy::usdc_for_test(50_000), entry: RuleId("e".into()), asks: asks.collect(), hold, timeout }
}

fn request(key: u8) -> Ask {
    Ask {
        agent: "bot".parse().unwrap(),
        session: None,
        method: http::Method::GET,
        https: true,
        host: Host::parse("api.example").unwrap(),
        port: 443,
        path: "/".into(),
        url: "https://api.example/".into(),
        context: crate::policy::Context::default(),
        key: RequestKey([key; 32]),
        likeness: crate::ledger::Likeness::default(),
    }
}

/// Approvals in a folder, at a time that the test sets.
struct World {
    dir: tempfile::TempDir,
    approvals: Arc<Approvals>,
    now: AtomicI64,
    wanted: AtomicBool,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let approvals = Approvals::open(dir.path(), Timestamp::from_secs(0)).unwrap();
        Self { dir, approvals, now: AtomicI64::new(0), wanted: AtomicBool::new(true) }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.now.load(Ordering::SeqCst))
    }

    fn restart(&mut self) {
        self.approvals = Approvals::open(self.dir.path(), self.now()).unwrap();
    }

    async fn ask(&self, question: &Question, key: u8) -> Answer {
        let clock = Clock { now: &|| self.now(), wanted: &|| self.wanted.load(Ordering::SeqCst) };
        self.approvals.ask(question, &request(key), None, &policy(), &clock).await
    }

    /// Asks without waiting: what it was told, and the ticket.
    async fn glance(&self, groups: &[&[&str]], key: u8) -> (Reason, String) {
        match self.ask(&question(0, groups), key).await {
            Answer::No(reason, id) => (reason, id.as_deref().unwrap_or("").to_owned()),
            Answer::Yes(yes) => panic!("{yes:?}"),
        }
    }

    fn vote(&self, id: &str, who: &str, yes: bool) -> Result<Standing, Refused> {
        self.approvals.vote(id, Word { who: &who.into(), yes, step: None, link: None }, self.now()).map(|t| t.standing(self.now()))
    }
}

#[tokio::test]
async fn a_yes_in_time_reaches_who_waits_and_is_good_for_one_payment() {
    let world = World::new();
    let (reason, id) = world.glance(&[&["finance"]], 1).await;
    assert_eq!(reason, Reason::ApprovalRequired);
    let long = question(60_000, &[&["finance"]]);
    let waits = world.ask(&long, 1);
    let says = async { world.vote(&id, "ann", true).unwrap() };
    let (answer, standing) = tokio::join!(waits, says);
    assert_eq!(standing, Standing::Granted);
    let Answer::Yes(mut yes) = answer else { panic!("{answer:?}") };
    assert_eq!((yes.groups.as_slice(), yes.purchase), (&["finance".into()][..], world.approvals.tickets()[0].purchase));
    yes.spend().unwrap();
    drop(yes);
    let (reason, next) = world.glance(&[&["finance"]], 1).await;
    assert!(reason == Reason::ApprovalRequired && next != id, "used once: the next one asks again");
    assert!(matches!(world.vote(&id, "ann", true), Err(Refused::Ended(Standing::Used))));
}

#[tokio::test]
async fn a_late_yes_is_there_for_the_next_identical_request_also_after_a_restart() {
    let mut world = World::new();
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    world.vote(&id, "ann", true).unwrap();
    world.restart();
    assert_eq!(world.glance(&[&["finance"]], 2).await.0, Reason::ApprovalRequired, "another request has its own");
    let dearer = Question { offer: crate::policy::usdc_for_test(50_001), ..question(0, &[&["finance"]]) };
    assert!(matches!(world.ask(&dearer, 1).await, Answer::No(Reason::ApprovalRequired, _)), "frozen over its terms");
    let Answer::Yes(yes) = world.ask(&question(0, &[&["finance"]]), 1).await else { panic!() };
    assert_eq!(world.glance(&[&["finance"]], 1).await.0, Reason::ApprovalRequired, "two requests do not share one yes");
    drop(yes);
    let Answer::Yes(mut yes) = world.ask(&question(0, &[&["finance"]]), 1).await else { panic!("not used, so still there") };
    yes.spend().unwrap();
    world.restart();
    assert_eq!(world.glance(&[&["finance"]], 1).await.0, Reason::ApprovalRequired, "used up before the crash");
}

#[tokio::test]
async fn a_no_and_the_end_of_the_time_deny() {
    let world = World::new();
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    assert_eq!(world.vote(&id, "ann", false).unwrap(), Standing::Denied);
    assert_eq!(world.glance(&[&["finance"]], 1).await, (Reason::ApprovalDenied, id.clone()));
    assert!(matches!(world.vote(&id, "ann", true), Err(Refused::Ended(Standing::Denied))), "a no is final");
    let (_, other) = world.glance(&[&["finance"]], 2).await;
    world.vote(&other, "ann", true).unwrap();
    world.now.store(600, Ordering::SeqCst);
    assert!(matches!(world.vote(&other, "bob", true), Err(Refused::Ended(Standing::Expired))));
    let (reason, fresh) = world.glance(&[&["finance"]], 2).await;
    assert!(reason == Reason::ApprovalRequired && fresh != other, "a yes ends with its ticket");
}

#[tokio::test]
async fn who_waits_learns_that_the_time_is_over_or_leaves() {
    let world = World::new();
    let long = question(60_000, &[&["finance"]]);
    let over = async { world.now.store(601, Ordering::SeqCst) };
    let (answer, ()) = tokio::join!(world.ask(&long, 1), over);
    assert!(matches!(answer, Answer::No(Reason::ApprovalTimeout, Some(_))), "{answer:?}");
    let gone = async { world.wanted.store(false, Ordering::SeqCst) };
    let (answer, ()) = tokio::join!(world.ask(&long, 2), gone);
    assert!(matches!(answer, Answer::No(Reason::AgentLeft, Some(_))), "{answer:?}");
    assert_eq!(world.approvals.pending(world.now()), 1, "the ticket stays");
}

#[tokio::test]
async fn m3_4_every_group_reaches_its_quorum_of_distinct_members() {
    let world = World::new();
    let both: &[&[&str]] = &[&["board"], &["finance"]];
    let (_, id) = world.glance(both, 1).await;
    for (who, expected) in [("ann", Standing::Pending), ("ann", Standing::Pending), ("dan", Standing::Pending), ("bob", Standing::Granted)]
    {
        assert_eq!(world.vote(&id, who, true).unwrap(), expected, "{who}");
    }
    let (_, board) = world.glance(&[&["board"]], 2).await;
    assert!(matches!(world.vote(&board, "dan", true), Err(Refused::NotAsked(_))));
    let (_, either) = world.glance(&[&["board", "finance"]], 3).await;
    assert_eq!(world.vote(&either, "dan", true).unwrap(), Standing::Granted, "one of the groups suffices");
    assert!(matches!(world.vote("nonsense", "ann", true), Err(Refused::Unknown)));
}

#[tokio::test]
async fn a_mandate_answers_within_its_bounds_and_no_further() {
    let mut world = World::new();
    let bounds = |max, total, until| Bounds { max, total, until: Timestamp::from_secs(until) };
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    assert!(
        matches!(world.approvals.remember(&id, &"ann".into(), None, bounds(50_000, 100_000, 900), world.now()), Err(Refused::Bounds(_))),
        "not approved"
    );
    world.vote(&id, "ann", true).unwrap();
    for wrong in [bounds(0, 5, 900), bounds(6, 5, 900), bounds(5, 5, 0)] {
        assert!(matches!(world.approvals.remember(&id, &"ann".into(), None, wrong, world.now()), Err(Refused::Bounds(_))), "{wrong:?}");
    }
    let mandate = world.approvals.remember(&id, &"ann".into(), None, bounds(50_000, 100_000, 900), world.now()).unwrap();
    world.restart();
    for (key, price, groups, expected) in [
        (2, 50_001, &[&["finance"][..]][..], false),
        (3, 50_000, &[&["board"]], false),
        (4, 50_000, &[&["finance"], &["finance"]], false),
        (5, 50_000, &[&["finance"]], true),
        (6, 50_000, &[&["finance"]], true),
        (7, 1, &[&["finance"]], false),
    ] {
        let question = Question { offer: crate::policy::usdc_for_test(price), ..question(0, groups) };
        assert_eq!(matches!(world.ask(&question, key).await, Answer::Yes(_)), expected, "{key}");
    }
    world.restart();
    assert_eq!(world.approvals.mandates()[0].used, 100_000);
    world.approvals.revoke(&mandate.id).unwrap();
    assert!(world.approvals.mandates().is_empty());
    assert!(matches!(world.approvals.revoke("nonsense"), Err(Refused::Unknown)));
}

#[tokio::test]
async fn what_was_denied_or_has_ended_is_not_remembered_although_there_was_a_yes() {
    let world = World::new();
    let bounds = Bounds { max: 50_000, total: 100_000, until: Timestamp::from_secs(9_000) };
    let remember = |id: &str| world.approvals.remember(id, &"ann".into(), None, bounds, world.now());
    let (_, denied) = world.glance(&[&["finance"]], 1).await;
    world.vote(&denied, "ann", true).unwrap();
    assert_eq!(world.vote(&denied, "bob", false).unwrap(), Standing::Denied);
    assert!(matches!(remember(&denied), Err(Refused::Ended(Standing::Denied))), "a no after the quorum");
    let (_, used) = world.glance(&[&["finance"]], 2).await;
    world.vote(&used, "ann", true).unwrap();
    let Answer::Yes(mut yes) = world.ask(&question(0, &[&["finance"]]), 2).await else { panic!() };
    yes.spend().unwrap();
    drop(yes);
    let (_, late) = world.glance(&[&["finance"]], 3).await;
    world.vote(&late, "ann", true).unwrap();
    world.now.store(600, Ordering::SeqCst);
    assert!(matches!(remember(&late), Err(Refused::Ended(Standing::Expired))), "a yes ends with its ticket");
    assert_eq!(remember(&used).unwrap().groups, ["finance".into()], "what was paid stays approved");
}

#[tokio::test]
async fn a_mandate_ends_with_its_time() {
    let world = World::new();
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    world.vote(&id, "ann", true).unwrap();
    let bounds = Bounds { max: 50_000, total: 100_000, until: Timestamp::from_secs(60) };
    world.approvals.remember(&id, &"ann".into(), None, bounds, world.now()).unwrap();
    world.now.store(60, Ordering::SeqCst);
    assert_eq!(world.glance(&[&["finance"]], 2).await.0, Reason::ApprovalRequired);
}

#[tokio::test]
async fn an_agent_cannot_open_tickets_without_end() {
    let world = World::new();
    for key in 0..u8::try_from(MAX_OPEN_OF_AGENT).unwrap() {
        assert_eq!(world.glance(&[&["finance"]], key).await.0, Reason::ApprovalRequired);
    }
    assert_eq!(world.glance(&[&["finance"]], 200).await, (Reason::Busy, String::new()));
    world.now.store(600, Ordering::SeqCst);
    assert_eq!(world.glance(&[&["finance"]], 200).await.0, Reason::ApprovalRequired);
}

#[tokio::test]
async fn a_yes_that_goes_back_wakes_who_waits_for_it() {
    let world = World::new();
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    world.vote(&id, "ann", true).unwrap();
    let Answer::Yes(first) = world.ask(&question(0, &[&["finance"]]), 1).await else { panic!() };
    let long = question(60_000, &[&["finance"]]);
    let back = async { drop(first) };
    let (answer, ()) = tokio::join!(world.ask(&long, 1), back);
    assert!(matches!(answer, Answer::Yes(_)), "{answer:?}");
}

#[tokio::test]
async fn a_yes_answers_its_own_question_and_no_other() {
    let world = World::new();
    let asked = question(0, &[&["finance"]]);
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    world.vote(&id, "ann", true).unwrap();
    let Answer::Yes(yes) = world.ask(&asked, 1).await else { panic!() };
    assert!(yes.answers(&asked, &request(1)));
    let dearer = Question { offer: crate::policy::usdc_for_test(50_001), ..asked.clone() };
    assert!(!yes.answers(&dearer, &request(1)), "another offer of the same challenge");
    let one_more = question(0, &[&["finance"], &["finance"]]);
    assert!(!yes.answers(&one_more, &request(1)), "a budget that was used up meanwhile, of the same group");
}

#[test]
fn other_people_or_another_purchase_make_another_ticket() {
    let asked = question(0, &[&["finance"]]);
    let facts = Facts::of(&asked, &request(1));
    let groups = |quorum, members: Option<&[&str]>| {
        vec![Group {
            name: "finance".into(),
            quorum,
            members: members.map(|m| m.iter().map(|n| (*n).into()).collect()),
            second_factor: None,
        }]
    };
    let key = |held, groups: Vec<Group>| facts.key(&request(1), held, &groups);
    let base = key(None, groups(1, None));
    assert_eq!(base, key(None, groups(1, None)));
    assert_ne!(base, key(None, groups(2, None)), "a raised quorum");
    assert_ne!(base, key(None, groups(1, Some(&["ann"]))), "fewer people");
    assert_ne!(base, key(Some(PurchaseId::from_bytes([7; 16])), groups(1, None)), "a purchase that is signed again");
}

#[tokio::test]
async fn s5_a_grant_stays_with_its_purchase_and_is_no_vote() {
    let mut world = World::new();
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    let (_, other) = world.glance(&[&["finance"]], 2).await;
    let purchase = world.approvals.attach(&id, &ann, vec![1, 2], world.now()).unwrap().purchase;
    assert_eq!(world.glance(&[&["finance"]], 1).await, (Reason::ApprovalRequired, id.clone()), "no vote");
    for (wrong, size) in [(&*id, 0), (&*id, MAX_GRANT + 1)] {
        assert!(matches!(world.approvals.attach(wrong, &ann, vec![0; size], world.now()), Err(Refused::Bounds(_))), "{size}");
    }
    assert!(matches!(world.approvals.attach("nonsense", &ann, vec![1], world.now()), Err(Refused::Unknown)));
    world.approvals.attach(&id, &bob, vec![9; 3], world.now()).unwrap();
    world.approvals.attach(&id, &bob, vec![3], world.now()).unwrap();
    let whole = world.approvals.attach(&id, &bob, vec![0; MAX_GRANT - 1], world.now());
    assert!(matches!(whole, Err(Refused::Bounds(_))), "all together");
    world.vote(&id, "ann", true).unwrap();
    let Answer::Yes(mut yes) = world.ask(&question(0, &[&["finance"]]), 1).await else { panic!() };
    assert_eq!(yes.purchase, purchase);
    yes.spend().unwrap();
    drop(yes);
    assert!(matches!(world.approvals.attach(&id, &ann, vec![3], world.now()), Err(Refused::Ended(Standing::Used))));
    world.restart();
    assert_eq!(world.approvals.grant(&purchase), Some(vec![1, 2, 3]), "each person's latest; a signature that is tried again needs it");
    let second = world.approvals.tickets().into_iter().find(|t| *t.id == *other).unwrap().purchase;
    assert_eq!(world.approvals.grant(&second), None);
}

#[tokio::test]
async fn s18_a_link_finds_its_ticket_and_is_used_up_by_one_decision() {
    let mut world = World::new();
    let (_, id) = world.glance(&[&["board"]], 1).await;
    let (hash, other) = ([1; 32], [2; 32]);
    let until = Timestamp::from_secs(60);
    assert!(matches!(world.approvals.link("nonsense", hash, until), Err(Refused::Unknown)));
    world.approvals.link(&id, hash, until).unwrap();
    world.approvals.link(&id, other, until).unwrap();
    let through = |world: &World, who: &str, hash| {
        let word = Word { who: &who.into(), yes: true, step: None, link: Some(hash) };
        world.approvals.vote(&id, word, world.now()).map(|t| t.standing(world.now()))
    };
    assert!(matches!(through(&world, "dan", hash), Err(Refused::NotAsked(_))), "and is not used up by a stranger");
    assert_eq!(*world.approvals.linked(&hash).unwrap().0.id, *id);
    assert_eq!(through(&world, "ann", hash).unwrap(), Standing::Pending);
    assert!(matches!(through(&world, "bob", hash), Err(Refused::Link)), "used");
    world.restart();
    assert!(matches!(through(&world, "bob", hash), Err(Refused::Link)) && world.approvals.linked(&hash).unwrap().1.used, "also later");
    assert!(matches!(through(&world, "bob", [3; 32]), Err(Refused::Link)) && world.approvals.linked(&[3; 32]).is_none(), "never sent");
    world.now.store(60, Ordering::SeqCst);
    assert!(matches!(through(&world, "bob", other), Err(Refused::Link)), "ended");
    assert_eq!(world.vote(&id, "bob", true).unwrap(), Standing::Granted, "without a link it can still be decided");
}

#[tokio::test]
async fn what_arrived_is_known_after_a_restart() {
    let mut world = World::new();
    let (_, id) = world.glance(&[&["finance"]], 1).await;
    world.approvals.told(&id, &"msg_1".into()).unwrap();
    world.restart();
    assert_eq!(world.approvals.tickets()[0].told, ["msg_1".into()]);
    assert!(matches!(world.approvals.told("nonsense", &"msg_1".into()), Err(Refused::Unknown)));
}

#[tokio::test]
async fn above_its_amount_a_yes_needs_a_code_and_each_code_works_once() {
    let text = "version: 1\napprovers: { finance: { second_factor: { above: 0.05 } }, board: { quorum: 2 } }\n";
    let strict = Policy::parse(&[Source { name: "p".into(), text: text.into() }], 1).unwrap();
    let mut world = World::new();
    let ask = async |world: &World, price: u64, key: u8| {
        let question = Question { offer: crate::policy::usdc_for_test(price), ..question(0, &[&["finance"]]) };
        let clock = Clock { now: &|| world.now(), wanted: &|| true };
        match world.approvals.ask(&question, &request(key), None, &strict, &clock).await {
            Answer::No(_, id) => id.unwrap(),
            Answer::Yes(yes) => panic!("{yes:?}"),
        }
    };
    let say = |world: &World, id: &str, yes, step| {
        let word = Word { who: &"ann".into(), yes, step, link: None };
        world.approvals.vote(id, word, world.now()).map(|t| t.standing(world.now()))
    };
    let equal = ask(&world, 50_000, 1).await;
    assert_eq!(say(&world, &equal, true, None).unwrap(), Standing::Granted, "equal is not above");
    let above = ask(&world, 50_001, 2).await;
    assert!(matches!(say(&world, &above, true, None), Err(Refused::CodeNeeded(_))));
    assert_eq!(say(&world, &above, true, Some(7)).unwrap(), Standing::Granted);
    let next = ask(&world, 50_001, 3).await;
    world.restart();
    for old in [6, 7] {
        assert!(matches!(say(&world, &next, true, Some(old)), Err(Refused::CodeUsed)), "{old}: used, also before a restart");
    }
    assert_eq!(say(&world, &next, false, None).unwrap(), Standing::Denied, "a no needs none");
    let bounds = |total| Bounds { max: 50_000, total, until: Timestamp::from_secs(9_000) };
    let remember = |id: &str, step, total| world.approvals.remember(id, &"ann".into(), step, bounds(total), world.now());
    assert!(remember(&equal, None, 50_000).is_ok());
    assert!(matches!(remember(&equal, None, 50_001), Err(Refused::CodeNeeded(_))), "the sum counts");
    assert!(matches!(remember(&above, None, 60_000), Err(Refused::CodeNeeded(_))), "a token alone does not ride on the code of the yes");
    assert!(remember(&above, Some(7), 60_000).is_ok(), "the code of the yes that it is made from");
    assert!(matches!(remember(&equal, Some(7), 60_000), Err(Refused::CodeUsed)));
    assert!(remember(&equal, Some(8), 60_000).is_ok());
    assert!(matches!(remember(&equal, Some(8), 60_000), Err(Refused::CodeUsed)));
    world.now.store(120, Ordering::SeqCst);
    let later = world.approvals.remember(&above, &"ann".into(), Some(7), bounds(60_000), world.now());
    assert!(matches!(later, Err(Refused::CodeUsed)), "for two minutes");
}

/// Books in which nothing was spent.
#[derive(Default)]
struct Nothing(crate::policy::Standing);

impl View for Nothing {
    fn spent(&self, _: &crate::policy::Scope, _: crate::policy::Span) -> MicroUsd {
        MicroUsd::ZERO
    }
    fn commitments(&self, _: &crate::policy::Scope, _: crate::policy::Span) -> u32 {
        0
    }
    fn pin(&self, _: &AgentId, _: &RuleId, _: &Host, _: ChainId) -> Option<alloy_primitives::Address> {
        None
    }
    fn history(&self, _: &AgentId, _: &RuleId, _: &Host, _: &http::Method, _: Timestamp) -> crate::policy::History {
        crate::policy::History::default()
    }
    fn standing(&self) -> &crate::policy::Standing {
        &self.0
    }
    fn nth_commitment(&self, _: &crate::policy::Scope, _: crate::policy::Span, _: u32) -> Option<Timestamp> {
        None
    }
}

#[tokio::test]
async fn m3_4_a_yes_to_one_offer_never_pays_another_of_the_same_group() {
    let text = "version: 1
defaults: { unmatched: { ask: finance } }
approvers: { finance: {} }
agents:
  bot: { caps: { per_payment: 10, day: 100 }, allow: [ { id: e, host: other.example } ] }
";
    let policy = Policy::parse(&[Source { name: "p".into(), text: text.into() }], 1).unwrap();
    let (world, ask, books) = (World::new(), request(1), Nothing::default());
    let (cheap, dear) = (crate::policy::usdc_for_test(50_000), crate::policy::usdc_for_test(5_000_000));
    let decided = |offers: &[&Offer], yes: Option<&Yes>| {
        let offers = offers.iter().enumerate().map(|(index, offer)| Offer { index, ..(*offer).clone() }).collect();
        let challenge = Challenge { protocol: cheap.protocol, offers, rejected: Vec::new(), error: None };
        let input = Input {
            agent: &ask.agent,
            session: None,
            method: &ask.method,
            https: true,
            host: &ask.host,
            port: 443,
            path: "/",
            payer: Payer(alloy_primitives::Address::repeat_byte(0xee)),
            now: world.now(),
            held: MicroUsd::ZERO,
            context: &ask.context,
            granted: &[],
            bound_to: None,
            session_max: None,
        };
        decide(&policy, &input, &challenge, &books, yes, &ask)
    };
    let question = decided(&[&dear, &cheap], None).0.question.unwrap();
    assert_eq!(question.offer.price, cheap.price);
    let (_, id) = match world.ask(&Question { hold: Duration::ZERO, ..question.clone() }, 1).await {
        Answer::No(reason, id) => (reason, id.unwrap()),
        Answer::Yes(yes) => panic!("{yes:?}"),
    };
    world.vote(&id, "ann", true).unwrap();
    let Answer::Yes(yes) = world.ask(&question, 1).await else { panic!() };
    assert_eq!(decided(&[&dear, &cheap], Some(&yes)).0.verdict.unwrap().offer().price, cheap.price);
    let withdrawn = decided(&[&dear], Some(&yes));
    assert!(withdrawn.0.verdict.is_err() && withdrawn.0.question.is_some(), "the dearer one is another question");
}
