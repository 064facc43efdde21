//! The reference vectors: byte-equal payments for what we support, a named refusal for everything else.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use k256::ecdsa::SigningKey;
use serde_json::Value;

use super::ParseError;
use crate::payment::{
    Asset, AssetId, AssetTable, Authorization, ChainId, Challenge, Eip712Name, Flow, Nonce, Offer, Payer, Price, ProtocolId, Reason,
    Signed, Timestamp,
};
use crate::protocol::{self, Answer};

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/x402-vectors.json"));

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn headers(response: &Value) -> HeaderMap {
    let lines = response["header"].as_object().unwrap().iter();
    lines.map(|(k, v)| (k.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v.as_str().unwrap()).unwrap())).collect()
}

fn parse(response: &Value, assets: &AssetTable) -> Result<Option<Challenge>, ParseError> {
    let (headers, body) = (headers(response), response["body"].as_str().unwrap());
    let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
    protocol::parse(&Answer { status, headers: &headers, body: body.as_bytes() }, assets)
}

/// Signs as the reference clients do: RFC 6979, low s.
fn sign(key: &SigningKey, authorization: Authorization) -> Signed {
    let (signature, recovery) = key.sign_prehash_recoverable(authorization.digest().as_slice()).unwrap();
    let mut rsv = [0; 65];
    rsv[..64].copy_from_slice(&signature.to_bytes());
    rsv[64] = recovery.to_byte();
    Signed::new(authorization, rsv).unwrap()
}

fn authorization(offer: &Offer, message: &Value) -> Authorization {
    let text = |key: &str| message[key].as_str().unwrap().to_owned();
    Authorization {
        asset: offer.asset.clone(),
        from: Payer(text("from").parse::<Address>().unwrap()),
        to: offer.payee,
        value: offer.amount.atomic(),
        valid_after: text("validAfter").parse().unwrap(),
        valid_before: text("validBefore").parse().unwrap(),
        nonce: Nonce::from_vector(text("nonce").parse::<B256>().unwrap()),
    }
}

/// Ids of the valid vectors that we can pay, and the entry the reference client chose.
const PAYABLE: [(&str, usize); 8] = [
    ("v2-exact-eip3009-base-sepolia", 0),
    ("v2-exact-eip3009-base-mainnet", 0),
    ("v2-exact-eip3009-lowercase-addresses", 0),
    ("v2-exact-eip3009-unicode-and-extensions-echo", 0),
    ("v2-exact-eip3009-flare-usdt0-nonascii-domain", 0),
    ("v2-multi-accepts-default-selector", 3),
    ("v1-exact-base-sepolia", 0),
    ("v1-exact-base", 0),
];

/// Ids of the valid vectors for what we do not support, and why they are refused.
const UNSUPPORTED: [(&str, Reason); 7] = [
    ("v2-exact-permit2-base-sepolia", Reason::UnsupportedTransfer),
    ("v2-exact-permit2-with-eip2612-sponsoring", Reason::UnsupportedTransfer),
    ("v2-exact-permit2-with-erc20-approval-sponsoring", Reason::UnsupportedTransfer),
    ("v2-upto-permit2-base-sepolia", Reason::UnsupportedScheme),
    ("v2-batch-settlement-eip3009-first-deposit", Reason::UnsupportedScheme),
    ("v2-batch-settlement-voucher-existing-channel", Reason::UnsupportedScheme),
    ("v2-auth-capture-eip3009", Reason::UnsupportedScheme),
];

/// The ids of `section`, each named exactly once by the tables above or below.
fn assert_covered<'a>(section: &Value, named: impl Iterator<Item = &'a str>) {
    let listed: Vec<&str> = section.as_array().unwrap().iter().map(|v| v["id"].as_str().unwrap()).collect();
    let named: Vec<&str> = named.collect();
    assert_eq!(listed.len(), named.len());
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), named.iter().collect::<BTreeSet<_>>());
}

fn find<'a>(section: &'a Value, id: &str) -> &'a Value {
    section.as_array().unwrap().iter().find(|v| v["id"] == id).unwrap()
}

#[test]
fn every_valid_vector_has_an_expectation() {
    let ids = PAYABLE.iter().map(|(id, _)| *id).chain(UNSUPPORTED.iter().map(|(id, _)| *id));
    assert_covered(&vectors()["valid"], ids);
}

#[test]
fn a_supported_vector_is_paid_byte_for_byte_as_the_reference_client_does() {
    let (vectors, assets) = (vectors(), AssetTable::shipped());
    let key = SigningKey::from_slice(&hex::decode(vectors["_meta"]["key"]["privateKey"].as_str().unwrap()).unwrap()).unwrap();
    for (id, chosen) in PAYABLE {
        let vector = find(&vectors["valid"], id);
        let challenge = parse(&vector["challenge"], &assets).unwrap().unwrap();
        let offer = challenge.offers.iter().find(|o| o.index == chosen).unwrap();
        let expected = &vector["signings"][0];
        let authorization = authorization(offer, &expected["message"]);
        let now = Timestamp::from_secs(vector["fixed"]["now"].as_i64().unwrap());
        assert_eq!(protocol::valid_after(offer.protocol, now), authorization.valid_after, "{id}");
        assert_eq!(now.secs().unsigned_abs() + offer.max_timeout, authorization.valid_before, "{id}");
        assert_eq!(offer.asset.domain_separator().to_string(), expected["domainSeparator"], "{id}");
        assert_eq!(authorization.digest().to_string(), expected["digest"], "{id}");

        let signed = sign(&key, authorization);
        assert_eq!(hex::encode_prefixed(signed.bytes()), expected["signature"], "{id}");

        let (name, value) = protocol::credential(offer.protocol, &offer.wire, &signed);
        let (want_name, want) = vector["retryHeader"].as_object().unwrap().iter().next().unwrap();
        assert!(name.as_str().eq_ignore_ascii_case(want_name), "{id}");
        assert!(value.is_sensitive());
        let json: Value = serde_json::from_slice(&STANDARD.decode(value.as_bytes()).unwrap()).unwrap();
        assert_eq!(json, vector["paymentPayload"], "{id}");
        assert_eq!(value, want.as_str().unwrap(), "{id}");

        let again = protocol::restore(offer.protocol, &offer.wire, &assets).unwrap();
        assert!(again.same_terms(offer), "{id}");
        assert_eq!(protocol::credential(again.protocol, &again.wire, &signed).1, value, "{id}");
    }
}

#[test]
fn an_unsupported_vector_is_refused_by_name() {
    let (vectors, assets) = (vectors(), AssetTable::shipped());
    for (id, reason) in UNSUPPORTED {
        let challenge = parse(&find(&vectors["valid"], id)["challenge"], &assets).unwrap().unwrap();
        assert!(challenge.offers.is_empty(), "{id}");
        assert_eq!(challenge.rejected.iter().map(|r| r.reason).collect::<Vec<_>>(), [reason], "{id}");
    }
}

#[test]
fn the_other_entries_of_a_list_are_judged_alone() {
    let challenge = parse(&find(&vectors()["valid"], "v2-multi-accepts-default-selector")["challenge"], &AssetTable::shipped());
    let challenge = challenge.unwrap().unwrap();
    let offers: Vec<_> = challenge.offers.iter().map(|o| (o.index, o.flow)).collect();
    assert_eq!(offers, [(1, Flow::Upfront), (3, Flow::Authorization), (4, Flow::Authorization)]);
    let rejected: Vec<_> = challenge.rejected.iter().map(|r| (r.index, r.reason)).collect();
    assert_eq!(rejected, [(0, Reason::UnsupportedNetwork), (2, Reason::UnsupportedFlow)]);
}

/// What a malformed vector has to come to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Not a challenge of ours.
    NotOurs,
    /// Broken as a whole.
    Broken(ParseError),
    /// No offer; the only entry is refused for this.
    Refused(Reason),
    /// One offer next to one refused entry.
    Beside(Reason),
    /// One offer, no refusal: well formed, the rest is policy.
    Offered,
}

#[rustfmt::skip]
const MALFORMED: [(&str, Verdict); 75] = {
    use Reason::*;
    use Verdict::*;
    [
        ("hdr-not-base64", Broken(ParseError::NotBase64)),
        ("hdr-base64-not-json", Broken(ParseError::NotObject)),
        ("hdr-json-array", Broken(ParseError::NotObject)),
        ("hdr-base64url-alphabet", Broken(ParseError::NotBase64)),
        ("hdr-base64-unpadded", Offered),
        ("hdr-trailing-whitespace", Offered),
        ("hdr-empty-falls-to-body", NotOurs),
        ("v2-in-body-only", NotOurs),
        ("no-challenge-at-all", NotOurs),
        ("v1-body-version-string", NotOurs),
        ("v2-version-3", Broken(ParseError::Version)),
        ("v2-version-string", Broken(ParseError::Version)),
        ("v1-object-in-v2-header", Broken(ParseError::Version)),
        ("header-and-body-disagree", Offered),
        ("accepts-empty", Broken(ParseError::NoOffers)),
        ("accepts-missing", Broken(ParseError::Accepts)),
        ("accepts-null-entry", Beside(MalformedOffer)),
        ("resource-missing", Offered),
        ("one-unknown-scheme-entry", Beside(UnsupportedScheme)),
        ("all-unknown-scheme", Refused(UnsupportedScheme)),
        ("amount-empty", Refused(InvalidAmount)),
        ("amount-negative", Refused(InvalidAmount)),
        ("amount-plus", Refused(InvalidAmount)),
        ("amount-decimal", Refused(InvalidAmount)),
        ("amount-exp", Refused(InvalidAmount)),
        ("amount-hex", Refused(InvalidAmount)),
        ("amount-leading-space", Refused(InvalidAmount)),
        ("amount-number-json", Refused(InvalidAmount)),
        ("amount-underscore", Refused(InvalidAmount)),
        ("amount-leading-zeros", Refused(InvalidAmount)),
        ("amount-uint256-overflow", Refused(InvalidAmount)),
        ("amount-dollar", Refused(InvalidAmount)),
        ("amount-zero", Offered),
        ("amount-fullwidth-digits", Refused(InvalidAmount)),
        ("amount-over-1usd", Offered),
        ("asset-bad-checksum", Refused(InvalidAsset)),
        ("asset-short", Refused(InvalidAsset)),
        ("asset-missing-0x", Refused(InvalidAsset)),
        ("asset-unknown-token", Refused(UnknownAsset)),
        ("payto-zero", Refused(InvalidPayee)),
        ("payto-is-asset", Refused(InvalidPayee)),
        // The codec does not know the payer; the treasurer refuses this one.
        ("payto-is-payer", Offered),
        ("payto-role-constant", Refused(InvalidPayee)),
        ("payto-bad-checksum", Refused(InvalidPayee)),
        ("network-v1-name-in-v2", Refused(UnsupportedNetwork)),
        ("network-leading-zero", Refused(UnsupportedNetwork)),
        ("network-wildcard", Refused(UnsupportedNetwork)),
        ("network-hex", Refused(UnsupportedNetwork)),
        ("network-zero", Refused(UnsupportedNetwork)),
        ("network-huge", Refused(UnsupportedNetwork)),
        ("network-uppercase-ns", Refused(UnsupportedNetwork)),
        ("timeout-zero", Refused(InvalidTimeout)),
        ("timeout-negative", Refused(InvalidTimeout)),
        ("timeout-string", Refused(InvalidTimeout)),
        ("timeout-float", Refused(InvalidTimeout)),
        ("timeout-ten-years", Offered),
        ("timeout-missing", Refused(InvalidTimeout)),
        ("timeout-null", Refused(InvalidTimeout)),
        ("timeout-nan-like", Refused(InvalidTimeout)),
        ("timeout-1e300", Refused(InvalidTimeout)),
        ("extra-missing", Offered),
        ("extra-name-wrong", Refused(AssetDomainMismatch)),
        ("extra-name-empty", Refused(AssetDomainMismatch)),
        ("extra-version-number", Refused(AssetDomainMismatch)),
        ("extra-name-object", Refused(AssetDomainMismatch)),
        ("atm-unknown", Refused(UnsupportedTransfer)),
        ("atm-erc7710", Refused(UnsupportedTransfer)),
        ("paymentflow-unknown", Refused(UnsupportedFlow)),
        ("paymentflow-upfront-only", Offered),
        ("upto-no-facilitator", Refused(UnsupportedScheme)),
        ("upto-facilitator-zero", Refused(UnsupportedScheme)),
        ("batch-zero-authorizer", Refused(UnsupportedScheme)),
        ("batch-withdrawdelay-out-of-range", Refused(UnsupportedScheme)),
        ("batch-mindeposit-attack", Refused(UnsupportedScheme)),
        ("domain-confusion-permit2-as-asset", Refused(UnknownAsset)),
    ]
};

fn verdict(parsed: Result<Option<Challenge>, ParseError>) -> Verdict {
    match parsed {
        Err(e) => Verdict::Broken(e),
        Ok(None) => Verdict::NotOurs,
        Ok(Some(c)) => match (c.offers.as_slice(), c.rejected.as_slice()) {
            ([], [r]) => Verdict::Refused(r.reason),
            ([_], [r]) => Verdict::Beside(r.reason),
            ([_], []) => Verdict::Offered,
            _ => panic!("unexpected shape: {c:?}"),
        },
    }
}

#[test]
fn every_malformed_vector_comes_to_its_verdict() {
    let (vectors, assets) = (vectors(), AssetTable::shipped());
    assert_covered(&vectors["malformed"], MALFORMED.iter().map(|(id, _)| *id));
    for (id, expected) in MALFORMED {
        assert_eq!(verdict(parse(&find(&vectors["malformed"], id)["response"], &assets)), expected, "{id}");
    }
}

#[test]
fn a_vector_is_offered_only_where_its_author_leaves_it_to_policy_or_tolerates_it() {
    for (id, verdict) in MALFORMED {
        if verdict == Verdict::Offered && id != "payto-is-payer" {
            let vectors = vectors();
            let expect = find(&vectors["malformed"], id)["expect"].as_str().unwrap().to_owned();
            assert!(
                ["policy", "tolerate", "use-header", "tolerate-or-reject", "reject-or-table"].contains(&expect.as_str()),
                "{id}: {expect}"
            );
        }
    }
}

#[test]
fn the_header_wins_over_a_cheaper_body() {
    let vectors = vectors();
    let response = &find(&vectors["malformed"], "header-and-body-disagree")["response"];
    let challenge = parse(response, &AssetTable::shipped()).unwrap().unwrap();
    assert_eq!(challenge.protocol, ProtocolId::X402V2);
    assert_eq!(challenge.offers[0].amount.atomic().to_string(), "10000");
}

#[test]
fn receipts_of_the_reference_server_are_read() {
    let vectors = vectors();
    let read = |id: &str| {
        let value = HeaderValue::from_str(vectors["settlementResponses"][id]["header"].as_str().unwrap()).unwrap();
        protocol::receipt(ProtocolId::X402V2, &HeaderMap::from_iter([(super::v2::RECEIPT, value)])).unwrap()
    };
    assert!(read("success").success && read("upto_partial").success);
    assert_eq!(read("success").transaction, Some(format!("0x{}", "cd".repeat(32))));
    assert_eq!(read("success").error, None);
    let failed = read("failed");
    assert!(!failed.success && failed.transaction.is_none() && failed.error.unwrap().is("insufficient_funds"));
    let pending = read("pending");
    assert!(!pending.success && pending.transaction.is_some() && pending.error.unwrap().is("settlement_pending"));
    assert_eq!(read("batch_voucher").transaction, None);
}

#[test]
fn an_asset_with_its_own_domain_is_paid_under_the_tables_name() {
    let (vectors, mut assets) = (vectors(), AssetTable::shipped());
    let id = AssetId { chain: ChainId::new(84532).unwrap(), token: "0x1111111111111111111111111111111111111111".parse().unwrap() };
    let eip712 = Eip712Name { name: "USDC".into(), version: "2".into() };
    assets.insert(Asset { id, symbol: "MINE".into(), decimals: 6, eip712, price: Some(Price::ONE_DOLLAR) });
    let challenge = parse(&find(&vectors["malformed"], "asset-unknown-token")["response"], &assets).unwrap().unwrap();
    assert_eq!(challenge.offers[0].asset.symbol, "MINE");
}
