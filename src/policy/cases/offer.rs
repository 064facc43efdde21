//! What the seller of a case asks for, as the document it would send: the protocol layer reads it as any other.

use serde_json::{Value, json};

use crate::payment::{AssetTable, ChainId, MicroUsd};

/// One entry of `offers`. Text that a seller chooses stays as it was written: it may be wrong on purpose.
#[derive(Clone, Debug)]
pub(super) struct CaseOffer {
    pub(super) price: Price,
    pub(super) network: String,
    /// A symbol of our table, or the seller's own text.
    pub(super) asset: String,
    pub(super) payee: String,
    pub(super) scheme: String,
    pub(super) flow: String,
    pub(super) transfer: String,
    pub(super) timeout: u32,
    /// Further numbers of the seller's, such as `confidence`.
    pub(super) extra: Vec<(String, Value)>,
}

#[derive(Clone, Debug)]
pub(super) enum Price {
    /// Dollars of a coin that is a dollar.
    Usd(MicroUsd),
    /// As the seller writes it.
    Atomic(String),
}

/// The x402 version 2 document with these offers.
pub(super) fn document(offers: &[CaseOffer], assets: &AssetTable) -> Value {
    let accepts: Vec<Value> = offers.iter().map(|offer| accepted(offer, assets)).collect();
    json!({ "x402Version": 2, "resource": { "url": "https://seller.example/" }, "accepts": accepts })
}

fn accepted(offer: &CaseOffer, assets: &AssetTable) -> Value {
    let chain: Option<ChainId> = offer.network.parse().ok();
    let asset = assets.by_symbol(&offer.asset).find(|a| Some(a.id.chain) == chain);
    let token = asset.map_or_else(|| offer.asset.clone(), |a| a.id.token.to_string());
    let mut extra = json!({
        "name": asset.map_or("", |a| &a.eip712.name),
        "version": asset.map_or("", |a| &a.eip712.version),
        "paymentFlow": offer.flow,
        "assetTransferMethod": offer.transfer,
    });
    for (key, value) in &offer.extra {
        extra[key] = value.clone();
    }
    json!({
        "scheme": offer.scheme,
        "network": offer.network,
        "amount": atomic(&offer.price, asset.map_or(6, |a| a.decimals)),
        "asset": token,
        "payTo": offer.payee,
        "maxTimeoutSeconds": offer.timeout,
        "extra": extra,
    })
}

fn atomic(price: &Price, decimals: u8) -> String {
    match price {
        Price::Atomic(text) => text.clone(),
        Price::Usd(usd) => {
            let scale = 10_u128.checked_pow(u32::from(decimals)).unwrap_or(u128::MAX);
            (u128::from(usd.micro().unsigned_abs()).saturating_mul(scale) / 1_000_000).to_string()
        }
    }
}
