//! One entry that is wrong is refused for its reason, and hides no good one.

use super::*;

/// Entries that must not be paid, and why.
fn bad_entries() -> Vec<(&'static str, Value, &'static str)> {
    let max = U256::MAX.to_string();
    let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    vec![
        ("asset: one character off", entry("asset", "0x036cbd53842c5426634e7929541ec2318f3dcf7f"), "unknown_asset"),
        ("asset: wrong checksum", entry("asset", "0x036CBD53842c5426634e7929541eC2318f3dCF7e"), "invalid_asset"),
        ("asset: one character off, mixed case", entry("asset", "0x036CbD53842c5426634e7929541eC2318f3dCF7f"), "invalid_asset"),
        ("asset: too short", entry("asset", "0x036CbD53842c5426634e7929541eC2318f3dCF7"), "invalid_asset"),
        ("payee: wrong checksum", entry("payTo", "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92267"), "invalid_payee"),
        ("payee: zero", entry("payTo", Address::ZERO.to_string()), "invalid_payee"),
        ("payee: ourselves", entry("payTo", payer().to_string()), "invalid_payee"),
        ("payee: the token", entry("payTo", USDC), "invalid_payee"),
        ("payee: a name", entry("payTo", "seller.eth"), "invalid_payee"),
        ("payee: line break", entry("payTo", format!("{}\r\nX-Evil: 1", payee())), "invalid_payee"),
        ("amount: 0", entry("amount", "0"), "zero_amount"),
        ("amount: negative", entry("amount", "-1"), "invalid_amount"),
        ("amount: 2^256", entry("amount", over), "invalid_amount"),
        ("amount: 2^256-1", entry("amount", max), "amount_too_large"),
        ("amount: decimal", entry("amount", "0.01"), "invalid_amount"),
        ("amount: exponent", entry("amount", "1e4"), "invalid_amount"),
        ("amount: JSON number", entry("amount", 10_000), "invalid_amount"),
        ("amount: plus", entry("amount", "+10000"), "invalid_amount"),
        ("amount: blank", entry("amount", " 10000"), "invalid_amount"),
        ("amount: leading zero", entry("amount", "010000"), "invalid_amount"),
        ("amount: hexadecimal", entry("amount", "0x2710"), "invalid_amount"),
        ("amount: other digits", entry("amount", "１００００"), "invalid_amount"),
        ("amount: empty", entry("amount", ""), "invalid_amount"),
        ("timeout: 0", entry("maxTimeoutSeconds", 0), "invalid_timeout"),
        ("timeout: negative", entry("maxTimeoutSeconds", -60), "invalid_timeout"),
        ("timeout: string", entry("maxTimeoutSeconds", "60"), "invalid_timeout"),
        ("timeout: fraction", entry("maxTimeoutSeconds", 60.5), "invalid_timeout"),
        ("network: unknown", entry("network", "eip155:999999"), "unknown_asset"),
        ("network: not CAIP-2", entry("network", "base-sepolia"), "unsupported_network"),
        ("scheme: other", entry("scheme", "upto"), "unsupported_scheme"),
        ("flow: escrow", entry("extra", json!({ "paymentFlow": "escrow" })), "not_allowed"),
        ("transfer: permit2", entry("extra", json!({ "assetTransferMethod": "permit2" })), "unsupported_transfer"),
        ("domain: other name", entry("extra", json!({ "name": "USD Coin", "version": "2" })), "asset_domain_mismatch"),
        ("domain: version as a number", entry("extra", json!({ "name": "USDC", "version": 2 })), "asset_domain_mismatch"),
        ("entry: null", Value::Null, "malformed_offer"),
        ("entry: text", "pay me".into(), "malformed_offer"),
    ]
}

#[test]
fn a_bad_entry_is_refused_for_its_reason_and_never_signed() {
    let cases = bad_entries();
    let till = menu(Setup::new(), cases.iter().map(|(_, bad, _)| listing(vec![bad.clone()]).with_error(seller_text())).collect());
    for (n, (what, _, reason)) in cases.iter().enumerate() {
        let got = till.get(&format!("/{n}"));
        assert_eq!((got.status, got.reason().as_str()), (402, *reason), "{what}");
        ours(&got, what);
    }
    nothing_happened(&till, "bad entries");
    assert!(!till.program.log().contains("SELLER-CANARY"), "seller text in the log");
}

#[test]
fn a_bad_entry_does_not_hide_a_good_one_wherever_it_stands() {
    let good = Terms::entry(payee(), &CENT.to_string());
    let cases = bad_entries();
    let menus = cases
        .iter()
        .enumerate()
        .map(|(n, (_, bad, _))| listing(if n % 2 == 0 { vec![bad.clone(), good.clone()] } else { vec![good.clone(), bad.clone()] }));
    let till = menu(Setup::new(), menus.collect());
    for (n, (what, ..)) in cases.iter().enumerate() {
        assert_eq!(till.get(&format!("/{n}")).status, 200, "{what}");
    }
    assert_eq!(till.chain.count(), cases.len());
    assert!(till.chain.transfers().iter().all(|t| t.to == payee() && t.value == U256::from(CENT)));
    till.spent(CENT * cases.len() as u64);
}

#[test]
fn a_window_of_years_is_clipped_to_our_lifetime() {
    let till =
        menu(Setup::new(), vec![listing(vec![entry("maxTimeoutSeconds", 315_360_000)]), listing(vec![entry("maxTimeoutSeconds", 30)])]);
    for (n, longest) in [(0, 300), (1, 30)] {
        assert_eq!(till.get(&format!("/{n}")).status, 200);
        let signed = decode(till.seller.paid()[n].head.get("payment-signature").unwrap());
        let before: u64 = signed["payload"]["authorization"]["validBefore"].as_str().unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(before <= now + longest && before + 10 > now + longest, "{before} at {now}");
    }
}

#[test]
fn sixty_entries_are_paid_and_their_header_is_not_passed_on() {
    let entries = (0..60).map(|n| Terms::entry(payee(), &(CENT + 60 - n).to_string())).collect();
    let till = Till::with(Setup::new(), listing(entries), |_| Plan::ok("sold"));
    let raw = till.seller.url("/x");
    assert!(STANDARD.encode(listing((0..60).map(|_| Terms::entry(payee(), "10000")).collect()).json().to_string()).len() > 16_000);
    let got = till.program.get(&raw);
    assert_eq!((got.status, got.text().as_str()), (200, "sold"));
    assert!(!got.head.has("payment-required"));
    assert_eq!((till.chain.count(), till.chain.total()), (1, U256::from(CENT + 1)), "the cheapest of them");
    assert!(till.seller.paid()[0].head.get("payment-signature").unwrap().len() < 4096, "only the chosen entry is echoed");
}

#[test]
fn entries_past_the_sixty_fourth_are_not_read() {
    let bad = || entry("scheme", "upto");
    let list = |good: usize| listing((0..70).map(|n| if n == good { Terms::entry(payee(), "10000") } else { bad() }).collect());
    let till = menu(Setup::new(), vec![list(63), list(64)]);
    assert_eq!(till.get("/0").status, 200);
    let refused = till.get("/1");
    let reasons: Vec<Value> = refused.json()["violations"].as_array().unwrap().iter().map(|v| v["reason"].clone()).collect();
    assert!(refused.status == 402 && reasons.contains(&"too_many_offers".into()), "{reasons:?}");
    assert_eq!(till.chain.count(), 1);
}
