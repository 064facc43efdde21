//! Interactive two-party signing: two round trips.
//!
//! ```text
//! initiator (share 1)                            responder (share 2)
//! Begun::new            ── sign id, round 1 ──▶  Joined::new   (its phases 1 and 2)
//! Begun::advance  ◀── its round 1 and round 2 ──
//!                       ──────── round 2 ─────▶  Joined::finish (its phase 3) → Partial
//! Begun::complete  ◀───────── Partial ──────────
//! ```
//!
//! The responder's partial signature is the only thing that, with the initiator's own, makes a signature; the initiator's
//! never leaves it. Each value is consumed by its step, so a session gives at most one partial (S5).

use std::sync::Arc;

use alloy_primitives::{B256, Signature, U256};
use dkls23_secp256k1::protocols::signing::SignData;
use zeroize::Zeroizing;

use super::codec::{self, MAX_SIGNING};
use super::rounds::{self, First, Halves, Middle, recoverable};
use super::{Abort, Party, Share};

/// A responder's half of a signature, encoded: `u` and `w` of DKLs23. Worth a signature to whoever ran the session with it.
#[derive(Clone)]
pub struct Partial(pub(super) Zeroizing<Vec<u8>>);

impl Partial {
    /// From the wire.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
    /// For the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// From a responder's halves.
    pub(super) fn new(halves: &Halves) -> Result<Self, Abort> {
        Ok(Self(codec::encode(halves)?))
    }
    /// Both scalars; `None` of them is trusted before the signature verifies.
    pub(super) fn halves(&self) -> Result<Halves, Abort> {
        Ok(codec::decode(&self.0, MAX_SIGNING)?)
    }
}

/// The initiator's side of one session.
pub struct Begun {
    first: First,
}

impl Begun {
    /// Starts a session over `digest` with `peer`; answers the first message. `sign_id` is fresh and random.
    ///
    /// # Errors
    /// [`Abort`].
    pub fn new(share: Arc<Share>, peer: Party, sign_id: [u8; 32], digest: B256) -> Result<(Self, Vec<u8>), Abort> {
        let (first, round1) = First::open(share, peer, sign_id, digest.0)?;
        Ok((Self { first }, round1.to_vec()))
    }

    /// Takes the responder's two messages; answers ours. Both of theirs are checked before ours leaves.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the responder must be banned before anything else.
    pub fn advance(self, peer_round1: &[u8], peer_round2: &[u8]) -> Result<(Completing, Vec<u8>), Abort> {
        let (theirs1, theirs2) = (rounds::first(peer_round1)?, rounds::second(peer_round2)?);
        let (middle, round2) = self.first.advance(&theirs1)?;
        let (share, data, x, own) = middle.finish(&theirs2)?;
        Ok((Completing { share, data, x, own }, round2.to_vec()))
    }
}

/// The initiator's side, waiting for the responder's partial.
pub struct Completing {
    share: Arc<Share>,
    data: SignData,
    /// x of the nonce point, hex: already the signature's `r`.
    x: String,
    own: Halves,
}

impl Completing {
    /// Combines both halves: `r ‖ s ‖ v`, low s, v 27 or 28, verified against the wallet's address.
    ///
    /// # Errors
    /// [`Abort::Recoverable`] if the combination does not verify: with two parties it was the peer.
    pub fn complete(self, peer: &Partial) -> Result<[u8; 65], Abort> {
        let digest = B256::from(self.data.message_hash);
        let both = [self.own, peer.halves()?];
        let (s, recovery) = self.share.party.sign_phase4(&self.data, &self.x, &both, true).map_err(|abort| rounds::judge(&abort))?;
        let mut rsv = [0; 65];
        let decoded = alloy_primitives::hex::decode_to_slice(&self.x, &mut rsv[..32])
            .and_then(|()| alloy_primitives::hex::decode_to_slice(&s, &mut rsv[32..64]));
        // Bit 1 of the recovery id, an x beyond the order, has no v; it does not happen in the life of the universe.
        if decoded.is_err() || recovery > 1 {
            return Err(recoverable("the signature has no recovery byte of Ethereum's"));
        }
        rsv[64] = 27 + recovery;
        checked(&self.share, digest, rsv)
    }
}

/// Lets a signature out only if it has a low s and recovers to the wallet's account.
pub(super) fn checked(share: &Share, digest: B256, rsv: [u8; 65]) -> Result<[u8; 65], Abort> {
    let signature = Signature::new(U256::from_be_slice(&rsv[..32]), U256::from_be_slice(&rsv[32..64]), rsv[64] == 28);
    let low = signature.normalize_s().is_none();
    match signature.recover_address_from_prehash(&digest) {
        Ok(address) if low && address == share.wallet().address => Ok(rsv),
        _ => Err(recoverable("the signature does not verify against the wallet")),
    }
}

/// The responder's side of one session.
pub struct Joined {
    middle: Middle,
}

impl Joined {
    /// Joins a session that `peer` began over the digest that *this* side computed; answers both of our messages.
    ///
    /// # Errors
    /// [`Abort`]; a peer that signs something else is a recoverable session mismatch. On [`Abort::Ban`] the initiator must
    /// be banned before anything is answered (S3).
    pub fn new(
        share: Arc<Share>,
        peer: Party,
        sign_id: [u8; 32],
        digest: B256,
        peer_round1: &[u8],
    ) -> Result<(Self, Vec<u8>, Vec<u8>), Abort> {
        let theirs = rounds::first(peer_round1)?;
        let (first, round1) = First::open(share, peer, sign_id, digest.0)?;
        let (middle, round2) = first.advance(&theirs)?;
        Ok((Self { middle }, round1.to_vec(), round2.to_vec()))
    }

    /// Takes the initiator's second message; answers our partial.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the initiator must be banned before anything is answered (S3).
    pub fn finish(self, peer_round2: &[u8]) -> Result<Partial, Abort> {
        let theirs = rounds::second(peer_round2)?;
        let (_, _, _, halves) = self.middle.finish(&theirs)?;
        Partial::new(&halves)
    }
}
