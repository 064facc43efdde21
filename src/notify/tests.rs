//! A receiver that really listens, and a check of the signature that shares no code with the sender.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::*;
use crate::net::{self, Handler};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn notice() -> Notice {
    Notice {
        id: "msg_1".into(),
        kind: "approval.required",
        at: "2026-12-01T00:00:00Z".into(),
        headline: "research-bot asks to pay 2.00 USD".into(),
        facts: vec![("host", "api.example".into()), ("amount", "2.00 USD".into())],
        data: json!({ "ticket": "t-1", "host": "api.example" }),
        link: Some("https://ops.example/approve/abc".into()),
    }
}

/// RFC 2104 written out.
fn hmac_by_hand(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

type Seen = Arc<Mutex<Vec<Request<Bytes>>>>;

/// A receiver that gives these answers in turn, and 200 after them.
async fn receiver(answers: Vec<Response<Bytes>>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (seen, answers) = (Seen::default(), Mutex::new(VecDeque::from(answers)));
    let requests = seen.clone();
    let handler: Handler = Arc::new(move |request| {
        let answer = answers.lock().unwrap().pop_front().unwrap_or_default();
        requests.lock().unwrap().push(request);
        Box::pin(std::future::ready(answer))
    });
    tokio::spawn(net::serve(listener, handler, std::future::pending::<()>()));
    (url, seen)
}

fn status(code: u16) -> Response<Bytes> {
    Response::builder().status(code).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_receiver_can_check_by_hand_who_sent_it_and_when() {
    let (url, seen) = receiver(Vec::new()).await;
    let old = "an-older-secret-of-some-length";
    let fetcher = Fetcher::new(&[], |_| true).unwrap();
    Webhook::new(&url, &format!("{old} {SECRET}")).unwrap().send(&fetcher, &notice(), 1_700_000_000).await.unwrap();
    let requests = seen.lock().unwrap();
    let header = |name: &str| requests[0].headers()[name].to_str().unwrap();
    assert_eq!((header("webhook-id"), header("webhook-timestamp"), header("content-type")), ("msg_1", "1700000000", "application/json"));
    let message = [b"msg_1.1700000000.", &requests[0].body()[..]].concat();
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let by_hand = |key: &[u8]| format!("v1,{}", STANDARD.encode(hmac_by_hand(key, &message)));
    assert_eq!(header("webhook-signature"), format!("{} {}", by_hand(old.as_bytes()), by_hand(&key)));
}

#[test]
fn the_signature_is_that_of_the_standards_own_example() {
    // standardwebhooks.com, libraries/go: the vector of its test for `Sign`.
    let hook = Webhook::new("https://hooks.example/", SECRET).unwrap();
    let signature = hook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_is_refused_is_not() {
    let slow = Response::builder().status(429).header("retry-after", "7").body(Bytes::new()).unwrap();
    let endless = Response::builder().status(503).header("retry-after", "999999").body(Bytes::new()).unwrap();
    let answers = vec![status(500), slow, endless, status(408), status(302), status(404), status(410), status(204)];
    let (url, seen) = receiver(answers).await;
    let (hook, fetcher) = (Webhook::new(&url, SECRET).unwrap(), Fetcher::new(&[], |_| true).unwrap());
    for again in [Some(Some(0)), Some(Some(7)), Some(Some(300)), Some(Some(0)), Some(None), Some(None), Some(None), None] {
        let found = hook.send(&fetcher, &notice(), 1).await.err().map(|e| e.again.map(|after| after.as_secs()));
        assert_eq!(found, again);
    }
    assert_eq!(seen.lock().unwrap().len(), 8, "no redirect was followed");
    let guarded = Fetcher::new(&[], |_| false).unwrap();
    assert!(hook.send(&guarded, &notice(), 1).await.unwrap_err().again.is_some(), "an address that is not permitted");
    assert_eq!(seen.lock().unwrap().len(), 8);
}

#[test]
fn only_https_or_this_machine_and_only_keys_that_cannot_be_guessed() {
    for (url, good) in [
        ("https://hooks.example/x", true),
        ("http://127.0.0.1:9/x", true),
        ("http://[::1]:9/x", true),
        ("http://localhost/x", true),
        ("http://hooks.example/x", false),
        ("http://10.0.0.1/x", false),
        ("http://localhost.evil.example/x", false),
        ("ftp://127.0.0.1/x", false),
        ("/x", false),
        ("", false),
    ] {
        assert_eq!(Webhook::new(url, SECRET).is_ok(), good, "{url}");
    }
    for secret in ["", " ", "short", "whsec_", "whsec_!", "whsec_c2hvcnQ=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw short"] {
        assert!(Webhook::new("https://hooks.example/", secret).is_err(), "{secret}");
    }
    let shown = format!("{:?}", Webhook::new("https://hooks.example/services/T0/SECRETPATH", SECRET).unwrap());
    assert!(!shown.contains("SECRETPATH") && !shown.contains("MfKQ"), "{shown}");
}

#[test]
fn s19_the_body_is_what_slack_takes_and_nothing_in_it_mentions_links_or_hides() {
    let evil = "<!channel> <https://evil.example|ok> \u{202e}*x*\u{1b}[31m & more";
    let told = Notice {
        headline: evil.into(),
        facts: vec![("host", evil.into())],
        data: json!({ "host": evil, "asks": [{ "rule": evil }], "n": 1 }),
        ..notice()
    };
    let body = body(&told);
    let text = body.to_string();
    assert!(!text.contains("\\u202e") && !text.contains('\u{202e}') && !text.contains("\\u001b"), "{text}");
    let shown = "&lt;!channel&gt; &lt;https://evil.example|ok&gt; *x*[31m &amp; more";
    assert_eq!((body["text"].as_str(), &body["mrkdwn"]), (Some(shown), &json!(false)));
    assert_eq!(body["blocks"][1]["text"]["text"], format!("host: {shown}"));
    assert!(body["blocks"].as_array().unwrap().iter().all(|b| b["text"]["type"] == "plain_text" || b["type"] == "actions"), "{body}");
    assert_eq!(body["blocks"][2]["elements"][0]["url"], "https://ops.example/approve/abc");
    assert_eq!((&body["type"], &body["data"]["link"]), (&json!("approval.required"), &json!("https://ops.example/approve/abc")));
}
