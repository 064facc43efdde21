//! The edge: everything that knows hyper and sockets. A request that gets no 402 meets `server` → `forward` → `upstream`
//! and nothing else; only a 402 enters `paywall`, and only what decides and signs leaves the worker for the money runtime (`paid`).

mod access;
mod admission;
mod agent;
mod body;
mod connect;
mod connection;
mod dial;
mod error;
mod exchange;
mod forward;
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod headers;
mod information;
mod io;
mod kept;
mod line;
mod live;
mod load;
mod names;
mod paid;
mod parent;
mod paywall;
mod phase;
mod pool;
mod reach;
mod record;
mod relay;
mod replay;
mod seldom;
pub(crate) mod server;
mod serving;
mod shape;
mod sniff;
mod socks;
mod spill;
mod splice;
mod stream;
#[doc(hidden)]
pub mod strict;
mod target;
mod till;
mod tls;
mod transparent;
mod trust;
mod truststore;
mod tunnel;
mod upgrade;
mod upload;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::sync::watch;

use crate::agents::Tokens;
use crate::clock;
use crate::config::{Config, Intercept, Limits, Unnamed};
use crate::metrics::Metrics;
use crate::payment::{AgentId, Timestamp};
use crate::policy::{HostPattern, Policy, View as _};
use crate::treasurer::Sessions;

pub(crate) use phase::Phase;
pub(crate) use till::Till;
pub(crate) use trust::Trust;

use access::AccessLog;
use dial::Dial;
use exchange::Exchanges;
use guard::Guard;
use live::{Connections, Live};
use load::Loads;
use parent::Parent;
use phase::Course;
use tls::Authority;
use upstream::Dialer;

/// What the proxy needs from the rest of the program.
pub(crate) struct Parts {
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) tokens: Option<Arc<ArcSwap<Tokens>>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) money: tokio::runtime::Handle,
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
    sessions: Arc<Sessions>,
    default_agent: Option<AgentId>,
    /// Empty while another process holds the ledger (M1.9).
    till: ArcSwapOption<Till>,
    metrics: Arc<Metrics>,
    money: tokio::runtime::Handle,
    course: Course,
    authority: Authority,
    dialer: Dialer,
    tls: Interception,
    /// Whether HTTP/2 is spoken at all, on either side.
    http2: bool,
    unnamed: Unnamed,
    exchanges: Arc<Exchanges>,
    live: Live,
    connections: Connections,
    loads: Loads,
    access: Option<Arc<AccessLog>>,
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
    /// Puts the edge together. Binds nothing, and pays nothing before [`Self::open_till`].
    pub(crate) fn new(config: &Config, trust: Trust, parts: Parts) -> Result<Arc<Self>> {
        let Trust { authority, configs } = trust;
        let never = config.tls.never.iter().map(|p| HostPattern::parse(p)).collect::<Result<Vec<_>, _>>();
        let never = never.map_err(|fault| anyhow::anyhow!("tls.never: {fault}"))?;
        let upstream = &config.upstream;
        let dialer = Dialer {
            net: Dial::new(
                Guard::new(upstream.allow_private, &upstream.allow_cidrs),
                upstream.connect,
                upstream.parent.as_ref().map(Parent::new),
            ),
            tls: configs,
            connect: upstream.connect,
            first_byte: upstream.first_byte,
            header: config.limits.seller_header,
        };
        let folder = config.private().join("replay");
        let replay_budget = replay::Budget::open(upstream.replay_memory, upstream.replay_disk, &folder);
        let replay_budget = replay_budget.context("cannot open the folder for request bodies")?;
        let access = AccessLog::start(config.access_log, parts.metrics.clone()).context("cannot start the access log")?;
        // Random, so that two proxies in a row are not taken for a loop and nobody learns a host name.
        let pseudonym = format!("tollpass-{:016x}", rand::random::<u64>());
        Ok(Arc::new(Self {
            policy: parts.policy,
            tokens: parts.tokens,
            sessions: parts.sessions,
            default_agent: config.agents.default.clone(),
            till: ArcSwapOption::empty(),
            metrics: parts.metrics,
            money: parts.money,
            course: Course::new(),
            authority,
            dialer,
            tls: Interception { intercept: config.tls.intercept, never },
            http2: config.upstream.http2,
            unnamed: config.transparent.unnamed,
            exchanges: Arc::default(),
            live: Live::default(),
            connections: Connections::new(config.limits.connections),
            loads: Loads::new(&config.limits),
            access,
            limits: config.limits,
            idle: upstream.idle,
            replay_limit: upstream.replay_limit,
            replay_budget: Arc::new(replay_budget),
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

    /// From now on this process pays: it holds the ledger.
    pub(crate) fn open_till(&self, till: Arc<Till>) {
        self.till.store(Some(till));
    }

    /// Who pays, or nobody here (M1.9).
    pub(crate) fn till(&self) -> Option<Arc<Till>> {
        self.till.load_full()
    }

    /// From now on this process pays no more. What was begun goes on with the till that it has.
    pub(crate) fn close_till(&self) -> Option<Arc<Till>> {
        self.till.swap(None)
    }

    /// Tells every connection how far we are on our way out.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.course.set(phase);
    }

    /// The phase of the process.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.course.watch()
    }

    /// The time to show: the ledger's where there is one.
    fn now(&self) -> Timestamp {
        self.till().map_or_else(|| clock::read().wall, |till| till.treasurer.now().now)
    }

    /// Brings the gauges that are computed, not counted, up to date: budgets and open authorizations.
    pub(crate) fn refresh_gauges(&self) {
        let Some(till) = self.till() else { return };
        let policy = self.policy.load_full();
        let now = till.treasurer.now().now;
        self.metrics.approvals_pending(till.treasurer.approvals().pending(now));
        self.metrics.forget_budgets();
        for agent in policy.agents() {
            let theirs = till.signer.remaining(agent);
            for budget in policy.budgets(agent) {
                let span = budget.period.span(now, policy.zone());
                let mut remaining = till.ledger().read(|books| books.remaining(&budget.scope, span, budget.limit));
                if let (Some(theirs), "caps.day") = (theirs, &*budget.name) {
                    // Two judges: what may still be spent is what both would allow (M1.10).
                    self.metrics.divergence(agent, remaining.saturating_sub(theirs));
                    remaining = remaining.min(theirs);
                }
                self.metrics.budget(agent, &budget.name, budget.limit, remaining);
            }
            let (open, frozen) =
                till.ledger().read(|books| (books.open_authorizations(agent, now), books.standing().agents.contains_key(agent.as_str())));
            self.metrics.agent_frozen(agent, frozen);
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
