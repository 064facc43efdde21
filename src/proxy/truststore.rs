//! A PKCS#12 file (RFC 7292) of trusted certificates, for Java. Nothing in it is secret: the certificates are not encrypted,
//! and the password is the one everybody uses, for Java checks the file against it.

use aws_lc_rs::{digest, hmac};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag, construct_der};

/// What Java expects where nothing else is said.
const PASSWORD: &str = "changeit";

/// Of no use with a known password; readers ask for some.
const ITERATIONS: u32 = 1000;

const DATA: &[u64] = &[1, 2, 840, 113549, 1, 7, 1];
const CERT_BAG: &[u64] = &[1, 2, 840, 113549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113549, 1, 9, 20];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
/// Java takes a certificate without a key for trusted only with this attribute (Oracle's `trustedKeyUsage`).
const TRUSTED_KEY_USAGE: &[u64] = &[2, 16, 840, 1, 113894, 746875, 1, 1];
const ANY_USAGE: &[u64] = &[2, 5, 29, 37, 0];

/// The file: one entry per alias. The same certificates give the same bytes.
pub(super) fn encode<'a>(certificates: impl Iterator<Item = (String, &'a [u8])>) -> Vec<u8> {
    let bags = construct_der(|w| {
        w.write_sequence_of(|w| certificates.for_each(|(alias, der)| write_bag(w.next(), &alias, der)));
    });
    let safe = construct_der(|w| w.write_sequence_of(|w| write_data(w.next(), &bags)));
    let salt = digest::digest(&digest::SHA256, &safe);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &mac_key(salt.as_ref()));
    let mac = hmac::sign(&key, &safe);
    construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_u8(3);
            write_data(w.next(), &safe);
            w.next().write_sequence(|w| {
                w.next().write_sequence(|w| {
                    w.next().write_sequence(|w| {
                        w.next().write_oid(&oid(SHA256));
                        w.next().write_null();
                    });
                    w.next().write_bytes(mac.as_ref());
                });
                w.next().write_bytes(salt.as_ref());
                w.next().write_u32(ITERATIONS);
            });
        });
    })
}

/// One certificate with its name, marked as trusted.
fn write_bag(w: DERWriter<'_>, alias: &str, der: &[u8]) {
    w.write_sequence(|w| {
        w.next().write_oid(&oid(CERT_BAG));
        w.next().write_tagged(Tag::context(0), |w| {
            w.write_sequence(|w| {
                w.next().write_oid(&oid(X509_CERTIFICATE));
                w.next().write_tagged(Tag::context(0), |w| w.write_bytes(der));
            });
        });
        w.next().write_set_of(|w| {
            w.next().write_sequence(|w| {
                w.next().write_oid(&oid(FRIENDLY_NAME));
                w.next().write_set_of(|w| w.next().write_bmp_string(alias));
            });
            w.next().write_sequence(|w| {
                w.next().write_oid(&oid(TRUSTED_KEY_USAGE));
                w.next().write_set_of(|w| w.next().write_oid(&oid(ANY_USAGE)));
            });
        });
    });
}

/// `ContentInfo` of type `data`.
fn write_data(w: DERWriter<'_>, content: &[u8]) {
    w.write_sequence(|w| {
        w.next().write_oid(&oid(DATA));
        w.next().write_tagged(Tag::context(0), |w| w.write_bytes(content));
    });
}

/// The key of the MAC (RFC 7292 appendix B.2, with SHA-256): one block is enough for it.
fn mac_key(salt: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    const FOR_MAC: u8 = 3;
    let password: Vec<u8> = PASSWORD.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let repeated = |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().cycle().take(bytes.len().div_ceil(BLOCK) * BLOCK).collect() };
    let mut state = [vec![FOR_MAC; BLOCK], repeated(salt), repeated(&password)].concat();
    for _ in 0..ITERATIONS {
        state = digest::digest(&digest::SHA256, &state).as_ref().to_vec();
    }
    let mut key = [0; 32];
    key.copy_from_slice(&state);
    key
}

fn oid(arcs: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(arcs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Computed apart from this code, with Python's hashlib.
    #[test]
    fn the_mac_key_is_that_of_the_rfc() {
        let key: String = mac_key(&[7; 32]).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(key, "5281eddaa37762e1d508b36e9264be7377d36b3212ffca93bdc02cc2f7af5c35");
    }

    #[test]
    fn the_same_certificates_give_the_same_file_and_each_is_in_it() {
        let certificates = [("a".to_owned(), &b"first"[..]), ("tollpass".to_owned(), &b"second"[..])];
        let file = encode(certificates.clone().into_iter());
        assert_eq!(file, encode(certificates.into_iter()));
        for part in [&b"first"[..], b"second", b"\0t\0o\0l\0l\0p\0a\0s\0s"] {
            assert!(file.windows(part.len()).any(|w| w == part));
        }
    }
}
