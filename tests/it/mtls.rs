//! Who may talk to the co-signer process, and until when (S11).

use std::sync::Arc;

use tollpass::clock;

use tollpass::wire::identity::Identity;
use tollpass::wire::link::{Client, LinkError, Peer};
use tollpass::wire::message::{Enroll, Enrolled, Noted, Opened, Settle, Welcome, path};

use crate::adversary::{Heard, Raw, Rig, raw};
use crate::harness::{PATIENCE, eventually};

const CENT: u64 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_a_revoked_identity_loses_its_warm_stream_its_half_open_session_and_its_way_back() {
    let mut rig = Rig::start();
    let (warm, quiet, other) = (rig.greeted(&rig.one).await, rig.greeted(&rig.one).await, rig.greeted(&rig.two).await);
    // A client that would resume if it were offered a ticket.
    let resuming = {
        let mut config = raw::builder(&rig.one, &[&rustls::version::TLS13]);
        config.resumption = rustls::client::Resumption::in_memory_sessions(64);
        Arc::new(config)
    };
    let again = || Raw::over(resuming.clone(), rig.address(), &rig.one, &rig.deal);
    let first = again().await.unwrap();
    first.hello().await;
    let (completing, finish) = warm.half(CENT).await;
    let (_, waiting) = quiet.half(CENT).await;
    rig.revoke("one");
    // The very next request, on the warm stream and with a session that was judged and joined.
    warm.finish(&finish).await.closed();
    drop(completing);
    // The quiet connection is not asked first.
    eventually("the quiet connection is closed", || quiet.is_closed() && first.is_closed());
    quiet.finish(&waiting).await.closed();
    eventually("its sessions are gone", || rig.gauge("tollpass_cosigner_sessions_open{") == 0);
    // No way back: a full handshake or a resumed one.
    for _ in 0..2 {
        let Ok(back) = again().await else { continue };
        let heard = back.try_hello().await;
        assert!(matches!(heard, Heard::Closed), "{heard:?}");
    }
    // Nor by enrolling the same key anew.
    let token = rig.token("one");
    if let Ok(back) = Raw::dial(rig.address(), &rig.one, &rig.deal).await {
        let heard = back.ask::<Enrolled>(path::ENROLL, &Enroll { token }).await;
        assert!(matches!(&heard, Heard::Closed) || matches!(&heard, Heard::No(r) if r.reason == "identity_revoked"), "{heard:?}");
    }
    // The others did not notice.
    other.pay(CENT).await;
    // What was held for the revoked one stays held: it may have been signed.
    assert_eq!((rig.purchases().len(), rig.held()), (3, 30_000));
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_the_server_speaks_tls_1_3_alone_and_gives_out_no_ticket() {
    let mut rig = Rig::start();
    let old = Arc::new(raw::builder(&rig.one, &[&rustls::version::TLS12]));
    assert!(Raw::over(old, rig.address(), &rig.one, &rig.deal).await.is_err(), "TLS 1.2 was accepted");
    let mut config = raw::builder(&rig.one, &[&rustls::version::TLS13]);
    config.resumption = rustls::client::Resumption::in_memory_sessions(64);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for round in 0..3 {
        let stream = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("tollpass.invalid").unwrap();
        let connecting = tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream);
        let stream = connecting.await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full), "round {round}");
        assert!(!session.is_early_data_accepted());
        // A request over it, so that a ticket would have had its time to arrive.
        drop(stream);
        Raw::over(config.clone(), rig.address(), &rig.one, &rig.deal).await.unwrap().hello().await;
    }
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_an_unknown_certificate_may_enrol_and_nothing_else() {
    let mut rig = Rig::start();
    let stranger = Identity::generate().unwrap();
    for closed in [path::HELLO, path::BEGIN, path::FINISH, path::PREPARE, path::PREPARED, path::PRESENT, path::SETTLE, "/", "/v1/enroll/"] {
        let raw = rig.dial(&stranger).await;
        raw.send::<Opened>(closed, raw.seal(closed, b"")).await.closed();
    }
    // Wrong tokens are told apart in the log alone.
    let raw = rig.dial(&stranger).await;
    for token in ["", "tpe_00000000000000000000000000000000", &"x".repeat(100_000)] {
        raw.ask::<Enrolled>(path::ENROLL, &Enroll { token: token.into() }).await.no("identity_revoked");
    }
    // The right one; then the same connection may do the rest.
    let token = rig.token("three");
    let enrolled = raw.ask::<Enrolled>(path::ENROLL, &Enroll { token: token.clone() }).await.yes();
    assert_eq!((enrolled.identity.as_str(), enrolled.agents.as_slice()), ("three", &["bot".to_owned()][..]));
    raw.hello().await;
    raw.pay(CENT).await;
    // Spent, for any other key.
    let raw = rig.dial(&Identity::generate().unwrap()).await;
    raw.ask::<Enrolled>(path::ENROLL, &Enroll { token: token.clone() }).await.no("identity_revoked");
    assert!(!rig.log().contains(&token), "a token in the log");
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_a_wrong_audience_and_a_wrong_clock_are_not_opened() {
    let mut rig = Rig::start();
    let raw = rig.greeted(&rig.one).await;
    let begin = postcard::to_allocvec(&raw.mine(rand::random(), CENT).begin).unwrap();
    let (me, pin) = (rig.one.fingerprint(), rig.deal.key.fingerprint());
    let sealed = |to, ahead_ms: i64| raw.seal_as(path::BEGIN, 1, rand::random(), to, clock::read().wall.plus_millis(ahead_ms), &begin);
    for audience in [me, rig.two.fingerprint(), tollpass::mpc::Fingerprint([0; 32])] {
        raw.send::<Opened>(path::BEGIN, sealed(audience, 0)).await.status(421);
    }
    for ahead in [-86_400_000, -61_000, 62_000, 86_400_000, i64::MAX / 2, i64::MIN / 2] {
        raw.send::<Opened>(path::BEGIN, sealed(pin, ahead)).await.status(425);
    }
    assert!(rig.purchases().is_empty());
    // Within the window on both sides; the connection was not hurt by the refusals.
    for ahead in [-50_000, 50_000] {
        let settle = postcard::to_allocvec(&Settle { wallet: "w1".into(), purchase: [1; 16], outcome: "open".into() }).unwrap();
        let envelope = raw.seal_as(path::SETTLE, 1, rand::random(), pin, clock::read().wall.plus_millis(ahead), &settle);
        raw.send::<Noted>(path::SETTLE, envelope).await.no("agent_not_tied");
    }
    rig.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_our_client_refuses_a_server_of_another_key_before_it_says_a_word() {
    let mut rig = Rig::start();
    let peer = |pin| Peer { authority: rig.address().to_string(), pin };
    let hello = postcard::to_allocvec(&tollpass::wire::message::Hello {
        wallet: "w1".into(),
        epoch: 1,
        turn: rig.deal.turns.0,
        next_turn: rig.deal.turns.1,
    })
    .unwrap();
    let call = async |client: &Client| client.call(path::HELLO, 1, &hello, std::time::Instant::now() + PATIENCE).await;
    let misled = Client::new(rig.one.clone(), peer(rig.two.fingerprint()), PATIENCE);
    let refused = call(&misled).await;
    assert!(matches!(refused, Err(LinkError::Unreachable(_))), "{refused:?}");
    assert_eq!(rig.gauge("tollpass_cosigner_requests_total{kind=\"hello\",result=\"ok\"}"), 0);
    let right = Client::new(rig.one.clone(), peer(rig.deal.key.fingerprint()), PATIENCE);
    let welcome: tollpass::wire::message::Answer<Welcome> = postcard::from_bytes(&call(&right).await.unwrap()).unwrap();
    assert!(matches!(welcome, tollpass::wire::message::Answer::Yes(_)));
    rig.is_well();
}
