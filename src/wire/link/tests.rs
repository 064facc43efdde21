#![allow(clippy::unwrap_used)]
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::server::{Times, serve_within};
use super::*;
use crate::clock;
use crate::wire::identity::Identity;
use crate::wire::message::{MAX_BODY, path};

mod hostile;
mod raw;

const PATIENCE: Duration = Duration::from_secs(10);
const HURRY: Duration = Duration::from_secs(1);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Answers by the first word of the payload, and remembers what it saw.
#[derive(Default)]
struct Desk {
    known: Mutex<HashSet<Fingerprint>>,
    skew: Mutex<i64>,
    seen: Mutex<Vec<Incoming>>,
    gone: Mutex<Vec<u64>>,
    left: Notify,
    /// `wait` has begun; and may end.
    begun: Notify,
    go_on: Notify,
    finished: Notify,
}

impl Service for Desk {
    fn greets(&self, _: Fingerprint) -> bool {
        true
    }
    fn admits(&self, key: Fingerprint, at: &str) -> bool {
        at == path::ENROLL || self.known.lock().unwrap().contains(&key)
    }
    fn answer(self: Arc<Self>, request: Incoming) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(async move {
            let payload = request.opened.payload.clone();
            self.seen.lock().unwrap().push(request);
            match payload.as_slice() {
                b"close" => return Reply::Close,
                b"panic" => panic!("as asked"),
                b"large" => return Reply::Payload(vec![0; MAX_BODY]),
                b"wait" => {
                    self.begun.notify_one();
                    self.go_on.notified().await;
                    self.finished.notify_one();
                }
                _ => {}
            }
            Reply::Payload([b"re: ", payload.as_slice()].concat())
        })
    }
    fn gone(&self, connection: u64) {
        self.gone.lock().unwrap().push(connection);
        self.left.notify_one();
    }
    fn now(&self) -> Timestamp {
        clock::read().wall.plus_millis(*self.skew.lock().unwrap())
    }
}

/// A server on loopback and one known client's identity.
struct Office {
    desk: Arc<Desk>,
    addr: SocketAddr,
    pin: Fingerprint,
    me: Identity,
    connections: Connections,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Office {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Identity::generate().unwrap(), Identity::generate().unwrap())
    }

    /// With little time for handshakes and bodies.
    async fn hurried() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let times = Times { read: HURRY, ..Times::default() };
        Self::within(times, listener, Identity::generate().unwrap(), Identity::generate().unwrap())
    }

    fn on(listener: TcpListener, identity: Identity, me: Identity) -> Self {
        Self::within(Times::default(), listener, identity, me)
    }

    fn within(times: Times, listener: TcpListener, identity: Identity, me: Identity) -> Self {
        let addr = local_addr(&listener).unwrap();
        let pin = identity.fingerprint();
        let desk = Arc::new(Desk::default());
        desk.known.lock().unwrap().insert(me.fingerprint());
        let connections = Connections::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve_within(times, listener, identity, desk.clone(), connections.clone(), async {
            let _ = stopped.await;
        }));
        Self { desk, addr, pin, me, connections, stop, task }
    }

    fn client_of(&self, identity: &Identity, pin: Fingerprint) -> Client {
        Client::new(identity.clone(), Peer { authority: self.addr.to_string(), pin }, PATIENCE)
    }

    fn client(&self) -> Client {
        self.client_of(&self.me, self.pin)
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }

    fn connections_seen(&self) -> Vec<u64> {
        self.desk.seen.lock().unwrap().iter().map(|i| i.connection).collect()
    }
}

async fn say(client: &Client, text: &str) -> Result<String, LinkError> {
    client.call(path::BEGIN, 1, text.as_bytes(), soon()).await.map(|b| String::from_utf8(b).unwrap())
}

#[tokio::test]
async fn calls_share_one_warm_connection_and_the_service_sees_who_calls() {
    let office = Office::open().await;
    let client = office.client();
    assert!(!client.up());
    client.warm(soon()).await.unwrap();
    assert!(client.up());
    let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let mut calls = tokio::task::JoinSet::new();
    for text in texts.clone() {
        let client = client.clone();
        calls.spawn(async move { assert_eq!(say(&client, &text).await.unwrap(), format!("re: {text}")) });
    }
    calls.join_all().await;
    assert_eq!(office.connections_seen(), vec![1; 100]);
    {
        let seen = office.desk.seen.lock().unwrap();
        assert!(seen.iter().all(|i| i.sender == *office.me.public() && i.opened.header.epoch == 1 && i.opened.header.path == path::BEGIN));
        let ids: HashSet<_> = seen.iter().map(|i| i.opened.header.id).collect();
        assert_eq!(ids.len(), 100);
    }
    office.close().await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_peer_with_another_key() {
    let office = Office::open().await;
    let client = office.client_of(&office.me, office.me.fingerprint());
    assert!(matches!(say(&client, "x").await, Err(LinkError::Unreachable(_))));
    assert!(!client.up() && office.desk.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_unknown_key_reaches_enrolment_and_nothing_else() {
    let office = Office::open().await;
    let stranger = office.client_of(&Identity::generate().unwrap(), office.pin);
    assert!(matches!(say(&stranger, "x").await, Err(LinkError::Garbage(_))));
    assert!(office.desk.seen.lock().unwrap().is_empty());
    // That closed its connection; enrolling is a new one.
    assert_eq!(stranger.call(path::ENROLL, 0, b"token", soon()).await.unwrap(), b"re: token");
}

#[tokio::test]
async fn revocation_closes_a_warm_connection_and_the_next_request_is_refused() {
    let office = Office::open().await;
    let (client, other) = (office.client(), Identity::generate().unwrap());
    office.desk.known.lock().unwrap().insert(other.fingerprint());
    let bystander = office.client_of(&other, office.pin);
    say(&client, "x").await.unwrap();
    say(&bystander, "x").await.unwrap();
    office.desk.known.lock().unwrap().remove(&office.me.fingerprint());
    let left = office.desk.left.notified();
    assert_eq!(office.connections.close(office.me.fingerprint()), 1);
    left.await;
    assert_eq!(*office.desk.gone.lock().unwrap(), [1]);
    assert!(say(&client, "y").await.is_err() && !client.up());
    // Nobody else's is closed.
    say(&bystander, "y").await.unwrap();
    assert_eq!(office.connections_seen(), [1, 2, 2]);
}

#[tokio::test]
async fn a_key_that_is_revoked_without_a_word_is_refused_at_its_next_request() {
    let office = Office::open().await;
    let client = office.client();
    say(&client, "x").await.unwrap();
    office.desk.known.lock().unwrap().clear();
    assert!(matches!(say(&client, "y").await, Err(LinkError::Garbage(_))));
    assert_eq!(office.connections_seen(), [1]);
}

#[tokio::test]
async fn a_reply_of_close_ends_the_connection_without_an_answer() {
    for text in ["close", "panic", "large"] {
        let office = Office::open().await;
        let client = office.client();
        let left = office.desk.left.notified();
        assert!(matches!(say(&client, text).await, Err(LinkError::Garbage(_))), "{text}");
        left.await;
        say(&client, "x").await.unwrap();
        assert_eq!(office.connections_seen(), [1, 2], "{text}");
        office.desk.gone.lock().unwrap().iter().for_each(|c| assert_eq!(*c, 1));
    }
}

#[tokio::test]
async fn a_timeout_is_said_to_be_one_and_the_answer_is_still_worked_out() {
    let office = Office::open().await;
    let client = office.client();
    client.warm(soon()).await.unwrap();
    let brief = Instant::now() + Duration::from_millis(100);
    assert_eq!(client.call(path::BEGIN, 1, b"wait", brief).await, Err(LinkError::Timeout));
    assert!(!client.up());
    office.desk.go_on.notify_one();
    office.desk.finished.notified().await;
    // The connection is as good as before, and nothing on it was lost.
    say(&client, "x").await.unwrap();
    assert!(client.up());
    assert_eq!(office.connections_seen(), [1, 1]);
}

#[tokio::test]
async fn a_connection_is_gone_once_and_after_its_last_answer() {
    let office = Office::open().await;
    let client = office.client();
    let call = tokio::spawn(async move { say(&client, "wait").await });
    office.desk.begun.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The client, its only owner, is dropped: the connection is closed while the answer is under way.
    assert!(office.desk.gone.lock().unwrap().is_empty());
    let desk = office.desk.clone();
    desk.go_on.notify_one();
    office.close().await;
    desk.left.notified().await;
    assert_eq!(*desk.gone.lock().unwrap(), [1]);
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_frees_the_port() {
    let office = Office::open().await;
    let client = office.client();
    let (addr, desk) = (office.addr, office.desk.clone());
    let caller = client.clone();
    let call = tokio::spawn(async move { say(&caller, "wait").await });
    desk.begun.notified().await;
    let closing = tokio::spawn(office.close());
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    desk.go_on.notify_one();
    assert_eq!(call.await.unwrap().unwrap(), "re: wait");
    closing.await.unwrap();
    assert!(matches!(say(&client, "x").await, Err(LinkError::Unreachable(_))));
}

#[tokio::test]
async fn clocks_that_differ_by_more_than_the_window_are_named() {
    let office = Office::open().await;
    *office.desk.skew.lock().unwrap() = crate::wire::envelope::WINDOW_MS + 5_000;
    let answer = say(&office.client(), "x").await;
    assert!(matches!(&answer, Err(LinkError::Garbage(why)) if why.contains("clocks")), "{answer:?}");
    assert!(office.desk.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_that_is_too_long_does_not_leave() {
    let office = Office::open().await;
    let client = office.client();
    let answer = client.call(path::BEGIN, 1, &vec![0; MAX_BODY], soon()).await;
    assert!(matches!(answer, Err(LinkError::Unreachable(_))), "{answer:?}");
    let fits = vec![b'a'; MAX_BODY - 1024];
    assert_eq!(client.call(path::BEGIN, 1, &fits, soon()).await.unwrap().len(), fits.len() + 4);
}
