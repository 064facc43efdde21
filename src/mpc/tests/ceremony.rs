//! Three parties in one process: what they make, and what nothing may make them do.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use super::{random_digest, run, verifies};
use crate::{Abort, Fault, Fingerprint, Inbox, LAST_ROUND, Next, Origin, Party, Plan, Post, Setup, Share, create, refresh};

/// What the network does to one message: sender, round, receiver, the message.
type Wire<'a> = &'a mut dyn FnMut(Party, u8, Party, &mut Vec<u8>, Option<&mut Zeroizing<Vec<u8>>>);

fn plan() -> Plan {
    Plan {
        wallet: "w".parse().unwrap(),
        origin: Origin::Distributed,
        recovery: Some(alloy_primitives::Address::repeat_byte(7)),
        identities: Party::ALL.into_iter().map(|p| (p, Fingerprint([p.index(); 32]))).collect(),
        existing: None,
    }
}

fn creation() -> Vec<(Setup, Post)> {
    Party::ALL.into_iter().map(|p| create(p, plan(), rand::random()).unwrap()).collect()
}

/// Runs all rounds; each party's result.
fn play(begun: Vec<(Setup, Post)>, wire: Wire<'_>) -> Vec<Result<Arc<Share>, Fault>> {
    let (setups, mut posts): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
    let mut running: Vec<Result<Setup, Fault>> = setups.into_iter().map(Ok).collect();
    for round in 1..LAST_ROUND {
        let inboxes: Vec<Inbox> = Party::ALL.into_iter().map(|me| inbox(me, round, &posts, wire)).collect();
        let step = |(setup, inbox): (Result<Setup, Fault>, &Inbox)| match setup.and_then(|s| s.advance(inbox)) {
            Ok((Next::Post(post), Some(setup))) => (Ok(setup), post),
            Ok(_) => panic!("an end before the last round"),
            // A party that stopped is silent.
            Err(fault) => (Err(fault), Post::default()),
        };
        (running, posts) = running.into_iter().zip(&inboxes).map(step).unzip();
    }
    let inboxes: Vec<Inbox> = Party::ALL.into_iter().map(|me| inbox(me, LAST_ROUND, &posts, wire)).collect();
    let end = |(setup, inbox): (Result<Setup, Fault>, &Inbox)| match setup.and_then(|s| s.advance(inbox)) {
        Ok((Next::Done(share), None)) => Ok(Arc::from(share)),
        Ok(_) => panic!("no end after the last round"),
        Err(fault) => Err(fault),
    };
    running.into_iter().zip(&inboxes).map(end).collect()
}

fn inbox(me: Party, round: u8, posts: &[Post], wire: Wire<'_>) -> Inbox {
    let mut inbox = Inbox::default();
    for (from, post) in Party::ALL.into_iter().zip(posts).filter(|(from, _)| *from != me) {
        let mut broadcast = post.broadcast.clone();
        let mut private = post.private.get(&me).cloned();
        wire(from, round, me, &mut broadcast, private.as_mut());
        if !broadcast.is_empty() {
            inbox.broadcast.insert(from, broadcast);
        }
        inbox.private.extend(private.map(|p| (from, p)));
    }
    inbox
}

fn honest(begun: Vec<(Setup, Post)>) -> Vec<Arc<Share>> {
    play(begun, &mut |_, _, _, _, _| ()).into_iter().map(Result::unwrap).collect()
}

/// One wallet for all tests that only read it.
fn wallet() -> &'static [Arc<Share>] {
    static WALLET: OnceLock<Vec<Arc<Share>>> = OnceLock::new();
    WALLET.get_or_init(|| honest(creation()))
}

fn refreshed() -> &'static [Arc<Share>] {
    static WALLET: OnceLock<Vec<Arc<Share>>> = OnceLock::new();
    WALLET.get_or_init(|| honest(wallet().iter().map(|s| refresh(s.clone(), rand::random()).unwrap()).collect()))
}

const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

#[test]
fn three_parties_make_one_account_and_every_pair_signs() {
    let shares = wallet();
    for share in shares {
        let facts = share.wallet();
        assert_eq!((facts.address, facts.ceremony), (shares[0].wallet().address, shares[0].wallet().ceremony));
        assert_eq!((facts.epoch, facts.origin), (1, Origin::Distributed));
    }
    for (a, b) in PAIRS {
        let digest = random_digest();
        assert!(verifies(&shares[a], digest, &run(&shares[a], &shares[b], digest).unwrap()), "{a} {b}");
    }
    let other = honest(creation());
    assert_ne!(other[0].wallet().address, shares[0].wallet().address);
}

#[test]
fn s7_a_refresh_keeps_the_account_and_old_shares_do_not_sign_with_new_ones() {
    let (old, new) = (wallet(), refreshed());
    for (old, new) in old.iter().zip(new) {
        let (before, after) = (old.wallet(), new.wallet());
        assert_eq!((after.address, after.ceremony, after.epoch), (before.address, before.ceremony, 2));
        assert_ne!(old.secret_bytes().unwrap()[..], new.secret_bytes().unwrap()[..]);
    }
    for (a, b) in PAIRS {
        let digest = random_digest();
        assert!(verifies(&new[a], digest, &run(&new[a], &new[b], digest).unwrap()), "{a} {b}");
        for (x, y) in [(&old[a], &new[b]), (&new[a], &old[b])] {
            let error = run(x, y, digest).unwrap_err();
            assert!(matches!(error, Abort::Recoverable(_)), "{error}");
        }
        // Until they are destroyed, two old ones sign as before.
        assert!(run(&old[a], &old[b], digest).is_ok());
    }
}

#[test]
fn a_refresh_that_one_party_did_not_finish_leaves_the_old_shares_as_they_were() {
    let begun = wallet().iter().map(|s| refresh(s.clone(), rand::random()).unwrap()).collect();
    let results = play(begun, &mut |from, round, _, broadcast, _| {
        if from == Party::Cold && round == 5 {
            broadcast.clear();
        }
    });
    assert!(results.iter().filter(|r| r.is_err()).count() >= 2, "{results:?}");
    let digest = random_digest();
    assert!(run(&wallet()[0], &wallet()[1], digest).is_ok());
}

/// Flips a bit in the middle of what `Cosigner` sends in `round`; all results.
fn corrupt(refreshing: bool, round: u8, private: bool) -> Vec<Result<Arc<Share>, Fault>> {
    let begun = if refreshing { wallet().iter().map(|s| refresh(s.clone(), rand::random()).unwrap()).collect() } else { creation() };
    play(begun, &mut |from, now, to, broadcast, secret| {
        // Both fragments changed alike may lie on a line again, as if the sender had drawn it: only one of them is changed.
        if (from, now) != (Party::Cosigner, round) || (private && round == 3 && to != Party::Sidecar) {
            return;
        }
        let bytes: &mut Vec<u8> = if private { secret.unwrap() } else { broadcast };
        let middle = bytes.len() / 2 + if private { 0 } else { 16 };
        let at = middle.min(bytes.len() - 1);
        bytes[at] ^= 1;
    })
}

#[test]
fn a_changed_broadcast_makes_no_wallet_and_names_the_sender() {
    for (refreshing, round) in [(false, 2), (false, 4), (false, 5), (false, 6), (true, 4), (true, 5)] {
        let results = corrupt(refreshing, round, false);
        for (me, result) in Party::ALL.into_iter().zip(&results) {
            if (me, round) == (Party::Cosigner, LAST_ROUND) {
                // Nobody speaks after the last round: that is why a share is not a wallet before it was tried (S6).
                continue;
            }
            let fault = result.as_ref().unwrap_err();
            // The sender itself sees that the others hold something else.
            let named = match fault {
                Fault::Party { party, .. } => *party == Party::Cosigner,
                Fault::Equivocation { .. } => true,
                _ => false,
            };
            assert!(named || me == Party::Cosigner, "round {round}, refresh {refreshing}, {me}: {fault}");
        }
    }
}

#[test]
fn a_changed_secret_makes_no_wallet() {
    for (refreshing, round) in [(false, 3), (false, 4), (false, 5), (true, 3), (true, 5)] {
        let results = corrupt(refreshing, round, true);
        for result in &results {
            assert!(result.is_err(), "round {round}, refresh {refreshing}");
        }
        // A wrong fragment fits nobody's line, and the library cannot tell whose it was. Sealing and signatures keep everyone
        // but the sender from changing one.
        let fault = results[0].as_ref().unwrap_err();
        let want =
            |f: &Fault| matches!(f, Fault::Party { party: Party::Cosigner, .. }) || (round == 3 && matches!(f, Fault::Unclear { .. }));
        assert!(want(fault), "round {round}: {fault}");
    }
}

#[test]
fn two_stories_are_found_out_by_the_cross_check() {
    // The co-signer opens one nonce to the sidecar and commits and opens another to the cold party: each story is consistent.
    let other = rand::random();
    let (_, second) = create(Party::Cosigner, plan(), other).unwrap();
    let results = play(creation(), &mut |from, round, to, broadcast, _| {
        if (from, round, to) == (Party::Cosigner, 1, Party::Cold) {
            broadcast.clone_from(&second.broadcast);
        }
    });
    for (me, result) in [(Party::Sidecar, &results[0]), (Party::Cold, &results[2])] {
        let fault = result.as_ref().unwrap_err();
        assert!(matches!(fault, Fault::Equivocation { round: 1, .. }), "{me}: {fault}");
    }
}

#[test]
fn two_stories_in_the_last_step_are_found_out_too() {
    // What the co-signer says it saw of round 5 differs from what the cold party saw.
    let results = play(creation(), &mut |from, round, to, broadcast, _| {
        if (from, round, to) == (Party::Cosigner, 6, Party::Cold) {
            broadcast[0] ^= 1;
        }
    });
    assert_eq!(results[2].as_ref().unwrap_err(), &Fault::Equivocation { party: Party::Cosigner, round: 5 });
}

#[test]
fn parties_with_different_plans_make_no_wallet() {
    let mut begun = creation();
    let other = Plan { recovery: None, ..plan() };
    assert!(plan().difference(&other).unwrap().contains("recovery address"));
    begun[2] = create(Party::Cold, other, rand::random()).unwrap();
    assert!(play(begun, &mut |_, _, _, _, _| ()).iter().all(Result::is_err));
    let mut stranger = plan();
    stranger.identities.insert(Party::Cold, Fingerprint([9; 32]));
    assert!(plan().difference(&stranger).unwrap().contains("cold's fingerprint"));
    assert_eq!(plan().difference(&plan()), None);
}

#[test]
fn arbitrary_bytes_are_an_error_and_never_a_panic() {
    for round in [1, 3, 5] {
        for length in [0_usize, 33, 5000] {
            let mut setups = creation();
            let mut posts: Vec<Post> = Vec::new();
            let mut live: Vec<Setup> = Vec::new();
            for (setup, post) in setups.drain(..) {
                live.push(setup);
                posts.push(post);
            }
            for now in 1..=round {
                let garbage = now == round;
                let inboxes: Vec<Inbox> = Party::ALL
                    .into_iter()
                    .map(|me| {
                        inbox(me, now, &posts, &mut |_, _, _, broadcast, secret| {
                            if garbage {
                                *broadcast = (0..length).map(|_| rand::random()).collect();
                                if let Some(secret) = secret {
                                    **secret = broadcast.clone();
                                }
                            }
                        })
                    })
                    .collect();
                let stepped: Vec<_> = live.into_iter().zip(&inboxes).map(|(s, i)| s.advance(i)).collect();
                if garbage {
                    assert!(stepped.iter().all(Result::is_err), "round {round}, {length} bytes");
                    break;
                }
                (live, posts) = (Vec::new(), Vec::new());
                for step in stepped {
                    let Ok((Next::Post(post), Some(setup))) = step else { panic!("an honest round failed") };
                    live.push(setup);
                    posts.push(post);
                }
            }
        }
    }
}

#[test]
fn debug_of_a_post_shows_no_secret() {
    let post = Post { broadcast: vec![1, 2, 3], private: BTreeMap::from([(Party::Cold, Zeroizing::new(b"hunter2".to_vec()))]) };
    let shown = format!("{post:?}");
    assert!(!shown.contains("104") && !shown.contains("hunter2"), "{shown}");
}
