//! The threshold wallet: a secp256k1 key that never exists, in three shares of which two sign (DKLs23).
//!
//! The one door to `dkls23`: nothing outside this folder names that crate (a test reads the sources). Everything here is
//! computation on bytes: no socket, file, clock or runtime. Messages are postcard, self-delimiting, capped before they are
//! decoded. Each phase reseeds the thread's generator first (S8). Five milliseconds are too long for an async worker: the
//! callers run these on threads of their own.
//!
//! `dkls23` has no third-party audit; README and SECURITY.md say so.
//!
//! # A presignature is used once
//!
//! Two signatures of one presignature are the private key (S9). One use compiles:
//!
//! ```
//! # use tollpass_mpc::{Abort, Partial, Presignature, ResponderPresignature};
//! fn respond(half: ResponderPresignature) -> Result<Partial, Abort> {
//!     half.present(Default::default(), [1; 32], [2; 32])
//! }
//! fn complete(half: Presignature, peer: &Partial) -> Result<[u8; 65], Abort> {
//!     half.complete(Default::default(), [1; 32], [2; 32], peer)
//! }
//! ```
//!
//! A second one, of either half, does not:
//!
//! ```compile_fail,E0382
//! # use tollpass_mpc::{Abort, Partial, Presignature, ResponderPresignature};
//! fn respond(half: ResponderPresignature) -> Result<Partial, Abort> {
//!     half.present(Default::default(), [1; 32], [2; 32])?;
//!     half.present(Default::default(), [1; 32], [3; 32])
//! }
//! ```
//!
//! ```compile_fail,E0382
//! # use tollpass_mpc::{Abort, Partial, Presignature, ResponderPresignature};
//! fn complete(half: Presignature, peer: &Partial) -> Result<[u8; 65], Abort> {
//!     half.complete(Default::default(), [1; 32], [2; 32], peer)?;
//!     half.complete(Default::default(), [1; 32], [3; 32], peer)
//! }
//! ```
//!
//! Nor does a copy:
//!
//! ```compile_fail,E0308
//! # use tollpass_mpc::ResponderPresignature;
//! fn copy(half: &ResponderPresignature) -> ResponderPresignature {
//!     half.clone()
//! }
//! ```
//!
//! The same holds for an interactive session: each step takes the one before.
//!
//! ```compile_fail,E0382
//! # use tollpass_mpc::{Abort, Joined, Partial};
//! fn finish(session: Joined, round2: &[u8]) -> Result<Partial, Abort> {
//!     session.finish(round2)?;
//!     session.finish(round2)
//! }
//! ```

mod codec;
mod dkg;
mod plan;
mod presign;
mod refresh;
mod rounds;
mod setup;
mod share;
mod sign;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use alloy_primitives::{Address, hex};
use serde::{Deserialize, Serialize};

pub use codec::{CodecError, MAX_CEREMONY, MAX_SIGNING};
pub use dkg::create;
pub use plan::{Existing, Fault, Inbox, Plan, Post};
pub use presign::{PreBegun, PreJoined, Presignature, ResponderPresignature};
pub use refresh::refresh;
pub use setup::{LAST_ROUND, Next, Setup};
pub use share::Share;
pub use sign::{Begun, Completing, Joined, Partial};

/// Name of a wallet: the operator's word, 1 to 63 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WalletId(Arc<str>);

impl WalletId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name outside `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name: write 1 to 63 of A-Z a-z 0-9 . _ - and start with a letter or digit")]
pub struct WalletIdError;

impl FromStr for WalletId {
    type Err = WalletIdError;
    fn from_str(text: &str) -> Result<Self, WalletIdError> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first && rest && text.len() <= 63 { Ok(Self(text.into())) } else { Err(WalletIdError) }
    }
}

impl TryFrom<String> for WalletId {
    type Error = WalletIdError;
    fn try_from(text: String) -> Result<Self, WalletIdError> {
        text.parse()
    }
}

impl From<WalletId> for String {
    fn from(id: WalletId) -> Self {
        id.0.to_string()
    }
}

impl fmt::Display for WalletId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which share: its index in the key's polynomial, and who is to hold it (S1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// Share 1: the proxy in direct mode, the gateway in a cluster.
    Sidecar = 1,
    /// Share 2: the co-signer, under another administration.
    Cosigner = 2,
    /// Share 3: cold; recovery and refresh only.
    Cold = 3,
}

impl Party {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Sidecar, Self::Cosigner, Self::Cold];

    /// 1, 2 or 3.
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// Stable text: `sidecar`, `cosigner`, `cold`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Cosigner => "cosigner",
            Self::Cold => "cold",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a wallet's shares came to be (S6). Anything but [`Origin::Distributed`] signs for test networks only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Three processes of three administrations.
    Distributed,
    /// Three processes on one host, for trials.
    OneHost,
}

impl Origin {
    /// Stable text, as in `wallet show`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distributed => "distributed",
            Self::OneHost => "one-host",
        }
    }
}

/// SHA-256 of a party's P-256 public key (SubjectPublicKeyInfo, DER): what people compare out of band (S6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A text that is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: write the 64 hex digits that the other party's screen shows")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bytes = hex::decode(text.trim()).map_err(|_| FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

/// What is public about a share. The sealed file carries it in the clear, authenticated (S8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    /// Its name.
    pub id: WalletId,
    /// The account of the key.
    pub address: Address,
    /// Whose share this is.
    pub party: Party,
    /// Counts complete refreshes, from 1. Shares of different epochs do not sign together.
    pub epoch: u32,
    /// The DKG session: shares of one wallet have one, whatever their epoch.
    pub ceremony: [u8; 32],
    /// How the shares came to be.
    pub origin: Origin,
    /// Where `wallet recover` sweeps to; fixed in the ceremony (S7).
    pub recovery: Option<Address>,
    /// The identity of every party as compared in the ceremony.
    pub identities: BTreeMap<Party, Fingerprint>,
}

/// Why a protocol run ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    /// The peer failed a check on reusable OT state. It must be banned, durably, before anything is answered (S3): each such
    /// failure may tell it one bit of the share.
    #[error("a consistency check failed: the peer must be banned")]
    Ban,
    /// Failed without touching long-lived state; a fresh session may be tried.
    #[error("the session failed: {0}")]
    Recoverable(String),
    /// Not a message of this protocol: wrong encoding, too long, or bytes left over.
    #[error("not a message of this protocol: {0}")]
    Malformed(#[from] CodecError),
}
