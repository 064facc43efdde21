//! Unaudited code guards at most 100 USD on main networks, unless the operator accepts more (S10): asked of the chains that
//! the configuration names, at the start and every minute.

use std::future::Future;
use std::pin::Pin;

use alloy_primitives::{U256, hex};

use super::config::Chain;
use crate::payment::{Asset, AssetTable, MicroUsd, Payer};

/// What the wallet may hold on main networks, micro-USD.
pub const MAX_BALANCE: MicroUsd = MicroUsd::new(100_000_000);

/// Posts a body to an RPC URL.
pub type Post = dyn Fn(String, String) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>> + Send + Sync;

/// `balanceOf(wallet)` of a token, as a JSON-RPC request.
fn question(asset: &Asset, wallet: Payer) -> String {
    let data = format!("0x70a08231{:0>64}", hex::encode(wallet.0));
    let call = serde_json::json!({ "to": asset.id.token.to_string(), "data": data });
    serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"] }).to_string()
}

/// The amount in an answer.
fn amount(answer: &[u8]) -> Result<U256, String> {
    let json: serde_json::Value = serde_json::from_slice(answer).map_err(|_| "not JSON".to_owned())?;
    let text = json.get("result").and_then(serde_json::Value::as_str).ok_or("no result in it")?;
    let digits = text.strip_prefix("0x").filter(|d| !d.is_empty() && d.len() <= 64).ok_or("not a number")?;
    U256::from_str_radix(digits, 16).map_err(|_| "not a number".to_owned())
}

/// What the wallet holds in `asset`, at our price for it.
///
/// # Errors
/// Why it is not known; without the URL, which may carry a key.
pub async fn held(post: &Post, rpc: &str, asset: &Asset, wallet: Payer) -> Result<MicroUsd, String> {
    let answer = post(rpc.to_owned(), question(asset, wallet)).await?;
    let atomic = amount(&answer)?;
    let price = asset.price.as_ref().ok_or("no price")?;
    // More than the ledger can count is above every limit.
    Ok(price.value_of(atomic, asset.decimals).unwrap_or(MicroUsd::new(i64::MAX)))
}

/// True if the wallet holds more than [`MAX_BALANCE`] on the main networks among `chains`, or if that cannot be known: an
/// RPC that does not answer must not lift a bound.
pub async fn over_limit(post: &Post, chains: &[Chain], assets: &AssetTable, wallet: Payer) -> bool {
    let mut sum = MicroUsd::ZERO;
    for chain in chains.iter().filter(|c| !c.id.is_testnet()) {
        for asset in assets.iter().filter(|a| a.id.chain == chain.id) {
            match held(post, chain.rpc.expose(), asset, wallet).await {
                Ok(held) => sum = MicroUsd::new(sum.micro().saturating_add(held.micro())),
                Err(error) => {
                    tracing::warn!(chain = %chain.id, asset = %asset.symbol, error, "the wallet's balance is not known: nothing is signed for main networks");
                    return true;
                }
            }
        }
    }
    if sum > MAX_BALANCE {
        tracing::warn!(held = %sum, limit = %MAX_BALANCE, "the wallet holds more than unaudited code may guard: move funds out, or set `accept_unaudited: true`");
    }
    sum > MAX_BALANCE
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::payment::AssetTable;

    #[tokio::test]
    async fn a_balance_is_asked_for_and_valued_and_nonsense_is_an_error() {
        let table = AssetTable::shipped();
        let asset = table.iter().find(|a| a.id.chain.id() == 8453).unwrap();
        let answer = |text: &'static str| {
            move |url: String, body: String| -> Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>> {
                assert_eq!(url, "http://rpc");
                assert!(body.contains("0x70a08231000000000000000000000000"), "{body}");
                Box::pin(async move { Ok(text.as_bytes().to_vec()) })
            }
        };
        let wallet = Payer(alloy_primitives::Address::repeat_byte(7));
        let held_in = |text| async move { held(&answer(text), "http://rpc", asset, wallet).await };
        assert_eq!(held_in(r#"{"jsonrpc":"2.0","id":1,"result":"0x5f5e101"}"#).await, Ok(MicroUsd::new(100_000_001)));
        let huge = r#"{"result":"0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}"#;
        assert_eq!(held_in(huge).await, Ok(MicroUsd::new(i64::MAX)));
        for bad in ["", "{}", r#"{"result":"0x"}"#, r#"{"result":"12"}"#, r#"{"error":{"code":-32000}}"#] {
            assert!(held_in(bad).await.is_err(), "{bad}");
        }
    }
}
