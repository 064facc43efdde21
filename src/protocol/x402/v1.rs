//! x402 version 1: the challenge is the JSON body of the 402, the payment goes into `X-PAYMENT`.
//!
//! Networks are names from a fixed list. Whatever else an entry holds (`resource`, `mimeType: null`, `outputSchema`) is tolerated.

use http::{HeaderName, HeaderValue};

use crate::payment::{AssetTable, ChainId, Challenge, ProtocolId, Signed, WireEntry};

use super::object::Object;
use super::{Dialect, ParseError};

/// x402 v1 HTTP transport: the request header with the payment.
const PAYMENT: HeaderName = HeaderName::from_static("x-payment");

/// x402 v1 HTTP transport: the response header with the receipt.
pub(in crate::protocol) const RECEIPT: HeaderName = HeaderName::from_static("x-payment-response");

/// How version 1 writes an entry.
pub(in crate::protocol) const DIALECT: Dialect = Dialect { protocol: ProtocolId::X402V1, amount: "maxAmountRequired", chain: chain_named };

/// Names of x402 v1 and their EIP-155 ids: the JavaScript client's list and the Rust client's additions (x402 reference §3).
const NETWORKS: [(&str, u64); 28] = [
    ("base", 8453),
    ("base-sepolia", 84532),
    ("ethereum", 1),
    ("sepolia", 11155111),
    ("avalanche", 43114),
    ("avalanche-fuji", 43113),
    ("polygon", 137),
    ("polygon-amoy", 80002),
    ("abstract", 2741),
    ("abstract-testnet", 11124),
    ("iotex", 4689),
    ("sei", 1329),
    ("sei-testnet", 1328),
    ("peaq", 3338),
    ("story", 1514),
    ("educhain", 41923),
    ("skale-base-sepolia", 324705682),
    ("megaeth", 4326),
    ("monad", 143),
    ("stable", 988),
    ("stable-testnet", 2201),
    ("celo", 42220),
    ("flare", 14),
    ("celo-sepolia", 11142220),
    ("xdc", 50),
    ("xrpl-evm", 1440000),
    ("radius", 723487),
    ("radius-testnet", 72344),
];

fn chain_named(name: &str) -> Option<ChainId> {
    let (_, id) = NETWORKS.iter().find(|(known, _)| *known == name)?;
    ChainId::new(*id)
}

/// The name an entry on `chain` was written with: the list maps one to one.
fn name_of(chain: ChainId) -> Option<&'static str> {
    NETWORKS.iter().find(|(_, id)| *id == chain.id()).map(|(name, _)| *name)
}

/// Reads the body of a 402. Only an object whose `x402Version` is the number 1 is ours; a v2 object in a body is not (x402 reference §2.2).
pub(in crate::protocol) fn parse(body: &[u8], assets: &AssetTable) -> Result<Option<Challenge>, ParseError> {
    let Some(object) = std::str::from_utf8(body).ok().and_then(Object::read) else { return Ok(None) };
    if !object.all("x402Version").any(|v| v.get() == "1") {
        return Ok(None);
    }
    if object.has_duplicate() {
        return Err(ParseError::DuplicateKey);
    }
    let echo = WireEntry { accepted: "".into(), resource: None, extensions: None };
    DIALECT.challenge(&object, &echo, assets).map(Some)
}

/// The payment of version 1: scheme and network name at the top, nothing echoed.
pub(in crate::protocol) fn credential(signed: &Signed) -> (HeaderName, HeaderValue) {
    let chain = signed.authorization().asset.id.chain;
    // A v1 offer exists only for a chain of the list; CAIP-2 is what v1 servers of other chains understand, if any.
    let network = name_of(chain).map_or_else(|| chain.to_string(), str::to_owned);
    let json = format!(r#"{{"x402Version":1,"scheme":"exact","network":"{network}","payload":{}}}"#, super::payload(signed));
    super::credential_header(PAYMENT, &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_name_goes_there_and_back() {
        for (name, id) in NETWORKS {
            let chain = chain_named(name).expect(name);
            assert_eq!(chain.id(), id);
            assert_eq!(name_of(chain), Some(name), "two names for one chain");
        }
        for unknown in ["", "Base", "eip155:8453", "solana", "base "] {
            assert_eq!(chain_named(unknown), None, "{unknown}");
        }
    }
}
