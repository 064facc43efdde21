//! A client without manners: it seals what it likes, sends what it likes, and checks every answer it gets.

use std::net::SocketAddr;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tollpass::clock;
use tollpass::mpc::{Begun, Completing, Fingerprint, Partial, Party, Share};
use tollpass::payment::{AssetTable, Authorization, Nonce, Payee, PurchaseId, Reason, Timestamp};
use tollpass::wire::envelope;
use tollpass::wire::identity::{Identity, Public};
use tollpass::wire::message::{
    Answer, Begin, Claims, Finish, Finished, HELLO_FIRST, Hello, Intent, Opened, Refused, SignedIntent, VERSION, Welcome, path,
};

use super::rig::{Deal, payee};

/// What came back.
#[derive(Debug)]
pub(crate) enum Heard<A> {
    /// A signed yes.
    Yes(A),
    /// A signed no with a reason of the closed set.
    No(Refused),
    /// A status without a body: the envelope was not opened.
    Status(u16),
    /// Nothing: the stream or the connection ended.
    Closed,
}

impl<A: std::fmt::Debug> Heard<A> {
    #[track_caller]
    pub(crate) fn yes(self) -> A {
        match self {
            Self::Yes(answer) => answer,
            other => panic!("expected a yes, heard {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn no(self, reason: &str) {
        assert!(matches!(&self, Self::No(refused) if refused.reason == reason), "expected {reason}, heard {self:?}");
    }

    #[track_caller]
    pub(crate) fn closed(self) {
        assert!(matches!(&self, Self::Closed), "expected the end, heard {self:?}");
    }

    #[track_caller]
    pub(crate) fn status(self, code: u16) {
        assert!(matches!(&self, Self::Status(c) if *c == code), "expected {code}, heard {self:?}");
    }

    /// Its kind in a word, for a table.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Yes(_) => "yes".into(),
            Self::No(refused) => refused.reason.clone(),
            Self::Status(code) => code.to_string(),
            Self::Closed => "closed".into(),
        }
    }
}

/// One connection.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) identity: Identity,
    share: Arc<Share>,
    server: Public,
    turns: ([u8; 16], [u8; 16]),
    sender: SendRequest<Full<Bytes>>,
}

/// A begun session on the share holder's side.
pub(crate) struct Mine {
    pub(crate) begun: Begun,
    pub(crate) begin: Begin,
}

impl Raw {
    /// Handshake only.
    pub(crate) async fn dial(address: SocketAddr, identity: &Identity, deal: &Deal) -> Result<Self, String> {
        Self::over(config(identity), address, identity, deal).await
    }

    /// With a TLS configuration of one's own.
    pub(crate) async fn over(config: Arc<ClientConfig>, address: SocketAddr, identity: &Identity, deal: &Deal) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from("tollpass.invalid").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|e| e.to_string())?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("{e:?}"))?;
        tokio::spawn(async move { drop(connection.await) });
        let share = Arc::clone(&deal.shares[0]);
        Ok(Self { identity: identity.clone(), share, server: deal.key.public().clone(), turns: deal.turns, sender })
    }

    /// The server ended the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// An envelope as an honest client seals it.
    pub(crate) fn seal(&self, path: &str, payload: &[u8]) -> Vec<u8> {
        self.seal_as(path, self.share.wallet().epoch, rand::random(), self.server.fingerprint(), clock::read().wall, payload)
    }

    pub(crate) fn seal_as(&self, path: &str, epoch: u32, id: [u8; 16], to: Fingerprint, at: Timestamp, payload: &[u8]) -> Vec<u8> {
        envelope::request(&self.identity, to, path, epoch, id, at, payload).0
    }

    /// Sends any bytes; a 200 must be a signed answer to exactly these bytes, of this version, with a known reason.
    pub(crate) async fn send<A: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Heard<A> {
        let hash: [u8; 32] = Sha256::digest(&body).into();
        let id = id_of(&body);
        let request = http::Request::post(format!("https://x{path}")).body(Full::from(body)).unwrap();
        let response = match self.sender.clone().send_request(request).await {
            Ok(response) => response,
            Err(_) => return Heard::Closed,
        };
        let status = response.status().as_u16();
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Heard::Closed,
        };
        if status != 200 {
            assert!(body.is_empty(), "{status} with an unsigned body");
            return Heard::Status(status);
        }
        let opened = envelope::open_response(&body, &self.server, self.identity.fingerprint(), id.expect("answered nonsense"), hash);
        let payload = opened.expect("every answer is signed over its request").payload;
        match postcard::take_from_bytes::<Answer<A>>(&payload) {
            Ok((Answer::Yes(answer), [])) => Heard::Yes(answer),
            Ok((Answer::No(refused), [])) => {
                let known = refused.reason == HELLO_FIRST || Reason::parse(&refused.reason).is_some();
                assert!(known, "{} is no reason", refused.reason);
                Heard::No(refused)
            }
            other => panic!("not an answer: {:?}", other.map(|(_, rest)| rest.len())),
        }
    }

    /// Seals and sends.
    pub(crate) async fn ask<A: DeserializeOwned>(&self, path: &str, question: &impl Serialize) -> Heard<A> {
        self.send(path, self.seal(path, &postcard::to_allocvec(question).unwrap())).await
    }

    /// Greets as every connection of this share holder does.
    pub(crate) async fn hello(&self) {
        self.try_hello().await.yes();
    }

    pub(crate) async fn try_hello(&self) -> Heard<Welcome> {
        let wallet = self.share.wallet();
        let (turn, next_turn) = self.turns;
        self.ask(path::HELLO, &Hello { wallet: wallet.id.to_string(), epoch: wallet.epoch, turn, next_turn }).await
    }

    /// An intent of `value` units to the policy's payee, changed at will and then signed; and its digest.
    pub(crate) fn intent(&self, purchase: [u8; 16], value: u64, change: impl FnOnce(&mut Intent)) -> (SignedIntent, B256) {
        let intent = intent(&self.share, purchase, value, clock::read().wall);
        let digest = digest(&intent);
        let mut changed = intent;
        change(&mut changed);
        (signed(&self.identity, &changed), digest)
    }

    /// The honest first message of a session.
    pub(crate) fn mine(&self, purchase: [u8; 16], value: u64) -> Mine {
        let (intent, digest) = self.intent(purchase, value, |_| ());
        let sign_id: [u8; 32] = rand::random();
        let (begun, round1) = Begun::new(Arc::clone(&self.share), Party::Cosigner, sign_id, digest).unwrap();
        Mine { begun, begin: Begin { intent, sign_id, round1 } }
    }

    /// First round trip; our second message is made and not sent.
    pub(crate) async fn half(&self, value: u64) -> (Completing, Finish) {
        let Mine { begun, begin, .. } = self.mine(rand::random(), value);
        let opened: Opened = self.ask(path::BEGIN, &begin).await.yes();
        let (completing, round2) = begun.advance(&opened.round1, &opened.round2).unwrap();
        (completing, Finish { session: opened.session, round2 })
    }

    pub(crate) async fn finish(&self, finish: &Finish) -> Heard<Finished> {
        self.ask(path::FINISH, finish).await
    }

    /// A whole honest signature.
    pub(crate) async fn pay(&self, value: u64) -> [u8; 65] {
        let (completing, finish) = self.half(value).await;
        let finished = self.finish(&finish).await.yes();
        completing.complete(&Partial::from_bytes(finished.partial)).unwrap()
    }
}

/// The intent of an honest share holder at `now`.
pub(crate) fn intent(share: &Share, purchase: [u8; 16], value: u64, now: Timestamp) -> Intent {
    let wallet = share.wallet();
    let seconds = u64::try_from(now.secs()).unwrap();
    let mut intent = Intent {
        version: VERSION,
        wallet: wallet.id.to_string(),
        epoch: wallet.epoch,
        purchase,
        key: [0; 16],
        agent: "bot".into(),
        chain: 84532,
        token: token().into_array(),
        from: wallet.address.into_array(),
        to: payee().into_array(),
        value: U256::from(value).to_be_bytes(),
        valid_after: seconds - 60,
        valid_before: seconds + 240,
        claims: Claims { host: "shop.example".into(), method: "GET".into(), price_micro: 1, ..Claims::default() },
        offer: None,
        grant: None,
    };
    intent.key = Sha256::new().chain_update(purchase).chain_update(digest(&intent)).finalize()[..16].try_into().unwrap();
    intent
}

/// USDC on Base Sepolia.
fn token() -> Address {
    alloy_primitives::address!("036CbD53842c5426634e7929541eC2318f3dCF7e")
}

/// What signing it means.
pub(crate) fn digest(intent: &Intent) -> B256 {
    let table = AssetTable::shipped();
    let asset = table.iter().find(|a| a.id.chain.id() == intent.chain && a.id.token == Address::from(intent.token)).unwrap().clone();
    let from = Address::from(intent.from);
    let authorization = Authorization {
        asset,
        from: tollpass::payment::Payer(from),
        to: Payee(Address::from(intent.to)),
        value: U256::from_be_bytes(intent.value),
        valid_after: intent.valid_after,
        valid_before: intent.valid_before,
        nonce: Nonce::derive(from, &PurchaseId::from_bytes(intent.purchase)),
    };
    authorization.digest()
}

/// Signed by an identity.
pub(crate) fn signed(identity: &Identity, intent: &Intent) -> SignedIntent {
    let bytes = postcard::to_allocvec(intent).unwrap();
    let signature = identity.sign("tollpass/intent/1", &bytes);
    SignedIntent { bytes, signer: identity.fingerprint().0, signature }
}

/// The request id in an envelope, if it is one.
fn id_of(body: &[u8]) -> Option<[u8; 16]> {
    let (header, _) = postcard::take_from_bytes::<&[u8]>(body).ok()?;
    postcard::from_bytes::<envelope::Header>(header).ok().map(|h| h.id)
}

/// TLS 1.3 with this certificate; whoever answers is believed, the tests look at signatures.
pub(crate) fn config(identity: &Identity) -> Arc<ClientConfig> {
    let mut config = builder(identity, &[&rustls::version::TLS13]);
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

pub(crate) fn builder(identity: &Identity, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let key = PrivateKeyDer::from_pem_slice(identity.to_pem().as_bytes()).unwrap();
    let certificate = CertificateDer::from(identity.certificate().to_vec());
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
