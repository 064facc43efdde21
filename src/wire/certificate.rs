//! A peer's certificate as a pin: the key in it counts, nothing else does (S11).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;

use super::identity::{IdentityError, Public};

impl Public {
    /// The key in the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`IdentityError::Public`] if there is none, or it is not P-256.
    pub fn from_certificate_pem(pem: &str) -> Result<Self, IdentityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::Public)?;
        let parsed = ParsedCertificate::try_from(&der).map_err(|_| IdentityError::Public)?;
        Self::from_spki(parsed.subject_public_key_info().as_ref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::identity::Identity;

    #[test]
    fn a_certificate_pins_its_key() {
        let identity = Identity::generate().unwrap();
        let public = Public::from_certificate_pem(&identity.certificate_pem()).unwrap();
        assert_eq!(public.fingerprint(), identity.public().fingerprint());
        assert!(Public::from_certificate_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
