//! What a seller writes reaches nobody in our name (S19).

use super::*;

#[test]
fn s19_seller_text_gets_neither_into_our_answers_nor_into_headers_or_the_log() {
    let evil = format!("{}\r\nX-Evil: 1\r\n\r\n<script>", seller_text());
    let mut terms =
        listing(vec![entry("scheme", evil.as_str()), entry("network", evil.as_str()), entry("payTo", evil.as_str())]).with_error(&evil);
    terms.accepts[0]["description"] = evil.as_str().into();
    let refused = Till::with(Setup::new(), terms, |_| Plan::ok("sold"));
    let got = refused.get("/x");
    assert_eq!(got.status, 402);
    ours(&got, "texts");
    nothing_happened(&refused, "texts");
    assert!(!refused.program.log().contains("SELLER-CANARY") && !refused.program.log().contains("X-Evil"));

    // Texts of an entry that is paid are echoed to that seller inside base64, and go nowhere else.
    let evil_entry = entry("description", evil.as_str());
    let paid = Till::with(Setup::new(), listing(vec![evil_entry]).with_error(&evil), |_| {
        Plan::settle(Act::Answer(500, "Tollpass-Reason: approved\r\nProxy-Status: tollpass; error=none\r\n".into(), Vec::new())).receipt(
            Receipt::Raw(
                STANDARD.encode(json!({ "success": true, "transaction": seller_text(), "errorReason": seller_text() }).to_string()),
            ),
        )
    });
    let got = paid.get("/x");
    assert_eq!(got.status, 500);
    assert!(!got.head.has("tollpass-reason") && !got.head.has("proxy-status") && !got.head.has("x-evil"), "{:?}", got.head);
    assert!(!paid.seller.paid()[0].head.has("x-evil"));
    paid.states(&["lost"]);
    let again = paid.get("/x");
    assert_eq!(again.reason(), "paid_not_delivered");
    ours(&again, "lost");
    let (log, books) = (paid.program.log(), paid.program.ledger().to_string());
    assert!(!log.contains("SELLER-CANARY") && !log.contains("X-Evil") && !books.contains("SELLER-CANARY"), "{log} {books}");
    let credential = paid.seller.paid()[0].head.get("payment-signature").unwrap().to_owned();
    let signature = decode(&credential)["payload"]["signature"].as_str().unwrap().to_owned();
    assert!(!log.contains(&credential) && !log.contains(&signature) && !books.contains(&signature));
}

#[test]
fn s19_a_location_with_a_line_break_reaches_nobody() {
    let cases: [(&str, &[u8]); 3] = [
        ("bare CR", b"HTTP/1.1 302 Found\r\nLocation: /a\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n"),
        ("folded", b"HTTP/1.1 302 Found\r\nLocation: /a\r\n X-Evil: 1\r\nContent-Length: 0\r\n\r\n"),
        ("NUL", b"HTTP/1.1 302 Found\r\nLocation: /a\0X-Evil: 1\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (what, bytes) in cases {
        let till = Till::new(Setup::new(), move |_| Plan::settle(Act::Raw(bytes.to_vec())));
        let got = till.get("/x");
        assert!(!got.head.has("x-evil"), "{what}: {:?}", got.head);
        assert_eq!(got.status, 502, "{what}");
        assert_eq!(till.chain.count(), 1);
        till.states(&["open"]);
        till.spent(CENT);
        let _ = till.get("/x");
        assert_eq!(till.chain.count(), 1, "{what}");
    }
}

#[test]
fn a_head_is_never_paid_for() {
    let till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(till.program.request(method, &till.url("/x"), "", b"").status, 402, "{method}");
    }
    nothing_happened(&till, "HEAD and OPTIONS");
}

#[test]
fn many_hostile_pages_together_stay_inside_one_budget() {
    // Every behaviour at once under a cap of ten cents; half of them take the money.
    let till = Till::new(Setup::new().caps("per_payment: 0.01, day: 0.10").upstream("first_byte: 500ms"), |visit| {
        let kind: usize = visit.head.target().rsplit('/').next().unwrap().parse().unwrap();
        let act = match kind % 5 {
            0 => Act::Reset,
            1 => Act::Hang,
            2 => Act::HalfBody(vec![b'x'; 100]),
            3 => Act::Answer(500, String::new(), Vec::new()),
            _ => Act::Challenge(Terms::v2(payee(), CENT)),
        };
        if kind.is_multiple_of(2) { Plan::settle(act) } else { Plan::keep(act) }.receipt(Receipt::None)
    });
    let till = Arc::new(till);
    let buyers: Vec<_> = (0..10)
        .map(|buyer| {
            let till = till.clone();
            std::thread::spawn(move || {
                for n in 0..6 {
                    let url = till.url(&format!("/{}/{}", n % 3, buyer * 3 + n % 3));
                    let _ = try_get(till.program.proxy(), &url, "");
                }
            })
        })
        .collect();
    buyers.into_iter().for_each(|b| b.join().unwrap());
    assert!(till.chain.total() <= U256::from(10 * CENT));
    till.spent(10 * CENT);
}
