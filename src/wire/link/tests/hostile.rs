//! Servers that fail in every way: what our client says of it.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::wire::envelope;
use crate::wire::tls::Acceptor;

/// What a hostile server does with the body of a request.
type Answer = Arc<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send>> + Send + Sync>;

type Make = fn(Bytes) -> Vec<u8>;

struct Hostile {
    client: Client,
    server: JoinHandle<()>,
}

impl Hostile {
    /// Every connection is served in the one task, so that aborting it closes the sockets.
    async fn new(answer: impl FnOnce(&Identity, &Identity) -> Answer) -> Self {
        let (identity, me) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let answer = answer(&identity, &me);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Peer { authority: listener.local_addr().unwrap().to_string(), pin: identity.fingerprint() };
        let acceptor = Acceptor::new(&identity, Arc::new(|_| true)).unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (stream, _) = acceptor.accept(stream, PATIENCE).await.unwrap();
                let answer = answer.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(answer(body).await))))
                    }
                });
                drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
            }
        });
        let client = Client::new(me, peer, PATIENCE);
        Self { client, server }
    }
}

#[tokio::test]
async fn a_response_to_another_request_is_garbage() {
    let kept: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let hostile = Hostile::new(|identity, me| {
        let (identity, me) = (identity.clone(), me.public().clone());
        // The first answer is right; every later one is the first again.
        Arc::new(move |body| {
            let mut kept = kept.lock().unwrap();
            let now = clock::read().wall;
            let (opened, hash) = envelope::open_request(&body, &me, identity.fingerprint(), path::BEGIN, now).unwrap();
            let answer = kept.get_or_insert_with(|| envelope::response(&identity, &opened.header, hash, now, b"first")).clone();
            Box::pin(async move { answer })
        })
    })
    .await;
    assert_eq!(say(&hostile.client, "x").await.unwrap(), "first");
    assert!(hostile.client.up());
    assert_eq!(say(&hostile.client, "x").await, Err(LinkError::Garbage("not meant for this".into())));
    assert!(!hostile.client.up());
}

#[tokio::test]
async fn nonsense_an_echo_and_an_endless_answer_are_garbage() {
    let answers: [(Make, &str); 4] = [
        (|_| b"nonsense".to_vec(), "not an envelope"),
        (|_| Vec::new(), "not an envelope"),
        (|body| body.to_vec(), "another key"),
        (|_| vec![0; MAX_BODY + 1], "length limit"),
    ];
    for (make, expected) in answers {
        let hostile = Hostile::new(|_, _| Arc::new(move |body| Box::pin(async move { make(body) }))).await;
        let answer = say(&hostile.client, "x").await;
        assert!(matches!(&answer, Err(LinkError::Garbage(why)) if why.contains(expected)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_dies_during_a_call_may_have_got_it() {
    let begun = Arc::new(Notify::new());
    let seen = begun.clone();
    let hostile = Hostile::new(|_, _| {
        Arc::new(move |_| {
            seen.notify_one();
            Box::pin(std::future::pending())
        })
    })
    .await;
    let client = hostile.client.clone();
    let call = tokio::spawn(async move { say(&client, "x").await });
    begun.notified().await;
    hostile.server.abort();
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(LinkError::Garbage(_))), "{answer:?}");
    // Now nobody listens there: this one did not leave.
    assert!(matches!(say(&hostile.client, "x").await, Err(LinkError::Unreachable(_))));
}

#[tokio::test]
async fn a_peer_that_takes_the_connection_and_says_nothing_was_not_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let me = Identity::generate().unwrap();
    let peer = Peer { authority: listener.local_addr().unwrap().to_string(), pin: me.fingerprint() };
    let client = Client::new(me.clone(), peer.clone(), Duration::from_millis(50));
    assert!(matches!(say(&client, "x").await, Err(LinkError::Unreachable(_))));
    // The caller's deadline counts as well.
    let client = Client::new(me, peer, PATIENCE);
    let brief = Instant::now() + Duration::from_millis(50);
    assert!(matches!(client.call(path::BEGIN, 1, b"x", brief).await, Err(LinkError::Unreachable(_))));
    assert!(matches!(client.call(path::BEGIN, 1, b"x", Instant::now()).await, Err(LinkError::Unreachable(_))));
}

#[tokio::test]
async fn the_breaker_opens_after_three_failures_and_closes_when_the_peer_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (identity, me) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let client = Client::new(me.clone(), Peer { authority: addr.to_string(), pin: identity.fingerprint() }, PATIENCE);
    for _ in 0..3 {
        assert!(matches!(say(&client, "x").await, Err(LinkError::Unreachable(_))));
    }
    let office = Office::on(TcpListener::bind(addr).await.unwrap(), identity, me);
    // It is there, but for a quarter of a second at least nobody looks.
    let waiting = say(&client, "x").await;
    assert!(matches!(&waiting, Err(LinkError::Unreachable(why)) if why.contains("waiting")), "{waiting:?}");
    assert!(!client.up() && office.desk.seen.lock().unwrap().is_empty());
    let until = soon();
    while let Err(error) = client.warm(until).await {
        assert!(matches!(error, LinkError::Unreachable(_)) && Instant::now() < until, "{error}");
        tokio::task::yield_now().await;
    }
    assert!(client.up());
    assert_eq!(say(&client, "x").await.unwrap(), "re: x");
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_is_made_again_without_an_error() {
    let office = Office::open().await;
    let (client, me) = (office.client(), office.me.clone());
    say(&client, "x").await.unwrap();
    office.connections.close(me.fingerprint());
    while client.up() {
        tokio::task::yield_now().await;
    }
    assert_eq!(say(&client, "y").await.unwrap(), "re: y");
    assert!(client.up());
    assert_eq!(office.connections_seen(), [1, 2]);
}
