//! What the co-signer answers. Every request: identity looked up anew, replay checked, then one of the paths of
//! [`crate::wire::message::path`]. Arithmetic runs on the crew, everything is bounded, nothing waits for ever.

mod presign;
mod sign;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::judge::{Judge, Standing};
use super::registry::{Known, Registry};
use super::sessions::{Owner, Sessions};
use super::store::{Store, Turn};
use crate::clock;
use crate::crew::Crew;
use crate::custody::{Custody, OpenSession};
use crate::metrics::Metrics;
use crate::mpc::{Abort, Fingerprint, Party, Wallet};
use crate::payment::{Reason, Timestamp};
use crate::wire::link::{Connections, Incoming, Reply, Service};
use crate::wire::message::{
    Answer, Begin, Enroll, Enrolled, Finish, HELLO_FIRST, Hello, MAX_BODY, Noted, Prepare, Prepared, Present, Refused, Settle, Welcome,
    path,
};

/// The longest one request may take; the sidecar's own deadline is shorter.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server is made of.
pub struct Parts {
    /// Share 2.
    pub custody: Arc<Custody>,
    /// What must not be forgotten.
    pub store: Arc<Store>,
    /// Who decides.
    pub judge: Arc<Judge>,
    /// Threads for the arithmetic.
    pub crew: Crew,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Epoch of the policy in effect.
    pub policy: Box<dyn Fn() -> u64 + Send + Sync>,
    /// `presign: { accept_unreviewed_presign: true }`.
    pub presign: bool,
}

/// The service behind the link.
pub struct Server {
    custody: Arc<Custody>,
    wallet: Wallet,
    store: Arc<Store>,
    judge: Arc<Judge>,
    registry: Registry,
    sessions: Sessions,
    connections: Connections,
    crew: Crew,
    metrics: Arc<Metrics>,
    policy: Box<dyn Fn() -> u64 + Send + Sync>,
    presign: bool,
    /// Presignatures an identity may still begin: refilled as time passes.
    rates: Mutex<HashMap<Fingerprint, presign::Rate>>,
    /// Which run of the share holder a connection belongs to.
    turns: Mutex<HashMap<u64, [u8; 16]>>,
    turn: Mutex<Option<[u8; 16]>>,
    /// The wallet holds more than it may (S10): mainnet payments are refused.
    over_limit: AtomicBool,
    bans: AtomicU64,
}

/// Who asks, as the registry knows it at this moment.
struct Caller {
    owner: Owner,
    standing: Standing,
    /// Verifies the intent's own signature.
    key: crate::wire::identity::Public,
}

/// No answer, or a refusal.
enum No {
    /// Not known, revoked, replayed, unreadable: nothing is said.
    Close,
    /// Said, with its reason.
    Refused(Box<Refused>),
}

impl From<Refused> for No {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<Reason> for No {
    fn from(reason: Reason) -> Self {
        Self::Refused(Box::new(because(reason.as_str())))
    }
}

fn because(reason: &str) -> Refused {
    Refused { reason: reason.to_owned(), rule: None, amount_micro: None, limit_micro: None, remaining_micro: None, resets_at_ms: None }
}

impl Server {
    /// Wires the service.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { custody, store, judge, crew, metrics, policy, presign } = parts;
        let wallet = custody.share().wallet().clone();
        let turn = Mutex::new(store.current_turn(wallet.id.as_str()));
        let registry = Registry::new(Arc::clone(&store));
        let server = Self {
            custody,
            wallet,
            store,
            judge,
            registry,
            sessions: Sessions::default(),
            connections: Connections::default(),
            crew,
            metrics,
            policy,
            presign,
            rates: Mutex::default(),
            turns: Mutex::default(),
            turn,
            over_limit: AtomicBool::new(false),
            bans: AtomicU64::new(0),
        };
        server.refresh_gauges();
        Arc::new(server)
    }

    /// The wallet it holds a share of.
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// Says whether the wallet holds more than an unaudited library may guard (S10).
    pub fn set_over_limit(&self, over: bool) {
        if self.over_limit.swap(over, Ordering::AcqRel) != over {
            tracing::warn!(over, "the wallet's balance on main networks crossed `max_balance`");
        }
    }

    /// The open connections: for the link.
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Once a second: drops what is over, what a changed policy no longer covers, and everything of identities that another
    /// process revoked: they need not ask first.
    pub fn sweep(&self) {
        for key in self.store.revoked().unwrap_or_default() {
            self.dismiss(Fingerprint(key));
        }
        self.sessions.sweep((self.policy)());
        lock(&self.rates).retain(|_, rate| !rate.is_full());
        self.refresh_gauges();
    }

    /// Brings the computed gauges up to date: before each scrape.
    pub fn refresh_gauges(&self) {
        let (open, presigned) = self.sessions.count();
        let frozen = self.custody.frozen().is_some();
        self.metrics.cosigner_state(self.wallet.id.as_str(), open, presigned, frozen, self.bans.load(Ordering::Relaxed));
    }

    /// Takes a request apart, answers it, counts it.
    async fn handle(self: Arc<Self>, request: Incoming) -> Reply {
        let kind = kind_of(&request.opened.header.path);
        let answered = tokio::time::timeout(PATIENCE, self.dispatch(request)).await.unwrap_or(Err(No::Close));
        let (result, reply) = match answered {
            Ok(payload) => ("ok", Reply::Payload(payload)),
            Err(No::Close) => ("closed", Reply::Close),
            Err(No::Refused(refused)) => {
                let result = Reason::parse(&refused.reason).map_or(HELLO_FIRST, Reason::as_str);
                // The variant's number and the refusal are the same bytes whatever the answer would have carried.
                let payload = encode(&Answer::<()>::No(*refused));
                (result, payload.map_or(Reply::Close, Reply::Payload))
            }
        };
        self.metrics.cosigner_request(kind, result);
        reply
    }

    async fn dispatch(self: &Arc<Self>, request: Incoming) -> Result<Vec<u8>, No> {
        let header = &request.opened.header;
        let now = self.now();
        if !self.store.fresh(header.sender.0, header.id, now) {
            self.metrics.cosigner_alarm("replay");
            tracing::warn!(sender = %header.sender, path = header.path, "a request came twice: not answered");
            return Err(No::Close);
        }
        let payload = &request.opened.payload;
        if header.path == path::ENROLL {
            return yes(self.enroll(decode::<Enroll>(payload)?, &request).await?);
        }
        let caller = self.caller(&request)?;
        if header.path == path::SETTLE {
            return yes(self.settle(&decode::<Settle>(payload)?, &caller)?);
        }
        if header.epoch != self.wallet.epoch {
            return Err(Reason::StaleEpoch.into());
        }
        if self.custody.frozen().is_some() {
            return Err(Reason::WalletFrozen.into());
        }
        if header.path == path::HELLO {
            return yes(self.hello(decode::<Hello>(payload)?, &caller).await?);
        }
        // A session that was opened in turn may end; it is bound to its connection and lives ten seconds.
        if !matches!(header.path.as_str(), path::FINISH | path::PREPARED) {
            self.in_turn(&caller)?;
        }
        match header.path.as_str() {
            path::BEGIN => yes(self.begin(decode::<Begin>(payload)?, caller).await?),
            path::FINISH => yes(self.finish(decode::<Finish>(payload)?, &caller).await?),
            path::PREPARE => yes(self.prepare(decode::<Prepare>(payload)?, &caller).await?),
            path::PREPARED => yes(self.prepared(decode::<Prepared>(payload)?, &caller).await?),
            path::PRESENT => yes(self.present(decode::<Present>(payload)?, caller).await?),
            _ => Err(No::Close),
        }
    }

    /// The identity, now. A revoked one loses everything it had open here.
    fn caller(&self, request: &Incoming) -> Result<Caller, No> {
        let key = request.sender.fingerprint();
        match self.registry.look_up(key).map_err(|_| No::Close)? {
            Known::Yes { wallet, standing } if wallet == self.wallet.id.as_str() => {
                Ok(Caller { owner: Owner { key, connection: request.connection }, standing, key: request.sender.clone() })
            }
            Known::Yes { .. } => Err(Reason::WalletUnknown.into()),
            Known::Revoked { name } => {
                self.dismiss(key);
                self.metrics.cosigner_alarm("revoked_identity");
                tracing::warn!(identity = name, %key, "a revoked identity asked: its connection is closed");
                Err(No::Close)
            }
            Known::No => Err(No::Close),
        }
    }

    /// Sessions, presignatures and connections of a revoked identity go at once (GOAWAY).
    fn dismiss(&self, key: Fingerprint) {
        self.sessions.revoked(key);
        self.connections.close(key);
    }

    async fn hello(&self, hello: Hello, caller: &Caller) -> Result<Welcome, No> {
        if hello.wallet != self.wallet.id.as_str() {
            return Err(Reason::WalletUnknown.into());
        }
        // The header's epoch was looked at; with another one here a copy would begin a new history of turns (S2).
        if hello.epoch != self.wallet.epoch {
            return Err(Reason::StaleEpoch.into());
        }
        let taken = self.store.turn(&hello.wallet, hello.epoch, hello.turn, hello.next_turn).await.map_err(|_| No::Close)?;
        if taken == Turn::Copied {
            return Err(self.copied(caller));
        }
        *lock(&self.turn) = Some(hello.next_turn);
        lock(&self.turns).insert(caller.owner.connection, hello.next_turn);
        Ok(Welcome { address: self.wallet.address.into(), head: self.head(), presign: self.presign })
    }

    /// The connection said Hello, and no other run of the share has done so since.
    fn in_turn(&self, caller: &Caller) -> Result<(), No> {
        let own = lock(&self.turns).get(&caller.owner.connection).copied();
        match own {
            None => Err(because(HELLO_FIRST).into()),
            Some(turn) if *lock(&self.turn) == Some(turn) => Ok(()),
            Some(_) => Err(self.copied(caller)),
        }
    }

    fn copied(&self, caller: &Caller) -> No {
        self.sessions.gone(caller.owner.connection);
        self.metrics.cosigner_alarm("share_copied");
        tracing::error!(
            identity = %caller.standing.identity,
            wallet = %self.wallet.id,
            "two processes use one share, or its folder was copied or restored: find out which, run `tollpass wallet revoke` and \
             `tollpass wallet refresh`"
        );
        Reason::ShareCopied.into()
    }

    async fn enroll(&self, enroll: Enroll, request: &Incoming) -> Result<Enrolled, No> {
        let row = self.registry.enroll(&enroll.token, request.sender.fingerprint(), self.now()).await.map_err(|error| {
            // The log says which it was; whoever tries tokens hears one word.
            tracing::warn!(%error, key = %request.sender.fingerprint(), "nothing was enrolled");
            No::from(Reason::IdentityRevoked)
        })?;
        tracing::info!(identity = row.name, key = %request.sender.fingerprint(), "enrolled");
        Ok(Enrolled { identity: row.name, wallet: row.wallet, address: self.wallet.address.into(), agents: row.agents })
    }

    /// Words about an outcome: kept, believed by nobody (S5).
    fn settle(&self, settle: &Settle, caller: &Caller) -> Result<Noted, No> {
        self.judge.note(settle, &caller.standing)?;
        Ok(Noted {})
    }

    /// Grows with every durable change of the ledger and of the store, so that a rollback of either shows (S2).
    fn head(&self) -> u64 {
        self.judge.head().saturating_add(self.store.head())
    }

    /// What an abort of the protocol means for the wallet. Runs on the crew: a ban is durable before anything is answered (S3).
    fn aborted(&self, abort: &Abort) -> No {
        match abort {
            Abort::Ban => self.ban(),
            Abort::Recoverable(why) => {
                tracing::warn!(why, "a signing session failed");
                Reason::SessionLost.into()
            }
            Abort::Malformed(error) => {
                tracing::warn!(%error, "a message of a signing session cannot be read");
                Reason::SessionLost.into()
            }
        }
    }

    fn ban(&self) -> No {
        crate::failpoint!("cosigner_before_ban");
        let durable = self.custody.ban(Party::Sidecar, self.now());
        self.sessions.close();
        self.bans.fetch_add(1, Ordering::Relaxed);
        crate::failpoint!("cosigner_after_ban");
        if let Some(frozen) = self.custody.frozen() {
            tracing::error!(wallet = %self.wallet.id, "{frozen}");
        }
        match durable {
            Ok(()) => Reason::WalletFrozen.into(),
            Err(error) => {
                tracing::error!(%error, "the ban cannot be written: frozen in memory only, do not restart before the disk is repaired");
                No::Close
            }
        }
    }

    /// Runs a step of the protocol on the crew, unless the wallet is frozen by then.
    async fn step<T: Send + 'static>(self: &Arc<Self>, step: impl FnOnce(&Self) -> Result<T, Abort> + Send + 'static) -> Result<T, No> {
        let server = Arc::clone(self);
        let job = move || {
            if server.custody.frozen().is_some() {
                return Err(No::from(Reason::WalletFrozen));
            }
            step(&server).map_err(|abort| server.aborted(&abort))
        };
        self.crew.run(job).await.unwrap_or_else(|_| Err(Reason::CosignerBusy.into()))
    }

    /// A step that checks what the peer sent. The mark of the open session outlives the ban that may come of it, and a request
    /// that is given up meanwhile: until the ban is durable a stop must count as unclean (S3).
    async fn marked<T: Send + 'static>(
        self: &Arc<Self>,
        mark: OpenSession,
        step: impl FnOnce(&Self) -> Result<T, Abort> + Send + 'static,
    ) -> Result<(OpenSession, T), No> {
        let server = Arc::clone(self);
        let job = move || {
            if server.custody.frozen().is_some() {
                return Err(No::from(Reason::WalletFrozen));
            }
            match step(&server) {
                Ok(done) => Ok((mark, done)),
                Err(abort) => {
                    let no = server.aborted(&abort);
                    drop(mark);
                    Err(no)
                }
            }
        };
        self.crew.run(job).await.unwrap_or_else(|_| Err(Reason::CosignerBusy.into()))
    }

    /// Marks that a session is open; may wait for the disk.
    async fn mark(self: &Arc<Self>) -> Result<OpenSession, No> {
        self.step(|server| server.custody.session().map_err(|e| Abort::Recoverable(e.to_string()))).await
    }
}

impl Service for Server {
    fn greets(&self, key: Fingerprint) -> bool {
        !matches!(self.registry.look_up(key), Ok(Known::Revoked { .. }))
    }

    fn admits(&self, key: Fingerprint, path: &str) -> bool {
        // Anyone may try to enrol: that is what the one-time token is for.
        path == path::ENROLL || matches!(self.registry.look_up(key), Ok(Known::Yes { .. }))
    }

    fn answer(self: Arc<Self>, request: Incoming) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(self.handle(request))
    }

    fn gone(&self, connection: u64) {
        lock(&self.turns).remove(&connection);
        self.sessions.gone(connection);
    }

    fn now(&self) -> Timestamp {
        clock::read().wall
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, No> {
    if payload.len() > MAX_BODY {
        return Err(No::Close);
    }
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(No::Close),
    }
}

fn encode<T: Serialize>(answer: &Answer<T>) -> Option<Vec<u8>> {
    postcard::to_allocvec(answer).ok()
}

fn yes<T: Serialize>(value: T) -> Result<Vec<u8>, No> {
    encode(&Answer::Yes(value)).ok_or(No::Close)
}

/// The metric's label: a closed set.
fn kind_of(path: &str) -> &'static str {
    const KINDS: [&str; 8] =
        [path::HELLO, path::BEGIN, path::FINISH, path::PREPARE, path::PREPARED, path::PRESENT, path::SETTLE, path::ENROLL];
    KINDS.into_iter().find(|k| *k == path).map_or("other", |k| k.trim_start_matches("/v1/"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
