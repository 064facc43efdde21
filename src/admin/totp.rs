//! The second factor of an approver (RFC 6238): six digits for every 30 seconds, one step of grace on both sides, each step once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Seconds of one step.
const STEP: i64 = 30;
const DIGITS: u32 = 6;
/// Shortest key: 128 bits (RFC 4226 §4).
const SHORTEST: usize = 16;

/// The hash under the code. Authenticator programs speak SHA-1 unless told otherwise; for HMAC it is sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA-1.
    #[default]
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
}

/// An approver's key.
#[derive(Clone)]
pub struct Totp {
    key: Zeroizing<Vec<u8>>,
    algorithm: Algorithm,
}

impl std::fmt::Debug for Totp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Totp").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A key that cannot be used. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: write at least 26 characters of base32 (A-Z, 2-7), as authenticator programs show it")]
pub struct TotpError;

impl Totp {
    /// Reads base32 (RFC 4648), in upper or lower case, with or without spaces and padding.
    ///
    /// # Errors
    /// [`TotpError`].
    pub fn parse(text: &str, algorithm: Algorithm) -> Result<Self, TotpError> {
        let mut key = Zeroizing::new(Vec::new());
        let (mut bits, mut held) = (0_u32, 0_u32);
        for c in text.trim_end_matches('=').bytes().filter(|b| *b != b' ') {
            let value = match c.to_ascii_uppercase() {
                c @ b'A'..=b'Z' => c - b'A',
                c @ b'2'..=b'7' => c - b'2' + 26,
                _ => return Err(TotpError),
            };
            held = (held << 5 | u32::from(value)) & 0xfff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                key.push(u8::try_from(held >> bits & 0xff).map_err(|_| TotpError)?);
            }
        }
        if key.len() < SHORTEST { Err(TotpError) } else { Ok(Self { key, algorithm }) }
    }

    /// The code of one step (RFC 4226 §5.3).
    fn code(&self, step: u64, digits: u32) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => hmac::HMAC_SHA256,
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, &self.key), &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
        let word = tag.iter().skip(offset).take(4).fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) & 0x7fff_ffff;
        let width = usize::try_from(digits).unwrap_or(usize::MAX);
        format!("{:0width$}", word % 10_u32.pow(digits))
    }
}

/// Which steps were used: a code that was looked over somebody's shoulder opens nothing. In memory alone, so after a restart a code
/// of the last minute counts once more.
#[derive(Debug, Default)]
pub struct Used(Mutex<HashMap<Arc<str>, u64>>);

impl Used {
    /// Whether `code` is the one of `who` at `now` (Unix seconds), and its step and all later ones were not used. Uses it up.
    pub fn accept(&self, who: &Arc<str>, totp: &Totp, code: &str, now: i64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = used.get(who).copied();
        let mut fits = None;
        // Every step is computed, whichever fits.
        for step in [now - STEP, now, now + STEP].into_iter().filter_map(|at| u64::try_from(at.div_euclid(STEP)).ok()) {
            let same = bool::from(totp.code(step, DIGITS).as_bytes().ct_eq(code.as_bytes()));
            if same && last.is_none_or(|last| step > last) {
                fits = Some(step);
            }
        }
        fits.map(|step| used.insert(Arc::clone(who), step)).is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHA1_KEY: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    const SHA256_KEY: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA====";

    #[test]
    fn rfc_6238_appendix_b() {
        let sha1 = Totp::parse(SHA1_KEY, Algorithm::Sha1).unwrap();
        let sha256 = Totp::parse(SHA256_KEY, Algorithm::Sha256).unwrap();
        assert_eq!((sha1.key.as_slice(), sha256.key.as_slice()), (&b"12345678901234567890"[..], &b"12345678901234567890123456789012"[..]));
        for (time, one, two) in [
            (59_u64, "94287082", "46119246"),
            (1_111_111_109, "07081804", "68084774"),
            (1_111_111_111, "14050471", "67062674"),
            (1_234_567_890, "89005924", "91819424"),
            (2_000_000_000, "69279037", "90698825"),
            (20_000_000_000, "65353130", "77737706"),
        ] {
            assert_eq!((sha1.code(time / 30, 8).as_str(), sha256.code(time / 30, 8).as_str()), (one, two), "{time}");
            assert_eq!(sha1.code(time / 30, 6), one[2..]);
        }
    }

    #[test]
    fn one_step_of_grace_and_each_step_once() {
        let (totp, ann, bob): (_, Arc<str>, Arc<str>) = (Totp::parse(SHA1_KEY, Algorithm::Sha1).unwrap(), "ann".into(), "bob".into());
        let now = 1_700_000_010;
        let code = |at: i64| totp.code(u64::try_from(at / 30).unwrap(), 6);
        for (shift, accepted) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
            assert_eq!(Used::default().accept(&ann, &totp, &code(now + shift), now), accepted, "{shift}");
        }
        let used = Used::default();
        assert!(used.accept(&ann, &totp, &code(now), now));
        assert!(!used.accept(&ann, &totp, &code(now), now), "a used step");
        assert!(!used.accept(&ann, &totp, &code(now - 30), now), "an older one");
        assert!(used.accept(&bob, &totp, &code(now), now), "another person's");
        assert!(used.accept(&ann, &totp, &code(now + 30), now + 30));
        for wrong in ["", "12345", "1234567", "abcdef"] {
            assert!(!Used::default().accept(&ann, &totp, wrong, now), "{wrong}");
        }
    }

    #[test]
    fn keys_are_long_enough_and_never_shown() {
        let spaced = Totp::parse("gezd gnbv gy3t qojq gezd gnbv gy3t qojq", Algorithm::Sha1).unwrap();
        assert_eq!(spaced.key.as_slice(), b"12345678901234567890");
        for bad in ["", "GEZDGNBV", "0000000000000000000000000000", "GEZDGNBVGY3TQOJQGEZDGNBVGY!"] {
            assert_eq!(Totp::parse(bad, Algorithm::Sha1).err(), Some(TotpError), "{bad}");
        }
        assert_eq!(format!("{spaced:?}"), "Totp { algorithm: Sha1, .. }");
    }
}
