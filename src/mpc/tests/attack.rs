//! The selective-abort attack of security.md ("What was shown"), against copies of a share that do not hear of each other's bans:
//! it gives the key. A share in custody gives one failure for ever; the custody's tests show that.

use super::*;
use crate::testing::{Cheat, deal_shared, is_the_key, secret_bit};

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
