//! From the tree to [`Config`]: one function per section, defaults beside the keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parent;
use super::reader::{Env, Reader};
use super::scalar::{
    address, address_or_none, bytes, bytes_between, bytes_or_none, choice, count, flag, host_pattern, path, some_time, text, time,
};
use super::tree::{At, Keys, Node, Problem, Section, Value};
use super::{
    AccessFormat, AdminConfig, AgentsConfig, Cidr, Config, DecisionLogConfig, Drain, Intercept, LedgerConfig, Limits, Listen,
    MetricsConfig, Origin, TlsConfig, TransparentConfig, Unnamed, UpstreamConfig,
};
use crate::payment::AgentId;

const TOP: Keys = Keys {
    known: &[
        "version",
        "listen",
        "state",
        "ledger",
        "policy",
        "policy_keys",
        "tls",
        "agents",
        "signer",
        "transparent",
        "upstream",
        "limits",
        "drain",
        "metrics",
        "access_log",
        "admin",
        "decision_log",
        "policy_shadow",
    ],
    later: &["chains", "cosigner", "otlp", "approvals"],
};
const LISTEN: Keys = Keys { known: &["proxy", "admin", "health", "https", "socks", "transparent"], later: &[] };
const TRANSPARENT: Keys = Keys { known: &["unnamed"], later: &[] };
const LEDGER: Keys = Keys { known: &["store", "ephemeral"], later: &["url"] };
const TLS: Keys = Keys { known: &["intercept", "never", "extra_roots"], later: &[] };
const ADMIN: Keys = Keys { known: &["tokens", "public_url"], later: &[] };
const AGENTS: Keys = Keys { known: &["default", "tokens"], later: &[] };
const UPSTREAM: Keys = Keys {
    known: &[
        "allow_private",
        "allow_cidrs",
        "replay_limit",
        "replay_memory",
        "replay_disk",
        "connect",
        "first_byte",
        "idle",
        "http2",
        "proxy",
        "no_proxy",
    ],
    later: &[],
};
const LIMITS: Keys = Keys {
    known: &[
        "connections",
        "agent_connections",
        "requests",
        "agent_requests",
        "header",
        "seller_header",
        "body",
        "idle",
        "challenge",
        "challenge_time",
        "identical",
    ],
    later: &[],
};
const DRAIN: Keys = Keys { known: &["unpaid", "paid"], later: &[] };
const METRICS: Keys = Keys { known: &["agents"], later: &[] };
const DECISION_LOG: Keys = Keys { known: &["size", "files"], later: &[] };

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

pub(super) fn config(file: &Path, text: &str, env: Option<Env<'_>>) -> Result<Config, Vec<Problem>> {
    Reader::read(file, text, env, |r, tree| r.top(file, tree))
}

impl Reader<'_> {
    fn top(&mut self, file: &Path, tree: &Node) -> Option<Config> {
        let top = self.file(tree, TOP);
        let folder = self.folder.clone();
        let path_in = |node: &Node| path(node, &folder);
        let state = top.read("state", PathBuf::from("/var/lib/tollpass"), &mut self.problems, path_in);
        let policy = top.read("policy", self.folder.join("policies"), &mut self.problems, path_in);
        let policy_keys = self.policy_keys(&top);
        let listen = self.listen(&top);
        let ledger = self.ledger(&top);
        let tls = self.tls(&top);
        let agents = self.agents(&top);
        let transparent = self.transparent(&top);
        let upstream = self.upstream(&top);
        let limits = self.limits(&top);
        let drain = self.drain(&top);
        let metrics = self.metrics(&top);
        let formats = [("off", AccessFormat::Off), ("text", AccessFormat::Text), ("json", AccessFormat::Json)];
        let access_log = top.read("access_log", AccessFormat::Off, &mut self.problems, |n| choice(n, &formats));
        let admin = self.admin(&top);
        let decision_log = self.decision_log(&top);
        let policy_shadow = top.read("policy_shadow", None, &mut self.problems, |n| path_in(n).map(Some));
        let signer = self.signer(&top);
        self.callers(&top, &listen, &agents);
        Some(Config {
            file: file.to_path_buf(),
            listen,
            state,
            ledger,
            policy,
            policy_keys,
            tls,
            agents,
            signer: signer?,
            transparent,
            upstream,
            limits,
            drain,
            metrics,
            access_log,
            admin,
            decision_log,
            policy_shadow,
        })
    }

    fn listen(&mut self, top: &Section<'_>) -> Listen {
        let s = self.section(top, "listen", LISTEN);
        let p = &mut self.problems;
        let proxy = s.read("proxy", SocketAddr::from(([127, 0, 0, 1], 8402)), p, |n| address(n, "127.0.0.1:8402"));
        let admin = s.read("admin", Some(SocketAddr::from(([127, 0, 0, 1], 9402))), p, |n| address_or_none(n, "127.0.0.1:9402"));
        let health = s.read("health", None, p, |n| address_or_none(n, "\"0.0.0.0:9403\""));
        let https = s.read("https", None, p, |n| address_or_none(n, "127.0.0.1:8443"));
        let socks = s.read("socks", None, p, |n| address_or_none(n, "127.0.0.1:1080"));
        let transparent = s.read("transparent", None, p, |n| address_or_none(n, "127.0.0.1:15001"));
        if admin.is_some_and(|a| !a.ip().is_loopback()) {
            p.at(s.place("admin"), "`listen.admin` must be a loopback address such as 127.0.0.1:9402; for probes and scrapes from other hosts set `listen.health`");
        }
        let all = [
            ("proxy", Some(proxy)),
            ("admin", admin),
            ("health", health),
            ("https", https),
            ("socks", socks),
            ("transparent", transparent),
        ];
        for (i, (name, a)) in all.iter().enumerate() {
            for (other, b) in &all[i + 1..] {
                if a.is_some() && a == b && a.is_some_and(|a| a.port() != 0) {
                    p.at(s.place(other), format!("`listen.{other}` is the same address as `listen.{name}`: give each its own port"));
                }
            }
        }
        Listen { proxy, admin, health, https, socks, transparent }
    }

    fn transparent(&mut self, top: &Section<'_>) -> TransparentConfig {
        let s = self.section(top, "transparent", TRANSPARENT);
        let kinds = [("refuse", Unnamed::Refuse), ("relay", Unnamed::Relay)];
        TransparentConfig { unnamed: s.read("unnamed", Unnamed::Refuse, &mut self.problems, |n| choice(n, &kinds)) }
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

    fn admin(&mut self, top: &Section<'_>) -> AdminConfig {
        let s = self.section(top, "admin", ADMIN);
        let folder = self.folder.clone();
        let tokens = s.read("tokens", None, &mut self.problems, |n| match text(n)?.strip_prefix("file:") {
            Some(p) if !p.is_empty() => Ok(Some(folder.join(p))),
            _ => Err("tokens live in a file of their own: write file:secrets/operators.yaml".into()),
        });
        let public_url = s.read("public_url", None, &mut self.problems, |n| Origin::parse(text(n)?).map(Some));
        if public_url.is_some() && tokens.is_none() && s.get("tokens").is_none() {
            self.problems.at(s.place("public_url"), "nobody could decide there: set `admin.tokens: file:PATH` beside `admin.public_url`");
        }
        AdminConfig { tokens, public_url }
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
        if listen.transparent.is_some() && agents.default.is_none() {
            let place = top.get("listen").map_or(top.at, |n| place_of(n, "transparent"));
            self.problems
                .at(place, "a redirected program brings no credentials: write `agents: { default: NAME }` beside `listen.transparent`");
        }
        let given =
            |key: &str| top.get("agents").is_some_and(|n| matches!(&n.value, Value::Map(m) if m.iter().any(|(k, _)| k.text == key)));
        if agents.tokens.is_none() && !given("tokens") {
            let ways = [("proxy", Some(listen.proxy)), ("https", listen.https), ("socks", listen.socks)];
            let mut open = ways.iter().filter(|(_, a)| a.is_some_and(|a| !a.ip().is_loopback())).peekable();
            if open.peek().is_some() {
                for (key, _) in open {
                    let place = top.get("listen").map_or(top.at, |n| place_of(n, key));
                    self.problems.at(
                        place,
                        format!("`listen.{key}` is reachable from other hosts, so anyone there could spend: set `agents.tokens: file:PATH`, or listen on 127.0.0.1"),
                    );
                }
            } else if agents.default.is_none() && !given("default") {
                self.problems.at(
                    top.place("agents"),
                    "nobody can call: write `agents: { default: NAME }` for programs on this machine, or `agents: { tokens: file:PATH }`",
                );
            }
        }
    }

    fn upstream(&mut self, top: &Section<'_>) -> UpstreamConfig {
        let s = self.section(top, "upstream", UPSTREAM);
        let allow_cidrs = self.list(&s, "allow_cidrs", |n| Cidr::parse(text(n)?));
        let parent = parent::read(self, &s);
        let p = &mut self.problems;
        UpstreamConfig {
            parent,
            allow_private: s.read("allow_private", false, p, flag),
            allow_cidrs,
            replay_limit: s.read("replay_limit", 16 * MIB, p, bytes),
            replay_memory: s.read("replay_memory", 64 * MIB, p, bytes),
            replay_disk: s.read("replay_disk", 1024 * MIB, p, |n| if matches!(n.value, Value::Int(0)) { Ok(0) } else { bytes(n) }),
            connect: s.read("connect", Duration::from_secs(5), p, some_time),
            first_byte: s.read("first_byte", Duration::from_secs(300), p, some_time),
            idle: s.read("idle", Duration::from_secs(300), p, some_time),
            http2: s.read("http2", true, p, |n| choice(n, &[("auto", true), ("never", false)])),
        }
    }

    fn limits(&mut self, top: &Section<'_>) -> Limits {
        let s = self.section(top, "limits", LIMITS);
        let p = &mut self.problems;
        let connections = s.read("connections", 4096, p, |n| count(n, 1_000_000));
        let requests = s.read("requests", 8192, p, |n| count(n, 10_000_000));
        Limits {
            connections,
            agent_connections: s.read("agent_connections", connections, p, |n| count(n, 1_000_000)),
            requests,
            agent_requests: s.read("agent_requests", requests, p, |n| count(n, 10_000_000)),
            // The HTTP library refuses smaller buffers.
            header: s.read("header", 32 << 10, p, |n| bytes_between(n, 8 * KIB, MIB)),
            seller_header: s.read("seller_header", 64 << 10, p, |n| bytes_between(n, 8 * KIB, MIB)),
            body: s.read("body", u64::MAX, p, bytes_or_none),
            idle: s.read("idle", Duration::from_secs(300), p, some_time),
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

    fn decision_log(&mut self, top: &Section<'_>) -> DecisionLogConfig {
        let s = self.section(top, "decision_log", DECISION_LOG);
        let p = &mut self.problems;
        DecisionLogConfig {
            size: s.read("size", 64 << 20, p, |n| bytes_between(n, MIB, 1024 * MIB)) as u64,
            files: s.read("files", 4, p, |n| if matches!(n.value, Value::Int(0)) { Ok(0) } else { count(n, 1000) }),
        }
    }

    fn metrics(&mut self, top: &Section<'_>) -> MetricsConfig {
        let s = self.section(top, "metrics", METRICS);
        MetricsConfig { all_agents: s.read("agents", false, &mut self.problems, |n| choice(n, &[("listed", false), ("all", true)])) }
    }
}

fn place_of(node: &Node, key: &str) -> At {
    match &node.value {
        Value::Map(m) => m.iter().find(|(k, _)| k.text == key).map_or(node.at, |(_, v)| v.at),
        _ => node.at,
    }
}
