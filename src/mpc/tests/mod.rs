//! What two shares can do together, and what nothing may make them do.
#![allow(clippy::unwrap_used)]

mod attack;
mod ceremony;
mod corrupt;
mod presign;
mod sign;

use std::sync::Arc;

use alloy_primitives::B256;

use super::{Abort, Begun, Joined, Party, Share, WalletId, WalletIdError};

/// Runs a whole session between two shares.
fn run(a: &Arc<Share>, b: &Arc<Share>, digest: B256) -> Result<[u8; 65], Abort> {
    let id = rand::random();
    let (begun, a1) = Begun::new(a.clone(), b.wallet().party, id, digest)?;
    let (joined, b1, b2) = Joined::new(b.clone(), a.wallet().party, id, digest, &a1)?;
    let (completing, a2) = begun.advance(&b1, &b2)?;
    completing.complete(&joined.finish(&a2)?)
}

fn random_digest() -> B256 {
    B256::from(rand::random::<[u8; 32]>())
}

/// Low s, v of Ethereum's, and the wallet's address: checked here with the other generation of k256.
fn verifies(share: &Share, digest: B256, rsv: &[u8; 65]) -> bool {
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
    let signature = Signature::from_slice(&rsv[..64]).unwrap();
    let recovery = RecoveryId::from_byte(rsv[64] - 27).unwrap();
    let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, recovery).unwrap();
    let point = key.to_encoded_point(false);
    let address = &alloy_primitives::keccak256(&point.as_bytes()[1..])[12..];
    signature.normalize_s().is_none() && matches!(rsv[64], 27 | 28) && address == share.wallet().address.as_slice()
}

#[test]
fn a_wallets_name_is_a_short_word_that_needs_no_quotes() {
    let longest = "a".repeat(63);
    for good in ["a", "Z9", "w1", "team.a_b-c", &longest] {
        assert_eq!(good.parse::<WalletId>().map(String::from), Ok(good.to_owned()));
    }
    let too_long = "a".repeat(64);
    for bad in ["", ".a", "-a", "_a", "a b", "a/b", "../a", "a\n", "ä", &too_long] {
        assert_eq!(bad.parse::<WalletId>(), Err(WalletIdError), "{bad:?}");
        assert!(WalletId::try_from(bad.to_owned()).is_err(), "a sealed file is read by the same rule: {bad:?}");
    }
}
