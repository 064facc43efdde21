//! The decision log's own thread: it writes lines, counts refusals together, and lets a draft judge in the shadow.
//!
//! Nobody waits for it. A refusal that finds too many before it is dropped and counted; what was bought is never dropped: there are
//! only as many purchases on the way as the ledger makes durable. Nothing here can fail a payment.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use arc_swap::ArcSwap;
use http::Method;

use super::files::{Files, Keep};
use super::fold::{Base, Fold};
use super::record::{Record, text};
use super::row::{Decided, Line, Many, Outcome, Row, Shadow, VERSION, What};
use super::tally::{Past, PastKey};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::payment::{AgentId, ChainId, MicroUsd, PurchaseId, Reason, Timestamp};
use crate::policy::{History, Host, Policy, RuleId, Scope, Span, Standing, View};

/// Refusals that may wait for the thread.
const WAITING: usize = 1024;

/// Lines of one agent and reason in a minute; further refusals are counted together (M4.3).
const PER_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// How often what was written is brought to the disk.
const TICK: Duration = Duration::from_secs(1);

/// How long the end of the program waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(2);

/// A draft that judges along, when there is one that loads.
pub type Draft = Arc<ArcSwap<Option<Arc<Policy>>>>;

/// Takes what the log is told.
pub struct Log {
    entries: Option<Sender<Entry>>,
    waiting: Arc<AtomicUsize>,
    /// Closed by the thread when it is done.
    done: Mutex<Receiver<()>>,
    metrics: Arc<Metrics>,
}

enum Entry {
    Refused(Box<Record>),
    Bought(Box<Record>),
    Outcome(Outcome),
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Log {
    /// Starts the thread, if there is anything for it to do: a log to keep, or a draft to ask.
    ///
    /// # Errors
    /// The log cannot be opened.
    pub fn start(keep: Option<Keep>, draft: Option<Draft>, ledger: Ledger, metrics: &Arc<Metrics>) -> io::Result<Option<Arc<Self>>> {
        if keep.is_none() && draft.is_none() {
            return Ok(None);
        }
        let files = keep.map(Files::open).transpose()?;
        let (entries, inbox) = channel();
        let (finished, done) = sync_channel(0);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut desk = Desk {
            files,
            draft,
            fold: None,
            ledger,
            metrics: Arc::clone(metrics),
            waiting: Arc::clone(&waiting),
            buffer: String::new(),
            lines: 0,
            minutes: HashMap::new(),
            complained: None,
        };
        std::thread::Builder::new().name("tollpass-records".into()).spawn(move || {
            desk.run(&inbox);
            drop(desk);
            drop(finished);
        })?;
        Ok(Some(Arc::new(Self { entries: Some(entries), waiting, done: Mutex::new(done), metrics: Arc::clone(metrics) })))
    }

    /// A decision that refused, or asks people.
    pub fn refused(&self, record: Box<Record>) {
        if self.waiting.load(Ordering::Relaxed) >= WAITING {
            self.metrics.decision_dropped(1);
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.send(Entry::Refused(record));
    }

    /// A decision that something was held for. Before the hold is durable, so that a crash right after it finds the line written.
    pub fn bought(&self, record: Box<Record>) {
        self.send(Entry::Bought(record));
    }

    /// What became of a purchase.
    pub fn outcome(&self, purchase: &PurchaseId, what: What, reason: Option<Reason>, now: Timestamp) {
        let (at, time, purchase) = (now.millis(), now.rfc3339_millis(), purchase.to_string());
        self.send(Entry::Outcome(Outcome { at, time, purchase, what, reason: reason.map(|r| r.as_str().to_owned()) }));
    }

    fn send(&self, entry: Entry) {
        if self.entries.as_ref().is_none_or(|entries| entries.send(entry).is_err()) {
            self.metrics.decision_dropped(1);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.entries.take());
        let done = self.done.get_mut().unwrap_or_else(PoisonError::into_inner);
        if done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the decision log could not be written to its end");
        }
    }
}

/// Refusals of one agent and reason within a minute.
struct Minute {
    began: Instant,
    written: u32,
    more: Option<Many>,
}

/// What the thread has.
struct Desk {
    files: Option<Files>,
    draft: Option<Draft>,
    fold: Option<Fold>,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    waiting: Arc<AtomicUsize>,
    buffer: String,
    /// Lines in the buffer.
    lines: u64,
    minutes: HashMap<(AgentId, Reason), Minute>,
    complained: Option<Instant>,
}

impl Desk {
    fn run(&mut self, inbox: &Receiver<Entry>) {
        let mut synced = Instant::now();
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(first) => {
                    self.take(first);
                    inbox.try_iter().take(255).for_each(|entry| self.take(entry));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.close_minutes(false);
            self.write();
            if synced.elapsed() >= TICK {
                self.sync();
                synced = Instant::now();
            }
        }
        self.close_minutes(true);
        self.write();
        self.sync();
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Bought(record) => self.decision(&record, true),
            Entry::Refused(record) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                let own_line = self.has_room(&record);
                self.decision(&record, own_line);
            }
            Entry::Outcome(outcome) => {
                if let Some(fold) = &mut self.fold {
                    fold.outcome(&outcome);
                }
                self.line(Row::Outcome(outcome));
            }
        }
    }

    fn decision(&mut self, record: &Record, own_line: bool) {
        if !own_line && self.draft.is_none() {
            return;
        }
        let mut row = Box::new(record.to_row());
        self.shadow(&record.agent, &mut row);
        if own_line && self.files.is_some() {
            self.buffer.push_str(&text(row));
            self.lines += 1;
        }
    }

    /// Lets the draft judge. Its counters begin with those of the ledger, and go on as it decides.
    fn shadow(&mut self, agent: &AgentId, row: &mut Decided) {
        let Some(draft) = &self.draft else { return };
        let Some(policy) = (**draft.load()).clone() else { return };
        if self.fold.as_ref().is_none_or(|fold| fold.policy().digest() != policy.digest()) {
            self.fold = Some(Fold::new(policy));
        }
        let Some(fold) = &mut self.fold else { return };
        let base = Live { ledger: &self.ledger, standing: Standing::default() };
        match fold.step(row, &base) {
            Ok(Some(judged)) => {
                self.metrics.shadow(agent, judged.live.say.as_str(), judged.draft.say.as_str());
                row.shadow = Some(Shadow { policy: Arc::clone(fold.policy().digest()), verdict: judged.draft });
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a decision cannot be judged by the draft"),
        }
    }

    /// Whether a refusal has a line of its own; if not, it is counted.
    fn has_room(&mut self, record: &Record) -> bool {
        let Some(reason) = record.reason() else { return true };
        let minute =
            self.minutes.entry((record.agent.clone(), reason)).or_insert_with(|| Minute { began: Instant::now(), written: 0, more: None });
        if minute.written < PER_MINUTE {
            minute.written += 1;
            return true;
        }
        let more = minute.more.get_or_insert_with(|| Many {
            at: record.now.millis(),
            time: record.now.rfc3339_millis(),
            agent: record.agent.to_string(),
            reason: reason.as_str().to_owned(),
            count: 0,
            micro: 0,
        });
        more.count += 1;
        let amount = record.refused.as_ref().and_then(|r| r.violations.iter().find_map(|v| v.amount));
        more.micro = more.micro.saturating_add(amount.map_or(0, MicroUsd::micro));
        false
    }

    /// A line for what was counted in minutes that are over; for all of them at the end.
    fn close_minutes(&mut self, all: bool) {
        let over = |m: &Minute| all || m.began.elapsed() >= MINUTE;
        let closed: Vec<_> = self.minutes.extract_if(|_, m| over(m)).filter_map(|(_, m)| m.more).collect();
        closed.into_iter().for_each(|many| self.line(Row::Refusals(many)));
    }

    fn line(&mut self, row: Row) {
        if self.files.is_some() {
            self.buffer.push_str(&serde_json::to_string(&Line { v: VERSION, row }).unwrap_or_default());
            self.buffer.push('\n');
            self.lines += 1;
        }
    }

    fn write(&mut self) {
        let (lines, done) = (std::mem::take(&mut self.lines), self.files.as_mut().map(|files| files.append(&self.buffer)));
        if let Some(Err(error)) = done.filter(|_| lines > 0) {
            self.metrics.decision_dropped(lines);
            self.complain(&error);
        }
        self.buffer.clear();
    }

    fn sync(&mut self) {
        if let Some(Err(error)) = self.files.as_mut().map(Files::sync) {
            self.complain(&error);
        }
    }

    /// Once in a minute: a full disk is no reason to fill another one.
    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|at| at.elapsed() >= MINUTE) {
            tracing::error!(%error, "the decision log cannot be written; payments go on, and the ledger has them");
            self.complained = Some(Instant::now());
        }
    }
}

/// The ledger as it is now, each question under its lock alone.
struct Live<'a> {
    ledger: &'a Ledger,
    standing: Standing,
}

impl View for Live<'_> {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        self.ledger.read(|books| books.spent(scope, span))
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        self.ledger.read(|books| books.commitments(scope, span))
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        self.ledger.read(|books| books.nth_commitment(scope, span, n))
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        self.ledger.read(|books| books.pin(agent, entry, host, chain))
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        self.ledger.read(|books| books.history(agent, entry, host, method, now))
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }
}

impl Base for Live<'_> {
    fn prices(&self, key: &PastKey) -> Past {
        let (first, recent) = self.ledger.read(|books| books.prices(&key.agent, &key.entry, &key.host, &key.method));
        Past { first, recent }
    }

    fn holds_it(&self) -> bool {
        true
    }
}
