//! Certificates on both sides: what we show to agents, whom we trust towards sellers, and the files that tell agents' programs.
//!
//! None of it depends on policy or ledger, and parsing the roots takes time: so it is prepared beside the rest of a start.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::tls::{Authority, Ca, alpn, write_atomic};
use super::truststore;
use super::upstream::Configs;
use crate::config::Config;
use crate::net::tls::Roots;

/// What TLS needs.
pub(crate) struct Trust {
    pub(super) authority: Authority,
    pub(super) configs: Configs,
}

impl Trust {
    /// Loads the CA of an earlier start, or makes one; loads the roots; writes the files of `trust/` that are not up to date. Only
    /// who holds the ledger's lock may make a CA.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn prepare(config: &Config) -> Result<Self> {
        let ca = Ca::open(&config.private(), &config.trust())?;
        let authority = Authority::new(&ca, config.upstream.http2)?;
        let roots = Roots::load(&config.tls.extra_roots)?;
        write_files(&config.trust(), &roots, &ca.pem)?;
        let [http1, both] = roots.clients([alpn(false), alpn(true)])?;
        Ok(Self { authority, configs: Configs { http1, both } })
    }
}

/// The system's roots and ours in one file each, for programs that take one file only: PEM, and PKCS#12 for Java.
fn write_files(trust: &Path, roots: &Roots, ca: &str) -> Result<()> {
    let mut bundle = roots.pem();
    bundle.push_str(ca);
    write_if_changed(&trust.join("bundle.pem"), bundle.as_bytes())?;
    let ours = CertificateDer::from_pem_slice(ca.as_bytes()).context("ca.pem is not a certificate")?;
    let theirs = roots.certificates().enumerate().map(|(n, der)| (format!("root-{n:03}"), der));
    let store = truststore::encode(theirs.chain([("tollpass".to_owned(), ours.as_ref())]));
    write_if_changed(&trust.join("truststore.p12"), &store)
}

/// Leaves a file alone that is right: a start with existing state syncs nothing, and readers keep what they have open.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    write_atomic(path, content, 0o644)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn config(dir: &Path, more: &str) -> Config {
        let text = format!(
            "version: 1\nlisten: {{ proxy: 127.0.0.1:0 }}\nstate: state\npolicy: policy.yaml\nagents: {{ default: bot }}\n\
             signer: {{ local: {{ key: env:K }} }}\n{more}"
        );
        let config = Config::parse(&dir.join("tollpass.yaml"), &text, &|_| Some("11".repeat(32))).unwrap();
        crate::state::prepare(&config).unwrap();
        config
    }

    #[test]
    fn files_are_written_once_and_again_only_when_the_roots_change() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["ca.pem", "bundle.pem", "truststore.p12"];
        let seen = |config: &Config| files.map(|f| fs::metadata(config.trust().join(f)).unwrap().ino());
        let first = config(dir.path(), "");
        Trust::prepare(&first).unwrap();
        let before = seen(&first);
        Trust::prepare(&first).unwrap();
        assert_eq!(seen(&first), before);

        let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
        fs::write(dir.path().join("roots.pem"), other.cert.pem()).unwrap();
        let second = config(dir.path(), "tls: { extra_roots: [roots.pem] }\n");
        Trust::prepare(&second).unwrap();
        let after = seen(&second);
        assert_eq!(after[0], before[0], "the CA stays");
        assert!(after[1] != before[1] && after[2] != before[2]);
    }
}
