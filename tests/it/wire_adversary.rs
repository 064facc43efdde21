//! Hostile clients with a good certificate against the co-signer process: recorded honest messages cut, flipped, moved,
//! repeated and mixed. Whatever they do it stays up, answers signed reasons, gives at most one partial for a session and holds
//! exactly what it accepted.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use tollpass::mpc::{Partial, PreBegun};
use tollpass::wire::message::{Begin, Finished, Intent, Kept, MAX_BODY, Opened, Prepare, Prepared, Present, Settle, path};

use crate::adversary::{Heard, Raw, Rig};

/// One cent.
const CENT: u64 = 10_000;

/// The paths that a share holder uses.
const PATHS: [&str; 7] = [path::HELLO, path::BEGIN, path::FINISH, path::PREPARE, path::PREPARED, path::PRESENT, path::SETTLE];

fn bytes(message: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_an_envelope_cut_flipped_moved_or_too_long_reaches_nobody() {
    let mut rig = Rig::start();
    let raw = rig.greeted(&rig.one).await;
    let recorded = raw.seal(path::BEGIN, &bytes(&raw.mine(rand::random(), CENT).begin));
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    let mut note = |what: &str, answer: Heard<Opened>| {
        let word = answer.word();
        assert!(["400", "401", "413", "421", "425"].contains(&word.as_str()), "{what}: {answer:?}");
        *heard.entry(word).or_default() += 1;
    };
    let step = recorded.len() / 60;
    for n in (0..300).chain((300..recorded.len()).step_by(step)) {
        note("cut", raw.send(path::BEGIN, recorded[..n.min(recorded.len() - 1)].to_vec()).await);
        let mut flipped = recorded.clone();
        flipped[n] ^= 1 << (n % 8);
        note("flipped", raw.send(path::BEGIN, flipped).await);
    }
    for other in PATHS.into_iter().chain([path::ENROLL]).filter(|p| *p != path::BEGIN) {
        note(other, raw.send(other, recorded.clone()).await);
    }
    note("longer", raw.send(path::BEGIN, [&recorded[..], &[0]].concat()).await);
    note("twice in one", raw.send(path::BEGIN, [&recorded[..], &recorded].concat()).await);
    note("too long", raw.send(path::BEGIN, [&recorded[..], &vec![0; MAX_BODY]].concat()).await);
    // Somebody else's envelope over our connection, and ours over somebody else's.
    let two = rig.greeted(&rig.two).await;
    note("another's", raw.send(path::BEGIN, two.seal(path::BEGIN, b"")).await);
    note("over another's", two.send(path::BEGIN, recorded.clone()).await);
    // A response is not a request.
    let echo = tollpass::wire::envelope::response(
        &rig.one,
        &header_of(&recorded),
        [7; 32],
        tollpass::clock::read().wall,
        &bytes(&raw.mine(rand::random(), CENT).begin),
    );
    note("a response", raw.send(path::BEGIN, echo).await);
    println!("answers to {} damaged envelopes: {heard:?}", heard.values().sum::<usize>());
    assert!(rig.purchases().is_empty(), "a damaged envelope held money");
    // The recorded one was never used: it is as good as new, once.
    let Heard::Yes(_) = raw.send::<Opened>(path::BEGIN, recorded.clone()).await else { panic!("the honest message is refused") };
    raw.pay(CENT).await;
    assert_eq!(rig.held(), 20_000);
    rig.is_well();
}

fn header_of(envelope: &[u8]) -> tollpass::wire::envelope::Header {
    postcard::from_bytes(postcard::take_from_bytes::<&[u8]>(envelope).unwrap().0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_a_recorded_session_played_again_is_answered_by_nobody_not_even_after_kill_9() {
    let mut rig = Rig::start();
    let raw = rig.greeted(&rig.one).await;
    let begin = raw.mine(rand::random(), CENT);
    let first = raw.seal(path::BEGIN, &bytes(&begin.begin));
    let opened = raw.send::<Opened>(path::BEGIN, first.clone()).await.yes();
    let (_, round2) = begin.begun.advance(&opened.round1, &opened.round2).unwrap();
    let second = raw.seal(path::FINISH, &bytes(&tollpass::wire::message::Finish { session: opened.session, round2 }));
    raw.send::<Finished>(path::FINISH, second.clone()).await.yes();
    // Same connection, another one of the same identity, another process.
    raw.send::<Opened>(path::BEGIN, first.clone()).await.closed();
    let again = rig.greeted(&rig.one).await;
    again.send::<Finished>(path::FINISH, second.clone()).await.closed();
    rig.kill9();
    assert!(rig.restart());
    for (path, recorded) in [(path::BEGIN, first), (path::FINISH, second)] {
        let raw = rig.greeted(&rig.one).await;
        raw.send::<Opened>(path, recorded).await.closed();
    }
    assert_eq!(rig.held(), 10_000);
    assert!(rig.gauge("tollpass_cosigner_alarms_total{kind=\"replay\"}") >= 2, "{}", rig.metrics());
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_a_session_gives_one_partial_to_its_own_connection_whoever_asks_however_often() {
    let mut rig = Rig::start();
    let (raw, neighbour, other) = (rig.greeted(&rig.one).await, rig.greeted(&rig.one).await, rig.greeted(&rig.two).await);

    // Nobody else's finish touches it; its own works once.
    let (completing, finish) = raw.half(CENT).await;
    neighbour.finish(&finish).await.no("session_lost");
    other.finish(&finish).await.no("session_lost");
    let partial = raw.finish(&finish).await.yes();
    completing.complete(&Partial::from_bytes(partial.partial)).unwrap();
    for who in [&raw, &neighbour, &other] {
        who.finish(&finish).await.no("session_lost");
    }

    // Sixteen at once: one of them.
    let (_, finish) = raw.half(CENT).await;
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (raw, finish) = (raw.clone(), finish.clone());
        racing.spawn(async move { raw.finish(&finish).await.word() });
    }
    let words = racing.join_all().await;
    assert_eq!(words.iter().filter(|w| *w == "yes").count(), 1, "{words:?}");
    assert_eq!(words.iter().filter(|w| *w == "session_lost").count(), 15, "{words:?}");

    // Out of order, and with one path's session on another path: used up, and nothing comes of it.
    raw.finish(&tollpass::wire::message::Finish { session: rand::random(), round2: finish.round2.clone() }).await.no("session_lost");
    let (_, finish) = raw.half(CENT).await;
    raw.ask::<Kept>(path::PREPARED, &Prepared { session: finish.session, round2: finish.round2.clone() }).await.no("session_lost");
    raw.finish(&finish).await.no("session_lost");
    let (intent, _) = raw.intent(rand::random(), CENT, |_| ());
    raw.ask::<Finished>(path::PRESENT, &Present { intent, session: finish.session, rho: [1; 32] }).await.no("session_lost");

    // A connection that goes takes its session along.
    let (_, finish) = neighbour.half(CENT).await;
    drop(neighbour);
    crate::harness::eventually("the session went with its connection", || rig.gauge("tollpass_cosigner_sessions_open{") == 0);
    rig.greeted(&rig.one).await.finish(&finish).await.no("session_lost");

    // Four purchases were begun, each held once; the refused ones hold nothing.
    assert_eq!((rig.purchases().len(), rig.held()), (4, 40_000));
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s9_a_presignature_is_presented_once_by_its_owner_and_lost_with_any_failure() {
    let mut rig = Rig::start();
    let (raw, other) = (rig.greeted(&rig.one).await, rig.greeted(&rig.two).await);
    let half = prepared(&raw).await;
    // Another identity's attempt does not spend it.
    let (foreign, _) = other.intent(rand::random(), CENT, |_| ());
    other.ask::<Finished>(path::PRESENT, &Present { intent: foreign, session: half, rho: [1; 32] }).await.no("session_lost");
    let (intent, _) = raw.intent(rand::random(), CENT, |_| ());
    let present = Present { intent, session: half, rho: [1; 32] };
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (raw, present) = (raw.clone(), present.clone());
        racing.spawn(async move { raw.ask::<Finished>(path::PRESENT, &present).await.word() });
    }
    let words = racing.join_all().await;
    assert_eq!(words.iter().filter(|w| *w == "yes").count(), 1, "{words:?}");
    // Shown with an intent that is refused, it is gone.
    let half = prepared(&raw).await;
    let (refused, _) = raw.intent(rand::random(), CENT, |i| i.to = [0x22; 20]);
    let answer = raw.ask::<Finished>(path::PRESENT, &Present { intent: refused, session: half, rho: [1; 32] }).await;
    assert!(matches!(answer, Heard::No(_)), "{answer:?}");
    let (good, _) = raw.intent(rand::random(), CENT, |_| ());
    raw.ask::<Finished>(path::PRESENT, &Present { intent: good, session: half, rho: [1; 32] }).await.no("session_lost");
    assert_eq!((rig.purchases().len(), rig.held()), (1, 10_000));
    rig.is_well();
}

/// A presignature that waits at the co-signer.
async fn prepared(raw: &Raw) -> [u8; 16] {
    let wallet = raw.share().wallet();
    let sign_id: [u8; 32] = rand::random();
    let (begun, round1) = PreBegun::new(raw.share().clone(), tollpass::mpc::Party::Cosigner, sign_id).unwrap();
    let prepare = Prepare { wallet: wallet.id.to_string(), epoch: wallet.epoch, sign_id, round1 };
    let opened: Opened = raw.ask(path::PREPARE, &prepare).await.yes();
    let (_, round2) = begun.advance(&opened.round1, &opened.round2).unwrap();
    raw.ask::<Kept>(path::PREPARED, &Prepared { session: opened.session, round2 }).await.yes().session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_a_changed_intent_is_refused_by_its_reason_and_holds_nothing() {
    let mut rig = Rig::start();
    let raw = rig.greeted(&rig.one).await;
    type Change = fn(&mut Intent);
    let table: [(&str, Change); 17] = [
        ("wire_version", |i| i.version = 2),
        ("stale_epoch", |i| i.epoch = 0),
        ("stale_epoch", |i| i.epoch = 2),
        ("wallet_unknown", |i| i.wallet = "w2".into()),
        ("wrong_payer", |i| i.from = [9; 20]),
        ("agent_not_tied", |i| i.agent = "somebody".into()),
        ("agent_not_tied", |i| i.agent = "\u{0}".repeat(300)),
        ("trial_wallet", |i| i.chain = 8453),
        ("unknown_asset", |i| i.token = [9; 20]),
        ("unsupported_network", |i| i.chain = u64::MAX),
        ("window_not_open", |i| i.valid_after += 3600),
        ("window_too_short", |i| i.valid_before = 0),
        ("unverified_payee", |i| i.to = [0x22; 20]),
        ("amount_too_large", |i| i.value = [0xff; 32]),
        ("cap_per_payment", |i| i.value[29] = 0x7f),
        ("grant_invalid", |i| i.grant = Some(vec![0xff; 100])),
        ("window_too_long", |i| i.valid_before = u64::MAX),
    ];
    let mut wrong = Vec::new();
    for (reason, change) in table {
        let (intent, _) = raw.intent(rand::random(), CENT, change);
        let round1 = raw.mine(rand::random(), CENT).begin.round1;
        let answer = raw.ask::<Opened>(path::BEGIN, &Begin { intent, sign_id: rand::random(), round1 }).await;
        if answer.word() != reason {
            wrong.push((reason, answer.word()));
        }
    }
    assert!(wrong.is_empty(), "expected, heard: {wrong:?}");
    // Signed by another identity than the connection's, or not at all: no answer.
    for spoil in
        [|b: &mut Begin| b.intent.signer[0] ^= 1, |b: &mut Begin| b.intent.signature.clear(), |b: &mut Begin| b.intent.bytes[0] ^= 1]
    {
        let raw = rig.greeted(&rig.one).await;
        let mut begin = raw.mine(rand::random(), CENT).begin;
        spoil(&mut begin);
        raw.ask::<Opened>(path::BEGIN, &begin).await.closed();
    }
    // A header of an old epoch, for every path that depends on the share.
    let at = tollpass::clock::read().wall;
    for stale in PATHS.into_iter().filter(|p| *p != path::SETTLE) {
        raw.send::<Opened>(stale, raw.seal_as(stale, 0, rand::random(), rig.deal.key.fingerprint(), at, b"")).await.no("stale_epoch");
    }
    // Words of a stranger to the purchase move nothing.
    let settle = Settle { wallet: "w1".into(), purchase: rand::random(), outcome: "void".into() };
    raw.ask::<tollpass::wire::message::Noted>(path::SETTLE, &settle).await.no("agent_not_tied");
    assert!(rig.purchases().is_empty());
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_half_open_sessions_are_64_for_an_identity_and_ten_seconds_old() {
    let mut rig = Rig::start();
    let (raw, other) = (rig.greeted(&rig.one).await, rig.greeted(&rig.two).await);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..72 {
        let raw = raw.clone();
        asking.spawn(async move { raw.ask::<Opened>(path::BEGIN, &raw.mine(rand::random(), CENT).begin).await });
    }
    let answers = asking.join_all().await;
    let opened_at = Instant::now();
    let words: Vec<String> = answers.iter().map(Heard::word).collect();
    assert_eq!(words.iter().filter(|w| *w == "yes").count(), 64, "{words:?}");
    assert!(words.iter().all(|w| w == "yes" || w == "cosigner_busy"), "{words:?}");
    // From another connection there is no more room either; another identity is not touched.
    let again = rig.greeted(&rig.one).await;
    again.ask::<Opened>(path::BEGIN, &again.mine(rand::random(), CENT).begin).await.no("cosigner_busy");
    other.pay(CENT).await;
    assert_eq!(rig.gauge("tollpass_cosigner_sessions_open{"), 64);
    crate::harness::eventually("the half-open sessions are gone", || rig.gauge("tollpass_cosigner_sessions_open{") == 0);
    let took = opened_at.elapsed();
    println!("64 half-open sessions gone after {took:.1?}");
    assert!(took < Duration::from_secs(14), "{took:?}");
    let session = answers.into_iter().find_map(|a| if let Heard::Yes(o) = a { Some(o.session) } else { None }).unwrap();
    raw.finish(&tollpass::wire::message::Finish { session, round2: vec![0; 50_000] }).await.no("session_lost");
    raw.pay(CENT).await;
    // Every accepted one is held, the refused ones are not.
    assert_eq!((rig.purchases().len(), rig.held()), (66, 660_000));
    rig.is_well();
}

/// Where a protocol message is damaged.
#[derive(Clone, Copy, Debug)]
enum Hurt {
    Flip(usize),
    Cut(usize),
    Longer,
    Zero(usize),
}

impl Hurt {
    fn apply(self, message: &mut Vec<u8>) {
        let len = message.len();
        match self {
            Self::Flip(at) => message[at % len] ^= 0x10,
            Self::Cut(at) => message.truncate(at % len),
            Self::Longer => message.push(0),
            Self::Zero(at) => message[at % len..].iter_mut().take(64).for_each(|b| *b = 0),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_damaged_protocol_message_fails_or_freezes_durably_and_never_signs() {
    let hurts: Vec<Hurt> = [0, 40, 700, 9_000, 20_000, 26_000]
        .into_iter()
        .flat_map(|at| [Hurt::Flip(at), Hurt::Zero(at)])
        .chain([Hurt::Cut(0), Hurt::Cut(1), Hurt::Cut(13_000), Hurt::Longer])
        .collect();
    let mut rig = Rig::start();
    let mut raw = rig.greeted(&rig.one).await;
    let (mut tally, mut accepted) = (BTreeMap::<(&str, String), usize>::new(), 0);
    for (round, hurt) in [1, 2].into_iter().flat_map(|round| hurts.iter().map(move |hurt| (round, *hurt))) {
        let word = if round == 1 {
            let mut begin = raw.mine(rand::random(), CENT).begin;
            hurt.apply(&mut begin.round1);
            raw.ask::<Opened>(path::BEGIN, &begin).await.word()
        } else {
            let (_, mut finish) = raw.half(CENT).await;
            hurt.apply(&mut finish.round2);
            let word = raw.finish(&finish).await.word();
            assert_ne!(word, "yes", "{hurt:?} of the second message gave a partial");
            raw.finish(&finish).await;
            word
        };
        accepted += 1;
        *tally.entry((if round == 1 { "first" } else { "second" }, word.clone())).or_default() += 1;
        rig.is_well();
        if word == "wallet_frozen" {
            // Nothing goes on, nothing is left, and another process knows it too.
            raw.ask::<Opened>(path::BEGIN, &raw.mine(rand::random(), CENT).begin).await.no("wallet_frozen");
            assert_eq!(
                (rig.gauge("tollpass_cosigner_frozen{"), rig.gauge("tollpass_cosigner_sessions_open{")),
                (1, 0),
                "{}",
                rig.metrics()
            );
            assert_eq!((rig.purchases().len(), rig.held()), (accepted, 10_000 * accepted as i64));
            assert!(!rig.restart(), "{hurt:?}: a frozen share was opened by another process");
            assert!(rig.log().contains("frozen"), "{}", rig.log());
            rig = Rig::start();
            raw = rig.greeted(&rig.one).await;
            accepted = 0;
        } else {
            assert!(["session_lost", "yes"].contains(&word.as_str()), "{hurt:?} of message {round}: {word}");
        }
    }
    // The session that survived is a session like any other.
    raw.pay(CENT).await;
    println!("damaged protocol messages: {tally:?}");
    let frozen = tally.iter().filter(|((_, w), _)| w == "wallet_frozen").map(|(_, n)| n).sum::<usize>();
    assert!(frozen > 2 && tally.keys().any(|(_, w)| w == "session_lost"), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_payloads_of_nonsense_in_good_envelopes_end_the_connection_and_nothing_else() {
    let mut rig = Rig::start();
    let raw = rig.greeted(&rig.one).await;
    let good = bytes(&raw.mine(rand::random(), CENT).begin);
    let witness = rig.greeted(&rig.two).await;
    let mut closed = 0;
    for path in PATHS {
        for nonsense in [&[][..], &[0xff; 40], &[0x80; 4000], &good[..good.len() - 1], &[&good[..], &[0]].concat()] {
            let raw = rig.greeted(&rig.one).await;
            raw.send::<Opened>(path, raw.seal(path, nonsense)).await.closed();
            closed += 1;
        }
    }
    println!("{closed} connections ended for nonsense");
    // Replays and flips interleaved with honest payments: those are not disturbed.
    let (raw, mut seen) = (rig.greeted(&rig.one).await, HashSet::new());
    for n in 0..12_usize {
        let (completing, finish) = raw.half(CENT).await;
        let mut hurt = raw.seal(path::FINISH, &bytes(&finish));
        let at = n * 997 % hurt.len();
        hurt[at] ^= 4;
        let heard = raw.send::<Finished>(path::FINISH, hurt).await;
        assert!(matches!(heard, Heard::Status(400 | 401 | 421 | 425)), "{heard:?}");
        let (_, stranger) = witness.half(CENT).await;
        raw.finish(&stranger).await.no("session_lost");
        let finished = raw.finish(&finish).await.yes();
        assert!(seen.insert(finished.partial.clone()), "a partial came twice");
        completing.complete(&Partial::from_bytes(finished.partial)).unwrap();
        witness.finish(&stranger).await.yes();
    }
    assert_eq!((rig.purchases().len(), rig.held()), (24, 240_000));
    rig.is_well();
}
