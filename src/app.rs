//! The composition root: wire, bind, run, drain.
//!
//! Worker threads carry agents' traffic, each a current-thread runtime with its own listener. The money runtime carries
//! treasurer, ledger, signer and paid exchanges, so that neither side can starve the other (design §3).

mod signer;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::admin::{self, Part, Readiness};
use crate::config::{Config, Listen};
use crate::ledger::{self, Ledger};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::proxy::server::{self, Bound, Patience, Way};
use crate::proxy::{Parts, Proxy, Till};
use crate::reload::{self, Reloader};
use crate::treasurer::Treasurer;
use crate::{clock, net, state};

/// How to serve, beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOptions {
    /// Print one JSON line with the bound addresses instead of a sentence.
    pub json: bool,
    /// Take the clock as it is although it ran backwards (M1.8).
    pub accept_clock: bool,
}

/// Serves until SIGTERM or SIGINT, then drains. Blocking.
///
/// # Errors
/// Anything that keeps the proxy from starting; nothing is half-started then.
pub fn serve(config: Config, options: ServeOptions) -> Result<()> {
    state::harden();
    let app = App::bind(&config, options)?;
    announce(&app, options.json)?;
    let signals = app.money.handle().clone();
    signals.block_on(wait_for_stop(&app))?;
    app.drain(config.drain.paid)
}

/// A running proxy.
#[derive(Debug)]
pub struct App {
    /// Where agents connect.
    pub proxy_address: SocketAddr,
    /// Every way in for agents, by its key under `listen`.
    pub ways: Vec<(&'static str, SocketAddr)>,
    /// Where operators look, if anywhere.
    pub admin_address: Option<SocketAddr>,
    /// `/livez`, `/readyz`, `/metrics` for probes, if configured.
    pub health_address: Option<SocketAddr>,
    /// `local` or another kind of signer.
    pub signer_kind: &'static str,
    proxy: Arc<Proxy>,
    readiness: Arc<Readiness>,
    money: Runtime,
    workers: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    stop_admin: watch::Sender<bool>,
    reloader: Reloader,
}

impl App {
    /// Wires everything and starts serving.
    ///
    /// # Errors
    /// Names the file, address or setting that is wrong.
    pub fn bind(config: &Config, options: ServeOptions) -> Result<Self> {
        state::prepare(config)?;
        let metrics = Metrics::new(config.metrics.all_agents);
        let readiness = Readiness::new();
        let ledger = open_ledger(config, options)?;
        let mut hot = reload::Builder::new(reload::Timing::default());
        let epochs = Epochs::default();
        let told = epochs.clone();
        let policy = hot.policy(&config.policy, &metrics, move |policy| told.loaded(policy.epoch()))?;
        let tokens = config.agents.tokens.as_deref().map(|path| hot.tokens(path)).transpose()?;
        let money = Builder::new_multi_thread().worker_threads(2).thread_name("tollpass-money").enable_all().build()?;
        let (signer, deadline) = signer::start(config, &metrics, money.handle())?;
        epochs.attach(&ledger, &policy);
        let treasurer = Treasurer::new(policy.clone(), ledger, signer.clone(), metrics.clone(), deadline);
        let (stop, stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);
        let kind = signer.kind();
        let till = Till::open(treasurer, signer, &config.private())?;
        let parts = Parts { policy, tokens, metrics: metrics.clone(), money: money.handle().clone(), stop: stop.clone() };
        let proxy = Proxy::new(config, parts)?;
        proxy.open_till(Arc::new(till));
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let ways = bind_ways(&config.listen, count)?;
        let proxy_address = ways.first().map_or(config.listen.proxy, |bound| bound.address);
        let serve_admin = |address: Option<SocketAddr>, key: &str| -> Result<Option<SocketAddr>> {
            let Some(address) = address else { return Ok(None) };
            let shown = || format!("cannot listen on {address} (listen.{key})");
            let listener = money.block_on(tokio::net::TcpListener::bind(address)).with_context(shown)?;
            let bound = listener.local_addr().with_context(shown)?;
            let handler = operator_pages(metrics.clone(), readiness.clone(), proxy.clone());
            let mut stopped = admin_stopped.clone();
            money.spawn(net::serve(listener, handler, async move {
                let _ = stopped.wait_for(|s| *s).await;
            }));
            Ok(Some(bound))
        };
        let admin_address = serve_admin(config.listen.admin, "admin")?;
        let health_address = serve_admin(config.listen.health, "health")?;
        let addresses: Vec<(&'static str, SocketAddr)> = ways.iter().map(|bound| (bound.way.key(), bound.address)).collect();
        proxy.set_own(addresses.iter().map(|(_, a)| *a).chain(admin_address).chain(health_address).collect());
        let workers = start_workers(&proxy, ways, &stopped, Patience { unpaid: config.drain.unpaid, paid: config.drain.paid })?;
        let reloader = hot.start().context("cannot watch the policy")?;
        let edge = proxy.clone();
        readiness.ledger(move || edge.till().is_some_and(|till| till.ledger().available()));
        for part in Part::ALL {
            readiness.set(part, true);
        }
        Ok(Self {
            proxy_address,
            ways: addresses,
            admin_address,
            health_address,
            signer_kind: kind,
            proxy,
            readiness,
            money,
            workers,
            stop,
            stop_admin,
            reloader,
        })
    }

    /// Readiness off, no new connections, in-flight requests finish within their deadlines, paid ones are recorded.
    ///
    /// # Errors
    /// If the ledger could not be flushed.
    pub fn drain(self, paid: Duration) -> Result<()> {
        tracing::info!("draining");
        self.readiness.drain();
        let deadline = Instant::now() + paid;
        let _ = self.stop.send(true);
        for worker in self.workers {
            let _ = worker.join();
        }
        while self.proxy.paid_tasks() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = self.proxy.paid_tasks();
        if left > 0 {
            tracing::warn!(tasks = left, "paid requests did not finish in time; their amounts stay spent");
        }
        let flushed = match self.proxy.till() {
            Some(till) => self.money.block_on(till.ledger().flush()),
            None => Ok(()),
        };
        let _ = self.stop_admin.send(true);
        drop(self.reloader);
        drop(self.proxy);
        self.money.shutdown_timeout(Duration::from_secs(2));
        flushed.context("the ledger could not be flushed")
    }
}

/// Tells the ledger which policy is in force, from the moment there is a ledger.
#[derive(Clone, Default)]
struct Epochs(Arc<Mutex<Option<Ledger>>>);

impl Epochs {
    /// A policy took effect.
    fn loaded(&self, epoch: u64) {
        if let Some(ledger) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            ledger.set_epoch(epoch);
        }
    }

    /// Under the lock: a policy that takes effect at this moment is read here, or told after it.
    fn attach(&self, ledger: &Ledger, policy: &ArcSwap<Policy>) {
        let mut attached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.set_epoch(policy.load().epoch());
        *attached = Some(ledger.clone());
    }
}

/// The operator's pages; the computed gauges are brought up to date before each scrape.
fn operator_pages(metrics: Arc<Metrics>, readiness: Arc<Readiness>, proxy: Arc<Proxy>) -> net::Handler {
    let pages = admin::handler(metrics, readiness);
    Arc::new(move |request| {
        if request.uri().path() == "/metrics" {
            proxy.refresh_gauges();
        }
        pages(request)
    })
}

fn open_ledger(config: &Config, options: ServeOptions) -> Result<Ledger> {
    let opening = ledger::Options { dir: config.private(), ephemeral_ok: config.ledger.ephemeral_ok, accept_clock: options.accept_clock };
    Ok(Ledger::open(&opening, clock::read())?)
}

/// The listeners that agents use; the proxy itself comes first.
fn bind_ways(listen: &Listen, workers: usize) -> Result<Vec<Bound>> {
    let ways =
        [(Way::Proxy, Some(listen.proxy)), (Way::Https, listen.https), (Way::Socks, listen.socks), (Way::Transparent, listen.transparent)];
    let wanted = ways.into_iter().filter_map(|(way, address)| Some((way, address?)));
    wanted
        .map(|(way, address)| {
            server::bind(way, address, workers).with_context(|| format!("cannot listen on {address} (listen.{})", way.key()))
        })
        .collect()
}

fn start_workers(proxy: &Arc<Proxy>, ways: Vec<Bound>, stop: &watch::Receiver<bool>, patience: Patience) -> Result<Vec<JoinHandle<()>>> {
    let count = ways.first().map_or(0, |bound| bound.listeners.len());
    let mut shares: Vec<Vec<(Way, std::net::TcpListener)>> = std::iter::repeat_with(Vec::new).take(count).collect();
    for Bound { way, listeners, .. } in ways {
        shares.iter_mut().zip(listeners).for_each(|(share, listener)| share.push((way, listener)));
    }
    let mut workers = Vec::with_capacity(count);
    for (n, listeners) in shares.into_iter().enumerate() {
        let (proxy, stop) = (proxy.clone(), stop.clone());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let worker = std::thread::Builder::new().name(format!("tollpass-{n}")).spawn(move || {
            if let Err(error) = runtime.block_on(server::run(proxy, listeners, stop, patience)) {
                tracing::error!(%error, "a worker stopped");
            }
        })?;
        workers.push(worker);
    }
    Ok(workers)
}

fn announce(app: &App, json: bool) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let text = |a: Option<SocketAddr>| a.map_or_else(|| "off".to_owned(), |a| a.to_string());
    if json {
        let mut line = serde_json::json!({
            "event": "listening",
            "admin": app.admin_address.map(|a| a.to_string()),
            "health": app.health_address.map(|a| a.to_string()),
            "signer": app.signer_kind,
        });
        for (way, address) in &app.ways {
            line[*way] = address.to_string().into();
        }
        writeln!(out, "{line}")?;
    } else {
        let more: String = app.ways.iter().skip(1).map(|(way, address)| format!("{way} {address}, ")).collect();
        let (admin, signer) = (text(app.admin_address), app.signer_kind);
        writeln!(out, "tollpass listens on http://{} ({more}admin {admin}, signer {signer})", app.proxy_address)?;
    }
    Ok(out.flush()?)
}

/// SIGTERM and SIGINT end it; SIGHUP looks at the hot files at once.
async fn wait_for_stop(app: &App) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => app.reloader.poke(),
        }
    }
}
