//! A client that is not ours, with a key that is known.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::wire::envelope;
use crate::wire::tls::Connector;

type Sender = SendRequest<BoxBody<Bytes, std::convert::Infallible>>;

/// Frames of 16 KiB without a length before them; then the end, or nothing more for ever.
struct Frames {
    left: usize,
    ends: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.left, self.ends) {
            (0, true) => Poll::Ready(None),
            (0, false) => Poll::Pending,
            (n, _) => {
                self.left = n - 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 << 10])))))
            }
        }
    }
}

async fn connect(office: &Office) -> (Sender, JoinHandle<()>) {
    let connector = Connector::new(&office.me, office.pin).unwrap();
    let (stream, _) = connector.connect(TcpStream::connect(office.addr).await.unwrap()).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn post(
    path: &str,
    body: impl Body<Data = Bytes, Error = std::convert::Infallible> + Send + Sync + 'static,
) -> Request<BoxBody<Bytes, std::convert::Infallible>> {
    Request::post(format!("https://x{path}")).body(body.boxed()).unwrap()
}

async fn status_of(sender: &mut Sender, request: Request<BoxBody<Bytes, std::convert::Infallible>>) -> StatusCode {
    sender.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn a_replayed_envelope_reaches_the_service_with_the_id_it_had() {
    let office = Office::open().await;
    let (mut sender, _connection) = connect(&office).await;
    let (bytes, hash) = envelope::request(&office.me, office.pin, path::BEGIN, 1, [9; 16], clock::read().wall, b"x");
    for _ in 0..2 {
        assert_eq!(status_of(&mut sender, post(path::BEGIN, Full::from(bytes.clone()))).await, StatusCode::OK);
    }
    // At another path, and over somebody else's connection, it does not.
    assert_eq!(status_of(&mut sender, post(path::FINISH, Full::from(bytes.clone()))).await, StatusCode::MISDIRECTED_REQUEST);
    let other = Identity::generate().unwrap();
    office.desk.known.lock().unwrap().insert(other.fingerprint());
    let as_other = Office { me: other, ..office };
    let (mut sender, _connection) = connect(&as_other).await;
    assert_eq!(status_of(&mut sender, post(path::BEGIN, Full::from(bytes))).await, StatusCode::UNAUTHORIZED);
    let seen = as_other.desk.seen.lock().unwrap();
    let ids: Vec<_> = seen.iter().map(|i| (i.opened.header.id, i.hash)).collect();
    assert_eq!(ids, [([9; 16], hash), ([9; 16], hash)]);
}

#[tokio::test]
async fn an_oversized_body_is_refused_with_and_without_a_length() {
    let office = Office::open().await;
    let (mut sender, _connection) = connect(&office).await;
    let announced = post(path::BEGIN, Full::from(vec![0; MAX_BODY + 1]));
    assert_eq!(status_of(&mut sender, announced).await, StatusCode::PAYLOAD_TOO_LARGE);
    let endless = post(path::BEGIN, Frames { left: usize::MAX, ends: true });
    assert_eq!(status_of(&mut sender, endless).await, StatusCode::PAYLOAD_TOO_LARGE);
    // Not a byte too long, and nonsense.
    let fits = post(path::BEGIN, Frames { left: MAX_BODY / (16 << 10), ends: true });
    assert_eq!(status_of(&mut sender, fits).await, StatusCode::BAD_REQUEST);
    assert!(office.desk.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let office = Office::hurried().await;
    let (mut sender, _connection) = connect(&office).await;
    let before = Instant::now();
    let slow = post(path::BEGIN, Frames { left: 1, ends: false });
    assert_eq!(status_of(&mut sender, slow).await, StatusCode::REQUEST_TIMEOUT);
    assert!(before.elapsed() < PATIENCE);
    // Others on the same connection are not disturbed.
    let (bytes, _) = envelope::request(&office.me, office.pin, path::BEGIN, 1, [9; 16], clock::read().wall, b"x");
    assert_eq!(status_of(&mut sender, post(path::BEGIN, Full::from(bytes))).await, StatusCode::OK);
}

#[tokio::test]
async fn a_stranger_that_asks_nothing_it_may_is_shown_out() {
    let office = Office::hurried().await;
    office.desk.known.lock().unwrap().clear();
    let (mut sender, connection) = connect(&office).await;
    assert_eq!(status_of(&mut sender, post(ALIVE, Full::default())).await, StatusCode::NO_CONTENT);
    let before = Instant::now();
    connection.await.unwrap();
    assert!(before.elapsed() < PATIENCE);
    office.desk.left.notified().await;
    assert_eq!(office.connections.count(), 0);
}

#[tokio::test]
async fn a_known_key_keeps_its_connection_without_saying_a_word_more_than_alive() {
    let office = Office::hurried().await;
    let (mut sender, mut connection) = connect(&office).await;
    assert_eq!(status_of(&mut sender, post(ALIVE, Full::default())).await, StatusCode::NO_CONTENT);
    // Longer than a stranger has: nothing ends this wait but its time.
    assert!(tokio::time::timeout(HURRY * 2, &mut connection).await.is_err());
    assert_eq!(status_of(&mut sender, post(ALIVE, Full::default())).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn only_post_is_answered() {
    let office = Office::open().await;
    let (mut sender, _connection) = connect(&office).await;
    let get = Request::get(format!("https://x{}", path::BEGIN)).body(BoxBody::default()).unwrap();
    assert_eq!(status_of(&mut sender, get).await, StatusCode::METHOD_NOT_ALLOWED);
}
