//! One post: where it stands on the board, and the signature that ties it to that place (S6).

use serde::{Deserialize, Serialize};

use crate::mpc::Party;
use crate::wire::identity::{Identity, Public};

/// Context of the signatures.
const CONTEXT: &str = "tollpass/ceremony/1";

/// Largest post: a round's message and what seals and signs it, below the largest body of the wire.
pub const MAX_POST: usize = 250 << 10;

/// A place on the board; written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Step of the ceremony; see [`round`].
    pub round: u8,
    /// Who posts.
    pub from: Party,
    /// Whose eyes alone; `None` for everyone.
    pub to: Option<Party>,
}

/// The steps, in order.
pub mod round {
    /// Who takes part, with what plan and which sealing key.
    pub const HELLO: u8 = 0;
    /// From here the account as the reopened share has it; 1 to 6 are the protocol's own.
    pub const SEALED: u8 = 10;
    /// Four messages for each pair that signs a test, from here.
    pub const TRIAL: u8 = 20;
    /// The signature of each pair, from here.
    pub const SIGNATURE: u8 = 40;
    /// The share is tried and kept, durably.
    pub const READY: u8 = 50;
    /// The share is in force.
    pub const ACTIVE: u8 = 51;
    /// The old share is destroyed.
    pub const GONE: u8 = 52;
    /// Nothing more is read or posted.
    pub const BYE: u8 = 250;
    /// The ceremony is over without a result.
    pub const STOP: u8 = 255;
}

/// A body with its signature.
#[derive(Serialize, Deserialize)]
struct Signed {
    body: Vec<u8>,
    signature: Vec<u8>,
}

/// Signs `body` for `slot` of the ceremony `instance`.
pub fn sign(identity: &Identity, instance: &[u8; 32], slot: Slot, body: Vec<u8>) -> Option<Vec<u8>> {
    let signature = identity.sign(CONTEXT, &bound(instance, slot, &body));
    postcard::to_allocvec(&Signed { body, signature }).ok()
}

/// Opens what [`sign`] made, for exactly this slot and ceremony.
pub fn open(sender: &Public, instance: &[u8; 32], slot: Slot, bytes: &[u8]) -> Option<Vec<u8>> {
    let Signed { body, signature } = decode(bytes)?;
    sender.verify(CONTEXT, &bound(instance, slot, &body), &signature).ok()?;
    Some(body)
}

/// The body without any check, for a hello that brings its own key.
pub fn unchecked(bytes: &[u8]) -> Option<Vec<u8>> {
    decode::<Signed>(bytes).map(|s| s.body)
}

/// Decodes exactly `bytes`, at most [`MAX_POST`] of them.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() > MAX_POST {
        return None;
    }
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// Fixed lengths before the body: no two slots or ceremonies share a text.
fn bound(instance: &[u8; 32], slot: Slot, body: &[u8]) -> Vec<u8> {
    let place = [slot.round, slot.from.index(), slot.to.map_or(0, Party::index)];
    [&instance[..], &place, body].concat()
}
