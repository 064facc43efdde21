//! The three ways a payee or a limit is proven: a signed offer, a probe, a grant.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::{Value, json};

use super::*;
use crate::cosigner::grant::{self, Grant, SignedGrant};
use crate::cosigner::offer::{self, OfferError};
use crate::cosigner::probe::process::{self, Fetch, Fetched};
use crate::cosigner::probe::{Answer, MAX_ANSWER};
use crate::net::BoxFuture;
use crate::payment::OfferKey;
use crate::policy::Host;
use crate::wire::identity::Identity;

/// Made by the reference library: tests/fixtures/ORIGIN.md.
fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/x402-signed-offers.json")).unwrap()
}

fn pinned(name: &str) -> OfferKey {
    let all = vectors();
    let key = &all["keys"][name];
    key.as_str().or(key["did"].as_str()).unwrap().parse().unwrap()
}

fn vector(name: &str) -> Value {
    vectors()["offers"].as_array().unwrap().iter().find(|o| o["name"] == name).unwrap()["offer"].clone()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(NOW + seconds)
}

#[test]
fn every_offer_of_the_reference_library_verifies_under_its_key_and_no_other() {
    let all = vectors();
    let offers = all["offers"].as_array().unwrap();
    assert_eq!(offers.len(), 8);
    for one in offers {
        let (name, text) = (one["name"].as_str().unwrap(), one["offer"].to_string());
        for key in ["eip712", "es256", "es256k"] {
            let answer = offer::verify(&text, &[pinned(key)], at(0));
            match (one["key"] == key, name) {
                (true, "eip712 upto") => assert_eq!(answer.unwrap_err(), OfferError::Terms, "{name}"),
                (true, _) => {
                    let terms = answer.unwrap();
                    assert_eq!(terms.get().host, Host::parse("api.example.com").unwrap(), "{name}");
                    assert_eq!(terms.get().amount, U256::from(if name == "eip712 dearer" { 10_001 } else { 10_000 }), "{name}");
                }
                (false, _) => assert_eq!(answer.unwrap_err(), OfferError::Signature, "{name} under {key}"),
            }
        }
        let both = [pinned("es256"), pinned("es256k"), pinned("eip712")];
        assert_eq!(offer::verify(&text, &both, at(0)).is_ok(), name != "eip712 upto", "one of several pinned keys is enough");
        assert_eq!(offer::verify(&text, &[], at(0)).unwrap_err(), OfferError::Signature, "no key, no proof");
        if name != "eip712 upto" {
            assert!(offer::verify(&text, &both, at(300)).is_ok(), "valid until its last second");
            assert_eq!(offer::verify(&text, &both, at(301)).unwrap_err(), OfferError::Ended, "{name}");
        }
    }
}

#[test]
fn a_changed_offer_is_no_offer() {
    let keys = [pinned("eip712"), pinned("es256"), pinned("es256k")];
    for (field, value) in [
        ("amount", json!("1")),
        ("payTo", json!("0x000000000000000000000000000000000000dEaD")),
        ("network", json!("eip155:1")),
        ("asset", json!("0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359")),
        ("resourceUrl", json!("https://evil.example/")),
        ("validUntil", json!(9_999_999_999_u64)),
        ("scheme", json!("upto")),
    ] {
        let mut changed = vector("eip712");
        changed["payload"][field] = value;
        assert_eq!(offer::verify(&changed.to_string(), &keys, at(0)).unwrap_err(), OfferError::Signature, "{field}");
    }
    for name in ["es256", "es256k"] {
        let good = vector(name)["signature"].as_str().unwrap().to_owned();
        let parts: Vec<&str> = good.split('.').collect();
        let other = vector(if name == "es256" { "es256k" } else { "es256" })["signature"].as_str().unwrap().to_owned();
        let other: Vec<&str> = other.split('.').collect();
        let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"x"}"#);
        for bad in [
            format!("{}.{}.{}", parts[0], parts[1], other[2]),
            format!("{}.{}.{}", other[0], parts[1], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{good}="),
        ] {
            let text = json!({ "format": "jws", "signature": bad }).to_string();
            assert!(offer::verify(&text, &keys, at(0)).is_err(), "{bad}");
        }
    }
    for text in ["", "{}", "[]", r#"{"format":"jws","signature":""}"#, r#"{"format":"eip712","signature":"0x"}"#, &" ".repeat(9000)] {
        assert_eq!(offer::verify(text, &keys, at(0)).unwrap_err(), OfferError::Malformed, "{text:.40}");
    }
}

const OFFERED: &str = "version: 1
agents:
  bot:
    caps: { per_payment: 0.5, day: 1 }
    allow:
      - { id: signed, host: api.example.com, networks: ['eip155:8453'], offer_key: ['KEY'] }
";

/// What the vectors offer: 10,000 to 0x2096….
fn offered(name: &str) -> Intent {
    let text = vector(name).to_string();
    but(intent(1, 10_000), |i| {
        i.to = alloy_primitives::address!("209693Bc6afc0C5328bA36FaF03C514EF312287C").into();
        i.claims.host = "api.example.com".into();
        i.offer = Some(text);
    })
}

#[tokio::test]
async fn a_signed_offer_proves_exactly_its_own_terms() {
    for key in ["eip712", "es256", "es256k"] {
        let all = vectors();
        let text = all["keys"][key].as_str().or(all["keys"][key]["did"].as_str()).unwrap();
        let court = Court::new(&OFFERED.replace("KEY", text));
        assert_eq!(court.reason(&offered(key)).await, "permit", "{key}");
    }
    let court = Court::new(&OFFERED.replace("KEY", vectors()["keys"]["eip712"].as_str().unwrap()));
    let less = but(offered("eip712"), |i| i.value = U256::from(9_999).to_be_bytes());
    for (what, asked, reason) in [
        ("without the offer", but(offered("eip712"), |i| i.offer = None), "unverified_payee"),
        ("another key's", offered("es256"), "offer_invalid"),
        ("another amount than offered", less, "offer_invalid"),
        ("another payee's", offered("eip712 other payee"), "offer_invalid"),
        ("another chain's", offered("eip712 polygon"), "offer_invalid"),
        ("another token's", offered("eip712 other asset"), "offer_invalid"),
        ("dearer", offered("eip712 dearer"), "offer_invalid"),
        ("another scheme's", offered("eip712 upto"), "offer_invalid"),
    ] {
        assert_eq!(court.reason(&asked).await, reason, "{what}");
    }
    let other_host =
        Court::new(&OFFERED.replace("KEY", vectors()["keys"]["eip712"].as_str().unwrap()).replace("api.example.com", "shop.example"));
    let elsewhere = but(offered("eip712"), |i| i.claims.host = "shop.example".into());
    assert_eq!(other_host.reason(&elsewhere).await, "offer_invalid", "signed for a resource that the entry does not name");
}

/// A seller on this machine, asked over HTTP by hand: the real fetch has its own tests where it lives.
struct Loopback;

impl Fetch for Loopback {
    fn get(&self, url: Uri) -> BoxFuture<Result<Fetched, String>> {
        Box::pin(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let authority = url.authority().ok_or("no authority")?.as_str().to_owned();
            let mut stream = tokio::net::TcpStream::connect(&authority).await.map_err(|e| e.to_string())?;
            let request = format!("GET {} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n", url.path());
            stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.map_err(|e| e.to_string())?;
            let text = String::from_utf8(answer).map_err(|e| e.to_string())?;
            let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
            let mut lines = head.lines();
            let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).ok_or("no status")?;
            let mut headers = HeaderMap::new();
            for (name, value) in lines.filter_map(|l| l.split_once(": ")) {
                headers.append(
                    name.parse::<http::HeaderName>().map_err(|e| e.to_string())?,
                    HeaderValue::try_from(value).map_err(|e| e.to_string())?,
                );
            }
            Ok(Fetched { status, headers, body: body.to_owned().into() })
        })
    }
}

/// A seller that asks 10,000 for 0x2222…; counts how often it was asked.
async fn seller(asked: Arc<AtomicU32>) -> std::net::SocketAddr {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            let mut lines = BufReader::new(&mut stream).lines();
            let first = lines.next_line().await.unwrap().unwrap();
            while lines.next_line().await.unwrap().is_some_and(|l| !l.is_empty()) {}
            let accepts = json!([{ "scheme": "exact", "network": "eip155:8453", "amount": "10000", "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
                "payTo": "0x2222222222222222222222222222222222222222", "maxTimeoutSeconds": 60, "extra": { "name": "USD Coin", "version": "2" } }]);
            let challenge = json!({ "x402Version": 2, "resource": { "url": "https://api.example/x" }, "accepts": accepts });
            let answer = if first.starts_with("GET /sold ") {
                format!(
                    "HTTP/1.1 402 Payment Required\r\npayment-required: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    STANDARD.encode(challenge.to_string())
                )
            } else if first.starts_with("GET /moved ") {
                "HTTP/1.1 302 Found\r\nlocation: /sold\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

const PROBED: &str = "version: 1
agents:
  bot:
    caps: { per_payment: 0.5, day: 1 }
    allow:
      - { id: probed, host: 127.0.0.1, networks: ['eip155:8453'], probe: true }
";

#[tokio::test]
async fn a_probe_proves_what_the_seller_itself_asks_for_and_nothing_else() {
    let asked = Arc::new(AtomicU32::new(0));
    let seller = seller(asked.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("probe.sock");
    let listener = process::bind(&socket).await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions()) & 0o777;
    assert_eq!(mode, 0o600);
    assert!(process::bind(&socket).await.is_err(), "a socket that answers is another process's");
    let server = tokio::spawn(process::serve(listener, Arc::new(Loopback), std::future::pending::<()>()));
    let court = Court::with(PROBED, Origin::Distributed, Some(Probe::new(socket.clone())));
    let buy = |n: u8, micro: u64, to: u8, url: String| {
        but(intent(n, micro), |i| {
            i.to = [to; 20];
            i.claims.host = "127.0.0.1".into();
            i.claims.url = Some(url);
        })
    };
    let url = |path: &str| format!("http://{seller}{path}");
    for (what, intent, reason) in [
        ("its own price and payee", buy(1, 10_000, 0x22, url("/sold")), "permit"),
        ("cheaper than it asks", buy(2, 9_999, 0x22, url("/sold")), "probe_differs"),
        ("somebody else", buy(3, 10_000, 0x33, url("/sold")), "probe_differs"),
        ("a page that costs nothing", buy(4, 10_000, 0x22, url("/free")), "probe_differs"),
        ("a redirect is not followed", buy(5, 10_000, 0x22, url("/moved")), "probe_differs"),
        ("a host the entry does not name", buy(6, 10_000, 0x22, format!("http://localhost:{}/sold", seller.port())), "unverified_payee"),
        ("user information", buy(7, 10_000, 0x22, format!("http://127.0.0.1@{seller}/sold")), "unverified_payee"),
        ("no address", but(buy(8, 10_000, 0x22, String::new()), |i| i.claims.url = None), "unverified_payee"),
        ("no web address", buy(9, 10_000, 0x22, "file:///etc/passwd".into()), "unverified_payee"),
    ] {
        assert_eq!(court.reason(&intent).await, reason, "{what}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3, "one GET per page: an answer is kept for a minute");
    server.abort();
    let _ = server.await;
    let down = Court::with(PROBED, Origin::Distributed, Some(Probe::new(socket)));
    assert_eq!(down.reason(&buy(1, 10_000, 0x22, url("/sold"))).await, "probe_differs", "without the process nothing is proven");
    let none = Court::new(PROBED);
    assert_eq!(none.reason(&buy(1, 10_000, 0x22, url("/sold"))).await, "unverified_payee");
}

#[tokio::test]
async fn the_probe_process_answers_anything_but_a_question_with_silence_and_a_long_body_with_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    struct Long;
    impl Fetch for Long {
        fn get(&self, _: Uri) -> BoxFuture<Result<Fetched, String>> {
            Box::pin(async { Ok(Fetched { status: 402, headers: HeaderMap::new(), body: vec![b'x'; MAX_ANSWER + 1].into() }) })
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("probe.sock");
    let listener = process::bind(&socket).await.unwrap();
    let server = tokio::spawn(process::serve(listener, Arc::new(Long), std::future::pending::<()>()));
    for (line, silent) in [
        ("nonsense\n", true),
        ("{\"url\":\"https://a.example/\",\"method\":\"POST\"}\n", true),
        ("{\"url\":\"https://a.example/\"}\n", false),
        ("{\"url\":\"ftp://a.example/\"}\n", false),
        ("{\"url\":\"https://user@a.example/\"}\n", false),
    ] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let answer: Option<Answer> = serde_json::from_str(&text).ok();
        assert_eq!(answer, (!silent).then(Answer::none), "{line}");
    }
    server.abort();
}

const GRANTED: &str = "version: 1
caps: { payee: { day: 1 } }
live: 2
agents:
  bot:
    caps: { per_payment: 0.1, day: 0.2 }
    allow: [ { id: listed, host: api.example, networks: ['eip155:8453'], pay_to: ['0x1111111111111111111111111111111111111111'] } ]
approvers:
  finance: { keys: ['KEY'], may_exceed: [caps.per_payment, caps.day] }
";

fn granted(approver: &Identity, intent: &Intent, change: impl FnOnce(&mut Grant)) -> Intent {
    let mut grant = Grant {
        version: 1,
        ticket: [intent.purchase[0]; 16],
        purchase: intent.purchase,
        agent: intent.agent.clone(),
        chain: intent.chain,
        token: intent.token,
        from: intent.from,
        to: intent.to,
        value: intent.value,
        exceeds: vec!["caps.per_payment".into()],
        expires: u64::try_from(NOW).unwrap() + 60,
    };
    change(&mut grant);
    let bytes = postcard::to_stdvec(&grant).unwrap();
    let signature = approver.sign(grant::CONTEXT, &bytes);
    let signed = SignedGrant { bytes, signer: approver.public().spki().to_vec(), signature };
    Intent { grant: Some(postcard::to_stdvec(&signed).unwrap()), ..intent.clone() }
}

#[tokio::test]
async fn a_grant_is_for_one_payment_until_it_ends_and_lifts_what_its_approver_may() {
    let (approver, stranger) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let court = Court::new(&GRANTED.replace("KEY", &STANDARD.encode(approver.public().spki())));
    let dear = intent(1, 150_000);
    assert_eq!(court.reason(&dear).await, "cap_per_payment");
    type Change = fn(&mut Grant);
    let wrong: [(&str, Change); 10] = [
        ("another version", |g| g.version = 2),
        ("another purchase", |g| g.purchase = [9; 16]),
        ("another agent", |g| g.agent = "other".into()),
        ("another chain", |g| g.chain = 137),
        ("another token", |g| g.token = [9; 20]),
        ("another wallet", |g| g.from = [9; 20]),
        ("another payee", |g| g.to = [9; 20]),
        ("another amount", |g| g.value[0] = 1),
        ("ended", |g| g.expires = u64::try_from(NOW).unwrap()),
        ("a limit of others", |g| g.exceeds.push("caps.payee.day".into())),
    ];
    for (what, change) in wrong {
        assert_eq!(court.reason(&granted(&approver, &dear, change)).await, "grant_invalid", "{what}");
    }
    assert_eq!(court.reason(&granted(&stranger, &dear, |_| ())).await, "grant_invalid", "a stranger's");
    let mut torn = granted(&approver, &dear, |_| ());
    torn.grant.as_mut().unwrap().push(0);
    assert_eq!(court.reason(&torn).await, "grant_invalid", "bytes left over");
    assert_eq!(court.held(), 0);

    assert_eq!(court.reason(&granted(&approver, &dear, |_| ())).await, "permit");
    let second = granted(&approver, &intent(2, 150_000), |g| g.exceeds.push("caps.day".into()));
    assert_eq!(court.reason(&second).await, "permit", "also above the day's cap");
    let used =
        granted(&approver, &intent(3, 150_000), |g| (g.ticket, g.exceeds) = ([1; 16], vec!["caps.per_payment".into(), "caps.day".into()]));
    assert_eq!(court.reason(&used).await, "grant_invalid", "its ticket belongs to another purchase");
    let court = court.restart(&GRANTED.replace("KEY", &STANDARD.encode(approver.public().spki())));
    assert_eq!(court.reason(&used).await, "grant_invalid", "also after a restart");
    assert_eq!(court.held(), 300_000);
}

#[tokio::test]
async fn s5_a_quorum_counts_different_keys_of_one_group_about_one_payment() {
    let people: Vec<Identity> = (0..3).map(|_| Identity::generate().unwrap()).collect();
    let key = |n: usize| STANDARD.encode(people[n].public().spki());
    let keys = format!("'{}', '{}'", key(0), key(1));
    let text = GRANTED.replace("'KEY'", &keys).replace("keys:", "quorum: 2, keys:");
    let text = format!("{text}  board: {{ keys: ['{}'], may_exceed: [caps.day] }}\n", key(2));
    let court = Court::new(&text);
    let together = |n: u8, signers: &[usize]| {
        let dear = intent(n, 150_000);
        let all = signers.iter().flat_map(|who| granted(&people[*who], &dear, |_| ()).grant.unwrap()).collect();
        Intent { grant: Some(all), ..dear }
    };
    for (signers, expected) in [
        (&[0][..], "grant_invalid"),
        (&[0, 0], "grant_invalid"),
        (&[2], "grant_invalid"),
        // Somebody whose grant counts for nothing is not in the way of the others.
        (&[0, 2], "grant_invalid"),
        (&[2, 1, 0], "permit"),
    ] {
        assert_eq!(court.reason(&together(1, signers)).await, expected, "{signers:?}");
    }
    let dear = intent(2, 150_000);
    let (one, two) = (granted(&people[0], &dear, |_| ()), granted(&people[1], &dear, |g| g.ticket = [7; 16]));
    let both = [one.grant.unwrap(), two.grant.unwrap()].concat();
    assert_eq!(court.reason(&Intent { grant: Some(both), ..dear }).await, "grant_invalid", "two tickets");
    let (one, two) = (together(3, &[0]), granted(&people[1], &intent(4, 150_000), |_| ()));
    let both = [one.grant.clone().unwrap(), two.grant.unwrap()].concat();
    assert_eq!(court.reason(&Intent { grant: Some(both), ..one }).await, "grant_invalid", "two payments");
    assert_eq!(court.held(), 150_000);
}
