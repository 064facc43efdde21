//! Who a process is: a P-256 key made locally, its self-signed certificate, and the fingerprint people compare (S6, S11).

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::mpc::Fingerprint;

/// A private identity: signs envelopes and opens TLS.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    public: Public,
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
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`IdentityError::Key`] if the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        todo!()
    }

    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`IdentityError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let _ = pem;
        todo!()
    }

    /// The PKCS#8 PEM, for a file of mode 0400.
    pub fn to_pem(&self) -> Zeroizing<String> {
        todo!()
    }

    /// The public half.
    pub fn public(&self) -> &Public {
        &self.inner.public
    }

    /// Signs `context ‖ bytes` (ECDSA P-256 with SHA-256, ASN.1). Contexts are distinct constants such as `tollpass/intent/1`.
    pub fn sign(&self, context: &'static str, bytes: &[u8]) -> Vec<u8> {
        let _ = (context, bytes);
        todo!()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.inner.public.fingerprint).finish()
    }
}

impl Public {
    /// From DER.
    ///
    /// # Errors
    /// [`IdentityError::Public`].
    pub fn from_spki(der: &[u8]) -> Result<Self, IdentityError> {
        let _ = der;
        todo!()
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
        let _ = (context, bytes, signature);
        todo!()
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Public").field(&self.fingerprint).finish()
    }
}
