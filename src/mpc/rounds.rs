//! The phases of DKLs23 signing that interactive signing and presigning share, on owned values.
//!
//! The library's keep-states are not Clone and each step takes `self`, so a phase runs at most once per session. Before
//! each phase the thread's generator is reseeded (S8): a clone of the machine must not repeat a nonce.

use std::collections::BTreeMap;
use std::sync::Arc;

use dkls23_secp256k1::protocols::signing::{
    Broadcast3to4, KeepPhase1to2, KeepPhase2to3, SignData, TransmitPhase1to2, TransmitPhase2to3, UniqueKeep1to2, UniqueKeep2to3,
};
use dkls23_secp256k1::protocols::{Abort as DklsAbort, AbortKind, AbortReason, PartyIndex};
use k256_dkls::Secp256k1;
use zeroize::Zeroizing;

use super::codec::{self, MAX_SIGNING};
use super::{Abort, Party, Share};

/// Bytes of one message; wiped when dropped.
pub(super) type Message = Zeroizing<Vec<u8>>;
/// The second message, decoded.
pub(super) type Second = TransmitPhase2to3<Secp256k1>;
/// `u` and `w`.
pub(super) type Halves = Broadcast3to4<Secp256k1>;

/// A session after phase 1.
pub(super) struct First {
    share: Arc<Share>,
    data: SignData,
    unique: UniqueKeep1to2<Secp256k1>,
    kept: BTreeMap<PartyIndex, KeepPhase1to2<Secp256k1>>,
}

/// A session after phase 2.
pub(super) struct Middle {
    pub(super) share: Arc<Share>,
    pub(super) data: SignData,
    pub(super) unique: UniqueKeep2to3<Secp256k1>,
    kept: BTreeMap<PartyIndex, KeepPhase2to3<Secp256k1>>,
}

impl First {
    /// Phase 1 over `hash`; answers our first message.
    pub(super) fn open(share: Arc<Share>, peer: Party, sign_id: [u8; 32], hash: [u8; 32]) -> Result<(Self, Message), Abort> {
        let counterparty = PartyIndex::new(peer.index()).map_err(|_| recoverable("no such party"))?;
        let data = SignData { sign_id: sign_id.to_vec(), counterparties: vec![counterparty], message_hash: hash };
        reseed()?;
        let (unique, kept, transmit) = share.party.sign_phase1(&data).map_err(|abort| judge(&abort))?;
        let message = codec::encode(only(&transmit)?)?;
        Ok((Self { share, data, unique, kept }, message))
    }

    /// Phase 2 with the peer's first message; answers our second.
    pub(super) fn advance(self, peer: &TransmitPhase1to2) -> Result<(Middle, Message), Abort> {
        reseed()?;
        let received = std::slice::from_ref(peer);
        let (unique, kept, transmit) =
            self.share.party.sign_phase2(&self.data, self.unique, self.kept, received).map_err(|abort| judge(&abort))?;
        let message = codec::encode(only(&transmit)?)?;
        Ok((Middle { share: self.share, data: self.data, unique, kept }, message))
    }
}

impl Middle {
    /// Phase 3 with the peer's second message: the share, the session's data, x(R) in hex, and our halves.
    pub(super) fn finish(self, peer: &Second) -> Result<(Arc<Share>, SignData, String, Halves), Abort> {
        reseed()?;
        let received = std::slice::from_ref(peer);
        let (x, halves) = self.share.party.sign_phase3(&self.data, self.unique, self.kept, received).map_err(|abort| judge(&abort))?;
        Ok((self.share, self.data, x, halves))
    }
}

/// Decodes the peer's first message.
pub(super) fn first(bytes: &[u8]) -> Result<TransmitPhase1to2, Abort> {
    Ok(codec::decode(bytes, MAX_SIGNING)?)
}

/// Decodes the peer's second message.
pub(super) fn second(bytes: &[u8]) -> Result<Second, Abort> {
    Ok(codec::decode(bytes, MAX_SIGNING)?)
}

/// Fresh entropy for this thread's generator, the one `dkls23` draws from.
pub(super) fn reseed() -> Result<(), Abort> {
    rand::rng().reseed().map_err(|_| recoverable("the system gives no randomness"))
}

/// An abort after which a fresh session may be tried. The text is ours: nothing of the library's `detail` gets in.
pub(super) fn recoverable(why: &str) -> Abort {
    Abort::Recoverable(why.to_owned())
}

/// The library's verdict in our words. With two parties a ban is always of the other one.
pub(super) fn judge(abort: &DklsAbort) -> Abort {
    if matches!(abort.kind, AbortKind::BanCounterparty(_)) {
        return Abort::Ban;
    }
    recoverable(match abort.reason {
        AbortReason::SessionBindingMismatch { .. } => "the peer is in another session: another digest, key, epoch or attempt",
        AbortReason::CommitmentMismatch { .. } => "the peer opened another value than it committed to",
        AbortReason::SignatureVerificationFailed | AbortReason::ZeroDenominator => "the peer's half does not complete the signature",
        AbortReason::PolynomialInconsistency => "the peer's share is not of this key",
        AbortReason::MisroutedMessage { .. } | AbortReason::UnexpectedSender { .. } | AbortReason::WrongMessageCount { .. } => {
            "a message of another party"
        }
        AbortReason::TrivialInstancePoint { .. } => "the peer sent a trivial point",
        AbortReason::InvalidLocalState { .. } | AbortReason::MissingMulState { .. } => "this share cannot sign with that party",
        _ => "the protocol stopped",
    })
}

/// With two parties there is one message per phase.
fn only<T>(messages: &[T]) -> Result<&T, Abort> {
    match messages {
        [message] => Ok(message),
        _ => Err(recoverable("not a session of two")),
    }
}
