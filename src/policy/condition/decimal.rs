//! Exact decimals for scores: what a seller or an agent says of itself, never money.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits after the point.
const SCALE: u32 = 18;

/// A number with at most eighteen digits on either side of the point, compared exactly: 0.8 is 0.800 and less than 0.8000001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i128);

impl Decimal {
    pub(in super::super) const fn from_thousandths(value: i64) -> Self {
        Self(value as i128 * 10_i128.pow(SCALE - 3))
    }

    pub(super) const fn from_integer(value: i64) -> Self {
        Self(value as i128 * 10_i128.pow(SCALE))
    }

    /// Reads a JSON number, or one in decimal notation. `None` if it does not fit exactly.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let exponent: i32 = exponent.parse().ok()?;
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || (part.is_empty() && mantissa.contains('.')) || mantissa.len() > 60 {
            return None;
        }
        let number: i128 = format!("{whole}{part}").parse().ok()?;
        if number == 0 {
            return Some(Self(0));
        }
        let shift = i32::try_from(SCALE).ok()?.checked_add(exponent)?.checked_sub(i32::try_from(part.len()).ok()?)?;
        let power = |n: i32| 10_i128.checked_pow(n.unsigned_abs());
        let value = if shift >= 0 {
            number.checked_mul(power(shift)?)?
        } else {
            Some(number).filter(|n| power(shift).is_some_and(|p| n % p == 0))? / power(shift)?
        };
        // Eighteen digits before the point.
        (value < 10_i128.pow(2 * SCALE)).then_some(Self(if negative { -value } else { value }))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u128.pow(SCALE);
        let (sign, value) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let part = format!("{:018}", value % one);
        let part = part.trim_end_matches('0');
        write!(f, "{sign}{}{}{part}", value / one, if part.is_empty() { "" } else { "." })
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a decimal number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("0.8", "0.8"),
            ("0.800", "0.8"),
            ("8e-1", "0.8"),
            ("1.5E2", "150"),
            ("-12.25", "-12.25"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("999999999999999999", "999999999999999999"),
            ("0.5000000000000000000", "0.5"),
            (&format!("{}1", "0".repeat(59)), "1"),
        ] {
            assert_eq!(Decimal::parse(text).map(|d| d.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            ".8",
            "1.",
            "1e",
            "0x1",
            "1_0",
            " 1",
            "1e99",
            "1e-99",
            "0.0000000000000000001",
            "1000000000000000000",
            "NaN",
            "1e9999999999",
            "+1",
            "-+1",
            &format!("{}1", "0".repeat(60)),
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert!(Decimal::parse("0.8") < Decimal::parse("0.8000001"));
        assert_eq!(Decimal::from_thousandths(-1500).to_string(), "-1.5");
        assert_eq!(Decimal::from_integer(3), Decimal::from_thousandths(3000));
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_reads_back(value in proptest::prelude::any::<i64>(), text in "[-0-9.eE+ ]{0,40}") {
            let decimal = Decimal::from_thousandths(value);
            proptest::prop_assert_eq!(Decimal::parse(&decimal.to_string()), Some(decimal));
            let _ = Decimal::parse(&text);
        }
    }
}
