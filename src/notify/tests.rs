//! A receiver that really listens, and a check of the signature that shares no code with the sender.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::net::{self, Handler};

const SECRET: &str = "whsec_test";

fn notice(ticket: &str) -> Notice {
    Notice {
        kind: "approval_required",
        ticket: ticket.into(),
        headline: "research-bot asks to pay 2.00 USD".into(),
        facts: vec![("host", "api.example".into()), ("amount_usd", "2.00".into())],
        link: Some("https://ops.example/approve/abc".into()),
    }
}

/// RFC 2104 written out.
fn hmac_by_hand(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    alloy_primitives::hex::encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

struct Seen {
    requests: Mutex<Vec<Request<Bytes>>>,
    answers: Mutex<VecDeque<u16>>,
}

/// A receiver that gives these answers in turn, and 200 after them.
async fn receiver(answers: &[u16]) -> (Uri, Arc<Seen>, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(Seen { requests: Mutex::default(), answers: Mutex::new(answers.iter().copied().collect()) });
    let (stop, stopped) = oneshot::channel::<()>();
    let shared = seen.clone();
    let handler: Handler = Arc::new(move |request| {
        let status = shared.answers.lock().unwrap().pop_front().unwrap_or(200);
        shared.requests.lock().unwrap().push(request);
        Box::pin(std::future::ready(Response::builder().status(status).body(Bytes::new()).unwrap()))
    });
    tokio::spawn(net::serve(listener, handler, stopped));
    (url, seen, stop)
}

/// Sends one notice and waits until the task has done its work. How many failed.
async fn send(url: Uri, deadline: Duration) -> usize {
    let webhook = Webhook { url, secret: SECRET.into(), pause: Duration::from_millis(1), deadline };
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = failures.clone();
    let failed: Failed = Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let (notifier, work) = Notifier::new(webhook, Fetcher::new(&[], |_| true).unwrap(), failed);
    notifier.send(notice("t-1"));
    drop(notifier);
    work.await;
    failures.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_receiver_that_fails_first_gets_one_delivery_in_effect_and_can_check_it_by_hand() {
    let (url, seen, _stop) = receiver(&[500, 503, 429]).await;
    assert_eq!(send(url, Duration::from_secs(20)).await, 0);
    let requests = seen.requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    let ids: std::collections::BTreeSet<_> = requests.iter().map(|r| r.headers()["tollpass-delivery"].to_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "one delivery, however often it is sent");
    for request in requests.iter() {
        let header = request.headers()["tollpass-signature"].to_str().unwrap();
        let at = header.strip_prefix("t=").unwrap().split(',').next().unwrap();
        let message = [at.as_bytes(), b".", request.body()].concat();
        assert_eq!(header, format!("t={at},v1={}", hmac_by_hand(SECRET.as_bytes(), &message)));
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["id"].as_str(), ids.first().copied());
        assert!(body["text"].is_string() && body["blocks"].is_array() && body["ticket"] == "t-1", "{body}");
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_a_refusal_is_not_repeated() {
    for (answers, sent) in [(vec![500; 9], 5), (vec![403], 1), (vec![302], 1), (vec![410], 1)] {
        let (url, seen, _stop) = receiver(&answers).await;
        assert_eq!(send(url, Duration::from_secs(20)).await, 1, "{answers:?}");
        assert_eq!(seen.requests.lock().unwrap().len(), sent, "{answers:?}");
    }
    let (url, seen, stop) = receiver(&[]).await;
    drop(stop);
    let _ = seen;
    assert_eq!(send(url, Duration::ZERO).await, 1, "past its deadline it is given up");
}

#[test]
fn forged_altered_and_old_deliveries_are_refused_by_the_recipe() {
    let (body, at) = (b"{\"a\":1}".as_slice(), 1_700_000_000);
    let good = sign(SECRET, at, body);
    for (header, body, now, accepted) in [
        (good.clone(), body, at, true),
        (good.clone(), body, at + 300, true),
        (good.clone(), body, at + 301, false),
        (good.clone(), body, at - 301, false),
        (good.clone(), b"{\"a\":2}", at, false),
        (good.replace("t=1700000000", "t=1700000200"), body, at + 200, false),
        (sign("other", at, body), body, at, false),
        (good[..good.len() - 2].to_owned(), body, at, false),
        (format!("t={at}"), body, at, false),
        (format!("t={at},v1="), body, at, false),
        (String::new(), body, at, false),
    ] {
        assert_eq!(verify(SECRET, &header, body, now), accepted, "{header} {now}");
    }
}

#[test]
fn s19_nothing_in_a_notice_mentions_links_or_hides() {
    for (text, shown) in [
        ("<!channel> pay", "&lt;!channel&gt; pay"),
        ("<https://evil.example|ok>", "&lt;https://evil.example|ok&gt;"),
        ("a\u{1b}[31mb\r\nc", "a[31mbc"),
        ("\u{202e}abc\u{200b}\u{feff}", "abc"),
        ("a & b", "a &amp; b"),
        ("research_bot", "research_bot"),
    ] {
        assert_eq!(slack(text), shown, "{text:?}");
    }
    assert_eq!(slack(&"x".repeat(500)).len(), 200);
}

#[test]
fn neither_key_nor_address_is_shown() {
    let url = "https://hooks.example/services/T0/SECRETPATH".parse().unwrap();
    let hook = Webhook { url, secret: "whsec_hidden".into(), pause: Duration::ZERO, deadline: Duration::ZERO };
    let shown = format!("{hook:?}");
    assert!(!shown.contains("hidden") && !shown.contains("SECRETPATH"), "{shown}");
}
