//! Opening and closing the till: ledger and signer, which one process at a time has (M1.9).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::announcer::Announcer;
use super::hook::HttpHook;
use super::outward::Outward;
use super::signer;
use crate::admin::api::Api;
use crate::admin::entrance;
use crate::clock;
use crate::config::Config;
use crate::custody::CustodyError;
use crate::ledger::{self, Ledger, OpenError};
use crate::metrics::Metrics;
use crate::net;
use crate::policy::Policy;
use crate::proxy::{Proxy, Till};
use crate::records::{Draft, Keep, Log};
use crate::stops::Stops;
use crate::treasurer::approvals::Approvals;
use crate::treasurer::{Sessions, Treasurer};

/// Opens the ledger: the first thing a process does that is not to take over from another, for the lock guards all of the state.
pub(super) fn open_ledger(config: &Config, accept_clock: bool) -> Result<Ledger> {
    let opening = ledger::Options { dir: config.private(), ephemeral_ok: config.ledger.ephemeral_ok, accept_clock };
    let opened = Ledger::open(&opening, clock::read());
    if let Err(OpenError::Locked(_)) = &opened {
        return opened.context("this state is in use: `tollpass serve --handover` takes over from the process that uses it");
    }
    Ok(opened?)
}

/// True if another process still has what was to be opened.
pub(super) fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Locked(_))) || matches!(error.downcast_ref(), Some(CustodyError::Locked(_)))
}

/// The operator's socket in the private folder.
const SOCKET: &str = "admin.sock";

/// Opens the till, and closes it around a hand-over.
pub(super) struct Cashier {
    pub(super) config: Config,
    pub(super) accept_clock: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    /// The policy that judges along.
    pub(super) draft: Option<Draft>,
    pub(super) epochs: Epochs,
    pub(super) proxy: Arc<Proxy>,
    pub(super) money: Handle,
    /// What keeps the signer's link warm, while the till is open.
    pub(super) keeper: Mutex<Option<AbortHandle>>,
    /// Under which names agents pay; written by whoever has the till.
    pub(super) sessions: Arc<Sessions>,
    /// What is stopped; freezes belong to whoever has the till.
    pub(super) stops: Arc<Stops>,
    pub(super) api: Arc<Api>,
    /// The operator's socket, while the till is open.
    pub(super) socket: Mutex<Option<AbortHandle>>,
    /// Who may use the API; hot.
    pub(super) operators: entrance::Tokens,
    /// Who tells people of questions, while the till is open.
    pub(super) announcer: Mutex<Option<AbortHandle>>,
}

impl std::fmt::Debug for Cashier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cashier")
    }
}

impl Cashier {
    /// Takes ledger and signer: a till for [`Proxy::open_till`]. Blocking.
    ///
    /// # Errors
    /// What cannot be opened; [`is_taken`] tells whether waiting may help.
    pub(super) fn open(&self) -> Result<Arc<Till>> {
        self.open_with(open_ledger(&self.config, self.accept_clock)?)
    }

    /// The same with a ledger that is open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_with(&self, ledger: Ledger) -> Result<Arc<Till>> {
        self.stops.open(&ledger).context("what is frozen cannot be read")?;
        self.sessions.open().context("the register of sessions cannot be read")?;
        let signer::Started { signer, deadline, keeper } = signer::start(&self.config, &self.metrics, &self.money)?;
        *lock(&self.keeper) = keeper;
        self.epochs.attach(&ledger, &self.policy);
        let approvals = Approvals::open(&self.config.private(), ledger.clock(clock::read()).now)?;
        let log = Log::start(self.decision_log(), self.draft.clone(), ledger.clone(), &self.metrics);
        let log = log.context("the decision log cannot be opened")?;
        let treasurer = Treasurer::new(self.policy.clone(), ledger, signer.clone(), self.metrics.clone(), deadline, approvals);
        let outward = Arc::new(Outward::new(self.config.tls.extra_roots.clone()));
        let hook = Arc::new(HttpHook(outward.clone()));
        let treasurer = treasurer.with_stops(self.stops.clone()).with_hook(hook).with_sessions(self.sessions.clone()).with_log(log);
        let till = Arc::new(Till::open(treasurer, signer, &self.config.private())?);
        *lock(&self.socket) = self.open_socket();
        let announcer = Announcer {
            approvals: till.treasurer().approvals().clone(),
            ledger: till.ledger().clone(),
            policy: self.policy.clone(),
            metrics: self.metrics.clone(),
            public: self.config.admin.public_url.clone(),
            outward,
        };
        *lock(&self.announcer) = Some(self.money.spawn(announcer.run()).abort_handle());
        Ok(till)
    }

    fn decision_log(&self) -> Option<Keep> {
        let keep = self.config.decision_log;
        (keep.files > 0).then(|| Keep { folder: self.config.decisions(), size: keep.size, files: keep.files })
    }

    /// Whoever has the till answers operators (S16). Without the socket the kill file still works.
    fn open_socket(&self) -> Option<AbortHandle> {
        let _runtime = self.money.enter();
        let path = self.config.private().join(SOCKET);
        match net::unix::bind(&path) {
            Ok(listener) => {
                let serving =
                    net::serve(listener, entrance::socket(self.api.clone(), self.operators.clone()), std::future::pending::<()>());
                Some(self.money.spawn(serving).abort_handle())
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no socket for operators: commands such as `tollpass agent freeze` will not work");
                None
            }
        }
    }

    /// Lets go of ledger and signer, as far as no task still has them: what is queued is written first.
    ///
    /// # Errors
    /// If the ledger could not be flushed.
    pub(super) async fn release(&self, till: Arc<Till>) -> Result<()> {
        let flushed = till.ledger().flush().await;
        if let Some(keeper) = lock(&self.keeper).take() {
            keeper.abort();
        }
        if let Some(socket) = lock(&self.socket).take() {
            socket.abort();
        }
        if let Some(announcer) = lock(&self.announcer).take() {
            announcer.abort();
        }
        self.stops.close();
        self.sessions.close_journal();
        self.epochs.detach();
        drop(till);
        flushed.context("the ledger could not be flushed")
    }
}

/// Tells the ledger which policy is in force, from the moment there is a ledger.
#[derive(Clone, Default)]
pub(super) struct Epochs(Arc<Mutex<Option<Ledger>>>);

impl Epochs {
    /// A policy took effect.
    pub(super) fn loaded(&self, policy: &Policy) {
        if let Some(ledger) = &*lock(&self.0) {
            ledger.follow(policy);
        }
    }

    /// Under the lock: a policy that takes effect at this moment is read here, or told after it.
    fn attach(&self, ledger: &Ledger, policy: &ArcSwap<Policy>) {
        let mut attached = lock(&self.0);
        ledger.follow(&policy.load());
        *attached = Some(ledger.clone());
    }

    fn detach(&self) {
        *lock(&self.0) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
