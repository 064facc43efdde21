//! What is stopped, durably: frozen agents and hosts, and the kill switch.
//!
//! The kill switch is a file, `private/kill` in the state folder: while it is there, nothing is signed. So it works by
//! command, by API and by `touch`, needs no running process, survives a restart, and a co-signer has one of its own. Freezes
//! are in `private/frozen.json`, written before an unfreeze takes effect and right after a freeze did.
//!
//! Closing comes first, writing second: a disk that is full must not keep money flowing. Opening is the other way round.

mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use file::{KILL, kill_in, revive_in};

use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::payment::{AgentId, Reason};
use crate::policy::{Host, Standing, Stopped};

/// How often the kill file is looked for: well within the second that a kill may take.
pub const LOOK: Duration = Duration::from_millis(200);

/// Who or what is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An agent pays nobody.
    Agent(AgentId),
    /// Nobody pays a host.
    Host(Host),
}

impl Target {
    fn key(&self) -> Arc<str> {
        match self {
            Self::Agent(agent) => agent.as_str().into(),
            Self::Host(host) => host.to_string().into(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Host(host) => write!(f, "host {host}"),
        }
    }
}

/// Why a stop, or its end, is not as it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Another process has the ledger, and with it the say.
    #[error("this process does not hold the ledger: ask the one that does")]
    NotOurs,
    /// Closed in memory, and not on the disk.
    #[error("it is stopped, but that cannot be written ({0}): do not restart before the disk is repaired")]
    Unwritten(#[source] io::Error),
    /// Not opened, because it cannot be written.
    #[error("it stays stopped: that it is not cannot be written ({0})")]
    Kept(#[source] io::Error),
}

/// The stops of one process.
pub struct Stops {
    private: PathBuf,
    metrics: Arc<Metrics>,
    /// Held while something changes; the ledger is there while this process has it.
    ledger: Mutex<Option<Ledger>>,
    now: ArcSwap<Standing>,
    /// What the kill file was like when it was read last.
    mark: Mutex<Option<file::Mark>>,
    /// The kill switch is on and its file could not be written: that there is none means nothing.
    unwritten: AtomicBool,
}

impl Stops {
    /// Knows only the kill file so far: freezes belong to the process that holds the ledger.
    pub fn new(private: &Path, metrics: Arc<Metrics>) -> Arc<Self> {
        let stops = Self {
            private: private.to_path_buf(),
            metrics,
            ledger: Mutex::default(),
            now: ArcSwap::default(),
            mark: Mutex::default(),
            unwritten: AtomicBool::new(false),
        };
        stops.look();
        Arc::new(stops)
    }

    /// This process holds `ledger` now: reads what is frozen, and tells the books from here on.
    ///
    /// # Errors
    /// The file cannot be read: a start that forgets a freeze would be worse than none.
    pub fn open(&self, ledger: &Ledger) -> io::Result<()> {
        let mut held = lock(&self.ledger);
        let frozen = file::read(&self.private)?;
        *held = Some(ledger.clone());
        self.publish(&held, |standing| (standing.agents, standing.hosts) = (frozen.agents, frozen.hosts));
        drop(held);
        self.look();
        Ok(())
    }

    /// This process lets go of the ledger.
    pub fn close(&self) {
        *lock(&self.ledger) = None;
    }

    /// What is stopped now.
    pub fn standing(&self) -> Arc<Standing> {
        self.now.load_full()
    }

    /// What stands against a payment of `agent` at `host`: asked once more right before a signature.
    pub fn closed(&self, agent: &AgentId, host: &Host) -> Option<Reason> {
        self.now.load().closed(agent, host)
    }

    /// Whether the kill switch is on.
    pub fn killed(&self) -> bool {
        self.now.load().killed.is_some()
    }

    /// Stops `target`. True if it was not stopped already; its first cause stays. Waits for the disk.
    ///
    /// # Errors
    /// [`StopError`]; after [`StopError::Unwritten`] it is stopped all the same.
    pub fn freeze(&self, target: &Target, stopped: Stopped) -> Result<bool, StopError> {
        let held = self.held()?;
        let key = target.key();
        if self.kind(target, &self.now.load()).contains_key(&key) {
            return Ok(false);
        }
        tracing::warn!(%target, by = %stopped.by, why = %stopped.why, "frozen: a person has to look at it (tollpass agent unfreeze)");
        self.metrics.frozen_by(if &*stopped.by == RISK { RISK } else { "operator" });
        self.publish(&held, |standing| drop(self.kind_mut(target, standing).insert(key, stopped)));
        file::write(&self.private, &self.now.load()).map_err(StopError::Unwritten)?;
        Ok(true)
    }

    /// Lets `target` pay, or be paid, again. False if it was not stopped. Waits for the disk.
    ///
    /// # Errors
    /// [`StopError`]; then it stays stopped.
    pub fn unfreeze(&self, target: &Target, who: &str) -> Result<bool, StopError> {
        let held = self.held()?;
        let mut after = Standing::clone(&self.now.load());
        if self.kind_mut(target, &mut after).remove(&target.key()).is_none() {
            return Ok(false);
        }
        file::write(&self.private, &after).map_err(StopError::Kept)?;
        tracing::warn!(%target, by = who, "unfrozen");
        self.publish(&held, |standing| (standing.agents, standing.hosts) = (after.agents, after.hosts));
        Ok(true)
    }

    /// Turns the kill switch on. True if it was off. Waits for the disk.
    ///
    /// # Errors
    /// [`StopError::Unwritten`]; it is on all the same until this process ends.
    pub fn kill(&self, stopped: &Stopped) -> Result<bool, StopError> {
        let fresh = !self.killed();
        if fresh {
            // Before anybody looks for the file.
            self.unwritten.store(true, Ordering::Release);
            self.publish(&lock(&self.ledger), |standing| standing.killed = Some(stopped.clone()));
        }
        let written = file::kill_in(&self.private, stopped);
        self.unwritten.store(written.is_err(), Ordering::Release);
        written.map_err(StopError::Unwritten)?;
        self.look();
        Ok(fresh)
    }

    /// Turns it off. True if it was on. Waits for the disk.
    ///
    /// # Errors
    /// [`StopError::Kept`].
    pub fn revive(&self) -> Result<bool, StopError> {
        let was = self.killed();
        file::revive_in(&self.private).map_err(StopError::Kept)?;
        self.unwritten.store(false, Ordering::Release);
        self.look();
        Ok(was)
    }

    /// Looks for the kill file. One that cannot be looked at counts as there.
    pub fn look(&self) {
        let mut mark = lock(&self.mark);
        let seen = file::Mark::of(&self.private);
        if seen.is_none() && self.unwritten.load(Ordering::Acquire) {
            return;
        }
        let stale = match (&seen, self.killed()) {
            (None, killed) => killed,
            (Some(seen), killed) => !killed || mark.as_ref() != Some(seen),
        };
        if stale {
            let killed = seen.as_ref().map(|_| file::read_kill(&self.private));
            match &killed {
                Some(stopped) => tracing::error!(by = %stopped.by, why = %stopped.why, "the kill switch is on: nothing is signed"),
                None => tracing::warn!("the kill switch is off: payments go on"),
            }
            self.publish(&lock(&self.ledger), |standing| standing.killed = killed);
        }
        self.metrics.killed(seen.is_some());
        *mark = seen;
    }

    /// Looks again and again, for as long as anybody has these stops.
    pub async fn watch(stops: Weak<Self>) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match stops.upgrade() {
                Some(stops) => stops.look(),
                None => return,
            }
        }
    }

    fn held(&self) -> Result<MutexGuard<'_, Option<Ledger>>, StopError> {
        let held = lock(&self.ledger);
        if held.is_some() { Ok(held) } else { Err(StopError::NotOurs) }
    }

    /// Changes what is stopped, under the lock: nobody's change gets lost.
    fn publish(&self, held: &MutexGuard<'_, Option<Ledger>>, change: impl FnOnce(&mut Standing)) {
        let mut standing = Standing::clone(&self.now.load());
        change(&mut standing);
        let standing = Arc::new(standing);
        self.now.store(Arc::clone(&standing));
        self.metrics.frozen(&standing.agents.keys().cloned().collect::<Vec<_>>(), standing.hosts.len());
        if let Some(ledger) = &**held {
            ledger.set_standing(standing);
        }
    }

    const fn kind<'a>(&self, target: &Target, standing: &'a Standing) -> &'a BTreeMap<Arc<str>, Stopped> {
        match target {
            Target::Agent(_) => &standing.agents,
            Target::Host(_) => &standing.hosts,
        }
    }

    const fn kind_mut<'a>(&self, target: &Target, standing: &'a mut Standing) -> &'a mut BTreeMap<Arc<str>, Stopped> {
        match target {
            Target::Agent(_) => &mut standing.agents,
            Target::Host(_) => &mut standing.hosts,
        }
    }
}

/// What is stopped in a state folder, beside a running process or without one.
///
/// # Errors
/// What is frozen cannot be read.
pub fn recorded(private: &std::path::Path) -> std::io::Result<Standing> {
    let killed = file::Mark::of(private).map(|_| file::read_kill(private));
    Ok(Standing { killed, ..file::read(private)? })
}

/// Who froze, when no person did.
pub const RISK: &str = "risk";

impl fmt::Debug for Stops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stops").field("now", &self.now.load()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
