//! Sessions (M2.4): names under which an agent spends, each with an end and perhaps a limit of its own. What was opened is in
//! `<state>/private/sessions.jsonl`; whoever has the till writes there, everybody else reads what stood there.

mod register;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use register::Session;
use register::{Entry, Line, Register};

use crate::journal::Journal;
use crate::payment::{AgentId, MicroUsd, Reason, SessionName, Timestamp};
use crate::policy;

const FILE: &str = "sessions.jsonl";
/// How long a session lives if neither the call nor the policy says it.
const DEFAULT: Duration = Duration::from_secs(3600);
/// The longest life without rules in the policy.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why a session was not opened or closed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Bad(String),
    /// The name was used before: none comes back.
    #[error("this agent had a session of that name before: names are used once, choose another one")]
    Taken,
    /// As many as the policy's `sessions.open` are open.
    #[error("as many sessions are open as `sessions.open` of the policy lets this agent have: close one, or wait until one ends")]
    Full,
    /// There is none of that name.
    #[error("this agent has no session of that name")]
    Unknown,
    /// It cannot be written down, or another process has the state.
    #[error("the register of sessions cannot be written: {0}")]
    Disk(#[from] io::Error),
}

/// What an operator wants to open.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub agent: AgentId,
    /// Its name.
    pub name: SessionName,
    /// How long it lives; the policy's length otherwise.
    pub expires: Option<Duration>,
    /// Its own limit, which counts beside the policy's.
    pub max: Option<MicroUsd>,
}

/// The register of one state folder.
pub struct Sessions {
    path: PathBuf,
    register: RwLock<Register>,
    journal: Mutex<Option<Journal>>,
    /// Changes whenever a credential may have become another one's, or nobody's.
    version: AtomicU64,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Reads what stands in the private folder; writes nothing before [`Self::open`].
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(private: &Path) -> io::Result<Self> {
        let path = private.join(FILE);
        let register = follow(peek(&path)?)?;
        Ok(Self { path, register: RwLock::new(register), journal: Mutex::default(), version: AtomicU64::new(0) })
    }

    /// From now on this process writes: it has the till.
    ///
    /// # Errors
    /// The journal cannot be opened.
    pub fn open(&self) -> io::Result<()> {
        let mut slot = lock(&self.journal);
        let (journal, lines) = Journal::open(&self.path)?;
        *self.register.write().unwrap_or_else(PoisonError::into_inner) = follow(lines)?;
        *slot = Some(journal);
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Another process writes from now on.
    pub fn close_journal(&self) {
        *lock(&self.journal) = None;
    }

    /// Part of what a caller's identity depends on.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether `password` is the token of this session; `None` if no operator opened one of this name, so that the agent's own
    /// credentials decide.
    pub fn admits(&self, agent: &AgentId, name: &SessionName, password: &str) -> Option<bool> {
        self.with(|register| register.admits(agent, name, &Sha256::digest(password).into()))
    }

    /// What is known of a session.
    pub fn get(&self, agent: &AgentId, name: &SessionName) -> Option<Session> {
        self.with(|register| register.get(agent, name).cloned())
    }

    /// The sessions that are live, by agent and name; with `all` also those that ended.
    pub fn list(&self, now: Timestamp, all: bool) -> Vec<(AgentId, SessionName, Session)> {
        let wanted = |session: &Session| all || session.is_live(now);
        let mut list: Vec<_> = self.with(|register| {
            register.all().filter(|(.., s)| wanted(s)).map(|(agent, name, s)| (agent.clone(), name.clone(), s.clone())).collect()
        });
        list.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        list
    }

    /// Whether a payment may go on now, and the session's own limit. Writes nothing.
    ///
    /// # Errors
    /// `session_required`, `session_unknown`, `session_limit`.
    pub(super) fn check(
        &self,
        agent: &AgentId,
        name: Option<&SessionName>,
        rules: Option<&policy::Sessions>,
        now: Timestamp,
    ) -> Result<Option<MicroUsd>, Reason> {
        match self.with(|register| register.enter(agent, name, rules, now))? {
            Entry::Known(max) => Ok(max),
            // Re-signing in a session that was written down before the policy had rules.
            Entry::New { .. } | Entry::Free => Ok(None),
        }
    }

    /// The first payment under a name that the agent chose opens it, on disk before anything is signed. Blocking in that case.
    ///
    /// # Errors
    /// As [`Self::check`]; `ledger_unavailable` if it cannot be written down.
    pub(super) fn enter(
        &self,
        agent: &AgentId,
        name: Option<&SessionName>,
        rules: Option<&policy::Sessions>,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let entry = || self.with(|register| register.enter(agent, name, rules, now));
        let (Entry::New { .. }, Some(name)) = (entry()?, name) else { return Ok(()) };
        let mut journal = lock(&self.journal);
        // Asked again under the lock: twenty first payments at once open one session, or as many as there is room for.
        let Entry::New { expires_at } = entry()? else { return Ok(()) };
        let line = Line::Open {
            agent: agent.to_string(),
            name: name.to_string(),
            token: None,
            at: now.millis(),
            expires_at: expires_at.millis(),
            max: None,
        };
        self.write(&mut journal, &line).map_err(|error| {
            tracing::error!(%error, "a session cannot be written down, so nothing is paid in it");
            Reason::LedgerUnavailable
        })
    }

    /// Opens a session for whoever has `token`. Blocking. When it ends.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn issue(&self, wanted: &Wanted, token: &str, rules: Option<&policy::Sessions>, now: Timestamp) -> Result<Timestamp, SessionError> {
        let bound = rules.map_or(LONGEST, |r| r.expires);
        let length = wanted.expires.unwrap_or_else(|| rules.map_or(DEFAULT, |r| r.expires));
        if length.is_zero() || length > bound {
            return Err(SessionError::Bad(format!(
                "`expires` must be more than nothing and at most {}s, as the policy has it",
                bound.as_secs()
            )));
        }
        let mut journal = lock(&self.journal);
        self.with(|register| match register.get(&wanted.agent, &wanted.name) {
            Some(_) => Err(SessionError::Taken),
            None => register.room(&wanted.agent, rules, now).map_err(|_| SessionError::Full),
        })?;
        let expires_at = now.plus_millis(i64::try_from(length.as_millis()).unwrap_or(i64::MAX));
        let line = Line::Open {
            agent: wanted.agent.to_string(),
            name: wanted.name.to_string(),
            token: Some(alloy_primitives::hex::encode(Sha256::digest(token))),
            at: now.millis(),
            expires_at: expires_at.millis(),
            max: wanted.max.map(MicroUsd::micro),
        };
        self.write(&mut journal, &line)?;
        Ok(expires_at)
    }

    /// Ends a session: its credentials are worth nothing from the next request on. Blocking. False if it was closed before.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], [`SessionError::Disk`].
    pub fn close(&self, agent: &AgentId, name: &SessionName, now: Timestamp) -> Result<bool, SessionError> {
        let mut journal = lock(&self.journal);
        let session = self.get(agent, name).ok_or(SessionError::Unknown)?;
        if session.closed_at.is_some() {
            return Ok(false);
        }
        self.write(&mut journal, &Line::Close { agent: agent.to_string(), name: name.to_string(), at: now.millis() })?;
        Ok(true)
    }

    fn with<T>(&self, look: impl FnOnce(&Register) -> T) -> T {
        look(&self.register.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// On disk first, then in force.
    fn write(&self, journal: &mut Option<Journal>, line: &Line) -> io::Result<()> {
        let journal = journal.as_mut().ok_or_else(|| io::Error::other("another process has this state"))?;
        journal.append(line)?;
        self.register.write().unwrap_or_else(PoisonError::into_inner).apply(line).map_err(io::Error::other)?;
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn follow(lines: Vec<Line>) -> io::Result<Register> {
    let mut register = Register::default();
    for line in lines {
        register.apply(&line).map_err(|e| io::Error::other(format!("{FILE}: {e}")))?;
    }
    Ok(register)
}

/// The lines as they are, without becoming the writer; one that is being written does not count yet. No file has no lines.
fn peek(path: &Path) -> io::Result<Vec<Line>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
