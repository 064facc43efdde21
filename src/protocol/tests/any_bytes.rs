//! No bytes make a parser panic or break a rule.

use super::codings::{BROTLI, ZSTD, gzip, zlib, zstd};
use super::*;

/// JSON of any shape, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!(USDC)),
        Just(json!("exact")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(prop_oneof![Just("name".to_owned()), Just("extra".to_owned()), ".{0,9}"], inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn check_invariants(challenge: &Challenge) {
    for offer in &challenge.offers {
        let table = AssetTable::shipped();
        assert_eq!(table.get(&offer.asset.id), Some(&offer.asset), "only assets of the table");
        assert!(!offer.payee.0.is_zero() && offer.payee.0 != offer.asset.id.token && offer.max_timeout >= 1);
        assert!(restore(offer.protocol, &offer.wire, &table).unwrap().same_terms(offer));
    }
}

proptest! {
    #[test]
    fn parsing_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), coding in prop::option::of("gzip|deflate|br|zstd|.{0,5}")) {
        let _ = parse_v1(&bytes);
        let _ = parse_v2(&bytes);
        let _ = decode(coding.as_deref(), &bytes, 1000);
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            for name in ["payment-required", "payment-response", "x-payment-response", "authorization", "content-type"] {
                let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.clone())]);
                let _ = parse_head(&headers, &AssetTable::shipped());
                let _ = (carries_payment(&headers), may_be_in_body(&headers));
                for protocol in ProtocolId::ALL {
                    let _ = receipt(protocol, &headers);
                }
            }
        }
    }

    #[test]
    fn a_damaged_stream_never_panics(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let text = json!({"x402Version": 1, "accepts": [entry_v1(), entry_v1()]}).to_string().into_bytes();
        for (coding, mut bytes) in [("gzip", gzip(&text)), ("deflate", zlib(&text)), ("zstd", zstd(&text)), ("br", BROTLI.to_vec()),  ("zstd", ZSTD[0].to_vec())] {
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode(Some(coding), &bytes, 1000);
            bytes.truncate(cut);
            let _ = decode(Some(coding), &bytes, 1000);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics_or_breaks_a_rule(at in 0_usize..400, byte in any::<u8>()) {
        let mut v2 = json!({"x402Version": 2, "accepts": [entry_v2(), entry_v2()]}).to_string().into_bytes();
        let mut v1 = json!({"x402Version": 1, "accepts": [entry_v1()]}).to_string().into_bytes();
        for text in [&mut v2, &mut v1] {
            let at = at % text.len();
            text[at] = byte;
        }
        for parsed in [parse_v2(&v2), parse_v1(&v1)] {
            if let Ok(Some(challenge)) = parsed {
                check_invariants(&challenge);
            }
        }
    }

    #[test]
    fn a_replaced_value_never_panics_or_breaks_a_rule(key in 0_usize..16, value in any_json()) {
        for (mut entry, version) in [(entry_v1(), 1), (entry_v2(), 2)] {
            let keys: Vec<String> = entry.as_object().unwrap().keys().cloned().collect();
            entry[&keys[key % keys.len()]] = value.clone();
            let json = json!({"x402Version": version, "error": value, "resource": value, "accepts": [value, entry, entry_v2()]}).to_string();
            let challenge = if version == 1 { parse_v1(json) } else { parse_v2(json) }.unwrap().unwrap();
            prop_assert_eq!(challenge.offers.len() + challenge.rejected.len(), 3);
            check_invariants(&challenge);
        }
    }
}
