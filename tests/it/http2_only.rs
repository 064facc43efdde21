//! WebSocket with sellers that speak HTTP/2 only: extended CONNECT (RFC 8441), whatever the agent speaks, paid or not.

use std::net::SocketAddr;
use std::sync::Arc;

use alloy_primitives::Address;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::harness::{Agent2, Chain, Head, Message, Program, Setup, Terms, TestCa, eventually, get, present};

const PAYEE: Address = Address::repeat_byte(0x22);

/// A seller that greets on a WebSocket and echoes what it hears.
struct Echo {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Echo {
    /// `extended`: it says that it takes extended CONNECT.
    fn start(ca: &TestCa, extended: bool, price: Option<(Chain, Terms)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = (*ca.server(&["127.0.0.1"]).0).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, price) = (tls.clone(), price.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    if extended {
                        builder.enable_connect_protocol();
                    }
                    let service = hyper::service::service_fn(move |request| {
                        let answer = greet(request, price.as_ref());
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }
}

fn greet(request: Request<Incoming>, price: Option<&(Chain, Terms)>) -> Response<Message> {
    let protocol = request.extensions().get::<Protocol>().map(|p| p.as_str().to_owned());
    let headers = request.headers();
    let good = request.method() == Method::CONNECT
        && protocol.as_deref() == Some("websocket")
        && request.uri().path() == "/chat"
        && headers.get("sec-websocket-version").is_some_and(|v| v == "13")
        && ["sec-websocket-key", "upgrade", "connection", "host"].iter().all(|name| !headers.contains_key(*name));
    if !good {
        return Response::builder().status(StatusCode::BAD_REQUEST).body(Message::new(format!("{request:?}"))).unwrap();
    }
    if let Some((chain, terms)) = price {
        let text = |v: &http::HeaderValue| v.to_str().unwrap().to_owned();
        let head = Head { start: String::new(), headers: headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect() };
        match present(&head, terms) {
            Some(Ok(payment)) => chain.settle(payment.from, payment.to, payment.value, payment.nonce).unwrap(),
            _ => {
                let lines = terms.answer().0;
                let fields = lines.lines().filter_map(|line| line.split_once(": "));
                let answer = fields.fold(Response::builder().status(402), |answer, (name, value)| answer.header(name, value));
                return answer.body(Message::new("")).unwrap();
            }
        };
    }
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        stream.write_all(b"hello").await.unwrap();
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n @ 1..) = stream.read(&mut bytes).await {
            if stream.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
        let _ = stream.shutdown().await;
    });
    Response::builder().header("tollpass-x", "1").body(Message::new("")).unwrap()
}

/// The example of RFC 6455 §1.3.
const SWITCH: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn priced(paid: bool) -> (Chain, Option<(Chain, Terms)>) {
    let chain = Chain::new();
    (chain.clone(), paid.then(|| (chain, Terms::v2(PAYEE, 10_000))))
}

#[test]
fn an_upgrade_becomes_an_extended_connect_paid_or_not() {
    for paid in [false, true] {
        let (ca, (chain, price)) = (TestCa::new(), priced(paid));
        let seller = Echo::start(&ca, true, price);
        let program = Program::start(Setup::new().roots(&ca.pem));
        let mut agent = program.agent().connect(&seller.address.to_string(), "").tls("127.0.0.1", &program.ca());
        agent.send(format!("GET /chat HTTP/1.1\r\nHost: {}\r\n{SWITCH}\r\n", seller.address));
        let head = agent.head().unwrap();
        assert_eq!((head.status(), head.get("upgrade"), head.get("sec-websocket-accept")), (101, Some("websocket"), Some(ACCEPT)));
        assert!(!head.has("tollpass-x"), "s19");
        assert_eq!(agent.wire.exactly(5).unwrap(), b"hello");
        let long = vec![b'x'; 300_000];
        agent.send(&long);
        assert!(agent.wire.exactly(long.len()).unwrap() == long);
        drop(agent);
        assert_eq!(chain.count(), usize::from(paid));
        if paid {
            eventually("the purchase is consumed", || program.ledger()["purchases"][0]["state"] == "settled");
        }
    }
}

#[test]
fn an_extended_connect_stays_one_paid_or_not() {
    for paid in [false, true] {
        let (ca, (chain, price)) = (TestCa::new(), priced(paid));
        let seller = Echo::start(&ca, true, price);
        let program = Program::start(Setup::new().roots(&ca.pem));
        let tunnel = program.agent().connect(&seller.address.to_string(), "");
        let agent = Agent2::tls(tunnel.wire.tcp().try_clone().unwrap(), "127.0.0.1", &program.ca());
        let url = |path: &str| format!("https://{}{path}", seller.address);
        assert_eq!(agent.send(get(&url("/"))).status, 400);
        agent.converse(&url("/chat"));
        assert_eq!(chain.count(), usize::from(paid));
    }
}

#[test]
fn a_seller_that_does_not_take_extended_connect_is_not_asked() {
    let ca = TestCa::new();
    let seller = Echo::start(&ca, false, None);
    let program = Program::start(Setup::new().roots(&ca.pem));
    let mut agent = program.agent().connect(&seller.address.to_string(), "").tls("127.0.0.1", &program.ca());
    for _ in 0..2 {
        agent.send(format!("GET /chat HTTP/1.1\r\nHost: {}\r\n{SWITCH}\r\n", seller.address));
        let answer = agent.response();
        assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_protocol"));
    }
    agent.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", seller.address));
    assert_eq!(agent.response().status, 400, "other requests reach it");
}
