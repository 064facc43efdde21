//! A human's yes to one payment above a limit (S5, M2.6): signed by an approver's key over what is paid, verified here.
//!
//! A grant names its purchase, and a purchase has one nonce, so it is good for one transfer; its ticket is written with the
//! purchase, so that it serves no other. It lifts the limits it names if policy lets its approver lift them, and nothing else:
//! not a deny, a freeze, a window, `live` or `unverified`. Where policy asks for a quorum, so many keys have to sign; their grants come
//! one after another.

use serde::{Deserialize, Serialize};

use super::trust::{Fact, Lifted, Proven};
use crate::payment::{AgentId, Timestamp};
use crate::policy::{Approver, Transfer};
use crate::wire::identity::{Identity, Public};

/// What is signed after.
pub const CONTEXT: &str = "tollpass/grant/1";

/// Longest that all grants of one intent are, bytes.
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
    /// Fewer keys of a group than its quorum, for every limit.
    #[error("too few approvers signed for it")]
    Quorum,
}

/// The limits that the grants in `encoded`, one after another, lift for exactly this payment: of each group in the policy those
/// that a quorum of its keys signed for. A grant that is none, or for something else, counts as nobody's; if none is left, the first
/// fault is the answer.
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
    let (mut said, mut fault) = (Vec::new(), None);
    for signed in read(encoded)? {
        match check(&signed, approvers, purchase, agent, transfer) {
            Ok(grant) => said.push((signed.signer, grant)),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    let Some(ticket) = said.first().map(|(_, grant)| grant.ticket) else { return Err(fault.unwrap_or(GrantError::Malformed)) };
    if said.iter().any(|(_, grant)| grant.ticket != ticket) {
        return Err(GrantError::Other);
    }
    let mut rules = Vec::new();
    for approver in approvers {
        let lifted = approver.may_exceed.iter().filter(|rule| {
            let names = |grant: &Grant| grant.exceeds.iter().any(|name| *name == *rule.0);
            let signed = |key: &[u8]| said.iter().any(|(signer, grant)| *key == **signer && names(grant));
            let keys = approver.keys.iter().filter(|key| signed(key)).count();
            u32::try_from(keys).unwrap_or(u32::MAX) >= approver.quorum
        });
        rules.extend(lifted.cloned());
    }
    if rules.is_empty() {
        return Err(GrantError::Quorum);
    }
    let (purchase, signers) = (alloy_primitives::hex::encode(purchase), said.len());
    tracing::info!(purchase, signers, "a human approval lifts limits for this payment");
    Ok(Proven::new(Lifted { rules, ticket }))
}

/// One grant by itself: who signed it, and what for.
fn check(
    signed: &SignedGrant,
    approvers: &[Approver],
    purchase: &[u8; 16],
    agent: &Proven<AgentId>,
    transfer: &Fact<Transfer>,
) -> Result<Grant, GrantError> {
    let groups = || approvers.iter().filter(|a| a.keys.iter().any(|key| **key == *signed.signer));
    groups().next().ok_or(GrantError::Signature)?;
    let key = Public::from_spki(&signed.signer).map_err(|_| GrantError::Signature)?;
    key.verify(CONTEXT, &signed.bytes, &signed.signature).map_err(|_| GrantError::Signature)?;
    let (grant, rest): (Grant, _) = postcard::take_from_bytes(&signed.bytes).map_err(|_| GrantError::Malformed)?;
    if grant.version != 1 || !rest.is_empty() {
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
    let may = |name: &String| groups().any(|group| group.may_exceed.iter().any(|rule| *rule.0 == **name));
    if grant.exceeds.iter().all(may) { Ok(grant) } else { Err(GrantError::Limit) }
}

fn ended(expires: u64, now: Timestamp) -> bool {
    u64::try_from(now.secs()).map_or(true, |now| now >= expires)
}

/// All of them: each encoding says where it ends.
fn read(mut bytes: &[u8]) -> Result<Vec<SignedGrant>, GrantError> {
    if bytes.is_empty() || bytes.len() > MAX_GRANT {
        return Err(GrantError::Malformed);
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (signed, rest) = postcard::take_from_bytes(bytes).map_err(|_| GrantError::Malformed)?;
        all.push(signed);
        bytes = rest;
    }
    Ok(all)
}
