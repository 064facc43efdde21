//! What the three parties agree on before a ceremony, and what goes wrong in one.

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::codec::{self, CodecError};
use super::{Fingerprint, Origin, Party, Wallet, WalletId};

/// The facts of a ceremony that every party brings by itself and none takes from another. Their hash is in every session id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the wallet.
    pub wallet: WalletId,
    /// How the shares will be marked.
    pub origin: Origin,
    /// Where `wallet recover` will sweep to.
    pub recovery: Option<Address>,
    /// Who takes part, as compared out of band.
    pub identities: BTreeMap<Party, Fingerprint>,
    /// A refresh: the wallet that exists. A creation: `None`.
    pub existing: Option<Existing>,
}

/// The wallet that a refresh keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existing {
    /// Its account.
    pub address: Address,
    /// Its DKG session.
    pub ceremony: [u8; 32],
    /// The epoch before the refresh.
    pub epoch: u32,
}

impl Plan {
    /// The plan of a refresh of `wallet` between the same three identities.
    pub fn refresh(wallet: &Wallet) -> Self {
        Self {
            wallet: wallet.id.clone(),
            origin: wallet.origin,
            recovery: wallet.recovery,
            identities: wallet.identities.clone(),
            existing: Some(Existing { address: wallet.address, ceremony: wallet.ceremony, epoch: wallet.epoch }),
        }
    }

    /// SHA-256 of the plan, under a prefix of its own.
    ///
    /// # Errors
    /// [`CodecError`] if it cannot be encoded.
    pub fn digest(&self) -> Result<[u8; 32], CodecError> {
        Ok(Sha256::new().chain_update(b"tollpass ceremony plan/1").chain_update(codec::encode(self)?).finalize().into())
    }

    /// The first difference to another party's plan, in words for both operators.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let pairs = [
            ("wallet", self.wallet.to_string(), other.wallet.to_string()),
            ("recovery address", shown(self.recovery), shown(other.recovery)),
            ("origin", self.origin.as_str().to_owned(), other.origin.as_str().to_owned()),
            ("epoch or wallet", format!("{:?}", self.existing), format!("{:?}", other.existing)),
        ];
        let (what, ours, theirs) = match pairs.into_iter().find(|(_, ours, theirs)| ours != theirs) {
            Some(found) => found,
            None => {
                let party = Party::ALL.into_iter().find(|p| self.identities.get(p) != other.identities.get(p))?;
                let of = |plan: &Self| plan.identities.get(&party).map_or_else(|| "none".to_owned(), ToString::to_string);
                return Some(format!("the {party}'s fingerprint is {} here and {} there", of(self), of(other)));
            }
        };
        Some(format!("the {what} is {ours} here and {theirs} there"))
    }

    /// The public facts of the share that `me` gets.
    pub(super) fn wallet(&self, me: Party, address: Address, session: [u8; 32]) -> Wallet {
        Wallet {
            id: self.wallet.clone(),
            address,
            party: me,
            epoch: self.existing.map_or(1, |e| e.epoch.saturating_add(1)),
            ceremony: self.existing.map_or(session, |e| e.ceremony),
            origin: self.origin,
            recovery: self.recovery,
            identities: self.identities.clone(),
        }
    }
}

fn shown(address: Option<Address>) -> String {
    address.map_or_else(|| "none".to_owned(), |a| a.to_string())
}

/// What a party sends in a round: one text for all, and one for each of the others' eyes alone.
#[derive(Default)]
pub struct Post {
    /// The same for every receiver. The next round proves that it was.
    pub broadcast: Vec<u8>,
    /// Secrets: delivered end-to-end sealed or not at all (S6).
    pub private: BTreeMap<Party, Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("broadcast", &self.broadcast.len()).finish_non_exhaustive()
    }
}

/// What a party received in a round from the other two.
#[derive(Default)]
pub struct Inbox {
    /// Their broadcasts.
    pub broadcast: BTreeMap<Party, Vec<u8>>,
    /// What was sealed to this party.
    pub private: BTreeMap<Party, Zeroizing<Vec<u8>>>,
}

/// Why a ceremony made nothing. Whatever it had made so far is thrown away; nothing of it is used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// One party sent what an honest one does not.
    #[error("round {round}: the {party} {what}")]
    Party {
        /// Who.
        party: Party,
        /// In which round.
        round: u8,
        /// What it did.
        what: &'static str,
    },
    /// Two parties do not hold the same broadcasts: one of them, or who sent them, is lying.
    #[error("round {round}: the {party} saw other broadcasts than this party did: somebody told two stories")]
    Equivocation {
        /// Who saw something else.
        party: Party,
        /// The round whose broadcasts differ.
        round: u8,
    },
    /// The contributions of the three do not fit together; which one is wrong cannot be told from here.
    #[error("round {round}: {what}; one of the other two parties sent a wrong part")]
    Unclear {
        /// In which round it showed.
        round: u8,
        /// What does not fit.
        what: &'static str,
    },
    /// Not another party's doing.
    #[error("{0}")]
    Here(&'static str),
}
