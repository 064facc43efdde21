//! One-time codes of an approver's phone (RFC 6238: HMAC-SHA1, six digits, thirty seconds): the second factor of a yes.
//!
//! The HMAC is the library's; RFC 4226's truncation is all that is ours. That a code works once is the journal's business: what is
//! returned here is its time step.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// Seconds that a code is shown.
const STEP: i64 = 30;
/// Steps that a clock may be off, either way.
const SLACK: i64 = 1;
/// What authenticators expect of a secret (RFC 4226 §4 R6), bytes; shorter ones can be guessed.
const LEAST: usize = 16;
/// Length of those that we make: that of the hash.
const OURS: usize = 20;
/// Wrong codes of one person within [`WINDOW`] seconds after which none is looked at.
const TRIES: usize = 5;
const WINDOW: i64 = 900;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A shared secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp(Zeroizing<Vec<u8>>);

impl fmt::Debug for Totp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Totp(…)")
    }
}

impl Totp {
    /// A new one from random bytes.
    pub fn new(random: &[u8; OURS]) -> Self {
        Self(Zeroizing::new(random.to_vec()))
    }

    /// Reads base32, as [`Self::base32`] writes it; `None` if it is none, or too short.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new(Vec::new());
        let (mut bits, mut kept) = (0_u32, 0_u32);
        for c in text.trim_end_matches('=').bytes() {
            let value = ALPHABET.iter().position(|known| *known == c.to_ascii_uppercase())?;
            bits = (bits << 5) | u32::try_from(value).ok()?;
            kept += 5;
            if kept >= 8 {
                kept -= 8;
                bytes.push(u8::try_from((bits >> kept) & 0xff).ok()?);
            }
        }
        // What is left over is padding of a whole number of bytes.
        let whole = kept < 5 && bits & ((1 << kept) - 1) == 0;
        (whole && bytes.len() >= LEAST).then_some(Self(bytes))
    }

    /// The secret, for the operators' file.
    pub fn base32(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::new());
        let (mut bits, mut kept) = (0_u32, 0_u32);
        for byte in self.0.iter() {
            bits = (bits << 8) | u32::from(*byte);
            kept += 8;
            while kept >= 5 {
                kept -= 5;
                out.push(char::from(ALPHABET[((bits >> kept) & 31) as usize]));
            }
        }
        if kept > 0 {
            out.push(char::from(ALPHABET[((bits << (5 - kept)) & 31) as usize]));
        }
        out
    }

    /// What authenticators read, also as a QR code. `who` is a name of the operators' file, which has no character that would have to be
    /// escaped but `@`.
    pub fn uri(&self, who: &str) -> Zeroizing<String> {
        let (who, secret) = (who.replace('@', "%40"), self.base32());
        Zeroizing::new(format!("otpauth://totp/Tollpass:{who}?secret={}&issuer=Tollpass&algorithm=SHA1&digits=6&period=30", *secret))
    }

    fn code(&self, step: i64) -> u32 {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        // RFC 4226 §5.3: four bytes from where the last half byte says.
        let at = usize::from(tag[tag.len() - 1] & 0xf);
        let word = tag[at..at + 4].iter().fold(0, |word, byte| (word << 8) | u32::from(*byte));
        (word & 0x7fff_ffff) % 1_000_000
    }

    /// The step of this code at `now`, Unix seconds, or one step around it; every step is compared.
    fn step(&self, code: &str, now: i64) -> Option<u64> {
        let digits = code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit());
        let given = code.parse::<u32>().ok().filter(|_| digits)?;
        let (mut found, mut fits) = (0_u64, Choice::from(0));
        for step in now.div_euclid(STEP) - SLACK..=now.div_euclid(STEP) + SLACK {
            let same = self.code(step).ct_eq(&given);
            found.conditional_assign(&u64::try_from(step).ok()?, same);
            fits |= same;
        }
        bool::from(fits).then_some(found)
    }
}

/// Why a code is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not the code of this time.
    #[error("the code is wrong: write the six digits that are shown now")]
    Wrong,
    /// Too many wrong ones.
    #[error("too many wrong codes: wait 15 minutes")]
    Locked,
}

/// Counts wrong codes. A million codes, three of them right at a time and five tries in a quarter of an hour: a thief of a token guesses
/// for years.
#[derive(Debug, Default)]
pub struct Tries(Mutex<HashMap<Arc<str>, Vec<i64>>>);

impl Tries {
    /// The time step of `code`, if it is right and `who` may still try.
    ///
    /// # Errors
    /// [`CodeError`].
    pub fn check(&self, totp: &Totp, who: &Arc<str>, code: &str, now: i64) -> Result<u64, CodeError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = all.entry(Arc::clone(who)).or_default();
        wrong.retain(|at| now - at < WINDOW);
        if wrong.len() >= TRIES {
            return Err(CodeError::Locked);
        }
        match totp.step(code, now) {
            Some(step) => Ok(step),
            None => {
                wrong.push(now);
                Err(CodeError::Wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rfc() -> Totp {
        Totp(Zeroizing::new(b"12345678901234567890".to_vec()))
    }

    #[test]
    fn the_codes_are_those_of_rfc_6238_and_rfc_4226() {
        // RFC 6238 appendix B, SHA-1, the last six of its eight digits.
        for (now, code) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000_i64, 353_130),
        ] {
            assert_eq!(rfc().code(now / STEP), code, "{now}");
        }
        // RFC 4226 appendix D.
        let all = [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489];
        for (count, code) in (0..).zip(all) {
            assert_eq!(rfc().code(count), code, "{count}");
        }
    }

    #[test]
    fn a_code_is_taken_one_step_around_its_time_and_in_one_form() {
        let now = 1_111_111_111;
        let step = u64::try_from(now / STEP).unwrap();
        for (code, at, expected) in [
            ("050471", now, Some(step)),
            ("050471", now + STEP, Some(step)),
            ("050471", now - STEP, Some(step)),
            ("050471", now + 2 * STEP, None),
            ("050471", now - 2 * STEP, None),
            ("50471", now, None),
            ("+50471", now, None),
            ("0050471", now, None),
            (" 050471", now, None),
            ("", now, None),
            ("٠٥٠٤٧١", now, None),
        ] {
            assert_eq!(rfc().step(code, at), expected, "{code} {at}");
        }
    }

    #[test]
    fn after_five_wrong_codes_none_is_looked_at_for_a_quarter_of_an_hour() {
        let (tries, ann, bob): (_, Arc<str>, Arc<str>) = (Tries::default(), "ann".into(), "bob".into());
        let now = 1_111_111_111;
        for n in 0..5 {
            assert_eq!(tries.check(&rfc(), &ann, "000000", now - n), Err(CodeError::Wrong));
        }
        assert_eq!(tries.check(&rfc(), &ann, "050471", now), Err(CodeError::Locked), "also the right one");
        assert!(tries.check(&rfc(), &bob, "050471", now).is_ok(), "others are not locked out");
        let later = now + WINDOW;
        assert!(tries.check(&rfc(), &ann, &format!("{:06}", rfc().code(later / STEP)), later).is_ok());
    }

    #[test]
    fn secrets_are_base32_as_authenticators_read_it_and_show_nothing() {
        let totp = rfc();
        assert_eq!(totp.base32().as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            totp.uri("ann@x.example").as_str(),
            "otpauth://totp/Tollpass:ann%40x.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Tollpass&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(Totp::parse("gezdgnbvgy3tqojqgezdgnbvgy3tqojq").unwrap(), totp);
        for length in 16..40_u8 {
            let any = Totp(Zeroizing::new((0..length).collect()));
            assert_eq!(Totp::parse(&any.base32()).unwrap(), any, "{length}");
        }
        for wrong in
            ["", "GEZDGNBV", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQA", "GEZDGNBVGY3TQOJQ GEZDGNBVGY3TQOJQ"]
        {
            assert_eq!(Totp::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{totp:?}"), "Totp(…)");
    }
}
