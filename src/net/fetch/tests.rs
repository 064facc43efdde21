#![allow(clippy::unwrap_used)]
use std::sync::Mutex;

use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::net::tls::provider;

/// Reads one request of known length, writes `reply`, and answers with what it read.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Vec<u8>) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                // A client that has read enough closes first.
                let _ = stream.write_all(&reply).await;
                let _ = stream.shutdown().await;
                return text;
            }
        }
        if stream.read_buf(&mut read).await.unwrap() == 0 {
            return text;
        }
    }
}

async fn script(reply: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, reply) = (listener.local_addr().unwrap(), reply.into());
    (addr, tokio::spawn(async move { talk(listener.accept().await.unwrap().0, reply).await }))
}

fn anywhere() -> Fetcher {
    Fetcher::new(&[], |_| true).unwrap()
}

fn url(addr: SocketAddr, rest: &str) -> Uri {
    format!("http://{addr}{rest}").parse().unwrap()
}

#[tokio::test]
async fn a_post_brings_back_status_headers_and_body_as_they_are() {
    let (addr, server) =
        script("HTTP/1.1 402 Payment Required\r\nx-terms: yes\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope").await;
    let mut fetch = Fetch::json(url(addr, "/rpc/KEY?x=1"), r#"{"id":1}"#);
    fetch.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
    fetch.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let answer = anywhere().fetch(fetch).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-terms"], &answer.body()[..]),
        (402, &HeaderValue::from_static("yes"), &b"nope"[..])
    );
    let seen = server.await.unwrap();
    assert!(seen.starts_with("POST /rpc/KEY?x=1 HTTP/1.1\r\n") && seen.ends_with("\r\n\r\n{\"id\":1}"), "{seen}");
    for line in
        [&format!("host: {addr}"), "accept-encoding: identity", "content-type: application/json", "content-length: 8", "connection: close"]
    {
        assert!(seen.lines().any(|l| l == line), "{line} in {seen}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = other.local_addr().unwrap();
    let (addr, _server) = script(format!("HTTP/1.1 302 Found\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n")).await;
    let answer = anywhere().fetch(Fetch::get(url(addr, "/"))).await.unwrap();
    assert_eq!(answer.status().as_u16(), 302);
    let nobody = std::future::poll_fn(|cx| std::task::Poll::Ready(other.poll_accept(cx).is_pending())).await;
    assert!(nobody);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let body = "a".repeat(MAX_BODY);
    for (head, extra, fits) in [
        (format!("content-length: {MAX_BODY}\r\n"), "", true),
        (format!("content-length: {}\r\n", MAX_BODY + 1), "b", false),
        (String::new(), "", true),
        (String::new(), "b", false),
    ] {
        let (addr, _server) = script(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}{extra}")).await;
        let answer = anywhere().fetch(Fetch::get(url(addr, "/"))).await;
        match answer {
            Ok(answer) => assert!(fits && answer.body().len() == MAX_BODY),
            Err(error) => assert!(!fits && matches!(error, FetchError::TooLong), "{error}"),
        }
    }
    let (addr, _server) = script(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(2 * MAX_BODY))).await;
    assert!(matches!(anywhere().fetch(Fetch::get(url(addr, "/"))).await, Err(FetchError::Broken(_))));
}

#[tokio::test]
async fn what_is_cut_short_slow_or_not_http_is_no_answer() {
    for reply in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
        let (addr, _server) = script(reply).await;
        assert!(matches!(anywhere().fetch(Fetch::get(url(addr, "/"))).await, Err(FetchError::Broken(_))), "{reply}");
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let brief = anywhere().bounded(MAX_BODY, Duration::from_millis(50));
    assert!(matches!(brief.fetch(Fetch::get(url(silent.local_addr().unwrap(), "/"))).await, Err(FetchError::Timeout)));
    let addr = silent.local_addr().unwrap();
    drop(silent);
    assert!(matches!(anywhere().fetch(Fetch::get(url(addr, "/"))).await, Err(FetchError::Connect(_))));
}

#[tokio::test]
async fn only_permitted_addresses_are_dialled_also_behind_a_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let note = asked.clone();
    let fetcher = Fetcher::new(&[], move |ip| {
        note.lock().unwrap().push(ip);
        crate::net::address::permits(ip, false)
    })
    .unwrap();
    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "169.254.169.254", "[::1]"] {
        let answer = fetcher.fetch(Fetch::get(format!("http://{host}:{port}/").parse().unwrap())).await;
        assert!(matches!(answer, Err(FetchError::Forbidden)), "{host}");
    }
    assert!(asked.lock().unwrap().len() >= 5);
    let nobody = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_pending())).await;
    assert!(nobody);
}

#[tokio::test]
async fn only_absolute_web_urls_without_user_information_are_asked() {
    for bad in ["/path", "ftp://a.example/", "http://user:word@a.example/", "a.example:80", "*"] {
        let answer = anywhere().fetch(Fetch::get(bad.parse().unwrap())).await;
        assert!(matches!(answer, Err(FetchError::Url)), "{bad}");
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_fit_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&root, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                talk(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
            }
        }
    });
    let ask = |fetcher: Fetcher, host: &str| {
        let fetch = Fetch::get(format!("https://{host}:{port}/").parse().unwrap());
        async move { fetcher.fetch(fetch).await }
    };
    let trusting = Fetcher::new(std::slice::from_ref(&root), |ip| ip.is_ipv4()).unwrap();
    assert_eq!(ask(trusting.clone(), "127.0.0.1").await.unwrap().body(), "ok");
    assert!(matches!(ask(trusting, "localhost").await, Err(FetchError::Tls(_))));
    assert!(matches!(ask(anywhere(), "127.0.0.1").await, Err(FetchError::Tls(_))));
    assert!(Fetcher::new(&[folder.path().join("none.pem")], |_| true).is_err());
}

#[test]
fn neither_a_fetch_nor_its_errors_show_what_is_behind_the_host() {
    let fetch = Fetch::json("https://rpc.example/v2/SECRET?key=SECRET".parse().unwrap(), "SECRET");
    assert_eq!(format!("{fetch:?}"), "Fetch { method: POST, host: Some(\"rpc.example\"), .. }");
}
