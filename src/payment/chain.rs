//! CAIP-2 chain identifiers of the `eip155` namespace.

use std::fmt;
use std::str::FromStr;

/// An EVM chain: `eip155:<id>` with 1 ≤ id ≤ 2^53 − 1, decimal, no leading zero (x402 reference §3).
///
/// Compared as the number, never as text: `eip155:084532` is refused instead of becoming an alias a rule does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u64);

/// The largest chain id that survives a JavaScript seller.
const MAX_ID: u64 = (1 << 53) - 1;

/// Chains whose tokens are worth nothing. They are payable only where an entry names them (M2.3).
const TESTNETS: [u64; 17] =
    [84532, 11155111, 43113, 80002, 11124, 1328, 324705682, 2201, 421614, 11142220, 51, 181228, 31611, 72344, 31337, 1337, 11155420];

impl ChainId {
    /// The chain with this EIP-155 id; `None` outside the legal range.
    pub const fn new(id: u64) -> Option<Self> {
        if id >= 1 && id <= MAX_ID { Some(Self(id)) } else { None }
    }

    /// The EIP-155 number that goes into the EIP-712 domain.
    pub const fn id(self) -> u64 {
        self.0
    }

    /// True for known test networks, whose tokens carry no value.
    pub fn is_testnet(self) -> bool {
        TESTNETS.contains(&self.0)
    }
}

impl FromStr for ChainId {
    type Err = ChainIdError;

    fn from_str(text: &str) -> Result<Self, ChainIdError> {
        let digits = text.strip_prefix("eip155:").ok_or(ChainIdError)?;
        let canonical = !digits.is_empty() && digits.len() <= 16 && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        if !canonical {
            return Err(ChainIdError);
        }
        digits.parse().ok().and_then(Self::new).ok_or(ChainIdError)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eip155:{}", self.0)
    }
}

/// Not a canonical CAIP-2 id of a supported namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a supported network: write CAIP-2 in canonical form, such as eip155:8453")]
pub struct ChainIdError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_chain() {
        assert_eq!("eip155:8453".parse(), Ok(ChainId(8453)));
        assert_eq!("eip155:9007199254740991".parse(), Ok(ChainId(MAX_ID)));
        for bad in [
            "eip155:0",
            "eip155:08453",
            "eip155:0x2105",
            "EIP155:8453",
            "eip155:*",
            "eip155:",
            "base",
            "eip155:9007199254740992",
            "eip155: 1",
            "eip155:+1",
            "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        ] {
            assert_eq!(bad.parse::<ChainId>(), Err(ChainIdError), "{bad}");
        }
    }
}
