//! Any text as a v2 header and as a v1 body: nothing panics, and whatever is offered obeys the rules and survives the ledger.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tollpass::payment::AssetTable;
use tollpass::protocol::{Answer, parse, restore};

fuzz_target!(|data: &[u8]| {
    let table = AssetTable::shipped();
    let mut headers = HeaderMap::new();
    let mut check = |headers: &HeaderMap| {
        let Ok(Some(challenge)) = parse(&Answer { status: 402, headers, body: data }, &table) else { return };
        for offer in &challenge.offers {
            assert!(table.get(&offer.asset.id).is_some_and(|ours| *ours == offer.asset));
            assert!(!offer.payee.0.is_zero() && offer.payee.0 != offer.asset.id.token && offer.max_timeout >= 1);
            assert!(restore(offer.protocol, &offer.wire, &table).is_ok_and(|again| again.same_terms(offer)));
        }
    };
    check(&headers);
    // The fuzzer finds JSON, not base64: give it the decoded side, then the raw one.
    for value in [HeaderValue::try_from(STANDARD.encode(data)).ok(), HeaderValue::from_bytes(data).ok()].into_iter().flatten() {
        headers.insert("payment-required", value);
        check(&headers);
    }
});
