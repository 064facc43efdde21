//! The edge: everything that knows hyper and sockets. A request that gets no 402 meets `server` → `forward` → `upstream`
//! and nothing else; only a 402 enters `paywall`, and only a payment leaves the worker for the money runtime (`paid`).

mod agent;
mod body;
mod connect;
mod connection;
mod dial;
mod error;
mod exchange;
mod forward;
mod guard;
mod headers;
mod io;
mod kept;
mod live;
mod paid;
mod paywall;
mod pool;
mod record;
mod relay;
mod replay;
pub(crate) mod server;
mod serving;
mod shape;
mod sniff;
mod socks;
mod stream;
mod target;
mod tls;
mod transparent;
mod tunnel;
mod upgrade;
mod upstream;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::watch;

use crate::agents::Tokens;
use crate::config::{Config, Intercept, Limits, Unnamed};
use crate::metrics::Metrics;
use crate::net::tls::Roots;
use crate::payment::AgentId;
use crate::policy::{HostPattern, Policy, View as _};
use crate::signer::Signer;
use crate::treasurer::Treasurer;

use dial::Dial;
use exchange::Exchanges;
use guard::Guard;
use kept::Kept;
use live::{Connections, Live};
use tls::Authority;
use upstream::{Configs, Dialer};

/// What the proxy needs from the rest of the program.
pub(crate) struct Parts {
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) tokens: Option<Arc<ArcSwap<Tokens>>>,
    pub(crate) treasurer: Treasurer,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) money: tokio::runtime::Handle,
    pub(crate) stop: watch::Sender<bool>,
}

/// Which tunnels are looked into.
struct Interception {
    intercept: Intercept,
    never: Vec<HostPattern>,
}

/// Everything the connections share.
pub(crate) struct Proxy {
    policy: Arc<ArcSwap<Policy>>,
    tokens: Option<Arc<ArcSwap<Tokens>>>,
    default_agent: Option<AgentId>,
    treasurer: Treasurer,
    signer: Arc<dyn Signer>,
    metrics: Arc<Metrics>,
    money: tokio::runtime::Handle,
    stop: watch::Sender<bool>,
    authority: Authority,
    dialer: Dialer,
    tls: Interception,
    /// Whether HTTP/2 is spoken at all, on either side.
    http2: bool,
    unnamed: Unnamed,
    exchanges: Exchanges,
    kept: Kept,
    live: Live,
    connections: Connections,
    limits: Limits,
    idle: Duration,
    replay_limit: u64,
    replay_budget: Arc<replay::Budget>,
    pseudonym: String,
    via: Via,
}

/// Our entry in `Via`, by the version the agent spoke (RFC 9110 §7.6.3).
struct Via {
    http1: HeaderValue,
    http2: HeaderValue,
}

impl Proxy {
    /// Prepares the edge: CA, roots, guard, kept answers. Binds nothing.
    pub(crate) fn new(config: &Config, parts: Parts) -> Result<Arc<Self>> {
        let roots = Roots::load(&config.tls.extra_roots)?;
        let http2 = config.upstream.http2;
        let authority = Authority::open(&config.private(), &config.trust(), &roots, http2)?;
        let never = config.tls.never.iter().map(|p| HostPattern::parse(p)).collect::<Result<Vec<_>, _>>();
        let never = never.map_err(|fault| anyhow::anyhow!("tls.never: {fault}"))?;
        let upstream = &config.upstream;
        let dialer = Dialer {
            net: Dial { guard: Guard::new(upstream.allow_private, &upstream.allow_cidrs), connect: upstream.connect },
            tls: Configs { http1: roots.client(tls::alpn(false))?, both: roots.client(tls::alpn(true))? },
            connect: upstream.connect,
            first_byte: upstream.first_byte,
            header: config.limits.header,
        };
        // Random, so that two proxies in a row are not taken for a loop and nobody learns a host name.
        let pseudonym = format!("tollpass-{:016x}", rand::random::<u64>());
        Ok(Arc::new(Self {
            policy: parts.policy,
            tokens: parts.tokens,
            default_agent: config.agents.default.clone(),
            treasurer: parts.treasurer,
            signer: parts.signer,
            metrics: parts.metrics,
            money: parts.money,
            stop: parts.stop,
            authority,
            dialer,
            tls: Interception { intercept: config.tls.intercept, never },
            http2,
            unnamed: config.transparent.unnamed,
            exchanges: Exchanges::default(),
            kept: Kept::open(kept_dir(&config.private())).context("cannot open the folder of kept answers")?,
            live: Live::default(),
            connections: Connections::new(config.limits.connections),
            limits: config.limits,
            idle: upstream.idle,
            replay_limit: upstream.replay_limit,
            replay_budget: Arc::new(replay::Budget::new(upstream.replay_memory)),
            via: Via {
                http1: HeaderValue::try_from(format!("1.1 {pseudonym}"))?,
                http2: HeaderValue::try_from(format!("2.0 {pseudonym}"))?,
            },
            pseudonym,
        }))
    }

    /// Tells the guard which addresses are ours. Once, before anything is accepted.
    pub(crate) fn set_own(&self, own: Vec<SocketAddr>) {
        self.dialer.net.guard.set_own(own);
    }

    /// Brings the gauges that are computed, not counted, up to date: budgets and open authorizations.
    pub(crate) fn refresh_gauges(&self) {
        let policy = self.policy.load_full();
        let now = self.treasurer.now().now;
        self.metrics.forget_budgets();
        for agent in policy.agents() {
            let theirs = self.signer.remaining(agent);
            for budget in policy.budgets(agent) {
                let span = budget.window.span(now, policy.zone());
                let spent = self.treasurer.ledger().read(|books| books.spent(&budget.scope, span));
                let mut remaining = budget.limit.saturating_sub(spent);
                if let (Some(theirs), "caps.day") = (theirs, &*budget.name) {
                    // Two judges: what may still be spent is what both would allow (M1.10).
                    self.metrics.divergence(agent, remaining.saturating_sub(theirs));
                    remaining = remaining.min(theirs);
                }
                self.metrics.budget(agent, &budget.name, budget.limit, remaining);
            }
            let open = self.treasurer.ledger().read(|books| books.open_authorizations(agent, now));
            self.metrics.open_authorizations(agent, i64::try_from(open).unwrap_or(i64::MAX));
        }
    }

    /// Paid tasks that still run.
    pub(crate) fn paid_tasks(&self) -> usize {
        self.live.count()
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

fn kept_dir(private: &Path) -> std::path::PathBuf {
    private.join("kept")
}
