//! TLS 1.3 only, both certificates, trusted by key and not by name; no resumption, no early data (S11).
//!
//! Names, dates and issuers of the certificates are ignored on purpose. The two parties compared fingerprints out of band
//! (S6); a name would add whoever runs DNS to those trusted, a date a way for a wallet to stop on a Sunday, and an issuer
//! another key. What counts is that the handshake was signed by the pinned key. Resumption is off because a resumed
//! session takes over the other side's certificate without asking for its key again, so that a revoked one would come back.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureAlgorithm, SignatureScheme,
    SupportedCipherSuite,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::identity::{Identity, Public};
use crate::mpc::Fingerprint;

const ALPN: &[u8] = b"h2";
/// The only signature either side makes.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// Asked at the handshake whether a key may come in at all.
pub(super) type Greets = Arc<dyn Fn(Fingerprint) -> bool + Send + Sync>;

/// The client's side of a link to one pinned peer.
#[derive(Clone)]
pub(super) struct Connector(TlsConnector);

impl Connector {
    pub(super) fn new(identity: &Identity, pin: Fingerprint) -> Result<Self, Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(pin)))
            .with_client_cert_resolver(Arc::new(own(identity)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        // No name is checked, so none is told.
        config.enable_sni = false;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake: answers the stream, and the peer's key, which is the pinned one.
    pub(super) async fn connect<S>(&self, stream: S) -> io::Result<(client::TlsStream<S>, Public)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let nobody = ServerName::try_from("tollpass.invalid").map_err(io::Error::other)?;
        let stream = self.0.connect(nobody, stream).await?;
        let session = stream.get_ref().1;
        let peer = peer(session.peer_certificates(), session.alpn_protocol())?;
        Ok((stream, peer))
    }
}

/// The server's side.
#[derive(Clone)]
pub(super) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(super) fn new(identity: &Identity, greets: Greets) -> Result<Self, Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Known(greets)))
            .with_cert_resolver(Arc::new(own(identity)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The handshake within `patience`: answers the stream, and the key of the client's certificate.
    pub(super) async fn accept<S>(&self, stream: S, patience: Duration) -> io::Result<(server::TlsStream<S>, Public)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = tokio::time::timeout(patience, self.0.accept(stream)).await??;
        let session = stream.get_ref().1;
        let peer = peer(session.peer_certificates(), session.alpn_protocol())?;
        Ok((stream, peer))
    }
}

fn peer(certificates: Option<&[CertificateDer<'_>]>, alpn: Option<&[u8]>) -> io::Result<Public> {
    if alpn != Some(ALPN) {
        return Err(io::Error::other("the peer does not speak HTTP/2"));
    }
    let certificate = certificates.and_then(<[_]>::first).ok_or_else(|| io::Error::other("the peer has no certificate"))?;
    key(certificate, &[]).map_err(io::Error::other)
}

/// The P-256 key in a certificate that came alone.
fn key(certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<Public, Error> {
    if !others.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Public::from_spki(&spki).map_err(|_| CertificateError::BadEncoding.into())
}

/// TLS 1.3 suites only. The first key exchange also withstands somebody who records now and has a quantum computer later.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
        Arc::new(provider)
    };
    PROVIDER.get_or_init(make).clone()
}

/// The client's check: exactly this key.
struct Pinned(Fingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if key(end_entity, intermediates)?.fingerprint() == self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

/// The server's check: a P-256 key that may come in. What it may do is asked at each request: an unknown key comes in to
/// enrol, and a key may be revoked while its connection is open.
struct Known(Greets);

impl ClientCertVerifier for Known {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if (self.0)(key(end_entity, intermediates)?.fingerprint()) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

fn only_13() -> Error {
    Error::General("TLS 1.3 only".into())
}

/// Our certificate, and our key to sign handshakes with: rustls asks the identity and never has a copy.
fn own(identity: &Identity) -> SingleCertAndKey {
    let certificate = CertificateDer::from(identity.certificate().to_vec());
    CertifiedKey::new(vec![certificate], Arc::new(Own(identity.clone()))).into()
}

#[derive(Clone, Debug)]
struct Own(Identity);

impl SigningKey for Own {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public().spki()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Own {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign_raw(message).ok_or_else(|| Error::General("the identity does not sign".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.0).finish()
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

#[cfg(test)]
mod tests;
