//! The one owner of a key share (S8): no Clone, no Serialize, a Debug that shows the public half only.

use std::fmt;

use alloy_primitives::{Address, keccak256};
use dkls23_secp256k1::Party as Dkls;
use k256_dkls::AffinePoint;
use k256_dkls::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

use super::Wallet;
use super::codec::{self, CodecError, MAX_CEREMONY};

/// A share of a wallet's key, in memory.
pub struct Share {
    wallet: Wallet,
    pub(super) party: Dkls,
}

impl Share {
    /// Joins a party that a ceremony made with the wallet's public facts.
    pub(super) const fn new(wallet: Wallet, party: Dkls) -> Self {
        Self { wallet, party }
    }

    /// What is public about it.
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The secret half, for the sealed file alone.
    ///
    /// # Errors
    /// [`CodecError`] if it cannot be encoded.
    pub fn secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        codec::encode(&self.party)
    }

    /// Rebuilds a share from a sealed file's content.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no party of 2-of-3, or another party or account than `wallet` says.
    pub fn from_secret(wallet: Wallet, bytes: &[u8]) -> Result<Self, CodecError> {
        let party: Dkls = codec::decode(bytes, MAX_CEREMONY)?;
        let share = Self::new(wallet, party);
        let facts = &share.wallet;
        let two_of_three = share.party.parameters.threshold == 2 && share.party.parameters.share_count == 3;
        let ours = share.party.party_index.as_u8() == facts.party.index() && address_of(&share.party.pk) == facts.address;
        if two_of_three && ours { Ok(share) } else { Err(CodecError::Wrong) }
    }
}

/// The account of a public key: the last 20 bytes of Keccak-256 over both coordinates.
pub(super) fn address_of(key: &AffinePoint) -> Address {
    let point = key.to_sec1_point(false);
    Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("wallet", &self.wallet.id).field("party", &self.wallet.party).finish_non_exhaustive()
    }
}
