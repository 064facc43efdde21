use super::*;
use crate::testing::{deal, deal_shared, with_wallet};
use crate::{CodecError, MAX_SIGNING};

#[test]
fn all_three_pairs_sign_in_either_role() {
    let shares = deal_shared("w1");
    for a in 0..3 {
        for b in (0..3).filter(|b| *b != a) {
            let digest = random_digest();
            let rsv = run(&shares[a], &shares[b], digest).unwrap();
            assert!(verifies(&shares[0], digest, &rsv), "{a} with {b}");
        }
    }
}

#[test]
fn s_is_low_in_both_parities() {
    let [a, b, _] = deal_shared("w1");
    let mut seen = [false; 2];
    for _ in 0..16 {
        let digest = random_digest();
        let rsv = run(&a, &b, digest).unwrap();
        assert!(verifies(&a, digest, &rsv));
        seen[usize::from(rsv[64] - 27)] = true;
    }
    assert_eq!(seen, [true; 2], "one parity in sixteen signatures");
}

#[test]
fn a_peer_that_signs_another_digest_is_a_recoverable_mismatch() {
    let [a, b, _] = deal_shared("w1");
    let id = rand::random();
    let (_begun, a1) = Begun::new(a, Party::Cosigner, id, random_digest()).unwrap();
    let refused = Joined::new(b, Party::Sidecar, id, random_digest(), &a1).err().unwrap();
    assert_eq!(refused, Abort::Recoverable("the peer is in another session: another digest, key, epoch or attempt".into()));
}

#[test]
fn the_shares_of_two_wallets_do_not_sign_together() {
    let [a, ..] = deal_shared("w1");
    let [_, b, _] = deal_shared("w2");
    assert!(matches!(run(&a, &b, random_digest()), Err(Abort::Recoverable(_))));
}

#[test]
fn a_half_of_another_session_is_no_signature() {
    let [a, b, _] = deal_shared("w1");
    let digest = random_digest();
    let mut halves = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let id = rand::random();
        let (begun, a1) = Begun::new(a.clone(), Party::Cosigner, id, digest).unwrap();
        let (joined, b1, b2) = Joined::new(b.clone(), Party::Sidecar, id, digest, &a1).unwrap();
        let (completing, a2) = begun.advance(&b1, &b2).unwrap();
        halves.push(joined.finish(&a2).unwrap());
        waiting.push(completing);
    }
    halves.swap(0, 1);
    for (completing, half) in waiting.into_iter().zip(halves) {
        assert!(matches!(completing.complete(&half), Err(Abort::Recoverable(_))));
    }
}

#[test]
fn a_signature_of_another_account_is_not_let_out() {
    let [a, b, _] = deal("w1");
    // The shares sign well, but for an account that this wallet is not.
    let a = Arc::new(with_wallet(&a, |wallet| wallet.address = [7; 20].into()));
    let refused = run(&a, &Arc::new(b), random_digest());
    assert_eq!(refused, Err(Abort::Recoverable("the signature does not verify against the wallet".into())));
}

#[test]
fn too_long_and_left_over_are_malformed() {
    let [a, b, _] = deal_shared("w1");
    let (id, digest) = (rand::random(), random_digest());
    let (_begun, a1) = Begun::new(a, Party::Cosigner, id, digest).unwrap();
    let join = |bytes: &[u8]| Joined::new(b.clone(), Party::Sidecar, id, digest, bytes).err();
    assert_eq!(join(&vec![0; MAX_SIGNING + 1]), Some(Abort::Malformed(CodecError::TooLong(MAX_SIGNING))));
    assert_eq!(join(&[&a1[..], &[0]].concat()), Some(Abort::Malformed(CodecError::Wrong)));
    assert_eq!(join(&[]), Some(Abort::Malformed(CodecError::Wrong)));
    assert_eq!(join(&a1), None);
}

#[test]
fn a_share_reads_back_from_its_bytes_and_only_as_itself() {
    let [a, b, _] = deal("w1");
    let bytes = a.secret_bytes().unwrap();
    let again = Share::from_secret(a.wallet().clone(), &bytes).unwrap();
    let digest = random_digest();
    assert!(run(&Arc::new(again), &Arc::new(b), digest).is_ok());

    let mut wrong = vec![a.wallet().clone(); 2];
    wrong[0].party = Party::Cold;
    wrong[1].address = [9; 20].into();
    for wallet in wrong {
        assert_eq!(Share::from_secret(wallet, &bytes).err(), Some(CodecError::Wrong));
    }
    assert_eq!(Share::from_secret(a.wallet().clone(), &bytes[..bytes.len() - 1]).err(), Some(CodecError::Wrong));
}

#[test]
fn debug_of_a_share_shows_nothing_secret() {
    let [a, ..] = deal("w1");
    assert_eq!(format!("{a:?}"), "Share { wallet: WalletId(\"w1\"), party: Sidecar, .. }");
}
