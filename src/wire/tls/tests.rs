#![allow(clippy::unwrap_used)]
use rustls::{ClientConnection, HandshakeKind, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Two {
    server: Identity,
    client: Identity,
}

type Ends = (io::Result<(server::TlsStream<TcpStream>, Public)>, io::Result<client::TlsStream<TcpStream>>);

impl Two {
    fn new() -> Self {
        Self { server: Identity::generate().unwrap(), client: Identity::generate().unwrap() }
    }

    fn acceptor(&self) -> Acceptor {
        Acceptor::new(&self.server, Arc::new(|_| true)).unwrap()
    }

    fn connector(&self) -> TlsConnector {
        Connector::new(&self.client, self.server.fingerprint()).unwrap().0
    }

    /// A client's configuration that is ours but for what a test changes.
    fn foreign(&self, versions: &[&'static SupportedProtocolVersion], own: Option<SingleCertAndKey>) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(self.server.fingerprint())));
        let mut config = match own {
            Some(own) => config.with_client_cert_resolver(Arc::new(own)),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    }
}

/// Both ends of one handshake over loopback.
async fn meet(acceptor: &Acceptor, connector: &TlsConnector) -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stream, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let nobody = ServerName::try_from("tollpass.invalid").unwrap();
    tokio::join!(acceptor.accept(accepted.unwrap().0, PATIENCE), connector.connect(nobody, stream.unwrap()))
}

fn why(ends: Ends) -> String {
    format!("{:?}", ends.0.map(|(_, key)| key).unwrap_err())
}

#[tokio::test]
async fn both_ends_learn_the_others_key() {
    let two = Two::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stream, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let connector = Connector::new(&two.client, two.server.fingerprint()).unwrap();
    let acceptor = two.acceptor();
    let ends = tokio::join!(acceptor.accept(accepted.unwrap().0, PATIENCE), connector.connect(stream.unwrap()));
    let ((server, at_server), (_, at_client)) = (ends.0.unwrap(), ends.1.unwrap());
    assert_eq!((&at_server, &at_client), (two.client.public(), two.server.public()));
    assert_eq!(server.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_by_the_client() {
    let two = Two::new();
    let elsewhere = Connector::new(&two.client, two.client.fingerprint()).unwrap().0;
    let ends = meet(&two.acceptor(), &elsewhere).await;
    assert!(ends.1.is_err() && ends.0.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let two = Two::new();
    let config = two.foreign(&[&rustls::version::TLS13], None);
    let why = why(meet(&two.acceptor(), &TlsConnector::from(Arc::new(config))).await);
    assert!(why.contains("NoCertificatesPresented"), "{why}");
}

#[tokio::test]
async fn a_key_that_is_not_greeted_is_refused() {
    let two = Two::new();
    let client = two.client.fingerprint();
    let acceptor = Acceptor::new(&two.server, Arc::new(move |key| key != client)).unwrap();
    let why = why(meet(&acceptor, &two.connector()).await);
    assert!(why.contains("ApplicationVerificationFailure"), "{why}");
}

#[tokio::test]
async fn somebody_elses_certificate_is_worth_nothing_without_its_key() {
    let two = Two::new();
    let thief = Identity::generate().unwrap();
    let certificate = |of: &Identity| vec![CertificateDer::from(of.certificate().to_vec())];
    let stolen = CertifiedKey::new(certificate(&two.client), Arc::new(Own(thief.clone())));
    let config = two.foreign(&[&rustls::version::TLS13], Some(stolen.into()));
    let why = why(meet(&two.acceptor(), &TlsConnector::from(Arc::new(config))).await);
    assert!(why.contains("BadSignature"), "{why}");

    // And the other way round: a server with the pinned certificate and its own key.
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(certificate(&two.server), Arc::new(Own(thief))))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let ends = meet(&Acceptor(TlsAcceptor::from(Arc::new(config))), &two.connector()).await;
    let why = format!("{:?}", ends.1.map(drop).unwrap_err());
    assert!(why.contains("BadSignature"), "{why}");
}

#[tokio::test]
async fn tls_1_2_is_refused_by_both_ends() {
    let two = Two::new();
    let config = two.foreign(&[&rustls::version::TLS12], Some(own(&two.client)));
    let why_not = why(meet(&two.acceptor(), &TlsConnector::from(Arc::new(config))).await);
    assert!(why_not.contains("Tls13RequiredForQuic") || why_not.contains("PeerIncompatible"), "{why_not}");

    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Known(Arc::new(|_| true))))
        .with_cert_resolver(Arc::new(own(&two.server)));
    let ends = meet(&Acceptor(TlsAcceptor::from(Arc::new(config))), &two.connector()).await;
    assert!(ends.0.is_err() && ends.1.is_err());
}

#[tokio::test]
async fn a_client_that_would_resume_gets_no_ticket_and_a_whole_handshake() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let two = Two::new();
    let config = two.foreign(&[&rustls::version::TLS13], Some(own(&two.client)));
    let (acceptor, connector) = (two.acceptor(), TlsConnector::from(Arc::new(config)));
    for _ in 0..2 {
        let ends = meet(&acceptor, &connector).await;
        let ((mut server, _), mut client) = (ends.0.unwrap(), ends.1.unwrap());
        // Tickets would come before the first byte of the server's.
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        let session: &ClientConnection = client.get_ref().1;
        assert_eq!((session.tls13_tickets_received(), session.handshake_kind()), (0, Some(HandshakeKind::Full)));
        assert_eq!(server.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn our_client_keeps_no_ticket_of_a_server_that_gives_some() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let two = Two::new();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Known(Arc::new(|_| true))))
        .with_cert_resolver(Arc::new(own(&two.server)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let (acceptor, connector) = (Acceptor(TlsAcceptor::from(Arc::new(config))), two.connector());
    for _ in 0..2 {
        let ends = meet(&acceptor, &connector).await;
        let ((mut server, _), mut client) = (ends.0.unwrap(), ends.1.unwrap());
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert!(client.get_ref().1.tls13_tickets_received() > 0);
    }
}

#[tokio::test]
async fn what_does_not_speak_http2_is_refused() {
    let two = Two::new();
    let mut config = two.foreign(&[&rustls::version::TLS13], Some(own(&two.client)));
    config.alpn_protocols.clear();
    let why_not = why(meet(&two.acceptor(), &TlsConnector::from(Arc::new(config.clone()))).await);
    assert!(why_not.contains("HTTP/2"), "{why_not}");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(meet(&two.acceptor(), &TlsConnector::from(Arc::new(config))).await.0.is_err());
}

#[tokio::test]
async fn a_silent_client_does_not_hold_a_handshake_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stream, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let done = Two::new().acceptor().accept(accepted.unwrap().0, Duration::from_millis(50)).await;
    assert_eq!(done.map(drop).unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(stream);
}
