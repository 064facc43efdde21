//! The selective-abort attack of security.md ("What was shown") against one share in custody.
#![allow(clippy::unwrap_used)]

use alloy_primitives::B256;

use super::*;
use crate::config::Secret;
use crate::mpc::testing::{Cheat, deal};
use crate::mpc::{Abort, Joined};

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
        let (id, digest) = (rand::random(), B256::from(rand::random::<[u8; 32]>()));
        let cheat = Cheat::begin(&cheater, Party::Cosigner, id, digest.0);
        let joined = Joined::new(custody.share().clone(), Party::Sidecar, id, digest, &cheat.probing(i));
        assert!(matches!(joined, Ok(_) | Err(Abort::Ban)), "the probe was noticed otherwise");
        if joined.is_err() {
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
