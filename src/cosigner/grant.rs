//! A human's yes to one payment above a limit (S5, M2.6): signed by an approver's key over what is paid, verified here.
//!
//! A grant names its purchase, and a purchase has one nonce, so it is good for one transfer; its ticket is written with the
//! purchase, so that it serves no other. It lifts the limits it names if policy lets its approver lift them, and nothing else:
//! not a deny, a freeze, a window, `live` or `unverified`.

use serde::{Deserialize, Serialize};

use super::trust::{Fact, Lifted, Proven};
use crate::payment::{AgentId, Timestamp};
use crate::policy::{Approver, RuleId, Transfer};
use crate::wire::identity::{Identity, Public};

/// What is signed after.
pub const CONTEXT: &str = "tollpass/grant/1";

/// Longest grant that is read, bytes.
pub const MAX_GRANT: usize = 4 << 10;

/// What an approver saw and said yes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// 1.
    pub version: u8,
    /// The ticket: random, of one purchase.
    pub ticket: [u8; 16],
    /// The purchase it is for.
    pub purchase: [u8; 16],
    /// Whose budget.
    pub agent: String,
    /// EIP-155 chain id.
    pub chain: u64,
    /// Token contract.
    pub token: [u8; 20],
    /// The wallet.
    pub from: [u8; 20],
    /// Who is paid.
    pub to: [u8; 20],
    /// Atomic units, big-endian.
    pub value: [u8; 32],
    /// The limits it exceeds, by the names refusals show.
    pub exceeds: Vec<String>,
    /// Until when it may be used, Unix seconds.
    pub expires: u64,
}

impl Grant {
    /// Encoded and signed by an approver, as an intent carries it.
    pub fn sign(&self, approver: &Identity) -> Vec<u8> {
        // Our own types always encode; what did not would verify nowhere.
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        let signature = approver.sign(CONTEXT, &bytes);
        let signed = SignedGrant { bytes, signer: approver.public().spki().to_vec(), signature };
        postcard::to_allocvec(&signed).unwrap_or_default()
    }
}

/// A grant with an approver's signature over its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedGrant {
    /// Postcard of [`Grant`].
    pub bytes: Vec<u8>,
    /// SubjectPublicKeyInfo of the approver, DER.
    pub signer: Vec<u8>,
    /// P-256 over [`CONTEXT`] ‖ `bytes`, ASN.1.
    pub signature: Vec<u8>,
}

/// Why a grant lifts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Too long, or not the encoding of a grant of version 1.
    #[error("not a grant of version 1")]
    Malformed,
    /// The signer is nobody's key, or did not sign this.
    #[error("no approver of the policy signed it")]
    Signature,
    /// It has ended.
    #[error("it has ended")]
    Ended,
    /// Another purchase, agent, payee, token, wallet or amount.
    #[error("it is for another payment")]
    Other,
    /// A limit that this approver may not lift.
    #[error("it exceeds a limit that its approver may not lift")]
    Limit,
}

/// The limits that `encoded` lifts for exactly this payment.
///
/// # Errors
/// [`GrantError`].
pub fn verify(
    encoded: &[u8],
    approvers: &[Approver],
    purchase: &[u8; 16],
    agent: &Proven<AgentId>,
    transfer: &Fact<Transfer>,
) -> Result<Proven<Lifted>, GrantError> {
    let signed: SignedGrant = decode(encoded)?;
    let approver = approvers.iter().find(|a| a.keys.iter().any(|key| **key == *signed.signer)).ok_or(GrantError::Signature)?;
    let key = Public::from_spki(&signed.signer).map_err(|_| GrantError::Signature)?;
    key.verify(CONTEXT, &signed.bytes, &signed.signature).map_err(|_| GrantError::Signature)?;
    let grant: Grant = decode(&signed.bytes)?;
    if grant.version != 1 {
        return Err(GrantError::Malformed);
    }
    let own = transfer.get();
    if ended(grant.expires, own.now) {
        return Err(GrantError::Ended);
    }
    let same = grant.purchase == *purchase
        && grant.agent == agent.get().as_str()
        && grant.chain == own.asset.chain.id()
        && grant.token == own.asset.token
        && grant.from == own.payer.0
        && grant.to == own.payee.0
        && grant.value == own.amount.to_be_bytes::<32>();
    if !same {
        return Err(GrantError::Other);
    }
    let rules: Vec<RuleId> = grant.exceeds.iter().map(|name| RuleId(name.as_str().into())).collect();
    if !rules.iter().all(|rule| approver.may_exceed.contains(rule)) {
        return Err(GrantError::Limit);
    }
    tracing::info!(approver = &*approver.name, purchase = %alloy_primitives::hex::encode(purchase), "a human approval lifts limits for this payment");
    Ok(Proven::new(Lifted { rules, ticket: grant.ticket }))
}

fn ended(expires: u64, now: Timestamp) -> bool {
    u64::try_from(now.secs()).map_or(true, |now| now >= expires)
}

/// One value and nothing after it.
fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, GrantError> {
    if bytes.len() > MAX_GRANT {
        return Err(GrantError::Malformed);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(GrantError::Malformed),
    }
}
