//! The co-signer as a process: open share, ledger and store; bind; serve; drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::config::Config;
use super::judge::{Judge, Surroundings};
use super::probe::Probe;
use super::server::{Parts, Server};
use super::store::Store;
use crate::admin::{self, Part, Readiness};
use crate::crew::Crew;
use crate::custody::Custody;
use crate::ledger::{self, ClockReading, Ledger};
use crate::metrics::Metrics;
use crate::mpc::{Origin, Party};
use crate::payment::{AgentId, Payer};
use crate::policy::Policy;
use crate::reload::{self, Reloader, Signing};
use crate::stops::Stops;
use crate::wire::identity::Identity;
use crate::wire::identity::load_or_refuse;
use crate::wire::link;
use crate::{clock, net, state};

/// How to run, beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print one JSON line with the bound addresses instead of a sentence.
    pub json: bool,
    /// Take the clock as it is although it ran backwards (M1.8).
    pub accept_clock: bool,
}

/// Serves until SIGTERM or SIGINT, then lets running requests finish. Blocking.
///
/// # Errors
/// Anything that keeps it from starting.
pub fn run(config: &Config, options: Options) -> Result<()> {
    state::harden();
    let cosigner = Cosigner::bind(config, options)?;
    cosigner.announce(options.json)?;
    cosigner.runtime.block_on(wait_for_stop(&cosigner.reloader))?;
    cosigner.drain(config.drain)
}

/// Reads the identity key of a file of mode 0400.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn identity(path: &std::path::Path) -> Result<Identity> {
    load_or_refuse(path).with_context(|| format!("{} (identity)", path.display()))
}

/// A running co-signer.
struct Cosigner {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    health: Option<SocketAddr>,
    server: Arc<Server>,
    readiness: Arc<Readiness>,
    ledger: Ledger,
    store: Arc<Store>,
    runtime: Runtime,
    serving: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
    stop_admin: watch::Sender<bool>,
    reloader: Reloader,
}

impl Cosigner {
    fn bind(config: &Config, options: Options) -> Result<Self> {
        state::prepare_private(&config.state, &config.private())?;
        let identity = identity(&config.identity)?;
        let custody = Arc::new(Custody::open(&config.share, &config.unseal)?);
        let wallet = custody.share().wallet().clone();
        ensure!(
            wallet.party == Party::Cosigner,
            "{}: this is the {}'s share: a co-signer holds its own and no other (S2)",
            config.share.display(),
            wallet.party
        );
        if wallet.origin != Origin::Distributed {
            tracing::warn!(origin = wallet.origin.as_str(), "one host has seen all shares of this wallet: it signs for test networks only");
        }
        tracing::warn!("the signing library has no third-party audit: see SECURITY.md");
        let metrics = Metrics::new(false);
        let readiness = Readiness::new();
        let opening = ledger::Options { dir: config.private(), ephemeral_ok: config.ephemeral_ok, accept_clock: options.accept_clock };
        let ledger = Ledger::open(&opening, clock::read())?;
        let store = Arc::new(Store::open(&config.private())?);
        let mut hot = reload::Builder::new(reload::Timing::default());
        let epochs = ledger.clone();
        let policy =
            hot.cosigner_policy(&config.policy, Signing::new(&config.policy_keys, &config.private()), &metrics, move |policy| {
                epochs.follow(policy)
            })?;
        let runtime = Builder::new_multi_thread().thread_name("cosigner").enable_all().build()?;
        let stops = Stops::new(&config.private(), Arc::clone(&metrics));
        stops.open(&ledger).context("what is frozen cannot be read")?;
        runtime.spawn(Stops::watch(Arc::downgrade(&stops)));
        let world = World {
            stops,
            policy: Arc::clone(&policy),
            custody: Arc::clone(&custody),
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
        };
        let probe = config.probe.clone().map(Probe::new);
        let judge = Arc::new(Judge::new(wallet.clone(), ledger.clone(), Arc::clone(&store), Arc::new(world), probe));
        let server = {
            let policy = Arc::clone(&policy);
            Server::new(Parts {
                custody: Arc::clone(&custody),
                store: Arc::clone(&store),
                judge,
                crew: Crew::per_core("cosigner-sign")?,
                metrics: Arc::clone(&metrics),
                policy: Box::new(move || policy.load().epoch()),
                presign: config.presign,
            })
        };
        let (stop, stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);
        let bind = |address: SocketAddr, key: &str| -> Result<(TcpListener, SocketAddr)> {
            let shown = || format!("cannot listen on {address} ({key})");
            let listener = runtime.block_on(TcpListener::bind(address)).with_context(shown)?;
            let bound = listener.local_addr().with_context(shown)?;
            Ok((listener, bound))
        };
        let operators = |address: Option<SocketAddr>, key: &str| -> Result<Option<SocketAddr>> {
            let Some(address) = address else { return Ok(None) };
            let (listener, bound) = bind(address, key)?;
            let pages = pages(&metrics, &readiness, &server);
            runtime.spawn(net::serve(listener, pages, until(admin_stopped.clone())));
            Ok(Some(bound))
        };
        let admin = operators(config.admin, "admin")?;
        let health = operators(config.health, "health")?;
        runtime.block_on(watch_balance(config, &policy, &server, Payer(wallet.address)))?;
        let (listener, address) = bind(config.listen, "listen")?;
        let connections = server.connections().clone();
        let serving = runtime.spawn(link::serve_in(listener, identity, Arc::clone(&server), connections, until(stopped)));
        runtime.spawn(sweep(Arc::downgrade(&server)));
        let reloader = hot.start().context("cannot watch the policy")?;
        let (books, kept, share) = (ledger.clone(), Arc::clone(&store), Arc::clone(&custody));
        readiness.ledger(move || books.available() && kept.available() && share.frozen().is_none());
        for part in Part::ALL {
            readiness.set(part, true);
        }
        Ok(Self { address, admin, health, server, readiness, ledger, store, runtime, serving, stop, stop_admin, reloader })
    }

    fn announce(&self, json: bool) -> Result<()> {
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        let text = |a: Option<SocketAddr>| a.map(|a| a.to_string());
        let wallet = self.server.wallet();
        if json {
            let line = serde_json::json!({
                "event": "listening",
                "cosigner": self.address.to_string(),
                "admin": text(self.admin),
                "health": text(self.health),
                "wallet": wallet.id.as_str(),
                "address": wallet.address.to_string(),
            });
            writeln!(out, "{line}")?;
        } else {
            let admin = text(self.admin).unwrap_or_else(|| "off".into());
            writeln!(out, "tollpass co-signs for {} ({}) on https://{} (admin {admin})", wallet.id, wallet.address, self.address)?;
        }
        Ok(out.flush()?)
    }

    /// No new connections, running requests finish, what was held and remembered reaches the disk.
    fn drain(self, patience: Duration) -> Result<()> {
        tracing::info!("draining");
        self.readiness.drain();
        let _ = self.stop.send(true);
        let (store, ledger) = (Arc::clone(&self.store), self.ledger.clone());
        let flushed = self.runtime.block_on(async move {
            if tokio::time::timeout(patience, self.serving).await.is_err() {
                tracing::warn!("requests did not finish in time; what they held stays held");
            }
            (store.flush().await, ledger.flush().await)
        });
        let _ = self.stop_admin.send(true);
        drop(self.reloader);
        drop(self.server);
        self.runtime.shutdown_timeout(Duration::from_secs(2));
        flushed.0.context("the store could not be flushed")?;
        flushed.1.context("the ledger could not be flushed")
    }
}

/// What the judge looks at afresh.
struct World {
    stops: Arc<Stops>,
    policy: Arc<ArcSwap<Policy>>,
    custody: Arc<Custody>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl Surroundings for World {
    fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    fn clock(&self) -> ClockReading {
        clock::read()
    }

    fn frozen(&self) -> bool {
        self.custody.frozen().is_some()
    }

    fn killed(&self) -> bool {
        self.stops.killed()
    }

    fn tied(&self, identity: &str, agent: &AgentId) -> bool {
        // A store that cannot be read ties nobody to anything.
        self.store.standing(identity).is_ok_and(|row| row.is_some_and(|row| row.agents.iter().any(|a| a == agent.as_str())))
    }

    fn agent_not_tied(&self, _identity: &str) {
        self.metrics.cosigner_alarm("agent_not_tied");
    }
}

fn pages(metrics: &Arc<Metrics>, readiness: &Arc<Readiness>, server: &Arc<Server>) -> net::Handler {
    let pages = admin::handler(Arc::clone(metrics), Arc::clone(readiness));
    let server = Arc::clone(server);
    Arc::new(move |request| {
        if request.uri().path() == "/metrics" {
            server.refresh_gauges();
        }
        pages(request)
    })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|s| *s).await;
}

/// Once a second, as long as the server lives.
async fn sweep(server: std::sync::Weak<Server>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        match server.upgrade() {
            Some(server) => server.sweep(),
            None => return,
        }
    }
}

/// SIGTERM and SIGINT end it; SIGHUP looks at the policy at once.
async fn wait_for_stop(reloader: &Reloader) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => reloader.poke(),
        }
    }
}

/// Asks at the start, then every minute, what the wallet holds on the main networks that the configuration names (S10).
async fn watch_balance(config: &Config, policy: &Arc<ArcSwap<Policy>>, server: &Arc<Server>, wallet: crate::payment::Payer) -> Result<()> {
    if config.accept_unaudited || config.chains.is_empty() {
        return Ok(());
    }
    let (chains, policy) = (config.chains.clone(), Arc::clone(policy));
    // The operator's own node may be on a private address.
    let fetcher = net::Fetcher::new(&[], |ip| net::address::permits(ip, true)).context("cannot ask for balances")?;
    let post = Arc::new(move |url: String, body: String| -> net::BoxFuture<Result<Vec<u8>, String>> {
        let fetcher = fetcher.clone();
        Box::pin(async move {
            let url = url.parse().map_err(|_| "not a URL".to_owned())?;
            let headers = [(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))].into_iter().collect();
            let asked = net::Fetch { method: http::Method::POST, url, headers, body: body.into() };
            let answer = fetcher.fetch(asked).await.map_err(|e| e.to_string())?;
            if answer.status().is_success() { Ok(answer.into_body().to_vec()) } else { Err(format!("status {}", answer.status())) }
        })
    });
    let look = {
        let server = Arc::downgrade(server);
        move || {
            let (chains, policy, server, post) = (chains.clone(), policy.load_full(), server.clone(), Arc::clone(&post));
            async move {
                let over = super::balance::over_limit(&*post, &chains, policy.assets(), wallet).await;
                server.upgrade().map(|server| server.set_over_limit(over))
            }
        }
    };
    look().await;
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(60));
        every.tick().await;
        loop {
            every.tick().await;
            if look().await.is_none() {
                return;
            }
        }
    });
    Ok(())
}
