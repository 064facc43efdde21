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

use alloy_primitives::B256;

use super::{Abort, Party, Share};

/// A responder's half of a signature, encoded: `u` and `w` of DKLs23. Worth a signature to whoever ran the session with it.
#[derive(Clone)]
pub struct Partial(pub(super) Vec<u8>);

impl Partial {
    /// From the wire.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
    /// For the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The initiator's side of one session.
pub struct Begun {
    share: Arc<Share>,
}

impl Begun {
    /// Starts a session over `digest` with `peer`; answers the first message. `sign_id` is fresh and random.
    ///
    /// # Errors
    /// [`Abort`].
    pub fn new(share: Arc<Share>, peer: Party, sign_id: [u8; 32], digest: B256) -> Result<(Self, Vec<u8>), Abort> {
        let _ = (share, peer, sign_id, digest);
        todo!()
    }

    /// Takes the responder's two messages; answers ours.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the responder must be banned before anything else.
    pub fn advance(self, peer_round1: &[u8], peer_round2: &[u8]) -> Result<(Completing, Vec<u8>), Abort> {
        let _ = (self.share, peer_round1, peer_round2);
        todo!()
    }
}

/// The initiator's side, waiting for the responder's partial.
pub struct Completing {
    share: Arc<Share>,
}

impl Completing {
    /// Combines both halves: `r ‖ s ‖ v`, low s, v 27 or 28. The caller checks the recovered address as for any signer.
    ///
    /// # Errors
    /// [`Abort::Recoverable`] if the combination does not verify: with two parties it was the peer.
    pub fn complete(self, peer: &Partial) -> Result<[u8; 65], Abort> {
        let _ = (self.share, peer);
        todo!()
    }
}

/// The responder's side of one session.
pub struct Joined {
    share: Arc<Share>,
}

impl Joined {
    /// Joins a session that `peer` began over the digest that *this* side computed; answers both of our messages.
    ///
    /// # Errors
    /// [`Abort`]; a peer that signs something else is a recoverable session mismatch.
    pub fn new(
        share: Arc<Share>,
        peer: Party,
        sign_id: [u8; 32],
        digest: B256,
        peer_round1: &[u8],
    ) -> Result<(Self, Vec<u8>, Vec<u8>), Abort> {
        let _ = (share, peer, sign_id, digest, peer_round1);
        todo!()
    }

    /// Takes the initiator's second message; answers our partial.
    ///
    /// # Errors
    /// [`Abort`]; on [`Abort::Ban`] the initiator must be banned before anything is answered (S3).
    pub fn finish(self, peer_round2: &[u8]) -> Result<Partial, Abort> {
        let _ = (self.share, peer_round2);
        todo!()
    }
}
