//! The selective-abort attack (security.md, "What was shown") by a real client against the real process, which dies at every
//! write of its ban: the attacker learns one bit, or hears nothing and the stop is counted.

use std::os::unix::process::ExitStatusExt as _;

use tollpass::custody::{Custody, Frozen, MAX_UNCLEAN};
use tollpass::mpc::Party;
use tollpass::mpc::testing::{Cheat, secret_bit};
use tollpass::wire::message::{Begin, Opened, path};

use crate::adversary::{Heard, Raw, Rig};

/// Everything between the failed check and the answer, in order; what the next process must find.
const STEPS: [(&str, Found); 5] = [
    ("cosigner_before_ban", Found::Counted),
    ("ban_in_memory", Found::Counted),
    ("ban_tmp_written", Found::Counted),
    ("ban_renamed", Found::Banned),
    ("cosigner_after_ban", Found::Banned),
];

/// What a death leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// No ban; the stop is counted as unclean.
    Counted,
    /// The ban.
    Banned,
}

/// Asks for one bit of the co-signer's share: with an intent that is right in every way.
async fn probe(raw: &Raw, bit: usize) -> Heard<Opened> {
    let (intent, digest) = raw.intent(rand::random(), 10_000, |_| ());
    let sign_id: [u8; 32] = rand::random();
    let round1 = Cheat::begin(raw.share(), Party::Cosigner, sign_id, digest.0).probing(bit);
    raw.ask(path::BEGIN, &Begin { intent, sign_id, round1 }).await
}

/// Probes from bit `from` on until something else than "the bit is 0" happens; the first bit not known to be 0, and what
/// happened there.
async fn attack(rig: &Rig, from: usize) -> (usize, Heard<Opened>) {
    let raw = rig.greeted(&rig.one).await;
    for bit in from..256 {
        match probe(&raw, bit).await {
            Heard::Yes(_) => assert!(!secret_bit(&rig.deal.shares[1], Party::Sidecar, bit), "bit {bit}: the check let a 1 pass"),
            other => return (bit, other),
        }
    }
    panic!("256 zero bits do not happen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_the_first_failed_check_is_the_last_check_of_this_share() {
    let mut rig = Rig::start();
    let (bit, answer) = attack(&rig, 0).await;
    answer.no("wallet_frozen");
    assert!(secret_bit(&rig.deal.shares[1], Party::Sidecar, bit));
    // Every path and every identity of the share, on connections old and new (S3).
    let fresh = rig.dial(&rig.two).await;
    fresh.try_hello().await.no("wallet_frozen");
    let raw = rig.dial(&rig.one).await;
    probe(&raw, bit + 1).await.no("wallet_frozen");
    assert_eq!((rig.gauge("tollpass_cosigner_bans_total{"), rig.gauge("tollpass_cosigner_frozen{")), (1, 1));
    rig.is_well();
    assert!(matches!(Custody::inspect(&rig.path("share")).unwrap().1, Some(Frozen::Banned { peer: Party::Sidecar, .. })));
    // Neither a clean stop nor a kill brings it back.
    assert!(rig.stop().success());
    for _ in 0..2 {
        assert!(!rig.restart(), "a banned share was opened again");
    }
    println!("one bit of 256 and {bit} zeros learnt, then frozen for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_ban_survives_kill_9_at_every_write() {
    let places = tollpass::failpoint::CUSTODY.iter().chain(tollpass::failpoint::SIGNING).filter(|name| name.contains("ban"));
    let listed: std::collections::BTreeSet<&str> = places.copied().collect();
    assert_eq!(listed, STEPS.iter().map(|(name, _)| *name).collect(), "a step without a row");
    println!("{:<22} {:<8} {:<10} {:<18} found by the next process", "killed at", "SIGKILL", "answered", "bits learnt");
    for (step, expected) in STEPS {
        let mut rig = Rig::start_with(&[("TOLLPASS_FAILPOINT", step)], &[]);
        let (bit, answer) = attack(&rig, 0).await;
        assert!(matches!(answer, Heard::Closed), "{step}: {answer:?}");
        let died = rig.wait().signal() == Some(9);
        assert!(died, "{step}: never reached");
        let started = rig.restart();
        let found = Custody::inspect(&rig.path("share")).unwrap().1;
        match expected {
            Found::Banned => {
                assert!(!started && matches!(found, Some(Frozen::Banned { peer: Party::Sidecar, .. })), "{step}: {found:?}");
            }
            Found::Counted => {
                assert!(started && found.is_none(), "{step}: {found:?}");
                // It goes on where it was: the next 1 is a ban, at the latest then.
                let (_, answer) = attack(&rig, bit + 1).await;
                answer.no("wallet_frozen");
                assert!(!rig.restart(), "{step}: banned, and opened again");
            }
        }
        println!("{step:<22} {died:<8} {:<10} {:<18} {found:?}", "no", format!("1 and {bit} zeros"));
    }
    println!("{} steps, {} rows", listed.len(), STEPS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_process_that_dies_at_each_ban_is_frozen_after_sixteen_stops() {
    let mut rig = Rig::start_with(&[("TOLLPASS_FAILPOINT", "ban_tmp_written")], &[]);
    let (mut bit, mut deaths) = (0, 0);
    loop {
        let (learnt, answer) = attack(&rig, bit).await;
        answer.closed();
        assert_eq!(rig.wait().signal(), Some(9));
        (bit, deaths) = (learnt + 1, deaths + 1);
        assert!(deaths <= MAX_UNCLEAN, "{deaths} unclean stops and still no freeze");
        if !rig.launch() {
            break;
        }
    }
    assert_eq!(deaths, MAX_UNCLEAN);
    assert!(matches!(Custody::inspect(&rig.path("share")).unwrap().1, Some(Frozen::Unclean)));
    // Each death told one 1; zeros cost nothing. 256 bits would be the key.
    println!("frozen after {deaths} kills: {bit} of 256 bits probed, {deaths} of them ones");
    assert!(bit < 128);
}
