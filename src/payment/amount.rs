//! Amounts in atomic units, budgets in micro-USD. Integers only: no float ever touches money.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

use super::AssetId;

/// A number of atomic units of one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amount {
    asset: AssetId,
    atomic: U256,
}

impl Amount {
    /// `atomic` smallest units of `asset`.
    pub const fn new(asset: AssetId, atomic: U256) -> Self {
        Self { asset, atomic }
    }

    /// The asset this amount is counted in.
    pub const fn asset(&self) -> AssetId {
        self.asset
    }

    /// The bare integer, for the signed struct and the wire.
    pub const fn atomic(&self) -> U256 {
        self.atomic
    }

    /// True for no money at all (which still needs `allow_zero`, M2.3).
    pub fn is_zero(&self) -> bool {
        self.atomic.is_zero()
    }
}

/// Millionths of a US dollar: the unit of every budget, cap and counter. Never negative except as a *remaining*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(i64);

impl MicroUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From a count of micro-USD.
    pub const fn new(micro: i64) -> Self {
        Self(micro)
    }

    /// The count of micro-USD.
    pub const fn micro(self) -> i64 {
        self.0
    }

    /// Sum, or `None` past `i64`.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// Difference, saturating; a negative result is "overspent", shown but never spendable.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Dollars as a float, **for display in metrics only**; the ledger is the truth.
    pub fn display_dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Parses money text (M3.1): `^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$`, read from the raw scalar.
    ///
    /// # Errors
    /// [`MoneyTextError`] names what is wrong with the text and shows the form to write instead.
    pub fn parse(text: &str) -> Result<Self, MoneyTextError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || whole.len() > 10 || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(MoneyTextError);
        }
        if !digits(fraction) || fraction.len() > 6 {
            return Err(MoneyTextError);
        }
        // Ten digits of dollars and six of micro-dollars fit an i64 with room to spare.
        let whole: i64 = whole.parse().map_err(|_| MoneyTextError)?;
        let scale = 10_i64.pow(6 - u32::try_from(fraction.len()).map_err(|_| MoneyTextError)?);
        let fraction: i64 = fraction.parse().map_err(|_| MoneyTextError)?;
        Ok(Self(whole * 1_000_000 + fraction * scale))
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars with two to six decimals: `0.05`, `12.50`, `-0.000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let v = self.0.unsigned_abs();
        let digits = format!("{:06}", v % 1_000_000);
        let keep = digits.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{}.{}", v / 1_000_000, &digits[..keep])
    }
}

impl FromStr for MicroUsd {
    type Err = MoneyTextError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

/// Text that is not money by the grammar of M3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of US dollars: write digits with at most six decimals, such as 5 or 0.05 (no sign, exponent, $ or thousands mark)")]
pub struct MoneyTextError;

/// What one whole token costs in micro-USD. A peg of exactly one dollar is 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(i64);

impl Price {
    /// One token is one dollar.
    pub const ONE_DOLLAR: Self = Self(1_000_000);

    /// A price in micro-USD per whole token; `None` unless it is above zero.
    pub const fn new(micro_per_token: i64) -> Option<Self> {
        if micro_per_token > 0 { Some(Self(micro_per_token)) } else { None }
    }

    /// Micro-USD per whole token.
    pub const fn micro_per_token(self) -> i64 {
        self.0
    }

    /// The value of `atomic` units (M2.3): rounded up, at least 1 micro-USD for anything above zero; `None` past `i64`.
    pub fn value_of(self, atomic: U256, decimals: u8) -> Option<MicroUsd> {
        if atomic.is_zero() {
            return Some(MicroUsd::ZERO);
        }
        let scale = U256::from(10).checked_pow(U256::from(decimals))?;
        let product = atomic.checked_mul(U256::from(self.0.unsigned_abs()))?;
        let micro = product.div_ceil(scale);
        i64::try_from(micro).ok().map(|v| MicroUsd(v.max(1)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_text_follows_the_grammar_of_m3_1() {
        for (text, micro) in [("0", 0), ("0.05", 50_000), ("5", 5_000_000), ("9999999999.999999", 9_999_999_999_999_999), ("0.000001", 1)] {
            assert_eq!(MicroUsd::parse(text), Ok(MicroUsd(micro)), "{text}");
        }
        for text in ["", "-1", "+1", "01", ".5", "5.", "1e3", "0x5", "1_000", "1,5", "$5", " 5", "0.0000001", "12345678901", "５"] {
            assert_eq!(MicroUsd::parse(text), Err(MoneyTextError), "{text}");
        }
    }

    #[test]
    fn value_is_rounded_up_and_never_zero_for_something() {
        let six = |n: u64| Price::ONE_DOLLAR.value_of(U256::from(n), 6);
        assert_eq!(six(10_000), Some(MicroUsd(10_000)));
        assert_eq!(six(0), Some(MicroUsd(0)));
        assert_eq!(Price::ONE_DOLLAR.value_of(U256::from(1), 18), Some(MicroUsd(1)));
        assert_eq!(Price(1_500_001).value_of(U256::from(1), 6), Some(MicroUsd(2)));
        assert_eq!(Price::ONE_DOLLAR.value_of(U256::MAX, 6), None);
        assert_eq!(Price::ONE_DOLLAR.value_of(U256::from(i64::MAX), 6), Some(MicroUsd(i64::MAX)));
        assert_eq!(Price::ONE_DOLLAR.value_of(U256::from(i64::MAX) + U256::from(1), 6), None);
    }

    proptest! {
        #[test]
        fn text_to_money_to_text_is_identity(micro in 0_i64..10_000_000_000_000_000) {
            let shown = MicroUsd(micro).to_string();
            prop_assert_eq!(MicroUsd::parse(&shown), Ok(MicroUsd(micro)));
        }
    }
}
