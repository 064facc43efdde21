//! A seller's signed offer (x402 extension `offer-receipt`), found in a challenge for whoever can verify it: the co-signer.
//!
//! Nothing is verified here and nothing is believed. The entry is the one whose payee and amount are the offer's: `acceptIndex`
//! is not signed (x402 reference §9.4).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::payment::Offer;

/// Longest text that is passed on, bytes.
const MAX: usize = 8 << 10;

/// The signed offer for `offer`, as the seller wrote it.
pub(super) fn find(offer: &Offer) -> Option<String> {
    let extensions: Value = serde_json::from_str(offer.wire.extensions.as_deref()?).ok()?;
    let offers = extensions.get("offer-receipt")?.get("info")?.get("offers")?.as_array()?;
    let fits = |entry: &&Value| terms(entry).is_some_and(|terms| is_for(&terms, offer));
    offers.iter().find(fits).map(Value::to_string).filter(|text| text.len() <= MAX)
}

/// The signed fields: beside the signature (EIP-712), or inside of it (JWS compact).
fn terms(entry: &Value) -> Option<Value> {
    if let Some(payload) = entry.get("payload") {
        return Some(payload.clone());
    }
    let payload = entry.get("signature")?.as_str()?.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn is_for(terms: &Value, offer: &Offer) -> bool {
    let text = |key: &str| terms.get(key).and_then(Value::as_str).unwrap_or_default();
    text("payTo").eq_ignore_ascii_case(&offer.payee.0.to_string()) && text("amount") == offer.amount.atomic().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::payment::AssetTable;
    use crate::protocol::{Answer, parse};
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderMap;

    #[test]
    fn the_signed_offer_of_the_entry_that_is_paid_is_found_in_both_formats() {
        let fixture: Value = serde_json::from_str(include_str!("../../tests/fixtures/x402-signed-offers.json")).unwrap();
        let signed: Vec<&Value> = fixture["offers"].as_array().unwrap().iter().map(|o| &o["offer"]).collect();
        let mut seen = std::collections::BTreeSet::new();
        for one in &signed {
            let terms = terms(one).unwrap();
            let entry = serde_json::json!({
                "scheme": "exact", "network": "eip155:8453", "amount": terms["amount"], "payTo": terms["payTo"], "maxTimeoutSeconds": 60,
                "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "extra": { "name": "USD Coin", "version": "2" },
            });
            let document = serde_json::json!({
                "x402Version": 2, "accepts": [entry], "resource": { "url": "https://api.example.com/premium-data" },
                "extensions": { "offer-receipt": { "info": { "offers": [one] } } },
            });
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("payment-required"),
                STANDARD.encode(document.to_string()).parse().unwrap(),
            )]);
            let answer = Answer { status: 402, headers: &headers, body: b"" };
            let challenge = parse(&answer, &AssetTable::shipped()).unwrap().unwrap();
            let Some(offer) = challenge.offers.first() else { continue };
            let found: Value = serde_json::from_str(&find(offer).unwrap()).unwrap();
            assert_eq!(&found, *one);
            seen.insert(one["format"].as_str().unwrap());
            // For another price there is none.
            let mut other = offer.clone();
            other.amount = crate::payment::Amount::new(offer.asset.id, offer.amount.atomic() + alloy_primitives::U256::from(1));
            assert!(find(&other).is_none());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["eip712", "jws"]);
    }
}
