//! The sealed file: XChaCha20-Poly1305 under an Argon2id key; the public facts are the associated data (S8).
//!
//! ```text
//! "tollpass share" 01 │ length of header, u32 LE │ header (postcard) │ ciphertext and tag
//! └──────────────────── associated data ─────────────────────────────┘
//! ```
//!
//! The header holds the cost of Argon2id, salt, nonce and [`Wallet`]: who changes a fact or a parameter cannot open the file.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::mpc::Wallet;

/// Magic and version: another version of the file is another last byte.
const MAGIC: &[u8; 15] = b"tollpass share\x01";
/// Largest header that is looked at: a wallet's facts are some three hundred bytes.
const MAX_HEADER: usize = 4096;
/// Largest sealed file (a share is about 80 kB).
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Work that one guess of the passphrase costs. Stored in the file, so that it can be raised later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Memory in KiB.
    memory: u32,
    /// Passes over it.
    passes: u32,
    /// Lanes.
    lanes: u32,
}

impl Cost {
    /// 64 MiB, three passes (RFC 9106 §4, second choice, one lane: a share is opened once per start).
    #[cfg(not(any(test, feature = "failpoints")))]
    pub(super) const DEFAULT: Self = Self { memory: 64 << 10, passes: 3, lanes: 1 };
    /// Tests seal hundreds of times, with throw-away passphrases.
    #[cfg(any(test, feature = "failpoints"))]
    pub(super) const DEFAULT: Self = Self::FLOOR;
    /// The least that is opened: less was not written by this program.
    const FLOOR: Self = Self { memory: 1 << 10, passes: 1, lanes: 1 };
    /// The most: a changed file must not make this process take all memory before the tag is checked.
    const CEILING: Self = Self { memory: 1 << 20, passes: 16, lanes: 8 };

    const fn is_sane(self) -> bool {
        self.memory >= Self::FLOOR.memory
            && self.memory <= Self::CEILING.memory
            && self.passes >= Self::FLOOR.passes
            && self.passes <= Self::CEILING.passes
            && self.lanes >= Self::FLOOR.lanes
            && self.lanes <= Self::CEILING.lanes
    }

    fn key(self, passphrase: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let params = Params::new(self.memory, self.passes, self.lanes, Some(32)).map_err(|_| SealError::Format)?;
        let mut key = Zeroizing::new([0; 32]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(passphrase, salt, key.as_mut()).map_err(|_| SealError::Format)?;
        Ok(key)
    }
}

/// What stands in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 24],
    wallet: Wallet,
}

/// A sealed share as bytes: what can be said of it without a passphrase. Not authenticated until it is opened.
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
/// [`SealError::Format`] if Argon2id refuses its parameters, [`SealError::Io`] without randomness.
pub(super) fn seal(wallet: &Wallet, secret: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_at(Cost::DEFAULT, wallet, secret, passphrase)
}

fn seal_at(cost: Cost, wallet: &Wallet, secret: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut header = Header { cost, salt: [0; 16], nonce: [0; 24], wallet: wallet.clone() };
    // The salt is fresh for each file, so its key is used once; the nonce is random all the same.
    SysRng.try_fill_bytes(&mut header.salt).map_err(std::io::Error::other)?;
    SysRng.try_fill_bytes(&mut header.nonce).map_err(std::io::Error::other)?;
    let encoded = postcard::to_allocvec(&header).map_err(|_| SealError::Format)?;
    let length = u32::try_from(encoded.len()).map_err(|_| SealError::Format)?;
    let mut file = [&MAGIC[..], &length.to_le_bytes(), &encoded].concat();
    let key = cost.key(passphrase, &header.salt)?;
    let payload = Payload { msg: secret, aad: &file };
    let sealed = cipher(&key).encrypt(&XNonce::from(header.nonce), payload).map_err(|_| SealError::Format)?;
    file.extend_from_slice(&sealed);
    Ok(file)
}

/// Opens what [`seal`] wrote.
///
/// # Errors
/// [`SealError`].
pub(super) fn open(bytes: &[u8], passphrase: &[u8]) -> Result<(Wallet, Zeroizing<Vec<u8>>), SealError> {
    let (header, clear) = split(bytes)?;
    let key = header.cost.key(passphrase, &header.salt)?;
    let payload = Payload { msg: &bytes[clear..], aad: &bytes[..clear] };
    let secret = cipher(&key).decrypt(&XNonce::from(header.nonce), payload).map_err(|_| SealError::Passphrase)?;
    Ok((header.wallet, Zeroizing::new(secret)))
}

/// Reads the header alone.
///
/// # Errors
/// [`SealError::Format`].
pub(super) fn inspect(bytes: &[u8]) -> Result<Sealed, SealError> {
    split(bytes).map(|(header, _)| Sealed { wallet: header.wallet })
}

/// The header, and where the ciphertext begins.
fn split(bytes: &[u8]) -> Result<(Header, usize), SealError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(SealError::Format)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Format)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_HEADER || length > rest.len() {
        return Err(SealError::Format);
    }
    let (header, left) = postcard::take_from_bytes::<Header>(&rest[..length]).map_err(|_| SealError::Format)?;
    if !left.is_empty() || !header.cost.is_sane() {
        return Err(SealError::Format);
    }
    Ok((header, MAGIC.len() + 4 + length))
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mpc::testing::deal;

    fn sealed() -> (Wallet, Vec<u8>) {
        let [share, ..] = deal("w1");
        (share.wallet().clone(), seal(share.wallet(), b"the secret", b"correct horse").unwrap())
    }

    #[test]
    fn what_was_sealed_opens_with_its_passphrase_alone() {
        let (wallet, file) = sealed();
        let (facts, secret) = open(&file, b"correct horse").unwrap();
        assert_eq!((facts, &secret[..]), (wallet.clone(), &b"the secret"[..]));
        assert_eq!(inspect(&file).unwrap().wallet, wallet);
        for wrong in [&b""[..], b"correct hors", b"correct horse\n", b"CORRECT HORSE"] {
            assert!(matches!(open(&file, wrong), Err(SealError::Passphrase)));
        }
    }

    #[test]
    fn no_byte_of_the_file_can_be_changed_cut_or_added() {
        let (_, file) = sealed();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(open(&changed, b"correct horse").is_err(), "byte {at}");
        }
        for at in 0..file.len() {
            assert!(open(&file[..at], b"correct horse").is_err(), "cut to {at}");
        }
        assert!(open(&[&file[..], &[0]].concat(), b"correct horse").is_err());
    }

    #[test]
    fn the_same_share_is_never_sealed_the_same_way_twice() {
        let [share, ..] = deal("w1");
        let files = [(); 2].map(|()| seal(share.wallet(), b"x", b"p").unwrap());
        assert_ne!(files[0], files[1]);
    }

    #[test]
    fn a_cost_out_of_bounds_is_refused_before_any_work() {
        let [share, ..] = deal("w1");
        let floor = Cost::FLOOR;
        for cost in [
            Cost { memory: floor.memory - 1, ..floor },
            Cost { memory: Cost::CEILING.memory + 1, ..floor },
            Cost { passes: 0, ..floor },
            Cost { passes: 17, ..floor },
            Cost { lanes: 0, ..floor },
            Cost { lanes: 9, ..floor },
        ] {
            let header = Header { cost, salt: [0; 16], nonce: [0; 24], wallet: share.wallet().clone() };
            let encoded = postcard::to_allocvec(&header).unwrap();
            let file = [&MAGIC[..], &(encoded.len() as u32).to_le_bytes(), &encoded, &[0; 32]].concat();
            assert!(matches!(open(&file, b"p"), Err(SealError::Format)), "{cost:?}");
        }
    }

    #[test]
    fn what_a_release_seals_with_opens_here() {
        let [share, ..] = deal("w1");
        let release = Cost { memory: 64 << 10, passes: 3, lanes: 1 };
        let file = seal_at(release, share.wallet(), b"x", b"p").unwrap();
        assert!(open(&file, b"p").is_ok());
    }
}
