//! The messages, versioned and bounded. Binary (postcard); a field is only ever added at the end, with a new version.
//!
//! An [`Intent`] is typed and never a hash; the co-signer rebuilds the digest from its own asset table, and the nonce from
//! the purchase (M1.2, S5). It is signed by itself, as [`SignedIntent`], so that a gateway can relay it and alter nothing.

use serde::{Deserialize, Serialize};

/// Version of the wire.
pub const VERSION: u8 = 1;

/// Largest body in either direction.
pub const MAX_BODY: usize = 256 << 10;

/// Paths of the HTTP/2 requests; each is a POST of one envelope.
pub mod path {
    /// [`super::Hello`] → [`super::Welcome`].
    pub const HELLO: &str = "/v1/hello";
    /// [`super::Begin`] → [`super::Opened`].
    pub const BEGIN: &str = "/v1/begin";
    /// [`super::Finish`] → [`super::Finished`].
    pub const FINISH: &str = "/v1/finish";
    /// [`super::Prepare`] → [`super::Opened`]: a presignature's first round trip.
    pub const PREPARE: &str = "/v1/prepare";
    /// [`super::Prepared`] → [`super::Kept`]: its second.
    pub const PREPARED: &str = "/v1/prepared";
    /// [`super::Present`] → [`super::Finished`]: one round trip with a presignature.
    pub const PRESENT: &str = "/v1/present";
    /// [`super::Settle`] → [`super::Noted`].
    pub const SETTLE: &str = "/v1/settle";
    /// [`super::Enroll`] → [`super::Enrolled`].
    pub const ENROLL: &str = "/v1/enroll";
}

/// What is to be signed: an EIP-3009 transfer, by its fields. The nonce is not in it: the co-signer derives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// [`VERSION`].
    pub version: u8,
    /// The wallet, by name.
    pub wallet: String,
    /// Epoch of the shares.
    pub epoch: u32,
    /// The purchase: idempotency and nonce come from it.
    pub purchase: [u8; 16],
    /// One key ↔ one digest for ever (S5). Ours is the first half of SHA-256(purchase ‖ digest).
    pub key: [u8; 16],
    /// Whose budget; must be one of the agents tied to the identity.
    pub agent: String,
    /// EIP-155 chain id.
    pub chain: u64,
    /// Token contract.
    pub token: [u8; 20],
    /// Debited account.
    pub from: [u8; 20],
    /// Credited account.
    pub to: [u8; 20],
    /// Atomic units, big-endian.
    pub value: [u8; 32],
    /// Unix seconds.
    pub valid_after: u64,
    /// Unix seconds.
    pub valid_before: u64,
    /// Everything the co-signer cannot check.
    pub claims: Claims,
    /// A seller's signed offer (x402 `offer-receipt`), verbatim, if the challenge had one.
    pub offer: Option<String>,
    /// A human's yes, if there is one: an encoded grant (S5).
    pub grant: Option<Vec<u8>>,
}

/// What the sidecar says about the request. May make the co-signer refuse, never allow (S4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Session name.
    pub session: Option<String>,
    /// Seller's host as connected to.
    pub host: String,
    /// Request method.
    pub method: String,
    /// The sidecar's allow entry.
    pub entry: String,
    /// The sidecar's price in micro-USD.
    pub price_micro: i64,
    /// Digest of the sidecar's policy.
    pub policy: String,
    /// What was asked for, where a probe may ask again: `https://host/path?query`. The seller's own `resource` will do.
    pub url: Option<String>,
}

/// An intent with the signature of the identity it comes from, over its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIntent {
    /// Postcard of [`Intent`].
    #[serde(with = "whole")]
    pub bytes: Vec<u8>,
    /// Fingerprint of the signing identity.
    pub signer: [u8; 32],
    /// P-256 over `"tollpass/intent/1" ‖ bytes`, ASN.1.
    pub signature: Vec<u8>,
}

/// A share holder presents itself after a start, and exchanges its turn token (see `custody`): a copy of its state has an
/// old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The wallet.
    pub wallet: String,
    /// Epoch of the share.
    pub epoch: u32,
    /// The token of the run before; zero on the first one.
    pub turn: [u8; 16],
    /// The token of this run.
    pub next_turn: [u8; 16],
}

/// The co-signer's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The account it holds a share of.
    pub address: [u8; 20],
    /// Its ledger's head: sequence of the last durable change. A smaller one than seen before is a rollback (S2).
    pub head: u64,
    /// Whether it takes presignatures.
    pub presign: bool,
}

/// First round trip of an interactive signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// What to sign.
    pub intent: SignedIntent,
    /// Fresh random id of the signing session.
    pub sign_id: [u8; 32],
    /// Our first protocol message.
    #[serde(with = "whole")]
    pub round1: Vec<u8>,
}

/// The co-signer judged, holds the amount durably, and joined the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The session; half open, ten seconds (S11).
    pub session: [u8; 16],
    /// Its first protocol message.
    #[serde(with = "whole")]
    pub round1: Vec<u8>,
    /// Its second.
    #[serde(with = "whole")]
    pub round2: Vec<u8>,
    /// Its ledger's head.
    pub head: u64,
}

/// Second round trip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// The session.
    pub session: [u8; 16],
    /// Our second protocol message.
    #[serde(with = "whole")]
    pub round2: Vec<u8>,
}

/// The co-signer's half.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// `u` and `w`, encoded.
    pub partial: Vec<u8>,
    /// Randomness of the co-signer that went into a presigned signature; zero for an interactive one.
    pub rho: [u8; 32],
    /// What the agent may still spend there today, micro-USD; `None` if nothing bounds it (M1.10).
    pub remaining_micro: Option<i64>,
    /// Its ledger's head.
    pub head: u64,
}

/// First round trip of a presignature (S9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The wallet.
    pub wallet: String,
    /// Epoch of the share.
    pub epoch: u32,
    /// Fresh random id.
    pub sign_id: [u8; 32],
    /// Our first protocol message, over the zero digest.
    #[serde(with = "whole")]
    pub round1: Vec<u8>,
}

/// Second round trip of a presignature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The session.
    pub session: [u8; 16],
    /// Our second protocol message.
    #[serde(with = "whole")]
    pub round2: Vec<u8>,
}

/// The co-signer keeps its half of the presignature under the session's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The session.
    pub session: [u8; 16],
}

/// One round trip with a presignature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// What to sign.
    pub intent: SignedIntent,
    /// The presignature.
    pub session: [u8; 16],
    /// Our randomness for the re-randomisation.
    pub rho: [u8; 32],
}

/// How a purchase went. Claimed: it moves no money (S5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The wallet.
    pub wallet: String,
    /// The purchase.
    pub purchase: [u8; 16],
    /// `settled`, `open`, `lost` or `void`.
    pub outcome: String,
}

/// Noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {}

/// Binds a new identity with a one-time token (S11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// The token as the operator handed it over.
    pub token: String,
}

/// What the token fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Name of the identity.
    pub identity: String,
    /// The wallet.
    pub wallet: String,
    /// Its account.
    pub address: [u8; 20],
    /// The agents tied to the identity.
    pub agents: Vec<String>,
}

/// Every answer: what was asked for, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer<T> {
    /// Done.
    Yes(T),
    /// Refused; nothing was signed for this request.
    No(Refused),
}

/// A refusal of the co-signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A [`crate::payment::Reason`] by its code.
    pub reason: String,
    /// The co-signer's rule.
    pub rule: Option<String>,
    /// The numbers, micro-USD.
    pub amount_micro: Option<i64>,
    /// The limit.
    pub limit_micro: Option<i64>,
    /// What is left of it.
    pub remaining_micro: Option<i64>,
    /// When that changes, Unix milliseconds.
    pub resets_at_ms: Option<i64>,
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finished").field("partial", &"<redacted>").field("head", &self.head).finish_non_exhaustive()
    }
}

/// The reason of a [`Refused`] that only says: this connection is new to us, send [`Hello`] first. Nothing was done; it never
/// reaches an agent.
pub const HELLO_FIRST: &str = "hello_first";

/// Bytes in one piece: encoded just as a sequence of them, without a step for each. Eighty kilobytes go each way per signature.
mod whole {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_in_one_piece_are_encoded_as_a_sequence_of_bytes() {
        let round2: Vec<u8> = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let finish = Finish { session: [7; 16], round2: round2.clone() };
        let encoded = postcard::to_allocvec(&finish).unwrap();
        assert_eq!(encoded, postcard::to_allocvec(&([7_u8; 16], round2)).unwrap());
        assert_eq!(postcard::from_bytes::<Finish>(&encoded).unwrap(), finish);
        assert!(postcard::from_bytes::<Finish>(&encoded[..encoded.len() - 1]).is_err(), "a length that promises more than there is");
    }
}
