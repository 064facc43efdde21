//! Whom we trust on the web, and how TLS is done there: towards sellers and towards operators' URLs.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// One cryptography provider for the whole program, with the two key exchanges every client has.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    use rustls::crypto::aws_lc_rs;
    static PROVIDER: std::sync::OnceLock<Arc<rustls::crypto::CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            let kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1];
            Arc::new(rustls::crypto::CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
        })
        .clone()
}

/// Whom we trust towards sellers.
pub(crate) struct Roots {
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// The system's roots (`SSL_CERT_FILE` is honoured), Mozilla's if there are none, and the configured extra files.
    pub(crate) fn load(extra: &[std::path::PathBuf]) -> Result<Self> {
        let mut certificates = rustls_native_certs::load_native_certs().certs;
        if certificates.is_empty() {
            certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
        }
        for path in extra {
            let context = || format!("tls.extra_roots: cannot read certificates from {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
                certificates.push(certificate.with_context(context)?);
            }
        }
        Ok(Self { certificates })
    }

    /// All of them, for clients that take one file.
    pub(crate) fn pem(&self) -> String {
        use base64::Engine as _;
        let mut out = String::with_capacity(self.certificates.len() * 2048);
        for certificate in &self.certificates {
            let body = base64::engine::general_purpose::STANDARD.encode(certificate);
            out.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in body.as_bytes().chunks(64) {
                out.push_str(std::str::from_utf8(line).unwrap_or_default());
                out.push('\n');
            }
            out.push_str("-----END CERTIFICATE-----\n");
        }
        out
    }

    /// The certificates, DER.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    /// The client side: certificates always verified. One for each `alpn`, which is what it offers (RFC 7301).
    pub(crate) fn clients<const N: usize>(&self, alpn: [Vec<Vec<u8>>; N]) -> Result<[Arc<ClientConfig>; N]> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.certificates.iter().cloned());
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(alpn.map(|alpn| {
            let mut config = config.clone();
            config.alpn_protocols = alpn;
            Arc::new(config)
        }))
    }
}

/// A TLS client of the web's kind.
#[derive(Clone)]
pub(super) struct Connector(tokio_rustls::TlsConnector);

impl Connector {
    pub(super) fn new(config: Arc<ClientConfig>) -> Self {
        Self(config.into())
    }

    /// The handshake with `host`, a name or an address.
    pub(super) async fn connect<S>(&self, host: &str, stream: S) -> std::io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
