//! The rules of the codec as tables, and properties over hostile bytes.
#![allow(clippy::unwrap_used)]

mod any_bytes;
mod codings;

use std::io::Write as _;

use alloy_primitives::hex;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::body::{BodyError, decode};
use super::*;
use crate::payment::{Asset, AssetId, ChainId, Eip712Name, Flow, Price, Rejected, SellerText};

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const SELLER: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

fn entry_v2() -> Value {
    json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": USDC, "payTo": SELLER, "maxTimeoutSeconds": 60,
        "extra": {"name": "USDC", "version": "2"}})
}

fn entry_v1() -> Value {
    json!({"scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000", "resource": "https://api.example/x", "description": "",
        "mimeType": null, "outputSchema": {"anything": [1, null]}, "asset": USDC, "payTo": SELLER, "maxTimeoutSeconds": 60,
        "extra": {"name": "USDC", "version": "2"}})
}

fn header(json: impl AsRef<[u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("payment-required", STANDARD.encode(json).parse().unwrap());
    headers
}

fn parse_v2(json: impl AsRef<[u8]>) -> Result<Option<Challenge>, ParseError> {
    parse(&Answer { status: 402, headers: &header(json), body: b"{}" }, &AssetTable::shipped())
}

fn parse_v1(body: impl AsRef<[u8]>) -> Result<Option<Challenge>, ParseError> {
    parse(&Answer { status: 402, headers: &HeaderMap::new(), body: body.as_ref() }, &AssetTable::shipped())
}

/// What becomes of one entry, written as text, in each version.
fn judge(protocol: ProtocolId, entry: &str) -> Result<Offer, Reason> {
    let challenge = match protocol {
        ProtocolId::X402V1 => parse_v1(format!(r#"{{"x402Version":1,"accepts":[{entry}]}}"#)),
        ProtocolId::X402V2 => parse_v2(format!(r#"{{"x402Version":2,"accepts":[{entry}]}}"#)),
    };
    let mut challenge = challenge.unwrap().unwrap();
    assert_eq!(challenge.offers.len() + challenge.rejected.len(), 1);
    challenge.offers.pop().ok_or_else(|| challenge.rejected[0].reason)
}

/// The valid entry of each version with `field` set to `value`, or removed.
fn judge_with(field: &str, value: Option<&Value>) -> [Result<Offer, Reason>; 2] {
    [(ProtocolId::X402V1, entry_v1()), (ProtocolId::X402V2, entry_v2())].map(|(protocol, mut entry)| {
        let field = if field == "amount" && protocol == ProtocolId::X402V1 { "maxAmountRequired" } else { field };
        match value {
            Some(v) => entry[field] = v.clone(),
            None => drop(entry.as_object_mut().unwrap().remove(field)),
        }
        judge(protocol, &entry.to_string())
    })
}

fn assert_refused(field: &str, value: Option<Value>, reason: Reason) {
    for outcome in judge_with(field, value.as_ref()) {
        assert_eq!(outcome.map(|o| o.wire), Err(reason), "{field}: {value:?}");
    }
}

#[test]
fn a_plain_entry_becomes_an_offer() {
    for offer in judge_with("description", Some(&json!("x"))) {
        let offer = offer.unwrap();
        assert_eq!((offer.index, offer.flow, offer.max_timeout, offer.price.micro()), (0, Flow::Authorization, 60, 10_000));
        assert_eq!(offer.payee.0.to_string(), SELLER);
        assert_eq!(offer.asset.id.token.to_string(), USDC);
    }
}

#[test]
fn a_wrong_field_has_its_own_reason() {
    use Reason::*;
    for field in ["scheme", "network"] {
        for value in [None, Some(json!(null)), Some(json!(1)), Some(json!(["exact"]))] {
            assert_refused(field, value, MalformedOffer);
        }
    }
    for scheme in ["", "Exact", "exact ", "upto"] {
        assert_refused("scheme", Some(json!(scheme)), UnsupportedScheme);
    }
    for network in ["", "Base", "eip155:084532", "eip155:*", "solana", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "cloudflare:402"] {
        assert_refused("network", Some(json!(network)), UnsupportedNetwork);
    }
    for amount in ["", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_0", "１", "1\u{0}"] {
        assert_refused("amount", Some(json!(amount)), InvalidAmount);
    }
    assert_refused("amount", Some(json!("1".repeat(100_000 / 4))), InvalidAmount);
    assert_refused("amount", Some(json!("9".repeat(78))), InvalidAmount);
    assert_refused("amount", Some(json!(10000)), InvalidAmount);
    assert_refused("amount", None, InvalidAmount);
    assert_refused("amount", Some(json!("9223372036854775808")), AmountTooLarge);
    for address in
        [json!(null), json!(0), json!("merchant"), json!("0x"), json!(&USDC[2..]), json!(USDC.replace('C', "c").replace('f', "F"))]
    {
        assert_refused("asset", Some(address.clone()), InvalidAsset);
        assert_refused("payTo", Some(address), InvalidPayee);
    }
    assert_refused("payTo", Some(json!("0x0000000000000000000000000000000000000000")), InvalidPayee);
    assert_refused("payTo", Some(json!(USDC.to_lowercase())), InvalidPayee);
    assert_refused("asset", Some(json!(SELLER)), UnknownAsset);
    for timeout in [json!(0), json!(-1), json!("60"), json!(60.0), json!(null), json!(true), json!([60]), json!({})] {
        assert_refused("maxTimeoutSeconds", Some(timeout), InvalidTimeout);
    }
    assert_refused("maxTimeoutSeconds", None, InvalidTimeout);
    for extra in [json!([]), json!("USDC"), json!(1), json!(false)] {
        assert_refused("extra", Some(extra), MalformedOffer);
    }
    for (extra, reason) in [
        (json!({"name": "USD Coin", "version": "2"}), AssetDomainMismatch),
        (json!({"name": "USDC", "version": "1"}), AssetDomainMismatch),
        (json!({"name": "USDC", "version": 2}), AssetDomainMismatch),
        (json!({"name": "usdc"}), AssetDomainMismatch),
        (json!({"name": "GatewayWalletBatched", "version": "1", "verifyingContract": SELLER}), UnsupportedTransfer),
        (json!({"verifyingContract": null}), UnsupportedTransfer),
        (json!({"assetTransferMethod": "permit2"}), UnsupportedTransfer),
        (json!({"assetTransferMethod": "EIP3009"}), UnsupportedTransfer),
        (json!({"assetTransferMethod": 1}), UnsupportedTransfer),
        (json!({"paymentFlow": "later"}), UnsupportedFlow),
        (json!({"paymentFlow": ""}), UnsupportedFlow),
        (json!({"paymentFlow": {"a": 1}}), UnsupportedFlow),
    ] {
        assert_refused("extra", Some(extra), reason);
    }
}

#[test]
fn legal_oddities_are_accepted() {
    for (field, value) in [
        ("amount", Some(json!("0"))),
        ("amount", Some(json!("9223372036854775807"))),
        ("asset", Some(json!(USDC.to_lowercase()))),
        ("payTo", Some(json!(format!("0x{}", SELLER[2..].to_uppercase())))),
        ("maxTimeoutSeconds", Some(json!(1))),
        ("maxTimeoutSeconds", Some(json!(u64::MAX))),
        ("extra", None),
        ("extra", Some(json!(null))),
        ("extra", Some(json!({}))),
        ("extra", Some(json!({"name": null, "assetTransferMethod": null, "paymentFlow": null}))),
        ("extra", Some(json!({"name": "USDC", "version": "2", "assetTransferMethod": "eip3009", "paymentFlow": "authorization"}))),
        ("unknown", Some(json!({"deep": [[[{}]]]}))),
    ] {
        for outcome in judge_with(field, value.as_ref()) {
            assert!(outcome.is_ok(), "{field}: {value:?}: {outcome:?}");
        }
    }
    for flow in ["upfront", "escrow"] {
        for outcome in judge_with("extra", Some(&json!({"paymentFlow": flow}))) {
            assert_eq!(outcome.unwrap().flow.as_str(), flow);
        }
    }
}

#[test]
fn a_timeout_is_read_as_it_is_written() {
    let entry = entry_v2().to_string();
    for text in ["6e1", "60.0", "-0", "18446744073709551616", "1e400", "\"\\u0036\""] {
        let outcome = judge(ProtocolId::X402V2, &entry.replace(":60,", &format!(":{text},")));
        // A number that no JSON reader can hold spoils its entry as a whole.
        let reason = if text == "1e400" { Reason::MalformedOffer } else { Reason::InvalidTimeout };
        assert_eq!(outcome.map(|o| o.max_timeout), Err(reason), "{text}");
    }
}

#[test]
fn an_asset_needs_a_price_and_a_value_that_fits() {
    let token = SELLER.parse().unwrap();
    let id = AssetId { chain: ChainId::new(84532).unwrap(), token };
    let asset = |price, decimals| Asset {
        id,
        symbol: "T".into(),
        decimals,
        eip712: Eip712Name { name: "USDC".into(), version: "2".into() },
        price,
    };
    let mut entry = entry_v2();
    (entry["asset"], entry["payTo"]) = (json!(SELLER), json!(USDC));
    let wire = WireEntry { accepted: entry.to_string().into(), resource: None, extensions: None };
    let mut table = AssetTable::shipped();
    for (price, decimals, expected) in [
        (None, 6, Err(Reason::AssetNotPriced)),
        (Some(Price::ONE_DOLLAR), 6, Ok(10_000)),
        (Some(Price::ONE_DOLLAR), 18, Ok(1)),
        (Some(Price::ONE_DOLLAR), 255, Err(Reason::AmountTooLarge)),
    ] {
        table.insert(asset(price, decimals));
        assert_eq!(restore(ProtocolId::X402V2, &wire, &table).map(|o| o.price.micro()), expected);
    }
}

#[test]
fn one_bad_entry_hides_no_good_one() {
    let good = entry_v2();
    let bad = ["null", "1", "\"x\"", "[]", "{}", "true", "{\"scheme\":\"exact\",\"scheme\":\"exact\"}"];
    let list = bad.iter().map(|b| format!("{b},{good}")).collect::<Vec<_>>().join(",");
    let challenge = parse_v2(format!(r#"{{"x402Version":2,"accepts":[{list}]}}"#)).unwrap().unwrap();
    assert_eq!(challenge.offers.iter().map(|o| o.index).collect::<Vec<_>>(), (0..bad.len()).map(|i| 2 * i + 1).collect::<Vec<_>>());
    assert!(challenge.rejected.iter().enumerate().all(|(i, r)| *r == Rejected { index: 2 * i, reason: Reason::MalformedOffer }));
}

#[test]
fn a_duplicate_key_is_refused_where_it_stands() {
    let entry = entry_v2().to_string();
    for twice in [
        entry.replace(r#""amount":"#, r#""amount":"1","amount":"#),
        entry.replace(r#""amount":"#, r#""\u0061mount":"1","amount":"#),
        entry.replace(r#""name":"#, r#""name":"USDC","name":"#),
        entry.replace(r#""extra":{"#, r#""extra":{"deep":[{"a":1,"a":1}],"#),
    ] {
        assert_ne!(twice, entry);
        assert_eq!(judge(ProtocolId::X402V2, &twice).map(|o| o.index), Err(Reason::MalformedOffer), "{twice}");
    }
    for top in [r#""accepts":[],"#, r#""x402Version":2,"#, r#""x402Version":1,"#, r#""x":1,"x":2,"#] {
        assert_eq!(parse_v2(format!(r#"{{{top}"x402Version":2,"accepts":[{entry}]}}"#)).map(drop), Err(ParseError::DuplicateKey), "{top}");
        let v1 = format!(r#"{{{top}"x402Version":1,"accepts":[{}]}}"#, entry_v1());
        assert_eq!(parse_v1(v1).map(drop), Err(ParseError::DuplicateKey), "{top}");
    }
}

#[test]
fn at_most_64_entries_are_read() {
    let list = vec![entry_v2().to_string(); 66].join(",");
    let challenge = parse_v2(format!(r#"{{"x402Version":2,"accepts":[{list}]}}"#)).unwrap().unwrap();
    assert_eq!(challenge.offers.len(), 64);
    assert_eq!(challenge.rejected, [Rejected { index: 64, reason: Reason::TooManyOffers }]);
    let list = vec![entry_v2().to_string(); 64].join(",");
    assert!(parse_v2(format!(r#"{{"x402Version":2,"accepts":[{list}]}}"#)).unwrap().unwrap().rejected.is_empty());
}

#[test]
fn a_challenge_broken_as_a_whole_goes_back_untouched() {
    let ok = format!("[{}]", entry_v2());
    for (json, error) in [
        (String::new(), None),
        ("null".into(), Some(ParseError::NotObject)),
        (format!(r#"{{"x402Version":2,"accepts":{ok}}}x"#), Some(ParseError::NotObject)),
        (format!(r#"{{"accepts":{ok}}}"#), Some(ParseError::Version)),
        (format!(r#"{{"x402Version":null,"accepts":{ok}}}"#), Some(ParseError::Version)),
        (format!(r#"{{"x402Version":2.0,"accepts":{ok}}}"#), Some(ParseError::Version)),
        (format!(r#"{{"x402Version":1,"accepts":{ok}}}"#), Some(ParseError::Version)),
        (r#"{"x402Version":2,"accepts":{"0":1}}"#.into(), Some(ParseError::Accepts)),
        (r#"{"x402Version":2,"accepts":null}"#.into(), Some(ParseError::Accepts)),
        (r#"{"x402Version":2,"accepts":[]}"#.into(), Some(ParseError::NoOffers)),
    ] {
        let parsed = parse_v2(&json);
        assert_eq!(parsed.map(|c| c.is_none()), error.map_or(Ok(true), Err), "{json}");
    }
    assert_eq!(parse_v2([b'{', 0xff, b'}']).map(drop), Err(ParseError::NotObject));
    for (body, expected) in [
        ("", Ok(true)),
        ("<html>", Ok(true)),
        ("[]", Ok(true)),
        (r#"{"error":"quota"}"#, Ok(true)),
        (r#"{"x402Version":2,"accepts":[]}"#, Ok(true)),
        (r#"{"x402Version":1.0,"accepts":[]}"#, Ok(true)),
        (r#"{"x402Version":1}"#, Err(ParseError::Accepts)),
        (r#"{"x402Version":1,"accepts":[]}"#, Err(ParseError::NoOffers)),
    ] {
        assert_eq!(parse_v1(body).map(|c| c.is_none()), expected, "{body}");
    }
}

#[test]
fn the_header_decides_alone_when_it_is_there() {
    let body = format!(r#"{{"x402Version":1,"accepts":[{}]}}"#, entry_v1());
    let with = |headers: &HeaderMap| parse(&Answer { status: 402, headers, body: body.as_bytes() }, &AssetTable::shipped());
    let mut headers = HeaderMap::new();
    assert_eq!(with(&headers).unwrap().unwrap().protocol, ProtocolId::X402V1);
    headers.insert("payment-required", HeaderValue::from_static(" \t"));
    assert_eq!(with(&headers).unwrap().unwrap().protocol, ProtocolId::X402V1);
    headers.insert("payment-required", HeaderValue::from_static("bm90IGpzb24="));
    assert_eq!(with(&headers).map(drop), Err(ParseError::NotObject), "no downgrade to v1");
    headers.append("payment-required", HeaderValue::from_static(""));
    assert_eq!(with(&headers).map(drop), Err(ParseError::RepeatedHeader));
    let answer = Answer { status: 200, headers: &headers, body: body.as_bytes() };
    assert!(parse(&answer, &AssetTable::shipped()).unwrap().is_none(), "only a 402 is a challenge");
}

#[test]
fn only_the_standard_alphabet_is_read() {
    let json = format!(r#"{{"x402Version":2,"error":"?>?>ÿÿ","accepts":[{}]}}"#, entry_v2());
    let with = |text: String| {
        let mut headers = HeaderMap::new();
        headers.insert("payment-required", HeaderValue::try_from(text).unwrap());
        parse_head(&headers, &AssetTable::shipped()).map(|c| c.is_some())
    };
    let standard = STANDARD.encode(&json);
    assert_ne!(standard.trim_end_matches('='), URL_SAFE_NO_PAD.encode(&json), "the vector must tell the alphabets apart");
    assert_eq!(with(standard.clone()), Ok(true));
    assert_eq!(with(format!(" {standard}\t")), Ok(true));
    assert_eq!(with(standard.trim_end_matches('=').to_owned()), Ok(true));
    assert_eq!(with(URL_SAFE_NO_PAD.encode(&json)), Err(ParseError::NotBase64));
    assert_eq!(with(format!("{} {}", &standard[..8], &standard[8..])), Err(ParseError::NotBase64));
    assert_eq!(with(format!("{standard},{standard}")), Err(ParseError::NotBase64));
}

#[test]
fn the_sellers_error_is_kept_if_it_is_text() {
    for (error, expected) in [(json!("nonce_already_used"), Some("nonce_already_used")), (json!(null), None), (json!({"a": 1}), None)] {
        let json = json!({"x402Version": 2, "error": error, "accepts": [entry_v2()]});
        assert_eq!(parse_v2(json.to_string()).unwrap().unwrap().error, expected.map(SellerText::new));
    }
}

#[test]
fn the_echo_is_verbatim_and_small() {
    let wire = |resource: &str, extensions: &str| {
        let entry = entry_v2().to_string().replace(':', " :  ");
        let entry = entry.replace("eip155 :  ", "eip155:");
        let json = format!(r#"{{"x402Version":2,"resource":{resource},"extensions":{extensions},"accepts":[ {entry} ]}}"#);
        let wire = parse_v2(json).unwrap().unwrap().offers.remove(0).wire;
        assert_eq!(&*wire.accepted, entry);
        (wire.resource, wire.extensions)
    };
    assert_eq!(wire(r#"{ "url" : "\u0061" }"#, "{ }"), (Some(r#"{ "url" : "\u0061" }"#.into()), Some("{ }".into())));
    assert_eq!(wire("null", "null"), (None, None));
    assert_eq!(wire("\"https://x\"", "[]"), (None, None));
    let big = |n: usize| format!(r#"{{"x":"{}"}}"#, "y".repeat(n - 8));
    assert_eq!(wire("{}", &big(8190)).1.map(|e| e.len()), Some(8190));
    assert_eq!(wire("{}", &big(8191)), (Some("{}".into()), None));
    assert_eq!(wire(&big(8193), "{}"), (None, Some("{}".into())));
}

#[test]
fn only_json_or_untyped_bodies_are_read() {
    for (kind, expected) in [
        (None, true),
        (Some("application/json"), true),
        (Some("Application/JSON; charset=utf-8"), true),
        (Some("application/problem+json"), true),
        (Some("text/json"), true),
        (Some("text/html"), false),
        (Some("application/octet-stream"), false),
        (Some("text/event-stream"), false),
        (Some("application/jsonl"), false),
    ] {
        let headers = kind.map(|k| (CONTENT_TYPE, HeaderValue::from_static(k))).into_iter().collect();
        assert_eq!(may_be_in_body(&headers), expected, "{kind:?}");
    }
}

#[test]
fn an_agent_that_pays_by_itself_is_left_alone() {
    for (name, value, expected) in [
        ("payment-signature", "e30=", true),
        ("x-payment", "", true),
        ("payment-authorization", "Payment e30", true),
        ("crawler-exact-price", "USD 0.01", true),
        ("authorization", "Payment eyJ9", true),
        ("authorization", "payment\teyJ9", true),
        ("authorization", "L402 bWFj:00", true),
        ("authorization", "LSAT bWFj:00", true),
        ("authorization", "Bearer Payment", false),
        ("authorization", "PaymentX abc", false),
        ("proxy-authorization", "Payment abc", false),
        ("x-payment-response", "e30=", false),
    ] {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        assert_eq!(carries_payment(&headers), expected, "{name}: {value}");
    }
}

#[test]
fn an_unreadable_receipt_is_no_receipt() {
    let read = |json: &str| {
        let value = HeaderValue::try_from(STANDARD.encode(json)).unwrap();
        receipt(ProtocolId::X402V1, &HeaderMap::from_iter([(HeaderName::from_static("x-payment-response"), value)]))
    };
    for bad in ["", "[]", "{}", r#"{"success":"true"}"#, r#"{"success":1}"#, r#"{"success":true,"success":false}"#] {
        assert_eq!(read(bad), None, "{bad}");
    }
    let odd = read(r#"{"success":true,"transaction":"<script>","errorReason":""}"#).unwrap();
    assert_eq!(odd, Receipt { success: true, transaction: None, error: None });
    assert_eq!(receipt(ProtocolId::X402V2, &HeaderMap::new()), None);
}

#[test]
fn valid_after_is_never_before_the_epoch() {
    assert_eq!(valid_after(ProtocolId::X402V1, Timestamp::from_secs(1_763_683_200)), 1_763_682_600);
    assert_eq!(valid_after(ProtocolId::X402V1, Timestamp::from_secs(10)), 0);
    assert_eq!(valid_after(ProtocolId::X402V1, Timestamp::from_secs(-10)), 0);
    assert_eq!(valid_after(ProtocolId::X402V2, Timestamp::from_secs(1_763_683_200)), 0);
}
