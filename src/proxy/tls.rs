//! TLS on both sides: leaves minted from our own CA towards the agent, verified certificates towards the seller.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use crate::net::tls::provider;
use crate::policy::Host;

/// Most leaves cached; past it the cache starts anew (minting one takes well under a millisecond).
const MAX_LEAVES: usize = 4096;

/// A leaf is minted anew after this long, well within its life.
const REMINT: Duration = Duration::from_secs(3 * 24 * 3600);

/// Which name a certificate is for.
pub(super) enum Names {
    /// This one, whatever the hello asks for.
    Only(Host),
    /// The one that the hello asks for, or this.
    Asked { or: Host },
}

/// The certificate authority of this instance, and the leaves it minted. One leaf key for all names.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    keys: Arc<OnceLock<Result<Keys>>>,
    leaves: Mutex<HashMap<Host, (Arc<ServerConfig>, Instant)>>,
    http2: bool,
}

/// What lives as long as the process.
struct Keys {
    leaf: KeyPair,
    /// The leaf key as the TLS library wants it: reading it costs more than all the rest of a new name.
    signing: Arc<dyn SigningKey>,
    /// Everything but the certificate: tickets and sessions are one for all names.
    config: ServerConfig,
}

impl Keys {
    fn make(http2: bool) -> Result<Self> {
        let leaf = KeyPair::generate()?;
        let signing = provider().key_provider.load_private_key(PrivateKeyDer::Pkcs8(leaf.serialize_der().into()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certified(Vec::new(), &signing));
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        config.alpn_protocols = alpn(http2);
        Ok(Self { leaf, signing, config })
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &Arc<dyn SigningKey>) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key.clone())))
}

/// The certificate that agents trust, and its key.
pub(super) struct Ca {
    pub(super) pem: String,
    key: String,
}

impl Ca {
    /// Loads the CA of an earlier start, or makes one: `private/ca.key` (0600) and `trust/ca.pem`.
    pub(super) fn open(private: &Path, trust: &Path) -> Result<Self> {
        let key_path = private.join("ca.key");
        let cert_path = trust.join("ca.pem");
        fs::create_dir_all(trust).with_context(|| format!("cannot create {}", trust.display()))?;
        fs::set_permissions(trust, fs::Permissions::from_mode(0o755))?;
        match (fs::read_to_string(&key_path), fs::read_to_string(&cert_path)) {
            (Ok(key), Ok(pem)) => Ok(Self { pem, key }),
            _ => make_ca(&key_path, &cert_path),
        }
    }
}

impl Authority {
    /// `http2`: agents may speak that too.
    pub(super) fn new(ca: &Ca, http2: bool) -> Result<Self> {
        let key = KeyPair::from_pem(&ca.key).context("private/ca.key is not a PEM key")?;
        let issuer = Issuer::from_ca_cert_pem(&ca.pem, key).context("trust/ca.pem is not a CA certificate")?;
        let keys = Arc::<OnceLock<_>>::default();
        // The library's first random bytes cost it tens of milliseconds. No start waits for them: whoever comes first, does.
        let made = keys.clone();
        std::thread::Builder::new().name("tollpass-keys".into()).spawn(move || {
            made.get_or_init(|| Keys::make(http2));
        })?;
        Ok(Self { issuer, keys, leaves: Mutex::default(), http2 })
    }

    /// The server configuration for a name, minted on first use.
    pub(super) fn server(&self, host: &Host) -> Result<Arc<ServerConfig>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, at)) = leaves.get(host)
            && at.elapsed() < REMINT
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.mint(host)?);
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        leaves.insert(host.clone(), (config.clone(), Instant::now()));
        Ok(config)
    }

    fn mint(&self, host: &Host) -> Result<ServerConfig> {
        let keys = self.keys.get_or_init(|| Keys::make(self.http2)).as_ref().map_err(|error| anyhow!("no leaf key: {error:#}"))?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_ref().try_into()?),
            Host::Ip(ip) => SanType::IpAddress(*ip),
        }];
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Back-dated for agents whose clock is behind.
        params.not_before = std::time::SystemTime::now().checked_sub(Duration::from_secs(3600)).map_or(params.not_before, Into::into);
        params.not_after = (std::time::SystemTime::now() + Duration::from_secs(7 * 24 * 3600)).into();
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&keys.leaf, &self.issuer)?;
        let mut config = keys.config.clone();
        config.cert_resolver = certified(vec![leaf.der().clone()], &keys.signing);
        Ok(config)
    }
}

/// What is offered in a TLS handshake, the preferred first (RFC 7301).
pub(super) fn alpn(http2: bool) -> Vec<Vec<u8>> {
    let http1 = b"http/1.1".to_vec();
    if http2 { vec![b"h2".to_vec(), http1] } else { vec![http1] }
}

fn make_ca(key_path: &Path, cert_path: &Path) -> Result<Ca> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut name = DistinguishedName::new();
    // A random part, so that two instances' authorities are never taken for one another.
    let suffix: u32 = rand::random();
    name.push(DnType::CommonName, format!("Tollpass instance CA {suffix:08x}"));
    name.push(DnType::OrganizationName, "Tollpass");
    params.distinguished_name = name;
    params.not_after = (std::time::SystemTime::now() + Duration::from_secs(5 * 365 * 24 * 3600)).into();
    let ca = Ca { pem: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
    write_atomic(key_path, ca.key.as_bytes(), 0o600)?;
    write_atomic(cert_path, ca.pem.as_bytes(), 0o644)?;
    Ok(ca)
}

/// Replaces a file whole: readers see the old one or the new one.
pub(super) fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let temp = path.with_extension("new");
    let context = || format!("cannot write {}", path.display());
    let _ = fs::remove_file(&temp);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp).with_context(context)?;
    file.write_all(content).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&temp, path).with_context(context)
}

/// The name to verify a seller's certificate against.
pub(super) fn server_name(host: &Host) -> Option<rustls::pki_types::ServerName<'static>> {
    match host {
        Host::Name(name) => rustls::pki_types::ServerName::try_from(name.to_string()).ok(),
        Host::Ip(IpAddr::V4(ip)) => Some(rustls::pki_types::ServerName::from(IpAddr::V4(*ip))),
        Host::Ip(ip) => Some(rustls::pki_types::ServerName::from(*ip)),
    }
}
