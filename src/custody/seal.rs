//! The sealed file: XChaCha20-Poly1305 under an Argon2id key; the public facts are the associated data (S8).

use zeroize::Zeroizing;

use crate::mpc::Wallet;

/// A sealed share as bytes: header with Argon2id parameters and [`Wallet`], then ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What is public.
    pub wallet: Wallet,
}

/// Why a sealed share is not opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Anyone on this machine can read it.
    #[error("open to every user of this machine: run chmod 0400")]
    WorldReadable,
    /// Not written by this program, or changed.
    #[error("not a sealed share of this version")]
    Format,
    /// Wrong passphrase, or the file was changed.
    #[error("the passphrase does not open it, or the file was changed")]
    Passphrase,
    /// Cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Seals `secret` with `passphrase`.
///
/// # Errors
/// [`SealError::Format`] if Argon2id refuses its parameters.
pub fn seal(wallet: &Wallet, secret: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, SealError> {
    let _ = (wallet, secret, passphrase);
    todo!()
}

/// Opens what [`seal`] wrote.
///
/// # Errors
/// [`SealError`].
pub fn open(bytes: &[u8], passphrase: &[u8]) -> Result<(Wallet, Zeroizing<Vec<u8>>), SealError> {
    let _ = (bytes, passphrase);
    todo!()
}
