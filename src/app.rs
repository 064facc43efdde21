//! The composition root: wire, bind, run, drain, hand over.
//!
//! Worker threads carry agents' traffic, each a current-thread runtime with its own listener. The money runtime carries
//! treasurer, ledger, signer and paid exchanges, so that neither side can starve the other (design §3).

mod announcer;
mod approvals;
mod attend;
mod cashier;
mod doors;
mod handover;
mod hook;
mod operators;
mod outward;
mod page;
mod sessions;
mod signer;
mod stops;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::admin::api::Api;
use crate::admin::names::Names;
use crate::admin::{Part, Readiness, entrance};
use crate::config::{Config, Drain, Listen};
use crate::metrics::Metrics;
use crate::proxy::server::{self, Entrance, Patience, Way};
use crate::proxy::{Parts, Phase, Proxy, Trust};
use crate::reload::{self, Reloader, Signing};
use crate::state;
use crate::stops::Stops;
use crate::treasurer::Sessions;

use attend::{End, Signals, attend};
use cashier::{Cashier, Epochs, open_ledger};
use doors::{Door, Offered};
use handover::{Ear, Taking};
use sessions::SessionDesk;
pub(crate) use stops::in_flight_of;

/// How to serve, beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOptions {
    /// Print one JSON line with the bound addresses instead of a sentence.
    pub json: bool,
    /// Take the clock as it is although it ran backwards (M1.8).
    pub accept_clock: bool,
    /// Take sockets and ledger over from the process that runs on the same state, if there is one.
    pub handover: bool,
}

/// Serves until SIGTERM, SIGINT or a hand-over, then drains. Blocking.
///
/// # Errors
/// Anything that keeps the proxy from starting; nothing is half-started then.
pub fn serve(config: Config, options: ServeOptions) -> Result<()> {
    state::harden();
    let mut app = App::bind(&config, options)?;
    if app.taken.is_none() {
        app.ear = Ear::open(&app.cashier);
    }
    let money = app.money.handle().clone();
    let signals = {
        let _inside = money.enter();
        Signals::new()?
    };
    announce(&app, options.json)?;
    let ended = money.block_on(attend(&mut app, signals));
    let drained = app.finish(*ended.as_ref().unwrap_or(&End::Stop), config.drain.paid);
    ended.and(drained)
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
    drain: Drain,
    proxy: Arc<Proxy>,
    cashier: Arc<Cashier>,
    readiness: Arc<Readiness>,
    money: Runtime,
    agents: Vec<(Way, Door)>,
    desks: Vec<Door>,
    workers: Vec<JoinHandle<()>>,
    reloader: Reloader,
    /// Where the process that follows can ask for the ledger, from the start if we have it.
    ear: Option<Ear>,
    /// Ready when ledger and signer are taken over, in a process that does.
    taken: Option<oneshot::Receiver<Result<Option<Ear>>>>,
    stop_taking: Arc<AtomicBool>,
}

impl App {
    /// Wires everything and starts serving.
    ///
    /// # Errors
    /// Names the file, address or setting that is wrong.
    pub fn bind(config: &Config, options: ServeOptions) -> Result<Self> {
        state::prepare(config)?;
        let mut taking = if options.handover { handover::ask(&config.private())? } else { None };
        // Its lock guards all of the state, so it comes first where there is nobody to take over from.
        let ledger = if taking.is_none() { Some(open_ledger(config, options.accept_clock)?) } else { None };
        let trusting = {
            let config = config.clone();
            std::thread::Builder::new().name("tollpass-trust".into()).spawn(move || Trust::prepare(&config))?
        };
        let metrics = Metrics::new(config.metrics.all_agents);
        let readiness = Readiness::new();
        let stops = Stops::new(&config.private(), metrics.clone());
        let mut hot = reload::Builder::new(reload::Timing::default());
        let epochs = Epochs::default();
        let told = epochs.clone();
        let policy =
            hot.policy(&config.policy, Signing::new(&config.policy_keys, &config.private()), &metrics, move |policy| told.loaded(policy))?;
        let draft = config.policy_shadow.as_deref().map(|path| hot.shadow(path, &metrics));
        let tokens = config.agents.tokens.as_deref().map(|path| hot.tokens(path)).transpose()?;
        let operators = config.admin.tokens.as_deref().map(|path| hot.operators(path)).transpose()?;
        let money = Builder::new_multi_thread().worker_threads(2).thread_name("tollpass-money").enable_all().build()?;
        let sessions = Arc::new(Sessions::read(&config.private()).context("the register of sessions cannot be read")?);
        let parts =
            Parts { policy: policy.clone(), tokens, sessions: sessions.clone(), metrics: metrics.clone(), money: money.handle().clone() };
        let trust = trusting.join().map_err(|_| anyhow!("preparing TLS panicked"))??;
        let proxy = Proxy::new(config, trust, parts)?;
        money.spawn(Stops::watch(Arc::downgrade(&stops)));
        let address = Arc::<OnceLock<SocketAddr>>::default();
        let people = Arc::new(approvals::People::new(proxy.clone(), operators.clone()));
        let api = Arc::new(Api::new(vec![
            Arc::new(stops::KillDesk { stops: stops.clone(), proxy: proxy.clone() }),
            Arc::new(stops::FreezeDesk { stops: stops.clone() }),
            Arc::new(approvals::ApprovalsDesk(people.clone())),
            Arc::new(approvals::MandatesDesk(proxy.clone())),
            Arc::new(SessionDesk { sessions: sessions.clone(), policy: policy.clone(), proxy: proxy.clone(), address: address.clone() }),
        ]));
        let cashier = Arc::new(Cashier {
            config: config.clone(),
            accept_clock: options.accept_clock,
            metrics: metrics.clone(),
            policy,
            draft,
            epochs,
            proxy: proxy.clone(),
            money: money.handle().clone(),
            keeper: Mutex::default(),
            sessions,
            stops,
            api: api.clone(),
            socket: Mutex::default(),
            operators: operators.clone(),
            announcer: Mutex::default(),
        });
        if let Some(ledger) = ledger {
            proxy.open_till(cashier.open_with(ledger)?);
        }

        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let mut offered = taking.as_mut().map(|t| std::mem::take(&mut t.offered)).unwrap_or_default();
        let agents = open_ways(&config.listen, count, &mut offered)?;
        let mut desks = Vec::new();
        for (key, asked) in [("admin", config.listen.admin), ("health", config.listen.health)] {
            let Some(asked) = asked else { continue };
            desks.push(Door::open(key, asked, &mut offered, || operators::bind(asked))?);
        }
        let bound = |key| desks.iter().find(|d: &&Door| d.key == key).map(|d| d.bound);
        let (admin_address, health_address) = (bound("admin"), bound("health"));
        let ways: Vec<(&'static str, SocketAddr)> = agents.iter().map(|(_, door)| (door.key, door.bound)).collect();
        address.get_or_init(|| ways.first().map_or(config.listen.proxy, |(_, address)| *address));
        proxy.set_own(ways.iter().map(|(_, address)| *address).chain(admin_address).chain(health_address).collect());

        let edge = proxy.clone();
        readiness.ledger(move || edge.till().is_some_and(|till| till.ledger().available()));
        let workers = start_workers(&proxy, &agents, Patience { unpaid: config.drain.unpaid, paid: config.drain.paid })?;
        let pages = operators::pages(metrics, readiness.clone(), proxy.clone());
        for door in &desks {
            let pages = if door.key == "admin" {
                let names = Arc::new(Names::new(door.bound, config.admin.public_url.as_ref()));
                let decide = page::handler(people.clone(), names.clone(), config.admin.public_url.as_ref());
                operators::with_api(pages.clone(), entrance::tcp(api.clone(), operators.clone(), names), decide)
            } else {
                pages.clone()
            };
            for socket in &door.sockets {
                money.spawn(operators::serve(socket.try_clone()?, door.phase(), pages.clone()));
            }
        }
        let reloader = hot.start().context("cannot watch the policy")?;
        for part in Part::ALL {
            readiness.set(part, true);
        }
        let stop_taking = Arc::<AtomicBool>::default();
        let keys = agents.iter().map(|(_, door)| door.key).chain(desks.iter().map(|door| door.key));
        let taken = taking.map(|taking| start_taking(taking, keys, &cashier, &stop_taking)).transpose()?;
        Ok(Self {
            proxy_address: ways.first().map_or(config.listen.proxy, |(_, address)| *address),
            ways,
            admin_address,
            health_address,
            signer_kind: config.signer.kind(),
            drain: config.drain,
            proxy,
            cashier,
            readiness,
            money,
            agents,
            desks,
            workers,
            reloader,
            ear: None,
            taken,
            stop_taking,
        })
    }

    /// Readiness off, no new connections, in-flight requests finish within their deadlines, paid ones are recorded.
    ///
    /// # Errors
    /// If the ledger could not be flushed.
    pub fn drain(self, paid: Duration) -> Result<()> {
        self.finish(End::Stop, paid)
    }

    fn finish(mut self, end: End, paid: Duration) -> Result<()> {
        tracing::info!("draining");
        self.readiness.drain();
        self.stop_taking.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + paid;
        self.agents.iter_mut().for_each(|(_, door)| door.close());
        if end == End::Stop {
            // After a hand-over connections may stay until they ask once more: nobody waits for this process.
            self.proxy.set_phase(Phase::Stopping);
        }
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
        let flushed = match self.proxy.close_till() {
            Some(till) => self.money.block_on(self.cashier.release(till)),
            None => Ok(()),
        };
        self.desks.iter_mut().for_each(Door::close);
        drop(self.reloader);
        drop((self.proxy, self.cashier));
        self.money.shutdown_timeout(Duration::from_secs(2));
        flushed
    }

    /// Every listening socket.
    fn doors(&self) -> impl Iterator<Item = &Door> {
        self.agents.iter().map(|(_, door)| door).chain(&self.desks)
    }
}

/// Says to the old process that we serve, and waits on a thread for what it has.
fn start_taking(
    taking: Taking,
    keys: impl Iterator<Item = &'static str>,
    cashier: &Arc<Cashier>,
    stop: &Arc<AtomicBool>,
) -> Result<oneshot::Receiver<Result<Option<Ear>>>> {
    taking.serving(keys.map(str::to_owned).collect())?;
    let (cashier, stop) = (cashier.clone(), stop.clone());
    let (told, taken) = oneshot::channel();
    std::thread::Builder::new().name("tollpass-takes".into()).spawn(move || {
        // Nobody listens any more if we are to stop.
        let _ = told.send(taking.take(&cashier, &stop));
    })?;
    Ok(taken)
}

/// The listeners that agents use; the proxy itself comes first.
fn open_ways(listen: &Listen, workers: usize, offered: &mut Vec<Offered>) -> Result<Vec<(Way, Door)>> {
    let ways =
        [(Way::Proxy, Some(listen.proxy)), (Way::Https, listen.https), (Way::Socks, listen.socks), (Way::Transparent, listen.transparent)];
    let wanted = ways.into_iter().filter_map(|(way, asked)| Some((way, asked?)));
    wanted.map(|(way, asked)| Ok((way, Door::open(way.key(), asked, offered, || server::bind(asked, workers))?))).collect()
}

fn start_workers(proxy: &Arc<Proxy>, ways: &[(Way, Door)], patience: Patience) -> Result<Vec<JoinHandle<()>>> {
    let count = std::thread::available_parallelism().map_or(2, usize::from);
    let mut workers = Vec::with_capacity(count);
    for n in 0..count {
        let mut mine = Vec::new();
        for (way, door) in ways {
            mine.extend(door.share(n, count)?.into_iter().map(|listener| Entrance { way: *way, listener, phase: door.phase() }));
        }
        let proxy = proxy.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let worker = std::thread::Builder::new().name(format!("tollpass-{n}")).spawn(move || {
            if let Err(error) = runtime.block_on(server::run(proxy, mine, patience)) {
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
