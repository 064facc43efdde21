//! What the co-signer must not forget, beside its ledger. SQLite, one connection, full sync; every answer waits for it.

use std::path::Path;

use alloy_primitives::B256;

/// The store.
pub struct Store {}

/// Another digest under the same key (S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// One key ↔ one digest for ever.
    Conflict,
    /// Signed five times already.
    TooOften,
    /// The store failed: nothing may be signed.
    Unavailable,
}

impl Store {
    /// Opens or creates `<folder>/cosigner.db`.
    ///
    /// # Errors
    /// What is wrong, with the file.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let _ = folder;
        todo!()
    }

    /// Remembers `key ↔ digest` of `purchase`, durably, and counts the session; answers how often it was signed before.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key(&self, key: [u8; 16], purchase: [u8; 16], digest: B256) -> Result<u32, KeyError> {
        let _ = (key, purchase, digest);
        todo!()
    }
}
