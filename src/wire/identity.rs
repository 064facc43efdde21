//! Who a process is: a P-256 key made locally, its self-signed certificate, and the fingerprint people compare (S6, S11).

mod file;
mod pem;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use file::{create, load_or_refuse};

use crate::mpc::Fingerprint;

/// DER of a P-256 SubjectPublicKeyInfo up to its uncompressed point (RFC 5480): every accepted key begins with it.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point: 4, x, y.
const POINT: usize = 65;

/// A private identity: signs envelopes and opens TLS. The key lives once in memory, however often this is cloned.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    key: EcdsaKeyPair,
    public: Public,
    certificate: Vec<u8>,
}

/// The public half: DER of the SubjectPublicKeyInfo and its fingerprint.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Public {
    spki: Vec<u8>,
    fingerprint: Fingerprint,
}

/// Not an identity, or a signature that does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a PKCS#8 P-256 key.
    #[error("not an identity key: make one with `tollpass wallet identity`")]
    Key,
    /// Not a P-256 public key.
    #[error("not a P-256 public key")]
    Public,
    /// Another key signed, or another text.
    #[error("the signature does not verify")]
    Signature,
    /// The file is open to more users than its owner and group.
    #[error("its mode is {0:04o}: run chmod 0400")]
    Mode(u32),
    /// The file exists; an identity is never overwritten.
    #[error("it exists already and is not overwritten")]
    Exists,
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(String),
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`IdentityError::Key`] if the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| IdentityError::Key).and_then(Self::new)
    }

    fn new(key: EcdsaKeyPair) -> Result<Self, IdentityError> {
        let spki = [&SPKI_PREFIX, key.public_key().as_ref()].concat();
        let public = Public::from_spki(&spki).map_err(|_| IdentityError::Key)?;
        let certificate = certificate(&key).map_err(|_| IdentityError::Key)?;
        Ok(Self { inner: Arc::new(Inner { key, public, certificate }) })
    }

    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`IdentityError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let der = pem::decode("PRIVATE KEY", pem).ok_or(IdentityError::Key)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).map_err(|_| IdentityError::Key)?;
        Self::new(key)
    }

    /// The PKCS#8 PEM, for a file of mode 0400. Empty, thus not an identity, if the library cannot write the key.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.inner.key.to_pkcs8v1().map(|der| pem::encode("PRIVATE KEY", der.as_ref())).unwrap_or_default()
    }

    /// The public half.
    pub fn public(&self) -> &Public {
        &self.inner.public
    }

    /// The fingerprint of the public half.
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner.public.fingerprint
    }

    /// The self-signed certificate, DER. It only carries the key: names and dates in it mean nothing. Another one at each start.
    pub fn certificate(&self) -> &[u8] {
        &self.inner.certificate
    }

    /// [`Self::certificate`] as PEM, for people and for other programs that want a file.
    pub fn certificate_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.inner.certificate).to_string()
    }

    /// Signs `context` and `bytes` (ECDSA P-256 with SHA-256, ASN.1). Contexts are distinct constants such as
    /// `tollpass/intent/1`, at most 255 bytes; the signed text begins with their length, so none is another's beginning. An
    /// empty signature, which verifies nowhere, if the library fails.
    pub fn sign(&self, context: &'static str, bytes: &[u8]) -> Vec<u8> {
        self.sign_raw(&separated(context, bytes)).unwrap_or_default()
    }

    /// Signs without a context, for TLS only: its text begins with 64 spaces (RFC 8446 §4.4.3), which no context does.
    pub(super) fn sign_raw(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.inner.key.sign(&SystemRandom::new(), bytes).ok().map(|s| s.as_ref().to_vec())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.inner.public.fingerprint).finish()
    }
}

impl Public {
    /// From DER. Only the one encoding with an uncompressed point is taken, so that a key has one fingerprint: with a second
    /// one a revoked key could come back.
    ///
    /// # Errors
    /// [`IdentityError::Public`].
    pub fn from_spki(der: &[u8]) -> Result<Self, IdentityError> {
        let point = der.strip_prefix(&SPKI_PREFIX).ok_or(IdentityError::Public)?;
        if point.len() != POINT || point.first() != Some(&4) {
            return Err(IdentityError::Public);
        }
        // Refuses a point that is not on the curve.
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).parse().map_err(|_| IdentityError::Public)?;
        Ok(Self { spki: der.to_vec(), fingerprint: Fingerprint(Sha256::digest(der).into()) })
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki`].
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Verifies what [`Identity::sign`] made.
    ///
    /// # Errors
    /// [`IdentityError::Signature`].
    pub fn verify(&self, context: &'static str, bytes: &[u8], signature: &[u8]) -> Result<(), IdentityError> {
        let point = self.spki.get(SPKI_PREFIX.len()..).unwrap_or_default();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        key.verify(&separated(context, bytes), signature).map_err(|_| IdentityError::Signature)
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Public").field(&self.fingerprint).finish()
    }
}

/// Length of the context, context, text.
fn separated(context: &'static str, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(context.len()).unwrap_or(u8::MAX);
    debug_assert!(usize::from(length) == context.len(), "a context is a short constant");
    let mut out = Vec::with_capacity(1 + context.len() + bytes.len());
    out.push(length);
    out.extend_from_slice(context.as_bytes());
    out.extend_from_slice(bytes);
    out
}

/// The key as rcgen wants it; a copy of the private key is not made.
struct Signing<'a>(&'a EcdsaKeyPair);

impl rcgen::PublicKeyData for Signing<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signing<'_> {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(&SystemRandom::new(), text).map(|s| s.as_ref().to_vec()).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn certificate(key: &EcdsaKeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "tollpass");
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    Ok(params.self_signed(&Signing(key))?.der().to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_identity_survives_its_pem_and_signs_the_same_way() {
        let identity = Identity::generate().unwrap();
        let again = Identity::from_pem(&identity.to_pem()).unwrap();
        assert_eq!(again.public(), identity.public());
        identity.public().verify("a/1", b"text", &again.sign("a/1", b"text")).unwrap();
        assert!(identity.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
    }

    #[test]
    fn a_signature_holds_for_its_key_its_context_and_its_text_alone() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let signature = one.sign("ab", b"cd");
        one.public().verify("ab", b"cd", &signature).unwrap();
        // The same bytes on end, split elsewhere.
        for (context, text) in [("abc", &b"d"[..]), ("a", b"bcd"), ("", b"abcd"), ("ab", b"cd\0"), ("ac", b"cd")] {
            assert_eq!(one.public().verify(context, text, &signature), Err(IdentityError::Signature), "{context}");
        }
        assert_eq!(two.public().verify("ab", b"cd", &signature), Err(IdentityError::Signature));
        assert_eq!(one.public().verify("ab", b"cd", &[]), Err(IdentityError::Signature));
    }

    #[test]
    fn a_fingerprint_is_the_hash_of_the_key_in_the_certificate() {
        let identity = Identity::generate().unwrap();
        let spki = identity.public().spki();
        assert_eq!(spki.len(), 91);
        assert_eq!(identity.fingerprint().0, <[u8; 32]>::from(Sha256::digest(spki)));
        // The certificate carries exactly this key.
        assert!(identity.certificate().windows(spki.len()).any(|w| w == spki));
    }

    #[test]
    fn a_key_has_one_encoding() {
        let good = Identity::generate().unwrap().public().spki().to_vec();
        assert!(Public::from_spki(&good).is_ok());
        let mut compressed = good[..SPKI_PREFIX.len()].to_vec();
        compressed.push(2 + (good[90] & 1));
        compressed.extend_from_slice(&good[27..59]);
        let mut off_curve = good.clone();
        off_curve[90] ^= 1;
        let longer = [&good[..], &[0]].concat();
        for bad in [&compressed[..], &off_curve, &longer, &good[..90], &good[26..], &[]] {
            assert_eq!(Public::from_spki(bad), Err(IdentityError::Public), "{} bytes", bad.len());
        }
    }

    #[test]
    fn a_key_of_another_curve_is_not_an_identity() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        for bad in [&p384[..], &ed, "", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(Identity::from_pem(bad).unwrap_err(), IdentityError::Key);
        }
    }

    #[test]
    fn debug_output_shows_the_fingerprint_and_nothing_of_the_key() {
        let identity = Identity::generate().unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity(Fingerprint({}))", identity.fingerprint()));
    }
}
