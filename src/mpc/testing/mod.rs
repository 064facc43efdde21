//! Shares from a dealer, for tests alone: release builds do not have this module (S22). A dealer has seen the whole key.

#![allow(clippy::unwrap_used)]

mod probe;

use std::collections::BTreeMap;
use std::sync::Arc;

use dkls23_secp256k1::protocols::{Parameters, re_key::re_key};
use k256_dkls::elliptic_curve::Field;
use k256_dkls::{AffinePoint, Scalar, Secp256k1};

pub use probe::{Cheat, is_the_key, secret_bit};

use super::share::address_of;
use super::{Fingerprint, Origin, Party, Share, Wallet};

/// Three shares of a new key, in the order of [`Party::ALL`], marked one-host, epoch 1, without identities.
pub fn deal(id: &str) -> [Share; 3] {
    deal_as(id, Origin::OneHost, [(Party::Sidecar, [1; 32]), (Party::Cosigner, [2; 32]), (Party::Cold, [3; 32])])
}

/// Three shares of a new key with the origin and the identities that a test needs.
pub fn deal_as(id: &str, origin: Origin, identities: [(Party, [u8; 32]); 3]) -> [Share; 3] {
    let ceremony: [u8; 32] = rand::random();
    let secret = Scalar::random(&mut rand::rng());
    let parameters = Parameters::new(2, 3).unwrap();
    let (parties, _) = re_key::<Secp256k1>(&parameters, &ceremony, &secret, None, |_| String::new());
    let wallet = |party: Party, pk: &AffinePoint| Wallet {
        id: id.parse().unwrap(),
        address: address_of(pk),
        party,
        epoch: 1,
        ceremony,
        origin,
        recovery: None,
        identities: identities.into_iter().map(|(p, f)| (p, Fingerprint(f))).collect::<BTreeMap<_, _>>(),
    };
    let mut shares = Party::ALL.into_iter().zip(parties).map(|(party, dkls)| Share::new(wallet(party, &dkls.pk), dkls));
    std::array::from_fn(|_| shares.next().unwrap())
}

/// The same share under other public facts: an epoch, another name, another identity.
pub fn with_wallet(share: &Share, change: impl FnOnce(&mut Wallet)) -> Share {
    let mut wallet = share.wallet().clone();
    change(&mut wallet);
    Share::new(wallet, share.party.clone())
}

/// What must be in no output: the share's point of the key's polynomial, and seeds of its OT correlations.
pub fn canaries(share: &Share) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("key share", share.party.poly_point.to_bytes().to_vec())];
    for receiver in share.party.mul_receivers.values() {
        all.push(("OT seed 0", receiver.ote_receiver.seeds0[0].to_vec()));
        all.push(("OT seed 1", receiver.ote_receiver.seeds1[0].to_vec()));
    }
    all
}

/// [`deal`], ready for the sessions.
pub fn deal_shared(id: &str) -> [Arc<Share>; 3] {
    deal(id).map(Arc::new)
}
