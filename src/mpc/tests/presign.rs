use super::*;
use crate::testing::deal_shared;
use crate::{PreBegun, PreJoined, Presignature, ResponderPresignature};

fn prepare(a: &Arc<Share>, b: &Arc<Share>) -> (Presignature, ResponderPresignature) {
    let id = rand::random();
    let (begun, a1) = PreBegun::new(a.clone(), b.wallet().party, id).unwrap();
    let (joined, b1, b2) = PreJoined::new(b.clone(), a.wallet().party, id, &a1).unwrap();
    let (half, a2) = begun.advance(&b1, &b2).unwrap();
    (half, joined.finish(&a2).unwrap())
}

#[test]
fn sixty_four_presigned_signatures_verify() {
    let [a, b, c] = deal_shared("w1");
    for n in 0..64 {
        let (x, y) = [(&a, &b), (&a, &c), (&c, &b)][n % 3];
        let (own, theirs) = prepare(x, y);
        let (digest, rho_a, rho_b) = (random_digest(), rand::random(), rand::random());
        let partial = theirs.present(digest, rho_a, rho_b).unwrap();
        let rsv = own.complete(digest, rho_a, rho_b, &partial).unwrap();
        assert!(verifies(&a, digest, &rsv));
    }
}

#[test]
fn both_sides_must_use_the_same_digest_and_the_same_randomness() {
    let [a, b, _] = deal_shared("w1");
    let (digest, rho_a, rho_b) = (random_digest(), [1; 32], [2; 32]);
    for (their_digest, their_a, their_b) in [(random_digest(), rho_a, rho_b), (digest, [9; 32], rho_b), (digest, rho_a, [9; 32])] {
        let (own, theirs) = prepare(&a, &b);
        let partial = theirs.present(their_digest, their_a, their_b).unwrap();
        assert!(matches!(own.complete(digest, rho_a, rho_b, &partial), Err(Abort::Recoverable(_))));
    }
}

#[test]
fn a_presigned_half_is_no_interactive_one() {
    let [a, b, _] = deal_shared("w1");
    let (id, digest) = (rand::random(), random_digest());
    let (begun, a1) = Begun::new(a.clone(), Party::Cosigner, id, digest).unwrap();
    // The responder takes the same session for a presignature: the zero digest is another session.
    assert!(matches!(PreJoined::new(b.clone(), Party::Sidecar, id, &a1), Err(Abort::Recoverable(_))));
    drop(begun);
    // And the other way round.
    let (_begun, a1) = PreBegun::new(a, Party::Cosigner, id).unwrap();
    assert!(matches!(Joined::new(b, Party::Sidecar, id, digest, &a1), Err(Abort::Recoverable(_))));
}

#[test]
fn the_zero_digest_itself_is_signed_under_a_fresh_nonce() {
    let [a, b, _] = deal_shared("w1");
    let (own, theirs) = prepare(&a, &b);
    let digest = B256::ZERO;
    let partial = theirs.present(digest, [1; 32], [2; 32]).unwrap();
    let rsv = own.complete(digest, [1; 32], [2; 32], &partial).unwrap();
    assert!(verifies(&a, digest, &rsv));
}

#[test]
fn a_changed_half_is_no_signature() {
    let [a, b, _] = deal_shared("w1");
    for at in [0, 31, 32, 63] {
        let (own, theirs) = prepare(&a, &b);
        let digest = random_digest();
        let mut bytes = theirs.present(digest, [1; 32], [2; 32]).unwrap().as_bytes().to_vec();
        let last = bytes.len() - 1;
        bytes[at.min(last)] ^= 1;
        assert!(own.complete(digest, [1; 32], [2; 32], &crate::Partial::from_bytes(bytes)).is_err());
    }
}

#[test]
fn the_file_is_short_enough_to_review() {
    assert!(include_str!("../presign.rs").lines().count() <= 200, "S9");
}
