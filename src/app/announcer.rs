//! Tells people of questions over the webhooks of their groups, until the receiver has taken it or the question has ended.
//!
//! What is to be told follows from the tickets, which are on the disk, as is what arrived: after a restart the rest is told, under the
//! same ids. So the queue has no more entries than there are tickets, and nobody who pays waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::approvals::{ticket as shown, usd};
use super::outward::{Outward, text};
use super::page;
use crate::clock;
use crate::config::Origin;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, NoticeResult};
use crate::notify::{Notice, Undelivered, Webhook};
use crate::payment::Timestamp;
use crate::policy::{Policy, WebhookAt};
use crate::treasurer::approvals::{Approvals, Standing, Ticket};

/// The pause before the second attempt; each one after it is twice as long, and up to half of each is left out by chance.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Attempts at once, of one group: a receiver that hangs holds up its own.
const AT_ONCE: usize = 4;
/// How often it looks at what has ended, and at a policy that has changed.
const LOOK: Duration = Duration::from_secs(30);
/// How long a link leads anywhere (S18), ms.
const LINK_LIVES: i64 = 15 * 60 * 1000;

/// What it needs.
pub(super) struct Announcer {
    pub(super) approvals: Arc<Approvals>,
    pub(super) ledger: Ledger,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) public: Option<Origin>,
    pub(super) outward: Arc<Outward>,
}

/// One notice on its way.
struct Job {
    ticket: Arc<str>,
    group: Arc<str>,
    at: WebhookAt,
    notice: Arc<Notice>,
    attempts: u32,
    state: State,
}

enum State {
    Due(Instant),
    Sending,
    GivenUp,
}

type Jobs = HashMap<Arc<str>, Job>;
type Sending = JoinSet<(Arc<str>, Result<(), Undelivered>)>;

impl Announcer {
    /// Until it is aborted.
    pub(super) async fn run(self) {
        let mut changed = self.approvals.watch();
        let (mut jobs, mut sending) = (Jobs::new(), Sending::new());
        loop {
            changed.mark_unchanged();
            self.look(&mut jobs);
            let next = self.start(&mut jobs, &mut sending);
            tokio::select! {
                heard = changed.changed() => if heard.is_err() { return },
                Some(Ok((id, done))) = sending.join_next() => self.done(&id, done, &mut jobs),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.ledger.clock(clock::read()).now
    }

    /// What is to be told now: adds jobs for it, and drops those that nobody needs any more.
    fn look(&self, jobs: &mut Jobs) {
        let (now, policy) = (self.now(), self.policy.load_full());
        let mut wanted = HashSet::new();
        for ticket in self.approvals.tickets() {
            let Some(stage) = Stage::of(&ticket, now) else { continue };
            let mut told: Vec<&WebhookAt> = Vec::new();
            for group in &ticket.groups {
                let at = policy.approver_groups().get(&group.name).and_then(|group| group.webhook.as_ref());
                // Two groups that listen at one place hear of it once.
                let Some(at) = at.filter(|at| !told.contains(at)) else { continue };
                told.push(at);
                let id = stage.id(&ticket, &group.name);
                if ticket.told.contains(&id) {
                    continue;
                }
                if !jobs.contains_key(&id) {
                    let notice = Arc::new(self.notice(&ticket, stage, &id, now));
                    let state = State::Due(Instant::now());
                    let (ticket, group, at) = (Arc::clone(&ticket.id), Arc::clone(&group.name), at.clone());
                    jobs.insert(Arc::clone(&id), Job { ticket, group, at, notice, attempts: 0, state });
                }
                wanted.insert(id);
            }
        }
        jobs.retain(|id, job| {
            let stays = wanted.contains(id) || matches!(job.state, State::Sending);
            if !stays && job.attempts > 0 && !matches!(job.state, State::GivenUp) {
                tracing::warn!(ticket = &*job.ticket, group = &*job.group, "people could not be told of a question before it was over");
                self.metrics.approval_notice(NoticeResult::Failed);
            }
            stays
        });
    }

    /// Starts what is due; when the next one is.
    fn start(&self, jobs: &mut Jobs, sending: &mut Sending) -> Instant {
        let now = Instant::now();
        let mut busy: HashMap<Arc<str>, usize> = HashMap::new();
        for job in jobs.values().filter(|job| matches!(job.state, State::Sending)) {
            *busy.entry(Arc::clone(&job.group)).or_default() += 1;
        }
        let mut next = now + LOOK;
        for (id, job) in jobs.iter_mut() {
            let State::Due(due) = job.state else { continue };
            let busy = busy.entry(Arc::clone(&job.group)).or_default();
            if due > now {
                next = next.min(due);
            } else if *busy < AT_ONCE {
                *busy += 1;
                (job.state, job.attempts) = (State::Sending, job.attempts + 1);
                let (id, at, notice, outward) = (Arc::clone(id), job.at.clone(), job.notice.clone(), self.outward.clone());
                sending.spawn(async move { (id, send(&at, &notice, &outward).await) });
            }
        }
        next
    }

    fn done(&self, id: &Arc<str>, done: Result<(), Undelivered>, jobs: &mut Jobs) {
        let Some(job) = jobs.get_mut(id) else { return };
        match done {
            Ok(()) => {
                self.metrics.approval_notice(NoticeResult::Delivered);
                if let Err(error) = self.approvals.told(&job.ticket, id) {
                    tracing::warn!(%error, ticket = &*job.ticket, "that people were told of a question cannot be written down");
                }
                // Were it forgotten although it is not written down, it would be told again at once, without end.
                job.state = State::GivenUp;
            }
            Err(Undelivered { again: Some(after), why }) => {
                self.metrics.approval_notice(NoticeResult::Retried);
                let pause = PAUSE.saturating_mul(1 << job.attempts.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
                let half = pause / 2;
                let jitter = Duration::from_micros(rand::random_range(0..=u64::try_from(half.as_micros()).unwrap_or(0)));
                job.state = State::Due(Instant::now() + (half + jitter).max(after));
                if job.attempts == 1 {
                    tracing::warn!(
                        ticket = &*job.ticket,
                        group = &*job.group,
                        why,
                        "people were not told of a question; it is tried again"
                    );
                }
            }
            Err(Undelivered { again: None, why }) => {
                self.metrics.approval_notice(NoticeResult::Failed);
                tracing::warn!(ticket = &*job.ticket, group = &*job.group, why, "people cannot be told of a question");
                job.state = State::GivenUp;
            }
        }
    }

    /// Made once for all attempts: the link in it is one link.
    fn notice(&self, ticket: &Ticket, stage: Stage, id: &str, now: Timestamp) -> Notice {
        let facts = &ticket.facts;
        let (usd, agent) = (usd(facts.micro_usd), &facts.agent);
        let names = |all: &[Arc<str>]| all.join(" or ");
        let why: Vec<String> = facts.asks.iter().map(|ask| format!("{} asks {}", ask.rule, names(&ask.any_of))).collect();
        let said = |yes: bool| ticket.votes.iter().filter(|v| v.yes == yes).map(|v| &*v.who).collect::<Vec<_>>().join(", ");
        let headline = match stage {
            Stage::Asked(_) => format!("{agent} asks to pay {usd} USD to {}", facts.host),
            Stage::Decided(true) => format!("Approved by {}: {agent} may pay {usd} USD to {}", said(true), facts.host),
            Stage::Decided(false) => format!("Denied by {}: {agent} does not pay {usd} USD to {}", said(false), facts.host),
        };
        let mut lines = vec![
            ("agent", agent.to_string()),
            ("host", facts.host.to_string()),
            ("amount", format!("{usd} USD in {} on {}", facts.asset, facts.network)),
            ("payee", facts.payee.to_string()),
            ("why", why.join("; ")),
        ];
        if matches!(stage, Stage::Asked(n) if n > 0) {
            lines.push(("yes so far", said(true)));
        }
        lines.extend([("until", ticket.expires.rfc3339()), ("ticket", ticket.id.to_string())]);
        let link = self.public.as_ref().filter(|_| matches!(stage, Stage::Asked(_))).and_then(|public| self.link(ticket, public, now));
        let mut data = shown(ticket, now);
        // Whoever reads the channel needs no copy of what an approver signs, nor of the purchase's name.
        if let Some(data) = data.as_object_mut() {
            data.retain(|key, _| !matches!(key.as_str(), "purchase" | "grants"));
        }
        Notice { id: id.to_owned(), kind: stage.kind(), at: now.rfc3339(), headline, facts: lines, data: json!(data), link }
    }

    /// A new link to the ticket: 128 random bits, of which only the hash is kept (S18).
    fn link(&self, ticket: &Ticket, public: &Origin, now: Timestamp) -> Option<String> {
        let token = alloy_primitives::hex::encode(rand::random::<[u8; 16]>());
        let until = now.plus_millis(LINK_LIVES).min(ticket.expires);
        let kept = self.approvals.link(&ticket.id, page::hash(&token), until);
        kept.inspect_err(|error| tracing::warn!(%error, "a notice goes out without a link")).ok()?;
        Some(format!("{}{}{token}", public.as_str(), page::ROOT))
    }
}

async fn send(at: &WebhookAt, notice: &Notice, outward: &Outward) -> Result<(), Undelivered> {
    // A file that is not there yet may come.
    let later = |why| Undelivered { again: Some(Duration::ZERO), why };
    let url = text(&at.url).ok_or(later("`webhook.url`: there is nothing where it should be found"))?;
    let secret = text(&at.secret).ok_or(later("`webhook.secret`: there is nothing where it should be found"))?;
    let webhook = Webhook::new(&url, &secret).map_err(later)?;
    let fetcher = outward.fetcher().ok_or(later("no TLS roots"))?;
    webhook.send(&fetcher, notice, clock::read().wall.secs()).await
}

/// What there is to say about a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits; so many people have said yes.
    Asked(usize),
    /// It was decided.
    Decided(bool),
}

impl Stage {
    fn of(ticket: &Ticket, now: Timestamp) -> Option<Self> {
        match ticket.standing(now) {
            Standing::Pending => Some(Self::Asked(ticket.votes.len())),
            Standing::Granted | Standing::Used if now < ticket.expires => Some(Self::Decided(true)),
            Standing::Denied => Some(Self::Decided(false)),
            Standing::Granted | Standing::Used | Standing::Expired => None,
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Asked(_) => "approval.required",
            Self::Decided(_) => "approval.decided",
        }
    }

    /// The same for the same news, in every process.
    fn id(self, ticket: &Ticket, group: &str) -> Arc<str> {
        let mut hash = Sha256::new_with_prefix(b"tollpass/notice/1");
        let news = match self {
            Self::Asked(yes) => format!("asked {yes}"),
            Self::Decided(true) => "approved".to_owned(),
            Self::Decided(false) => "denied".to_owned(),
        };
        for part in [&*ticket.id, group, &news] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        format!("msg_{}", alloy_primitives::hex::encode(&hash.finalize()[..16])).into()
    }
}
