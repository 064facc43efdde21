//! The selective-abort attack of security.md ("What was shown"): first against copies of a share that do not hear of each
//! other's bans, which gives the key; then against one share in custody, which gives one failure for ever.

use super::*;
use crate::config::Secret;
use crate::custody::{Custody, CustodyError, Frozen, Unseal};
use crate::mpc::testing::{Cheat, deal, deal_shared, is_the_key, secret_bit};
use crate::payment::Timestamp;

/// Does the victim, as responder, fail its check on a first message?
fn bans_as_responder(victim: &Arc<Share>, cheat: &Cheat<'_>, id: [u8; 32], digest: B256, i: usize) -> bool {
    match Joined::new(victim.clone(), Party::Sidecar, id, digest, &cheat.probing(i)) {
        Ok(_) => false,
        Err(Abort::Ban) => true,
        Err(other) => panic!("the probe was noticed otherwise: {other}"),
    }
}

#[test]
fn copies_that_forget_their_bans_lose_the_key() {
    let [cheater, victim, _] = deal_shared("w1");
    let mut bans = 0;
    let mut delta = [false; 256];
    for (i, bit) in delta.iter_mut().enumerate() {
        let (id, digest) = (rand::random(), random_digest());
        let cheat = Cheat::begin(&cheater, Party::Cosigner, id, digest.0);
        *bit = bans_as_responder(&victim, &cheat, id, digest, i);
        bans += u32::from(*bit);
        assert_eq!(*bit, secret_bit(&victim, Party::Sidecar, i), "bit {i}");
    }
    // One more session, in which nothing can be noticed.
    let (id, digest) = (rand::random(), random_digest());
    let cheat = Cheat::begin(&cheater, Party::Cosigner, id, digest.0);
    let (_, _, answer) = Joined::new(victim, Party::Sidecar, id, digest, &cheat.honest()).unwrap();
    assert!(is_the_key(&cheater, cheat.private_key(&delta, &answer)), "after {bans} bans that nobody remembered");
}

#[test]
fn a_share_in_custody_is_frozen_after_one_ban_across_restarts() {
    let [cheater, victim, _] = deal("w1");
    let home = tempfile::tempdir().unwrap();
    let key = Unseal::Value(Secret::new("correct horse"));
    Custody::create(home.path(), &victim, &key).unwrap();

    let (mut sessions, mut bans, mut refused) = (0, 0, 0);
    for i in 0..64 {
        // Each round is a new process on the same folder, as a cheater that makes it crash would have it.
        let custody = match Custody::open(home.path(), &key) {
            Ok(custody) => custody,
            Err(CustodyError::Frozen(Frozen::Banned { peer: Party::Sidecar, .. })) => {
                refused += 1;
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        custody.session_opened().unwrap();
        sessions += 1;
        let (id, digest) = (rand::random(), random_digest());
        let cheat = Cheat::begin(&cheater, Party::Cosigner, id, digest.0);
        if bans_as_responder(custody.share(), &cheat, id, digest, i) {
            custody.ban(Party::Sidecar, Timestamp::from_millis(1)).unwrap();
            bans += 1;
            assert!(custody.frozen().is_some());
            assert!(custody.session_opened().is_err());
        }
        custody.session_closed();
    }
    assert_eq!(bans, 1, "64 zero bits in a row do not happen");
    assert_eq!(sessions + refused, 64);
    assert!(refused > 0 && Custody::inspect(home.path()).unwrap().1.is_some());
}

#[test]
fn a_cheating_responder_is_banned_before_it_gets_our_second_message() {
    let [victim, cheater, _] = deal_shared("w1");
    let (mut bans, mut passes) = (0, 0);
    for i in 0..32 {
        let (id, digest) = (rand::random(), random_digest());
        let (begun, a1) = Begun::new(victim.clone(), Party::Cosigner, id, digest).unwrap();
        let cheat = Cheat::begin(&cheater, Party::Sidecar, id, digest.0);
        // Its second message is an honest one of another attempt: well formed, so that the first is looked at.
        let (_, _, b2) = Joined::new(cheater.clone(), Party::Sidecar, id, digest, &a1).unwrap();
        match begun.advance(&cheat.probing(i), &b2).err().unwrap() {
            Abort::Ban => {
                assert!(secret_bit(&victim, Party::Cosigner, i));
                bans += 1;
            }
            Abort::Recoverable(_) => {
                assert!(!secret_bit(&victim, Party::Cosigner, i));
                passes += 1;
            }
            Abort::Malformed(error) => panic!("{error}"),
        }
    }
    assert!(bans > 0 && passes > 0);
}
