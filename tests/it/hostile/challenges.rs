//! A challenge that is wrong as a whole goes back untouched.

use super::*;

fn required(text: impl AsRef<[u8]>) -> String {
    format!("PAYMENT-REQUIRED: {}\r\n", STANDARD.encode(text))
}

#[test]
fn a_challenge_that_is_wrong_as_a_whole_goes_back_untouched() {
    let good = Terms::v2(payee(), CENT).json().to_string();
    let v1 = Terms::v1(payee(), CENT).answer().1;
    let twice = good.replacen("\"accepts\":", "\"accepts\":[],\"accepts\":", 1);
    let odd = (0..3).map(|n| format!("{},\"x\":\"{}\"}}", &good[..good.len() - 1], "?>~".repeat(n + 1)));
    let url_safe = odd.map(|t| URL_SAFE.encode(t)).find(|t| t.contains(['-', '_'])).unwrap();
    let line = |value: &str| format!("PAYMENT-REQUIRED: {value}\r\n");
    let encoded = STANDARD.encode(&good);
    let cases = [
        ("duplicate header", required(&good) + &required(&good), ""),
        ("two different headers", required(&good) + &required(Terms::v2(other_payee(), 1).json().to_string()), ""),
        ("duplicate key", required(&twice), ""),
        (
            "duplicate key in a v1 body",
            "Content-Type: application/json\r\n".into(),
            &*v1.replacen("\"accepts\":", "\"accepts\":[],\"accepts\":", 1),
        ),
        ("base64url", line(&url_safe), ""),
        ("blank inside", line(&format!("{} {}", &encoded[..40], &encoded[40..])), ""),
        ("no base64", line("{}"), ""),
        ("not JSON", required("pay me"), ""),
        ("an array", required("[]"), ""),
        ("not UTF-8", required(b"\xff\xfe{}"), ""),
        ("cut off", required(&good[..good.len() - 5]), ""),
        ("version 3", required(good.replace("\"x402Version\":2", "\"x402Version\":3")), ""),
        ("version as text", required(good.replace("\"x402Version\":2", "\"x402Version\":\"2\"")), ""),
        ("no entries", required(json!({ "x402Version": 2, "accepts": [] }).to_string()), ""),
        ("a broken v2 header does not fall back to a v1 body", line("%%%") + "Content-Type: application/json\r\n", &*v1),
        ("HTML", "Content-Type: text/html\r\n".into(), "<h1>Pay</h1>"),
        ("a v1 body that says it is HTML", "Content-Type: text/html\r\n".into(), &*v1),
        ("nothing at all", String::new(), ""),
    ];
    let program = Program::start(Setup::new());
    for (what, headers, body) in &cases {
        let seller = Seller::http(fixed(format!("{headers}X-Seller: mine\r\n"), body));
        let got = program.get(&seller.url("/x"));
        assert_eq!((got.status, got.text().as_str(), got.head.get("x-seller")), (402, *body, Some("mine")), "{what}");
        let sent: Vec<&str> = headers.lines().filter_map(|l| l.strip_prefix("PAYMENT-REQUIRED: ")).collect();
        assert_eq!(got.head.all("payment-required").collect::<Vec<_>>(), sent, "{what}");
        assert!(!got.head.has("proxy-status"), "{what}");
        assert_eq!((seller.count(), seller.paid().len()), (1, 0), "{what}");
    }
    assert_eq!(rows(&program).len(), 0);
}

#[test]
fn base64_without_padding_or_between_blanks_is_read() {
    let text = || {
        let mut terms = Terms::v2(payee(), CENT);
        // A length that needs padding.
        while terms.json().to_string().len() % 3 != 1 {
            terms.error.push('x');
        }
        terms
    };
    let counted = Chain::new();
    let sold = counted.clone();
    let seller = Seller::http(move |call| {
        if call.head.has("payment-signature") {
            return shop(&sold, text(), |_| Plan::ok("sold"))(call);
        }
        let json = text().json().to_string();
        let value = if call.head.target() == "/bare" { STANDARD_NO_PAD.encode(json) } else { format!("  {} \t", STANDARD.encode(json)) };
        call.reply(402, &format!("PAYMENT-REQUIRED: {value}\r\n"), "")
    });
    let program = Program::start(Setup::new());
    assert_eq!(program.get(&seller.url("/bare")).status, 200);
    assert_eq!(program.get(&seller.url("/blank")).status, 200);
    assert_eq!(counted.count(), 2);
}

#[test]
fn duplicate_keys_inside_an_entry_reject_that_entry_alone() {
    let good = Terms::v2(payee(), CENT);
    let raw = |twice: bool| {
        let entry = good.accepts[0].to_string();
        let bad = entry.replacen('{', "{\"amount\":\"1\",", 1);
        let list = if twice { bad } else { format!("{bad},{entry}") };
        required(format!("{{\"x402Version\":2,\"accepts\":[{list}]}}"))
    };
    let (alone, both) = (raw(true), raw(false));
    let chain = Chain::new();
    let (counted, terms) = (chain.clone(), good.clone());
    let seller = Seller::http(move |call| match (call.head.has("payment-signature"), call.head.target()) {
        (false, "/alone") => call.reply(402, &alone, ""),
        (false, _) => call.reply(402, &both, ""),
        (true, _) => shop(&counted, terms.clone(), |_| Plan::ok("sold"))(call),
    });
    let till = Till { chain, seller, program: Program::start(Setup::new()) };
    assert_eq!(till.get("/alone").reason(), "malformed_offer");
    nothing_happened(&till, "duplicate key");
    assert_eq!(till.get("/both").status, 200);
    assert_eq!(till.chain.total(), U256::from(CENT));
}

#[test]
fn when_v2_header_and_v1_body_disagree_the_header_wins() {
    let mut terms = Terms::v2(payee(), CENT);
    terms.body = Terms::v1(other_payee(), 50 * CENT).answer().1;
    let till = Till::with(Setup::new(), terms, |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").status, 200);
    assert!(till.seller.paid()[0].head.has("payment-signature") && !till.seller.paid()[0].head.has("x-payment"));
    assert_eq!((till.chain.count_to(other_payee()), till.chain.paid_to(payee())), (0, U256::from(CENT)));
    till.spent(CENT);
}

#[test]
fn a_v1_seller_is_paid_once_and_checked_alike() {
    let till = Till::with(Setup::new(), Terms::v1(payee(), CENT), |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").status, 200);
    assert!(till.seller.paid()[0].head.has("x-payment"));
    till.spent(CENT);
    let both = Terms { version: X402::Both, ..Terms::v2(payee(), CENT) };
    let till = Till::with(Setup::new(), both, |_| Plan::ok("sold"));
    assert_eq!((till.get("/x").status, till.chain.count()), (200, 1));
    let mut dear = Terms::v1(payee(), CENT);
    dear.accepts[0]["maxAmountRequired"] = "1e4".into();
    let till = Till::with(Setup::new(), dear, |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").reason(), "invalid_amount");
    nothing_happened(&till, "v1 exponent");
}
