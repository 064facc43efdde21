//! Assets and the table that is the only source of decimals, EIP-712 names and prices.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use alloy_primitives::Address;

use super::shipped;
use super::{ChainId, Price};

/// CAIP-19 of an ERC-20 token: `eip155:8453/erc20:0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetId {
    /// The chain the contract lives on.
    pub chain: ChainId,
    /// The token contract.
    pub token: Address,
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/erc20:{}", self.chain, self.token)
    }
}

impl FromStr for AssetId {
    type Err = AssetIdError;

    fn from_str(text: &str) -> Result<Self, AssetIdError> {
        let (chain, token) = text.split_once("/erc20:").ok_or(AssetIdError)?;
        Ok(Self { chain: chain.parse().map_err(|_| AssetIdError)?, token: parse_address(token).ok_or(AssetIdError)? })
    }
}

/// Not a CAIP-19 id of an ERC-20 token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an asset: write CAIP-19 such as eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913 (a mixed-case address must have its EIP-55 checksum)"
)]
pub struct AssetIdError;

/// Parses a 20-byte `0x` address: one case throughout, or a correct EIP-55 checksum (x402 reference §11.6).
pub fn parse_address(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x")?;
    if digits.len() != 40 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let has = |f: fn(&u8) -> bool| digits.as_bytes().iter().any(f);
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    if mixed { Address::parse_checksummed(text, None).ok() } else { Address::from_str(text).ok() }
}

/// The `name` and `version` of a token's EIP-712 domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eip712Name {
    /// Domain name, UTF-8 as hashed.
    pub name: String,
    /// Domain version.
    pub version: String,
}

/// One token we can pay in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Chain and contract.
    pub id: AssetId,
    /// Symbol used in policy files, and a metric label. Not unique across chains.
    pub symbol: String,
    /// Decimals of the token.
    pub decimals: u8,
    /// EIP-712 domain of the contract.
    pub eip712: Eip712Name,
    /// Micro-USD per whole token; `None` cannot be paid (M2.3).
    pub price: Option<Price>,
}

/// Every asset we know: the shipped USDC family plus the policy file's `assets`.
#[derive(Clone, Debug)]
pub struct AssetTable {
    by_id: HashMap<AssetId, Arc<Asset>>,
}

impl AssetTable {
    /// The shipped table (x402 reference §10).
    pub fn shipped() -> Self {
        let by_id = shipped::assets().map(|a| (a.id, Arc::new(a))).collect();
        Self { by_id }
    }

    /// Adds or replaces one asset.
    pub fn insert(&mut self, asset: Asset) {
        self.by_id.insert(asset.id, Arc::new(asset));
    }

    /// The asset at exactly this chain and contract.
    pub fn get(&self, id: &AssetId) -> Option<&Arc<Asset>> {
        self.by_id.get(id)
    }

    /// All assets, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Asset>> {
        self.by_id.values()
    }

    /// The assets that carry this symbol (compared as written).
    pub fn by_symbol<'a>(&'a self, symbol: &'a str) -> impl Iterator<Item = &'a Arc<Asset>> {
        self.iter().filter(move |a| a.symbol == symbol)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mixed_case_address_must_checksum() {
        assert!(parse_address("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913").is_some());
        assert!(parse_address("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913").is_some());
        assert!(parse_address("0x833589FCD6EDB6E08F4C7C32D4F71B54BDA02913").is_some());
        for bad in [
            "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02914",
            "833589fcd6edb6e08f4c7c32d4f71b54bda02913",
            "0x8335",
            "0X833589fcd6edb6e08f4c7c32d4f71b54bda02913",
            "0x833589fcd6edb6e08f4c7c32d4f71b54bda0291g",
        ] {
            assert!(parse_address(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn known_domain_separators_come_out_of_the_table() {
        // Read from the token contracts on chain; x402 reference §10.
        let known = [
            (
                "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
                "0x02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f",
            ),
            (
                "eip155:84532/erc20:0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
            ),
            (
                "eip155:143/erc20:0x754704Bc059F8C67012fEd69BC8A327a5aafb603",
                "0xfe22123edc0dd4aeb912eb7948c5f0e531592c2053b3067612f427db342c93c6",
            ),
        ];
        let table = AssetTable::shipped();
        for (id, separator) in known {
            let asset = table.get(&id.parse().unwrap()).unwrap();
            assert_eq!(asset.domain_separator().to_string(), separator, "{id}");
        }
    }
}
