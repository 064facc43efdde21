//! The one owner of a key share (S8): no Clone, no Serialize, a Debug that shows the public half only.

use std::fmt;

use dkls23_secp256k1::Party as Dkls;
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
    /// [`CodecError`] if the bytes are no party, or another one than `wallet` says.
    pub fn from_secret(wallet: Wallet, bytes: &[u8]) -> Result<Self, CodecError> {
        let party: Dkls = codec::decode(bytes, MAX_CEREMONY)?;
        let share = Self::new(wallet, party);
        if share.party.party_index.as_u8() == share.wallet.party.index() { Ok(share) } else { Err(CodecError::Wrong) }
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("wallet", &self.wallet.id).field("party", &self.wallet.party).finish_non_exhaustive()
    }
}
