//! `cosigner.yaml`: read once, frozen until the process ends; the policy is hot. Same reader, same rules as `tollpass.yaml`:
//! every mistake at once with its place, unknown keys refused, secrets only by `env:`, `file:` or `exec:`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::reader::{Env, Reader};
use crate::config::scalar::{address, address_or_none, flag, path, text, time};
use crate::config::signer::UNSEAL;
use crate::config::tree::{Keys, Node, Section, Value};
use crate::config::{ConfigError, Secret, text_of};
use crate::custody::Unseal;
use crate::payment::ChainId;
use crate::policy::PolicyKey;

const TOP: Keys = Keys {
    known: &[
        "version",
        "listen",
        "admin",
        "health",
        "state",
        "ledger",
        "wallet",
        "identity",
        "policy",
        "policy_keys",
        "presign",
        "chains",
        "accept_unaudited",
        "probe",
        "drain",
    ],
    later: &["otlp", "webhooks", "approvals"],
};
const WALLET: Keys = Keys { known: &["share", "unseal"], later: &["acceptSingleDomain"] };
const PRESIGN: Keys = Keys { known: &["accept_unreviewed_presign"], later: &[] };
const LEDGER: Keys = Keys { known: &["ephemeral"], later: &["store", "url"] };
const CHAIN: Keys = Keys { known: &["rpc"], later: &["agree"] };

/// The whole start-up configuration of a co-signer.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where share holders connect.
    pub listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics` on loopback; `none` turns it off.
    pub admin: Option<SocketAddr>,
    /// The same for probes and scrapes from other hosts; off unless set.
    pub health: Option<SocketAddr>,
    /// The state folder.
    pub state: PathBuf,
    /// A memory file system will do (M1.9).
    pub ephemeral_ok: bool,
    /// Folder of share 2.
    pub share: PathBuf,
    /// What opens it.
    pub unseal: Unseal,
    /// PEM of the identity key.
    pub identity: PathBuf,
    /// The policy file, or a folder of them.
    pub policy: PathBuf,
    /// Who may loosen the policy; empty: nothing has to be signed.
    pub policy_keys: Vec<PolicyKey>,
    /// Takes presignatures, which no cryptographer has reviewed (S9).
    pub presign: bool,
    /// Where to ask for the wallet's balance (S10).
    pub chains: Vec<Chain>,
    /// More than 100 USD may stay in the wallet (S10).
    pub accept_unaudited: bool,
    /// Socket of the probe, a process without a share (S4).
    pub probe: Option<PathBuf>,
    /// How long a stop waits for running requests.
    pub drain: Duration,
}

/// A chain and its RPC endpoint.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Which.
    pub id: ChainId,
    /// URL; it may carry a key.
    pub rpc: Secret,
}

impl Config {
    /// Reads the file and the secrets it names.
    ///
    /// # Errors
    /// Every mistake found, each with its place and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text_of(path)?, &|name| std::env::var(name).ok())
    }

    /// Reads the file but not the secrets it names, which come out empty.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn inspect(path: &Path) -> Result<Self, ConfigError> {
        read(path, &text_of(path)?, None)
    }

    /// Reads `text` as the content of `file`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(file: &Path, text: &str, env: Env<'_>) -> Result<Self, ConfigError> {
        read(file, text, Some(env))
    }

    /// Ledger and store: readable by us alone.
    pub fn private(&self) -> PathBuf {
        self.state.join("private")
    }
}

fn read(file: &Path, text: &str, env: Option<Env<'_>>) -> Result<Config, ConfigError> {
    Reader::read(file, text, env, |r, tree| top(r, file, tree)).map_err(ConfigError)
}

fn top(r: &mut Reader<'_>, file: &Path, tree: &Node) -> Option<Config> {
    let top = r.file(tree, TOP);
    let folder = r.folder.clone();
    let path_in = |node: &Node| path(node, &folder);
    let listen = top.read("listen", SocketAddr::from(([127, 0, 0, 1], 7402)), &mut r.problems, |n| address(n, "\"0.0.0.0:7402\""));
    let admin = Some(SocketAddr::from(([127, 0, 0, 1], 9412)));
    let admin = top.read("admin", admin, &mut r.problems, |n| address_or_none(n, "127.0.0.1:9412"));
    let health = top.read("health", None, &mut r.problems, |n| address_or_none(n, "\"0.0.0.0:9413\""));
    if admin.is_some_and(|a| !a.ip().is_loopback()) {
        r.problems.at(top.place("admin"), "`admin` must be a loopback address such as 127.0.0.1:9412; for other hosts set `health`");
    }
    let state = top.read("state", PathBuf::from("/var/lib/tollpass-cosigner"), &mut r.problems, path_in);
    let policy = top.read("policy", folder.join("policy.yaml"), &mut r.problems, path_in);
    let policy_keys = r.policy_keys(&top);
    let accept_unaudited = top.read("accept_unaudited", false, &mut r.problems, flag);
    let drain = top.read("drain", Duration::from_secs(10), &mut r.problems, time);
    let ledger = r.section(&top, "ledger", LEDGER);
    let ephemeral_ok =
        ledger.read("ephemeral", false, &mut r.problems, |n| crate::config::scalar::choice(n, &[("refuse", false), ("accept", true)]));
    let presign = r.section(&top, "presign", PRESIGN).read("accept_unreviewed_presign", false, &mut r.problems, flag);
    let identity = r.need(&top, "identity", "write `identity: file:PATH`, the key that `tollpass wallet create` made", Reader::file_at);
    let probe = if top.get("probe").is_some() { r.need(&top, "probe", "", Reader::file_at) } else { None };
    let chains = chains(r, &top);
    let (share, unseal) = wallet(r, &top)?;
    Some(Config {
        file: file.to_path_buf(),
        listen,
        admin,
        health,
        state,
        ephemeral_ok,
        share,
        unseal,
        identity: identity?,
        policy,
        policy_keys,
        presign,
        chains,
        accept_unaudited,
        probe,
        drain,
    })
}

fn wallet(r: &mut Reader<'_>, top: &Section<'_>) -> Option<(PathBuf, Unseal)> {
    let Some(node) = top.get("wallet") else {
        r.problems.at(top.at, "`wallet` is missing: write `wallet: { share: file:PATH, unseal: env:NAME }`");
        return None;
    };
    let s = Section::open(node, "wallet", WALLET, &mut r.problems);
    let share = r.need(&s, "share", "write `share: file:PATH`, the folder that `tollpass wallet create` filled", Reader::file_at);
    let unseal = r.need(&s, "unseal", UNSEAL, Reader::unseal);
    Some((share?, unseal?))
}

fn chains(r: &mut Reader<'_>, top: &Section<'_>) -> Vec<Chain> {
    let form = "write `chains: { \"eip155:8453\": { rpc: env:RPC_URL } }`";
    let Some(node) = top.get("chains") else { return Vec::new() };
    let Value::Map(entries) = &node.value else {
        r.problems.at(node.at, form);
        return Vec::new();
    };
    let mut all = Vec::new();
    for (key, value) in entries {
        let Ok(id) = key.text.parse::<ChainId>() else {
            r.problems.at(key.at, format!("`chains`: not a chain id: {form}"));
            continue;
        };
        let s = Section::open(value, "chains.*", CHAIN, &mut r.problems);
        let rpc = r.need(&s, "rpc", "write `rpc: env:RPC_URL` or `rpc: \"http://127.0.0.1:8545\"`", |r, n| match text(n) {
            Ok(url) if url.starts_with("http://") || url.starts_with("https://") => Ok(Secret::new(url)),
            _ => r.secret(n, Ok),
        });
        all.extend(rpc.map(|rpc| Chain { id, rpc }));
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "version: 1\nlisten: \"0.0.0.0:7402\"\nstate: state\nwallet: { share: file:s/w1, unseal: env:OPEN }\nidentity: file:s/id.pem\n\
                        policy: policy.yaml\npresign: { accept_unreviewed_presign: true }\nchains: { \"eip155:8453\": { rpc: env:RPC } }\n";

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        let env = |name: &str| Some(format!("https://canary.example/{name}"));
        Config::parse(Path::new("/etc/c/cosigner.yaml"), text, &env).map_err(|e| e.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_whole_file_is_read_relative_to_its_folder_and_shows_no_secret() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.share, Path::new("/etc/c/s/w1"));
        assert_eq!(config.private(), Path::new("/etc/c/state/private"));
        assert!(config.presign && !config.accept_unaudited);
        assert_eq!(config.chains[0].id.to_string(), "eip155:8453");
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn every_mistake_has_its_place_and_says_what_to_write() {
        for (from, to, says) in [
            ("wallet: {", "walet: {", "did you mean `wallet`?"),
            ("env:OPEN", "hunter2", "write env:NAME, file:PATH or exec:PROGRAM"),
            ("file:s/w1", "s/w1", "write file:PATH"),
            ("identity: file:s/id.pem\n", "", "`identity` is missing"),
            ("eip155:8453", "base", "not a chain id"),
            ("policy: policy.yaml", "admin: \"0.0.0.0:9412\"", "must be a loopback address"),
            ("policy: policy.yaml", "webhooks: x", "is not in this version"),
        ] {
            let errors = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(errors.iter().any(|e| e.starts_with("/etc/c/cosigner.yaml:") && e.contains(says)), "{to}: {errors:?}");
            assert!(!errors.iter().any(|e| e.contains("hunter2")), "{errors:?}");
        }
    }
}
