//! From the tree to [`Config`]: one function per section, defaults beside the keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scalar::{address, address_or_none, bytes, bytes_between, choice, count, flag, host_pattern, path, some_time, text, time};
use super::tree::{At, Keys, Node, Problem, Problems, Section, Value, parse};
use super::value::{private_key, secret_file};
use super::{
    AgentsConfig, Cidr, Config, Drain, Intercept, LedgerConfig, Limits, Listen, MetricsConfig, Secret, SignerConfig, TlsConfig,
    UpstreamConfig,
};
use crate::payment::AgentId;

const TOP: Keys = Keys {
    known: &["version", "listen", "state", "ledger", "policy", "tls", "agents", "signer", "upstream", "limits", "drain", "metrics"],
    later: &["chains", "admin", "cosigner", "otlp", "approvals"],
};
const LISTEN: Keys = Keys { known: &["proxy", "admin", "health"], later: &["transparent", "socks"] };
const LEDGER: Keys = Keys { known: &["store", "ephemeral"], later: &["url"] };
const TLS: Keys = Keys { known: &["intercept", "never", "extra_roots"], later: &[] };
const AGENTS: Keys = Keys { known: &["default", "tokens"], later: &[] };
const SIGNER: Keys = Keys { known: &["local"], later: &["mpc", "gateway"] };
const LOCAL: Keys = Keys { known: &["key"], later: &[] };
const UPSTREAM: Keys = Keys {
    known: &["allow_private", "allow_cidrs", "replay_limit", "replay_memory", "connect", "first_byte", "idle"],
    later: &["proxy", "http2"],
};
const LIMITS: Keys = Keys { known: &["connections", "header", "challenge", "challenge_time", "identical"], later: &[] };
const DRAIN: Keys = Keys { known: &["unpaid", "paid"], later: &[] };
const METRICS: Keys = Keys { known: &["agents"], later: &[] };

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What reading needs beside the tree.
struct Reader<'a> {
    folder: PathBuf,
    /// Looks up environment variables; without it no secret is read.
    env: Option<Env<'a>>,
    problems: Problems,
}

pub(super) fn config(file: &Path, text: &str, env: Option<Env<'_>>) -> Result<Config, Vec<Problem>> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    let mut r = Reader { folder, env, problems: Problems::new(file.display().to_string()) };
    let config = parse(text, &mut r.problems).and_then(|tree| r.top(file, &tree));
    match config {
        Some(config) if r.problems.is_empty() => Ok(config),
        _ => Err(r.problems.into_list()),
    }
}

impl Reader<'_> {
    fn top(&mut self, file: &Path, tree: &Node) -> Option<Config> {
        let top = Section::open(tree, "", TOP, &mut self.problems);
        match top.get("version") {
            None => self.problems.at(top.at, "`version` is missing: write `version: 1` first"),
            Some(node) if !matches!(node.value, Value::Int(1)) => self.problems.at(node.at, "this version of tollpass reads `version: 1`"),
            Some(_) => {}
        }
        let folder = self.folder.clone();
        let path_in = |node: &Node| path(node, &folder);
        let state = top.read("state", PathBuf::from("/var/lib/tollpass"), &mut self.problems, path_in);
        let policy = top.read("policy", self.folder.join("policies"), &mut self.problems, path_in);
        let listen = self.listen(&top);
        let ledger = self.ledger(&top);
        let tls = self.tls(&top);
        let agents = self.agents(&top);
        let upstream = self.upstream(&top);
        let limits = self.limits(&top);
        let drain = self.drain(&top);
        let metrics = self.metrics(&top);
        let signer = self.signer(&top);
        self.callers(&top, &listen, &agents);
        Some(Config {
            file: file.to_path_buf(),
            listen,
            state,
            ledger,
            policy,
            tls,
            agents,
            signer: signer?,
            upstream,
            limits,
            drain,
            metrics,
        })
    }

    /// The section `key` of `top`, or an empty one.
    fn section<'n>(&mut self, top: &Section<'n>, key: &'static str, keys: Keys) -> Section<'n> {
        match top.get(key) {
            Some(node) => Section::open(node, key, keys, &mut self.problems),
            None => Section::open(&NOTHING, key, keys, &mut self.problems),
        }
    }

    fn listen(&mut self, top: &Section<'_>) -> Listen {
        let s = self.section(top, "listen", LISTEN);
        let p = &mut self.problems;
        let proxy = s.read("proxy", SocketAddr::from(([127, 0, 0, 1], 8402)), p, |n| address(n, "127.0.0.1:8402"));
        let admin = s.read("admin", Some(SocketAddr::from(([127, 0, 0, 1], 9402))), p, |n| address_or_none(n, "127.0.0.1:9402"));
        let health = s.read("health", None, p, |n| address_or_none(n, "\"0.0.0.0:9403\""));
        if admin.is_some_and(|a| !a.ip().is_loopback()) {
            p.at(s.place("admin"), "`listen.admin` must be a loopback address such as 127.0.0.1:9402; for probes and scrapes from other hosts set `listen.health`");
        }
        let all = [("proxy", Some(proxy)), ("admin", admin), ("health", health)];
        for (i, (name, a)) in all.iter().enumerate() {
            for (other, b) in &all[i + 1..] {
                if a.is_some() && a == b && a.is_some_and(|a| a.port() != 0) {
                    p.at(s.place(other), format!("`listen.{other}` is the same address as `listen.{name}`: give each its own port"));
                }
            }
        }
        Listen { proxy, admin, health }
    }

    fn ledger(&mut self, top: &Section<'_>) -> LedgerConfig {
        let s = self.section(top, "ledger", LEDGER);
        s.read("store", (), &mut self.problems, |n| match text(n)? {
            "sqlite" => Ok(()),
            "postgres" => Err("`postgres` is not in this version of tollpass: write sqlite".into()),
            _ => Err("write sqlite".into()),
        });
        let ephemeral_ok = s.read("ephemeral", false, &mut self.problems, |n| choice(n, &[("refuse", false), ("accept", true)]));
        LedgerConfig { ephemeral_ok }
    }

    fn tls(&mut self, top: &Section<'_>) -> TlsConfig {
        let s = self.section(top, "tls", TLS);
        let kinds = [("allowed", Intercept::Allowed), ("all", Intercept::All), ("none", Intercept::None)];
        let intercept = s.read("intercept", Intercept::Allowed, &mut self.problems, |n| choice(n, &kinds));
        let never = self.list(&s, "never", host_pattern);
        let folder = self.folder.clone();
        let extra_roots = self.list(&s, "extra_roots", |n| path(n, &folder));
        TlsConfig { intercept, never, extra_roots }
    }

    fn agents(&mut self, top: &Section<'_>) -> AgentsConfig {
        let s = self.section(top, "agents", AGENTS);
        let default = s.read("default", None, &mut self.problems, |n| text(n)?.parse::<AgentId>().map(Some).map_err(|e| e.to_string()));
        let folder = self.folder.clone();
        let tokens = s.read("tokens", None, &mut self.problems, |n| match text(n)?.strip_prefix("file:") {
            Some(p) if !p.is_empty() => Ok(Some(folder.join(p))),
            _ => Err("tokens live in a file of their own: write file:secrets/agents.yaml".into()),
        });
        AgentsConfig { default, tokens }
    }

    /// Somebody must be able to call, and not just anybody.
    fn callers(&mut self, top: &Section<'_>, listen: &Listen, agents: &AgentsConfig) {
        let given =
            |key: &str| top.get("agents").is_some_and(|n| matches!(&n.value, Value::Map(m) if m.iter().any(|(k, _)| k.text == key)));
        if agents.tokens.is_none() && !given("tokens") {
            if !listen.proxy.ip().is_loopback() {
                let place = top.get("listen").map_or(top.at, |n| place_of(n, "proxy"));
                self.problems.at(
                    place,
                    "`listen.proxy` is reachable from other hosts, so anyone there could spend: set `agents.tokens: file:PATH`, or listen on 127.0.0.1",
                );
            } else if agents.default.is_none() && !given("default") {
                self.problems.at(
                    top.place("agents"),
                    "nobody can call: write `agents: { default: NAME }` for programs on this machine, or `agents: { tokens: file:PATH }`",
                );
            }
        }
    }

    fn signer(&mut self, top: &Section<'_>) -> Option<SignerConfig> {
        let form = "write `signer: { local: { key: env:TOLLPASS_DEV_KEY } }`";
        let Some(node) = top.get("signer") else {
            self.problems.at(top.at, format!("`signer` is missing: {form}"));
            return None;
        };
        let s = Section::open(node, "signer", SIGNER, &mut self.problems);
        let Some(local) = s.get("local") else {
            // A later kind of signer, or a wrong shape, was named already.
            if matches!(&node.value, Value::Null) || matches!(&node.value, Value::Map(m) if m.is_empty()) {
                self.problems.at(node.at, format!("`signer` is empty: {form}"));
            }
            return None;
        };
        let local = Section::open(local, "signer.local", LOCAL, &mut self.problems);
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

    fn upstream(&mut self, top: &Section<'_>) -> UpstreamConfig {
        let s = self.section(top, "upstream", UPSTREAM);
        let allow_cidrs = self.list(&s, "allow_cidrs", |n| Cidr::parse(text(n)?));
        let p = &mut self.problems;
        UpstreamConfig {
            allow_private: s.read("allow_private", false, p, flag),
            allow_cidrs,
            replay_limit: s.read("replay_limit", 16 * MIB, p, bytes),
            replay_memory: s.read("replay_memory", 64 * MIB, p, bytes),
            connect: s.read("connect", Duration::from_secs(5), p, some_time),
            first_byte: s.read("first_byte", Duration::from_secs(300), p, some_time),
            idle: s.read("idle", Duration::from_secs(300), p, some_time),
        }
    }

    fn limits(&mut self, top: &Section<'_>) -> Limits {
        let s = self.section(top, "limits", LIMITS);
        let p = &mut self.problems;
        Limits {
            connections: s.read("connections", 4096, p, |n| count(n, 1_000_000)),
            // The HTTP library refuses smaller buffers.
            header: s.read("header", 64 << 10, p, |n| bytes_between(n, 8 * KIB, MIB)),
            challenge: s.read("challenge", 64 << 10, p, |n| bytes_between(n, KIB, 16 * MIB)),
            challenge_time: s.read("challenge_time", Duration::from_secs(5), p, some_time),
            identical: s.read("identical", 64, p, |n| count(n, 100_000)),
        }
    }

    fn drain(&mut self, top: &Section<'_>) -> Drain {
        let s = self.section(top, "drain", DRAIN);
        let p = &mut self.problems;
        Drain { unpaid: s.read("unpaid", Duration::from_secs(10), p, time), paid: s.read("paid", Duration::from_secs(25), p, time) }
    }

    fn metrics(&mut self, top: &Section<'_>) -> MetricsConfig {
        let s = self.section(top, "metrics", METRICS);
        MetricsConfig { all_agents: s.read("agents", false, &mut self.problems, |n| choice(n, &[("listed", false), ("all", true)])) }
    }

    /// A list whose items are read one by one, so that each mistake has its own place.
    fn list<T>(&mut self, s: &Section<'_>, key: &str, read: impl Fn(&Node) -> Result<T, String>) -> Vec<T> {
        let Some(node) = s.get(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.problems.at(node.at, format!("`{key}`: write a list such as [a, b], not {}", node.shape()));
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in items {
            match read(item) {
                Ok(v) => out.push(v),
                Err(message) => self.problems.at(item.at, format!("`{key}`: {message}")),
            }
        }
        out
    }

    /// `env:NAME` or `file:PATH`, then `check`. Messages never contain the text: it may be the secret itself.
    fn secret(&self, node: &Node, check: fn(Secret) -> Result<Secret, String>) -> Result<Secret, String> {
        let inline = || "a secret is never written into this file: write env:NAME or file:PATH".to_owned();
        let Value::Text(given) = &node.value else { return Err(inline()) };
        let (kind, rest) = given.split_once(':').ok_or_else(inline)?;
        let found = match kind {
            "env" if !env_name(rest) => return Err("env: needs the name of an environment variable, such as env:TOLLPASS_DEV_KEY".into()),
            "env" | "file" if !rest.is_empty() => {
                let Some(env) = self.env else { return Ok(Secret::new("")) };
                match kind {
                    "env" => env(rest)
                        .filter(|v| !v.is_empty())
                        .map(Secret::new)
                        .ok_or_else(|| format!("the environment variable {rest} is not set"))?,
                    _ => secret_file(&self.folder.join(rest))?,
                }
            }
            _ => return Err(inline()),
        };
        check(found)
    }
}

/// Shorter than a key in hex, which must not be echoed.
fn env_name(text: &str) -> bool {
    !text.is_empty() && text.len() < 60 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

static NOTHING: Node = Node { at: At { line: 1, column: 1 }, value: Value::Null };

fn place_of(node: &Node, key: &str) -> At {
    match &node.value {
        Value::Map(m) => m.iter().find(|(k, _)| k.text == key).map_or(node.at, |(_, v)| v.at),
        _ => node.at,
    }
}
