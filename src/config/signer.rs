//! `signer:`, and what both ends of a threshold signature write the same way.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::scalar::{count, flag, some_time, text};
use super::tree::{Keys, Node, Section, Value};
use super::value::private_key;
use super::{MpcConfig, Pin, Secret, SignerConfig};
use crate::custody::Unseal;
use crate::mpc::WalletId;

const SIGNER: Keys = Keys { known: &["mpc", "local"], later: &["gateway"] };
const LOCAL: Keys = Keys { known: &["key"], later: &[] };
const MPC: Keys = Keys {
    known: &["wallet", "share", "unseal", "identity", "ca", "pin", "cosigner", "deadline", "accept_unreviewed_presign", "pool"],
    later: &[],
};

/// Presignatures kept ready unless the file says otherwise (mpc.md §5: small pools).
const POOL: usize = 32;
/// Most of them: what a co-signer keeps for one identity.
const MAX_POOL: i128 = 96;

impl Reader<'_> {
    pub(super) fn signer(&mut self, top: &Section<'_>) -> Option<SignerConfig> {
        let form = "write `signer: { mpc: { wallet: … } }`, or for trials `signer: { local: { key: env:TOLLPASS_DEV_KEY } }`";
        let Some(node) = top.get("signer") else {
            self.problems.at(top.at, format!("`signer` is missing: {form}"));
            return None;
        };
        let s = Section::open(node, "signer", SIGNER, &mut self.problems);
        match (s.get("mpc"), s.get("local")) {
            (Some(_), Some(_)) => {
                self.problems.at(s.place("local"), "`signer` has two kinds: keep either `mpc` or `local`");
                None
            }
            (Some(mpc), None) => self.mpc(mpc).map(|config| SignerConfig::Mpc(Box::new(config))),
            (None, Some(local)) => self.local(local),
            (None, None) => {
                // A later kind of signer, or a wrong shape, was named already.
                if matches!(&node.value, Value::Null) || matches!(&node.value, Value::Map(m) if m.is_empty()) {
                    self.problems.at(node.at, format!("`signer` is empty: {form}"));
                }
                None
            }
        }
    }

    fn local(&mut self, node: &Node) -> Option<SignerConfig> {
        let local = Section::open(node, "signer.local", LOCAL, &mut self.problems);
        let Some(node) = local.get("key") else {
            self.problems.at(local.at, "`signer.local.key` is missing: write `key: env:TOLLPASS_DEV_KEY` or `key: file:PATH`");
            return None;
        };
        match self.secret(node, private_key) {
            Ok(key) => Some(SignerConfig::Local { key }),
            Err(message) => {
                self.problems.at(node.at, format!("`signer.local.key`: {message}"));
                None
            }
        }
    }

    fn mpc(&mut self, node: &Node) -> Option<MpcConfig> {
        let s = Section::open(node, "signer.mpc", MPC, &mut self.problems);
        let wallet = self.need(&s, "wallet", "write the name that `tollpass wallet show` prints", |_, n| wallet(n));
        let share = self.need(&s, "share", "write `share: file:PATH`, the folder that `tollpass wallet create` filled", Self::file_at);
        let unseal = self.need(&s, "unseal", UNSEAL, Self::unseal);
        let identity = self.need(&s, "identity", "write `identity: file:PATH`, the key that `tollpass wallet enroll` made", Self::file_at);
        let cosigner = self.need(&s, "cosigner", "write `cosigner: \"https://HOST:7402\"`", |_, n| authority(n));
        let pin = match (s.get("pin"), s.get("ca")) {
            (Some(_), Some(_)) => {
                self.problems.at(s.place("ca"), "`pin` and `ca` both say who the co-signer is: keep one");
                None
            }
            (None, Some(_)) => self.need(&s, "ca", "", |r, n| r.file_at(n).map(Pin::Certificate)),
            _ => {
                self.need(&s, "pin", "write `pin: FINGERPRINT`, the 64 hex digits on the co-signer's screen, or `ca: file:PATH`", |_, n| {
                    text(n)?.parse().map(Pin::Fingerprint).map_err(|e: crate::mpc::FingerprintError| e.to_string())
                })
            }
        };
        let p = &mut self.problems;
        let deadline = s.read("deadline", Duration::from_secs(2), p, some_time);
        let presign = s.read("accept_unreviewed_presign", false, p, flag);
        let pool = s.read("pool", POOL, p, |n| count(n, MAX_POOL));
        if s.get("pool").is_some() && !presign {
            p.at(
                s.place("pool"),
                "`pool` is of presignatures, which no cryptographer has reviewed: remove it, or add `accept_unreviewed_presign: true`",
            );
        }
        let pool = if presign { pool } else { 0 };
        Some(MpcConfig {
            wallet: wallet?,
            share: share?,
            unseal: unseal?,
            identity: identity?,
            cosigner: cosigner?,
            pin: pin?,
            deadline,
            pool,
        })
    }

    /// `file:PATH`, relative to the folder of the file.
    pub(crate) fn file_at(&self, node: &Node) -> Result<PathBuf, String> {
        match text(node)?.strip_prefix("file:") {
            Some(rest) if !rest.is_empty() => Ok(self.folder.join(rest)),
            _ => Err("write file:PATH".into()),
        }
    }

    /// `env:NAME`, `file:PATH` or `exec:PROGRAM ARGUMENTS`. The program is run when the share is opened, not while reading.
    pub(crate) fn unseal(&self, node: &Node) -> Result<Unseal, String> {
        let given = text(node).map_err(|_| UNSEAL.to_owned())?;
        match given.split_once(':') {
            Some(("exec", command)) if !command.trim().is_empty() => {
                Ok(Unseal::Exec(command.split_whitespace().map(str::to_owned).collect()))
            }
            Some(("file", rest)) if !rest.is_empty() => Ok(Unseal::File(self.folder.join(rest))),
            Some(("env", _)) => self.secret(node, Ok::<Secret, String>).map(Unseal::Value),
            _ => Err(UNSEAL.into()),
        }
    }
}

pub(crate) const UNSEAL: &str =
    "what opens the share is never written into this file, nor kept beside the share: write env:NAME, file:PATH or exec:PROGRAM";

pub(crate) fn wallet(node: &Node) -> Result<WalletId, String> {
    text(node)?.parse().map_err(|e: crate::mpc::WalletIdError| e.to_string())
}

/// `https://host:port` → `host:port`.
fn authority(node: &Node) -> Result<String, String> {
    let form = "write https://HOST:PORT, such as https://cosigner.example:7402";
    let given = text(node).map_err(|_| form.to_owned())?;
    let rest = given.strip_prefix("https://").ok_or(form)?.trim_end_matches('/');
    let uri: http::Uri = format!("https://{rest}").parse().map_err(|_| form.to_owned())?;
    match (uri.host(), uri.port_u16(), uri.path()) {
        (Some(_), Some(_), "/") if !rest.contains('@') => Ok(rest.to_owned()),
        _ => Err(form.into()),
    }
}
