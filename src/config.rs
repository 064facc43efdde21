//! Start-up configuration: read once, frozen until the process ends. What may change while running is the policy and the
//! token file, which have their own types and reload.
//!
//! Every mistake of the file is reported at once, each with file, line, column and what to write instead. Keys that this
//! version does not know, or does not implement yet, are refused, never ignored. Secrets come from the environment or a
//! file (`env:NAME`, `file:PATH`), never from the text itself, and are never printed. Relative paths start at the folder
//! of the file. Only the composition root reads this type; every other part gets the values it needs.

mod parent;
mod read;
pub(crate) mod reader;
pub(crate) mod scalar;
pub(crate) mod signer;
pub(crate) mod tree;
pub(crate) mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use parent::Bypass;
pub use tree::Problem;
pub(crate) use value::duration;
pub use value::{Cidr, Origin, Secret};

use crate::custody::Unseal;
use crate::mpc::{Fingerprint, WalletId};
use crate::payment::AgentId;
use crate::policy::{Host, PolicyKey};

/// The whole start-up configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// The state folder.
    pub state: PathBuf,
    /// How to keep the ledger.
    pub ledger: LedgerConfig,
    /// The policy file, or a folder of them.
    pub policy: PathBuf,
    /// Who may loosen the policy; empty: nothing has to be signed.
    pub policy_keys: Vec<PolicyKey>,
    /// Which tunnels are opened, and whom to trust upstream.
    pub tls: TlsConfig,
    /// Who may call.
    pub agents: AgentsConfig,
    /// Who signs.
    pub signer: SignerConfig,
    /// Redirected connections.
    pub transparent: TransparentConfig,
    /// The leg towards sellers.
    pub upstream: UpstreamConfig,
    /// Bounds on what anyone may make us hold.
    pub limits: Limits,
    /// How long a stop waits.
    pub drain: Drain,
    /// What metrics show.
    pub metrics: MetricsConfig,
    /// Whether requests are logged one by one.
    pub access_log: AccessFormat,
    /// The operator's API on `listen.admin`.
    pub admin: AdminConfig,
    /// How much of the decision log is kept.
    pub decision_log: DecisionLogConfig,
    /// A draft that judges along without any effect (hot).
    pub policy_shadow: Option<PathBuf>,
}

/// How much of the decision log is kept, under `<state>/private/decisions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionLogConfig {
    /// Bytes of one file.
    pub size: u64,
    /// How many files; 0 turns it off.
    pub files: usize,
}

/// Listening addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The proxy itself.
    pub proxy: SocketAddr,
    /// Admin listener, loopback only; `none` turns it off.
    pub admin: Option<SocketAddr>,
    /// Read-only probes and metrics for other hosts; off unless set.
    pub health: Option<SocketAddr>,
    /// The proxy over TLS, with a certificate of our CA; off unless set.
    pub https: Option<SocketAddr>,
    /// SOCKS5; off unless set.
    pub socks: Option<SocketAddr>,
    /// Where redirected connections arrive; off unless set.
    pub transparent: Option<SocketAddr>,
}

/// Redirected connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransparentConfig {
    /// What becomes of one that does not say which host it is for.
    pub unnamed: Unnamed,
}

/// What becomes of a redirected connection without a name: TLS without SNI, a protocol we do not know, or silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// It is closed.
    Refuse,
    /// It goes to the address that was dialled.
    Relay,
}

/// Ledger settings. The store is SQLite in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// `ephemeral: accept`: a memory file system will do (M1.9).
    pub ephemeral_ok: bool,
}

/// Which CONNECT tunnels are decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intercept {
    /// Hosts that the policy could pay.
    Allowed,
    /// Every host that is not in `never`.
    All,
    /// None: only plain http can be paid.
    None,
}

/// TLS towards agents and sellers.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Which tunnels are decrypted.
    pub intercept: Intercept,
    /// Host patterns that are never decrypted: `host` or `*.host`.
    pub never: Vec<String>,
    /// PEM files of further roots trusted upstream.
    pub extra_roots: Vec<PathBuf>,
}

/// Callers.
#[derive(Clone, Debug)]
pub struct AgentsConfig {
    /// Who a caller from this machine is when it brings no credentials.
    pub default: Option<AgentId>,
    /// The token file (hot).
    pub tokens: Option<PathBuf>,
}

/// The operator's API on `listen.admin`; the socket in the state folder needs no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// The operators' token file (hot); without it the API answers on the socket alone.
    pub tokens: Option<PathBuf>,
    /// Where people reach `listen.admin` from outside, over a gateway of the operator's: links lead there.
    pub public_url: Option<Origin>,
}

/// The signer.
#[derive(Clone, Debug)]
pub enum SignerConfig {
    /// Share 1 here, share 2 with a co-signer.
    Mpc(Box<MpcConfig>),
    /// A whole key in this process: for laptops, the demo and trials.
    Local {
        /// 32 bytes in hex.
        key: Secret,
    },
}

impl SignerConfig {
    /// Its key in the configuration: shown in log and demo.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Mpc(_) => "mpc",
            Self::Local { .. } => "local",
        }
    }
}

/// One end of a threshold signature.
#[derive(Clone, Debug)]
pub struct MpcConfig {
    /// The wallet's name, as the share must say.
    pub wallet: WalletId,
    /// Folder of the share.
    pub share: PathBuf,
    /// What opens it.
    pub unseal: Unseal,
    /// PEM of our identity key.
    pub identity: PathBuf,
    /// Where the co-signer is: `host:port`.
    pub cosigner: String,
    /// Who it must be.
    pub pin: Pin,
    /// One signature may take this long.
    pub deadline: Duration,
    /// Presignatures to keep ready; 0 unless `accept_unreviewed_presign: true`.
    pub pool: usize,
}

/// By what a peer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// SHA-256 of its public key, 64 hex digits.
    Fingerprint(Fingerprint),
    /// A PEM file with its certificate: the key in it counts, nothing else.
    Certificate(PathBuf),
}

/// A proxy between this one and the sellers.
#[derive(Clone, Debug)]
pub struct ParentConfig {
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// `user:password` for it.
    pub credentials: Option<Secret>,
    /// What is reached without it.
    pub no_proxy: Vec<Bypass>,
}

/// The leg towards sellers.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The proxy in between, if there is one.
    pub parent: Option<ParentConfig>,
    /// Allow private and loopback addresses (never link-local, metadata or our own).
    pub allow_private: bool,
    /// Private ranges that are allowed although `allow_private` is off.
    pub allow_cidrs: Vec<Cidr>,
    /// Largest request body that can be sent again with a payment.
    pub replay_limit: u64,
    /// Memory all such bodies may take together.
    pub replay_memory: u64,
    /// Disk that they may take together when the memory is used up; 0 for none.
    pub replay_disk: u64,
    /// Time to connect.
    pub connect: Duration,
    /// Time to the first byte of the answer.
    pub first_byte: Duration,
    /// Longest silence inside a body.
    pub idle: Duration,
    /// Whether HTTP/2 is spoken, with agents and sellers.
    pub http2: bool,
}

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections.
    pub connections: usize,
    /// Client connections of one agent.
    pub agent_connections: usize,
    /// Requests under way.
    pub requests: usize,
    /// Requests of one agent under way.
    pub agent_requests: usize,
    /// Bytes of a request's head.
    pub header: usize,
    /// Bytes of the head of a seller's answer.
    pub seller_header: usize,
    /// Bytes of a request's body; `u64::MAX` for no limit.
    pub body: u64,
    /// Longest silence of an agent: between two requests, within a head, or taking nothing of an answer.
    pub idle: Duration,
    /// Bytes of a challenge body, decompressed.
    pub challenge: usize,
    /// Time to read a challenge.
    pub challenge_time: Duration,
    /// Identical paid requests in flight.
    pub identical: usize,
}

/// How long a stop waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For requests that cost nothing.
    pub unpaid: Duration,
    /// For requests that were paid.
    pub paid: Duration,
}

/// How requests are logged one by one, on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// They are not.
    Off,
    /// Values with blanks between.
    Text,
    /// One object per line.
    Json,
}

/// What metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `agents: all`: also agents without a policy get a label of their own.
    pub all_agents: bool,
}

/// Everything wrong with a file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

impl Config {
    /// Reads the file and the secrets it names.
    ///
    /// # Errors
    /// Every mistake found, each with its place and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text_of(path)?, &|name| std::env::var(name).ok())
    }

    /// Reads the file but not the secrets it names, which come out empty: for commands that neither sign nor listen.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn inspect(path: &Path) -> Result<Self, ConfigError> {
        read::config(path, &text_of(path)?, None).map_err(ConfigError)
    }

    /// Reads `text` as the content of `file`; `env` looks up environment variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        read::config(file, text, Some(env)).map_err(ConfigError)
    }

    /// Ledger, audit and CA key: readable by us alone.
    pub fn private(&self) -> PathBuf {
        self.state.join("private")
    }

    /// The folder of the decision log.
    pub fn decisions(&self) -> PathBuf {
        self.private().join("decisions")
    }

    /// CA certificate and bundles: readable by agents.
    pub fn trust(&self) -> PathBuf {
        self.state.join("trust")
    }
}

pub(crate) fn text_of(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|e| {
        let hint = if e.kind() == std::io::ErrorKind::NotFound { "; `tollpass init` writes one to start from" } else { "" };
        ConfigError(vec![Problem { file: path.display().to_string(), place: None, message: format!("cannot be read: {e}{hint}") }])
    })
}

#[cfg(test)]
mod tests;
