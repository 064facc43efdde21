//! Presignatures: one round trip per signature (S9, mpc.md §5). **Not reviewed by a cryptographer**; off unless
//! `accept_unreviewed_presign: true`.
//!
//! Phases 1 to 3 run ahead, over the zero digest. Of what they give, each side keeps `u`, `v = w / r` (the zero digest
//! leaves `w = r·v`), its inversion mask φ and the common nonce point R. When a digest is there, both compute
//! `δ = hash(key, R, digest, id, signers, ρ_a, ρ_b)` and use `R' = δR`, `u' = δu`, `r' = x(R')`, `w' = digest·φ + r'·v`. A nonce
//! that nobody knew before the digest was fixed takes away what a nonce known in advance gives a forger.
//!
//! Two signatures of one presignature are the private key. So both halves are move-only, in memory only, wiped on drop; the
//! doc tests of [this crate](crate) show that a second use does not compile.
//!
//! Take a half out of its pool *before* any check that may fail, and never put one back. A pool belongs to one connection and
//! one process run; drop it on disconnect, refresh, ban, and change of policy.

use std::sync::Arc;

use alloy_primitives::B256;
use dkls23_secp256k1::utilities::hashes::tagged_hash_as_scalar;
use k256_dkls::elliptic_curve::ops::Reduce;
use k256_dkls::elliptic_curve::point::AffineCoordinates;
use k256_dkls::elliptic_curve::scalar::IsHigh;
use k256_dkls::elliptic_curve::{Group, group::GroupEncoding};
use k256_dkls::{AffinePoint, FieldBytes, ProjectivePoint, Scalar, Secp256k1};
use zeroize::Zeroize;

use super::rounds::{self, First, Halves, Middle, Second, recoverable};
use super::sign::checked;
use super::{Abort, Partial, Party, Share};

const ZERO: [u8; 32] = [0; 32];
const TAG: &[u8] = b"tollpass/presign/delta/v1";

/// What one side keeps of a presignature; `nonce` is R, which both sides know. No Clone, no serde, no Debug.
struct Half {
    share: Arc<Share>,
    peer: Party,
    id: [u8; 32],
    nonce: AffinePoint,
    u: Scalar,
    v: Scalar,
    phi: Scalar,
}

impl Drop for Half {
    fn drop(&mut self) {
        self.u.zeroize();
        self.v.zeroize();
        self.phi.zeroize();
    }
}

impl Half {
    /// Phase 3 over the zero digest. Its `u` and `w` end here: they are never encoded.
    fn close(middle: Middle, theirs: &Second, peer: Party, id: [u8; 32]) -> Result<Self, Abort> {
        let phi = middle.unique.inversion_mask;
        let nonce = (ProjectivePoint::from(middle.unique.instance_point) + theirs.instance_point).to_affine();
        let (share, _, _, halves) = middle.finish(theirs)?;
        let inverse: Option<Scalar> = x_of(&nonce).invert().into();
        let v = halves.w * inverse.ok_or_else(|| recoverable("a zero r"))?;
        Ok(Self { share, peer, id, nonce, u: halves.u, v, phi })
    }

    /// Our `u'` and `w'` for a digest, with R' and r'.
    fn bind(&self, digest: B256, rho_a: [u8; 32], rho_b: [u8; 32]) -> Result<(Halves, AffinePoint, Scalar), Abort> {
        let key = self.share.party.pk.to_bytes();
        let mut signers = [self.share.wallet().party.index(), self.peer.index()];
        signers.sort_unstable();
        let transcript: [&[u8]; 7] = [&key, &self.nonce.to_bytes(), &digest.0, &self.id, &signers, &rho_a, &rho_b];
        let delta = tagged_hash_as_scalar::<Secp256k1>(TAG, &transcript);
        let point = ProjectivePoint::from(self.nonce) * delta;
        if bool::from(delta.is_zero()) || bool::from(point.is_identity()) {
            return Err(recoverable("a zero delta"));
        }
        let point = point.to_affine();
        let r = x_of(&point);
        if bool::from(r.is_zero()) {
            return Err(recoverable("a zero r"));
        }
        let message = <Scalar as Reduce<FieldBytes>>::reduce(&FieldBytes::from(digest.0));
        Ok((Halves { u: self.u * delta, w: message * self.phi + r * self.v }, point, r))
    }
}

fn x_of(point: &AffinePoint) -> Scalar {
    <Scalar as Reduce<FieldBytes>>::reduce(&point.x())
}

/// The initiator's side of a presignature in the making.
pub struct PreBegun {
    first: First,
    peer: Party,
    id: [u8; 32],
}

impl PreBegun {
    /// Starts; answers the first message. `sign_id` is fresh and random.
    ///
    /// # Errors
    /// [`Abort`].
    pub fn new(share: Arc<Share>, peer: Party, sign_id: [u8; 32]) -> Result<(Self, Vec<u8>), Abort> {
        let (first, round1) = First::open(share, peer, sign_id, ZERO)?;
        Ok((Self { first, peer, id: sign_id }, round1.to_vec()))
    }

    /// Takes the responder's two messages; answers ours, and the presignature.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the responder must be banned before anything else.
    pub fn advance(self, peer_round1: &[u8], peer_round2: &[u8]) -> Result<(Presignature, Vec<u8>), Abort> {
        let (theirs1, theirs2) = (rounds::first(peer_round1)?, rounds::second(peer_round2)?);
        let (middle, round2) = self.first.advance(&theirs1)?;
        Ok((Presignature(Half::close(middle, &theirs2, self.peer, self.id)?), round2.to_vec()))
    }
}

/// The initiator's half. It combines; nothing of it is ever sent.
pub struct Presignature(Half);

impl Presignature {
    /// `r ‖ s ‖ v` over `digest`, low s, verified against the wallet's address.
    ///
    /// # Errors
    /// [`Abort::Recoverable`] if the combination does not verify; the half is gone all the same.
    pub fn complete(self, digest: B256, rho_a: [u8; 32], rho_b: [u8; 32], peer: &Partial) -> Result<[u8; 65], Abort> {
        let (own, point, r) = self.0.bind(digest, rho_a, rho_b)?;
        let theirs = peer.halves()?;
        let inverse: Option<Scalar> = (own.u + theirs.u).invert().into();
        let mut s = (own.w + theirs.w) * inverse.ok_or_else(|| recoverable("a zero denominator"))?;
        if bool::from(s.is_zero()) {
            return Err(recoverable("a zero s"));
        }
        let mut odd = bool::from(point.y_is_odd());
        if bool::from(s.is_high()) {
            s = -s;
            odd = !odd;
        }
        let mut rsv = [0; 65];
        rsv[..32].copy_from_slice(&r.to_bytes());
        rsv[32..64].copy_from_slice(&s.to_bytes());
        rsv[64] = 27 + u8::from(odd);
        checked(&self.0.share, digest, rsv)
    }
}

/// The responder's side of a presignature in the making.
pub struct PreJoined {
    middle: Middle,
    peer: Party,
    id: [u8; 32],
}

impl PreJoined {
    /// Joins; answers both of our messages.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the initiator must be banned before anything is answered (S3).
    pub fn new(share: Arc<Share>, peer: Party, sign_id: [u8; 32], peer_round1: &[u8]) -> Result<(Self, Vec<u8>, Vec<u8>), Abort> {
        let theirs = rounds::first(peer_round1)?;
        let (first, round1) = First::open(share, peer, sign_id, ZERO)?;
        let (middle, round2) = first.advance(&theirs)?;
        Ok((Self { middle, peer, id: sign_id }, round1.to_vec(), round2.to_vec()))
    }

    /// Takes the initiator's second message.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the initiator must be banned before anything is answered (S3).
    pub fn finish(self, peer_round2: &[u8]) -> Result<ResponderPresignature, Abort> {
        Half::close(self.middle, &rounds::second(peer_round2)?, self.peer, self.id).map(ResponderPresignature)
    }
}

/// The responder's half: worth one partial.
pub struct ResponderPresignature(Half);

impl ResponderPresignature {
    /// Our partial over the digest that *this* side computed. `rho_b` is drawn by this side after it has accepted.
    ///
    /// # Errors
    /// [`Abort::Recoverable`]; the half is gone all the same.
    pub fn present(self, digest: B256, rho_a: [u8; 32], rho_b: [u8; 32]) -> Result<Partial, Abort> {
        let (halves, ..) = self.0.bind(digest, rho_a, rho_b)?;
        Partial::new(&halves)
    }
}
