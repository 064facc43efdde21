//! Sellers that lie, stall, overload or cheat: what the agent sees, what the chain counts, what the books say.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, U256, hex};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::{Value, json};

use crate::harness::{
    Act, Agent, Call, Chain, Next, Plan, Program, Receipt, Response, Seller, Setup, Terms, X402, challenge, eventually, payer, seller_text,
    sha256, shop,
};
use crate::till::{CENT, Till, decode, hang_up, other_payee, payee, rows, try_get};

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

/// One cent of USDC, with one field changed.
fn entry(field: &str, value: impl Into<Value>) -> Value {
    let mut entry = Terms::entry(payee(), &CENT.to_string());
    entry[field] = value.into();
    entry
}

fn listing(accepts: Vec<Value>) -> Terms {
    let mut terms = Terms::v2(payee(), CENT);
    terms.accepts = accepts;
    terms
}

/// Nothing was signed, sent, moved or booked.
#[track_caller]
fn nothing_happened(till: &Till, what: &str) {
    assert_eq!((till.seller.paid().len(), till.chain.count(), rows(&till.program).len()), (0, 0, 0), "{what}");
}

/// A till whose seller's terms are chosen by the number in the path.
fn menu(setup: Setup, all: Vec<Terms>) -> Till {
    let chain = Chain::new();
    let counted = chain.clone();
    let seller = Seller::http(move |call| {
        let n: usize = call.head.target()[1..].parse().unwrap();
        shop(&counted, all[n].clone(), |_| Plan::ok("sold"))(call)
    });
    Till { chain, seller, program: Program::start(setup) }
}

// --- single entries ---

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

/// An answer of ours: a problem document without a word of the seller's.
#[track_caller]
fn ours(got: &Response, what: &str) {
    assert_eq!(got.head.get("content-type"), Some("application/problem+json"), "{what}");
    let head = format!("{:?}", got.head);
    for text in ["SELLER-CANARY", "X-Evil", "x-evil", "payment-required"] {
        assert!(!got.text().contains(text) && !head.to_lowercase().contains(&text.to_lowercase()), "{what}: {head} {}", got.text());
    }
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

// --- challenges that are wrong as a whole go back untouched ---

/// A 402 with these header lines and this body, whatever is presented.
fn fixed(headers: impl Into<String>, body: impl AsRef<[u8]>) -> impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static {
    let (headers, body) = (headers.into(), body.as_ref().to_vec());
    move |call| call.reply(402, &headers, &body)
}

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

// --- bodies ---

/// Runs `ask` and gives the memory it made the program take, in KiB.
fn growth(program: &Program, ask: impl FnOnce()) -> u64 {
    let before = program.memory_kib();
    ask();
    program.peak_kib().saturating_sub(before)
}

/// More than the limits of one challenge and its buffers; far less than the bodies.
const ROOM_KIB: u64 = 24 * 1024;

#[test]
fn a_402_of_a_hundred_megabytes_goes_back_untouched_in_bounded_memory() {
    const CHUNK: usize = 1 << 20;
    let seller = Seller::http(|call| {
        call.body();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", 100 * CHUNK));
        for n in 0..100 {
            call.raw(vec![n; CHUNK]);
        }
        Next::Keep
    });
    let program = Program::start(Setup::new());
    let grown = growth(&program, || {
        let got = program.get(&seller.url("/x"));
        assert_eq!((got.status, got.body.len()), (402, 100 * CHUNK));
        assert!(got.body.chunks(CHUNK).enumerate().all(|(n, c)| c.iter().all(|b| usize::from(*b) == n)));
    });
    assert!(grown < ROOM_KIB, "{grown} KiB");
    assert_eq!((seller.paid().len(), rows(&program).len()), (0, 0));
}

#[test]
fn an_endless_402_streams_until_the_agent_has_enough() {
    let sent = Arc::new(AtomicUsize::new(0));
    let (count, ended) = (sent.clone(), Arc::new(AtomicUsize::new(0)));
    let end = ended.clone();
    let seller = Seller::http(move |call| {
        call.body();
        call.raw("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        while call.chunk([b' '; 1 << 16]) {
            count.fetch_add(1 << 16, Ordering::AcqRel);
        }
        end.store(1, Ordering::Release);
        Next::Close
    });
    let program = Program::start(Setup::new());
    let grown = growth(&program, || {
        let mut agent = program.agent();
        agent.send(Agent::request_bytes("GET", &seller.url("/x"), "", b""));
        assert_eq!(agent.head().unwrap().status(), 402);
        let mut read = 0;
        while read < 32 << 20 {
            read += agent.wire.some().unwrap().len();
        }
        drop(agent);
        eventually("the seller is cut off", || ended.load(Ordering::Acquire) == 1);
    });
    assert!(grown < ROOM_KIB, "{grown} KiB");
    assert_eq!(rows(&program).len(), 0);
}

#[test]
fn a_drip_fed_402_is_handed_on_after_the_deadline() {
    // A valid challenge, but slower than we wait for one.
    let body = Terms::v1(payee(), CENT).answer().1;
    let drip = body.clone();
    let seller = Seller::http(move |call| {
        call.body();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", drip.len()));
        for byte in drip.as_bytes() {
            call.raw([*byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        Next::Keep
    });
    let program = Program::start(Setup::new().limits("challenge_time: 100ms"));
    let got = program.get(&seller.url("/x"));
    assert_eq!((got.status, got.text()), (402, body));
    assert!(!got.head.has("proxy-status"));
    assert_eq!((seller.paid().len(), rows(&program).len()), (0, 0));
}

/// 256 MiB of blanks, as few bytes.
fn gzip_bomb() -> Vec<u8> {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let blanks = vec![b' '; 1 << 20];
    (0..256).for_each(|_| bomb.write_all(&blanks).unwrap());
    bomb.finish().unwrap()
}

/// 64 MiB: a frame of run-length blocks with a window of 1 MiB (RFC 8878 §3.1.1).
fn zstd_bomb() -> Vec<u8> {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    for n in 0..512_u32 {
        let header = u32::from(n == 511) | 1 << 1 | (128 * 1024) << 3;
        bomb.extend(&header.to_le_bytes()[..3]);
        bomb.push(b' ');
    }
    bomb
}

#[test]
fn a_compressed_bomb_goes_back_untouched_in_bounded_memory() {
    // 32 MiB of zeros by the reference brotli encoder.
    let brotli = hex!("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfbbffcffffc33f0110870500baf77f");
    let program = Program::start(Setup::new().limits("challenge: 1MiB"));
    // The first look at each coding allocates its tables.
    for (coding, bomb) in [("gzip", gzip_bomb()), ("br", brotli.to_vec()), ("zstd", zstd_bomb())] {
        assert!(bomb.len() < 2 << 20, "{coding}: {}", bomb.len());
        let seller = Seller::http(fixed(format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n"), &bomb));
        let grown = growth(&program, || {
            let got = program.get(&seller.url("/x"));
            assert_eq!((got.status, sha256(&got.body), got.head.get("content-encoding")), (402, sha256(&bomb), Some(coding)));
        });
        assert!(grown < ROOM_KIB, "{coding}: {grown} KiB");
        assert_eq!(seller.paid().len(), 0);
    }
    assert_eq!(rows(&program).len(), 0);
}

#[test]
fn a_compressed_challenge_is_read() {
    let chain = Chain::new();
    let terms = Terms::v1(payee(), CENT);
    let (counted, packed) = (chain.clone(), {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(terms.answer().1.as_bytes()).unwrap();
        gzip.finish().unwrap()
    });
    let seller = Seller::http(move |call| {
        if call.head.has("x-payment") {
            return shop(&counted, terms.clone(), |_| Plan::ok("sold"))(call);
        }
        call.reply(402, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", &packed)
    });
    let program = Program::start(Setup::new());
    assert_eq!((program.get(&seller.url("/x")).status, chain.count()), (200, 1));
}

// --- after the payment ---

#[test]
fn a_price_or_payee_that_changes_on_the_retry_is_not_paid_then() {
    for changed in [Terms::v2(payee(), 2 * CENT), Terms::v2(other_payee(), CENT)] {
        let chain = Chain::new();
        let (counted, then) = (chain.clone(), changed.clone());
        // Asks for one thing first, and from the first payment on for another.
        let turned = Arc::new(AtomicUsize::new(0));
        let seller = Seller::http(move |call| {
            if call.head.has("payment-signature") && turned.fetch_add(1, Ordering::AcqRel) == 0 {
                return challenge(call, &then);
            }
            if turned.load(Ordering::Acquire) == 0 {
                return challenge(call, &Terms::v2(payee(), CENT));
            }
            shop(&counted, then.clone(), |_| Plan::ok("sold"))(call)
        });
        let till = Till { chain, seller, program: Program::start(Setup::new()) };
        let got = till.get("/x");
        assert!(got.status == 402 && got.head.has("payment-required"), "the seller's own answer");
        assert_eq!((till.seller.paid().len(), till.chain.count()), (1, 0), "one payment per request");
        till.states(&["open"]);
        till.spent(CENT);
        // Asked again, the new terms pass policy, under the same nonce.
        let nonce = rows(&till.program)[0].nonce.clone();
        assert_eq!(till.get("/x").status, 200);
        let all = rows(&till.program);
        assert_eq!((all.len(), &all[0].nonce, till.chain.count()), (1, &nonce, 1));
        assert_eq!(
            (all[0].payee.as_str(), all[0].atomic),
            (changed.accepts[0]["payTo"].as_str().unwrap(), changed.accepts[0]["amount"].as_str().unwrap().parse().unwrap())
        );
        till.spent(all[0].atomic);
    }
}

#[test]
fn a_new_price_past_the_cap_is_refused_and_the_old_one_stays_spent() {
    let chain = Chain::new();
    // Challenge and answer to the payment at one cent; three from then on.
    let seller = Seller::http(|call| challenge(call, &Terms::v2(payee(), if call.number < 2 { CENT } else { 3 * CENT })));
    let till = Till { chain, seller, program: Program::start(Setup::new().caps("per_payment: 0.02, day: 0.03")) };
    assert_eq!(till.get("/x").status, 402);
    assert_eq!(till.get("/x").reason(), "cap_per_payment");
    assert_eq!(till.seller.paid().len(), 1);
    till.spent(CENT);
}

#[test]
fn a_402_for_ever_costs_one_purchase_and_one_nonce() {
    let till = Till::new(Setup::new(), |_| Plan::keep(Act::Challenge(Terms::v2(payee(), CENT))));
    for _ in 0..6 {
        assert_eq!(till.get("/x").status, 402);
    }
    let shown: HashSet<_> = till.seller.paid().iter().map(|s| s.head.get("payment-signature").unwrap().to_owned()).collect();
    assert_eq!((till.seller.paid().len(), shown.len(), till.chain.count()), (6, 1, 0));
    till.states(&["open"]);
    till.spent(CENT);
}

#[test]
fn settled_but_402_is_one_transfer_however_often_it_is_asked_for() {
    let till = Till::new(Setup::new(), |_| Plan::settle(Act::Challenge(Terms::v2(payee(), CENT))).receipt(Receipt::None));
    for _ in 0..4 {
        assert_eq!(till.get("/x").status, 402);
    }
    assert_eq!(till.chain.count(), 1);
    // The seller says that the nonce was used, and the bytes had been shown before: paid and lost.
    till.states(&["lost"]);
    assert_eq!(till.get("/x").reason(), "paid_not_delivered");
    till.spent(CENT);
}

#[test]
fn whatever_breaks_after_the_payment_the_amount_is_spent_once() {
    type Case = (&'static str, fn() -> Act, &'static [u16], &'static str);
    let cases: [Case; 6] = [
        ("reset", || Act::Reset, &[502], "upstream_closed"),
        ("hang", || Act::Hang, &[504], "first_byte_timeout"),
        ("half body", || Act::HalfBody(vec![b'x'; 10_000]), &[200, 0], ""),
        ("500", || Act::Answer(500, String::new(), b"oops".to_vec()), &[500], ""),
        ("garbage", || Act::Raw(b"SSH-2.0-not-http\r\n\r\n".to_vec()), &[502], "upstream_protocol"),
        ("closed", || Act::Raw(Vec::new()), &[502], "upstream_closed"),
    ];
    for (what, act, statuses, reason) in cases {
        for settle in [true, false] {
            let setup = Setup::new().upstream("first_byte: 300ms");
            let till = Till::new(setup, move |_| if settle { Plan::settle(act()) } else { Plan::keep(act()) }.receipt(Receipt::None));
            let got = try_get(till.program.proxy(), &till.url("/x"), "");
            let status = got.as_ref().map_or(0, |r| r.status);
            assert!(statuses.contains(&status), "{what}: {got:?}");
            assert!(status != 200 || !got.as_ref().unwrap().complete, "{what}");
            if !reason.is_empty() {
                assert_eq!(got.unwrap().reason(), reason, "{what}");
            }
            till.states(&[if what == "half body" { "lost" } else { "open" }]);
            till.spent(CENT);
            // The client repeats; the same purchase, whatever comes of it.
            for _ in 0..2 {
                let _ = try_get(till.program.proxy(), &till.url("/x"), "");
            }
            assert_eq!(till.chain.count(), usize::from(settle), "{what}");
            till.spent(CENT);
        }
    }
}

#[test]
fn a_body_that_never_comes_is_cut_by_the_idle_time_out_and_lost() {
    let till = Till::new(Setup::new().upstream("idle: 300ms"), |_| Plan::settle(Act::HeadOnly));
    till.get_cut("/x");
    till.states(&["lost"]);
    assert_eq!(till.get("/x").reason(), "paid_not_delivered");
    till.spent(CENT);
}

#[test]
fn an_agent_that_leaves_in_the_middle_of_a_broken_answer_pays_once() {
    let till = Till::new(Setup::new().upstream("idle: 300ms"), |_| Plan::settle(Act::HeadOnly));
    let mut agent = till.ask("/x");
    assert_eq!(agent.head().unwrap().status(), 200);
    hang_up(agent);
    till.states(&["lost"]);
    assert_eq!((till.get("/x").reason().as_str(), till.chain.count()), ("paid_not_delivered", 1));
}

#[test]
fn a_redirect_after_payment_is_never_followed_with_the_payment() {
    for status in [301, 302, 303, 307, 308] {
        let thief = Seller::http(|call| call.reply(200, "", "stolen"));
        let to = thief.url("/");
        let till = Till::new(Setup::new(), move |_| Plan::settle(Act::Answer(status, format!("Location: {to}\r\n"), Vec::new())));
        let got = till.get("/x");
        assert_eq!((got.status, got.head.get("location")), (status, Some(thief.url("/").as_str())));
        assert_eq!((thief.connections(), till.chain.count()), (0, 1));
        // The agent goes there by itself; no payment goes with it.
        assert_eq!(till.program.get(&thief.url("/")).status, 200);
        assert_eq!((thief.count(), thief.paid().len()), (1, 0));
        till.spent(CENT);
    }
}

#[test]
fn a_redirect_before_payment_is_the_agents_business() {
    let thief = Seller::http(|call| call.reply(200, "", "stolen"));
    let to = thief.url("/");
    let seller = Seller::http(move |call| call.reply(307, &format!("Location: {to}\r\nPAYMENT-REQUIRED: e30=\r\n"), ""));
    let program = Program::start(Setup::new());
    assert_eq!(program.get(&seller.url("/x")).status, 307);
    assert_eq!((thief.connections(), rows(&program).len()), (0, 0));
}

#[test]
fn m1_3_a_receipt_never_changes_what_is_spent() {
    let raw = |json: Value| Receipt::Raw(STANDARD.encode(json.to_string()));
    let failure = || raw(json!({ "success": false, "errorReason": "insufficient_funds", "transaction": "" }));
    let refund = || raw(json!({ "success": true, "transaction": "0x00", "amount": "-10000", "refunded": true }));
    let (ok, bad) = (|| Act::Answer(200, String::new(), b"sold".to_vec()), || Act::Answer(500, String::new(), Vec::new()));
    let cases: Vec<(&str, Plan, &str)> = vec![
        ("true", Plan::settle(ok()), "settled"),
        ("missing", Plan::settle(ok()).receipt(Receipt::None), "settled"),
        ("forged: nothing moved", Plan::keep(ok()).receipt(Receipt::Forged), "settled"),
        ("failure beside 200", Plan::settle(ok()).receipt(failure()), "open"),
        ("refund", Plan::settle(ok()).receipt(refund()), "settled"),
        ("not base64", Plan::settle(ok()).receipt(Receipt::Raw("%%%".into())), "settled"),
        ("not JSON", Plan::settle(ok()).receipt(Receipt::Raw(STANDARD.encode("yes"))), "settled"),
        ("duplicate keys", Plan::settle(ok()).receipt(Receipt::Raw(STANDARD.encode("{\"success\":true,\"success\":false}"))), "settled"),
        ("twice", Plan::settle(Act::Answer(200, "PAYMENT-RESPONSE: e30=\r\n".into(), Vec::new())), "settled"),
        ("500 that claims success", Plan::keep(bad()).receipt(Receipt::Forged), "lost"),
        ("500 that claims failure", Plan::settle(bad()).receipt(failure()), "open"),
        ("402 that claims failure", Plan::settle(Act::Challenge(Terms::v2(payee(), CENT))).receipt(failure()), "open"),
    ];
    let count = cases.len() as u64;
    let plans: Vec<Plan> = cases.iter().map(|c| c.1.clone()).collect();
    let till = Till::new(Setup::new(), move |visit| plans[visit.head.target()[1..].parse::<usize>().unwrap()].clone());
    let mut states = Vec::new();
    for (n, (what, plan, state)) in cases.iter().enumerate() {
        let got = till.get(&format!("/{n}"));
        let status = match plan.act {
            Act::Answer(status, ..) => status,
            _ => 402,
        };
        assert_eq!(got.status, status, "{what}");
        states.push(*state);
        till.spent(CENT * (n as u64 + 1));
    }
    till.states(&states);
    till.spent(CENT * count);
    let shown = till.program.ledger().to_string();
    assert!(!shown.contains("insufficient_funds") && !shown.contains("refund"), "a claim is not printed");
}

// --- S19 ---

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
