//! Every metric, behind typed methods: no other file knows Prometheus, no label is ever free text.
//!
//! Labels are bounded. `agent` is a name that [`Metrics::set_agents`] registered, else `other`; histograms carry it only up
//! to [`AGENT_HISTOGRAMS`] agents and are one series (`all`) beyond. Reasons, stages, outcomes, protocols are enums;
//! networks, assets and budgets come from the policy. Money is shown in dollars for people: the ledger is the truth.

mod label;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    CounterVec, Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

pub use label::{NoticeResult, PaymentOutcome, Stage};
pub use table::{MetricRow, TABLE};

use crate::payment::{AgentId, ChainId, MicroUsd, ProtocolId, Reason, Timestamp};

/// Who freezes: the values of `tollpass_freezes_total{by}`.
const FROZEN_BY: [&str; 4] = ["operator", "paid_but_failed", "velocity", "retry_loop"];

/// Beyond this many agents histograms are one series.
pub const AGENT_HISTOGRAMS: usize = 50;

/// The label of an agent that is not registered.
const OTHER: &str = "other";
/// The label of histograms that no longer tell agents apart.
const ALL: &str = "all";

/// Seconds, from 50 µs: what we add ourselves, and the steps of a payment.
const FAST: [f64; 15] = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Seconds, from 1 ms: a whole paid request with the seller's work in it.
const SLOW: [f64; 15] = [1e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// All metrics of one process, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    all_agents: bool,
    per_agent_histograms: AtomicBool,
    names: RwLock<HashSet<AgentId>>,
    handles: RwLock<HashMap<AgentId, Arc<AgentMetrics>>>,
    registry: Registry,
    requests: IntCounterVec,
    overhead: HistogramVec,
    challenges: IntCounterVec,
    payments: IntCounterVec,
    spend: CounterVec,
    refusals: IntCounterVec,
    authorize: HistogramVec,
    paid_request: HistogramVec,
    open_authorizations: IntGaugeVec,
    budget_limit: GaugeVec,
    budget_remaining: GaugeVec,
    reload_success: IntGauge,
    reload_time: Gauge,
    policy_info: IntGaugeVec,
    cosigner_up: IntGaugeVec,
    cosigner_refusals: IntCounterVec,
    divergence: GaugeVec,
    presigned_pool: IntGaugeVec,
    cosigner_requests: IntCounterVec,
    cosigner_sessions: IntGaugeVec,
    cosigner_presigned: IntGaugeVec,
    cosigner_frozen: IntGaugeVec,
    cosigner_bans: IntCounterVec,
    cosigner_alarms: IntCounterVec,
    killed: IntGauge,
    approvals_pending: IntGauge,
    approval_notices: IntCounterVec,
    agent_frozen: IntGaugeVec,
    hosts_frozen: IntGauge,
    freezes: IntCounterVec,
    access_log_dropped: IntCounter,
    decision_log_dropped: IntCounter,
    shadow_decisions: IntCounterVec,
    shadow_reload: IntGauge,
}

/// The counters of one agent's requests, kept on its connection: counting takes no look-up and no lock.
#[derive(Debug)]
pub struct AgentMetrics {
    classes: [IntCounter; 6],
    overhead: Histogram,
}

impl AgentMetrics {
    /// Counts a request that was answered with `status`.
    pub fn request(&self, status: u16) {
        let class = usize::from(status / 100);
        self.classes[if (1..=5).contains(&class) { class } else { 0 }].inc();
    }

    /// Time this proxy itself added to a request.
    pub fn overhead(&self, added: Duration) {
        self.overhead.observe(added.as_secs_f64());
    }
}

/// For registering rows of [`TABLE`], which a test builds.
fn must<T>(made: prometheus::Result<T>) -> T {
    made.expect("the metric table is constant and a unit test builds it")
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = must(made);
    must(registry.register(Box::new(collector.clone())));
    collector
}

fn opts(row: &MetricRow) -> Opts {
    Opts::new(row.name, row.meaning)
}

fn histogram(row: &MetricRow, buckets: &[f64]) -> prometheus::Result<HistogramVec> {
    HistogramVec::new(HistogramOpts::new(row.name, row.meaning).buckets(buckets.to_vec()), row.labels)
}

impl Metrics {
    /// All metrics at zero. With `all_agents`, authenticated agents without a policy get a label of their own too.
    pub fn new(all_agents: bool) -> Arc<Self> {
        use table as t;
        let r = &Registry::new();
        let build = registered(r, IntGaugeVec::new(opts(&t::BUILD), t::BUILD.labels));
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), option_env!("TOLLPASS_COMMIT").unwrap_or("unknown")]).set(1);
        must(r.register(Box::new(ProcessCollector::for_self())));
        Arc::new(Self {
            all_agents,
            per_agent_histograms: AtomicBool::new(true),
            names: RwLock::default(),
            handles: RwLock::default(),
            requests: registered(r, IntCounterVec::new(opts(&t::REQUESTS), t::REQUESTS.labels)),
            overhead: registered(r, histogram(&t::OVERHEAD, &FAST)),
            challenges: registered(r, IntCounterVec::new(opts(&t::CHALLENGES), t::CHALLENGES.labels)),
            payments: registered(r, IntCounterVec::new(opts(&t::PAYMENTS), t::PAYMENTS.labels)),
            spend: registered(r, CounterVec::new(opts(&t::SPEND), t::SPEND.labels)),
            refusals: registered(r, IntCounterVec::new(opts(&t::REFUSALS), t::REFUSALS.labels)),
            authorize: registered(r, histogram(&t::AUTHORIZE, &FAST)),
            paid_request: registered(r, histogram(&t::PAID_REQUEST, &SLOW)),
            open_authorizations: registered(r, IntGaugeVec::new(opts(&t::OPEN_AUTHORIZATIONS), t::OPEN_AUTHORIZATIONS.labels)),
            budget_limit: registered(r, GaugeVec::new(opts(&t::BUDGET_LIMIT), t::BUDGET_LIMIT.labels)),
            budget_remaining: registered(r, GaugeVec::new(opts(&t::BUDGET_REMAINING), t::BUDGET_REMAINING.labels)),
            reload_success: registered(r, IntGauge::with_opts(opts(&t::RELOAD_SUCCESS))),
            reload_time: registered(r, Gauge::with_opts(opts(&t::RELOAD_TIME))),
            policy_info: registered(r, IntGaugeVec::new(opts(&t::POLICY_INFO), t::POLICY_INFO.labels)),
            cosigner_up: registered(r, IntGaugeVec::new(opts(&t::COSIGNER_UP), t::COSIGNER_UP.labels)),
            cosigner_refusals: registered(r, IntCounterVec::new(opts(&t::COSIGNER_REFUSALS), t::COSIGNER_REFUSALS.labels)),
            divergence: registered(r, GaugeVec::new(opts(&t::DIVERGENCE), t::DIVERGENCE.labels)),
            presigned_pool: registered(r, IntGaugeVec::new(opts(&t::PRESIGNED_POOL), t::PRESIGNED_POOL.labels)),
            cosigner_requests: registered(r, IntCounterVec::new(opts(&t::COSIGNER_REQUESTS), t::COSIGNER_REQUESTS.labels)),
            cosigner_sessions: registered(r, IntGaugeVec::new(opts(&t::COSIGNER_SESSIONS), t::COSIGNER_SESSIONS.labels)),
            cosigner_presigned: registered(r, IntGaugeVec::new(opts(&t::COSIGNER_PRESIGNED), t::COSIGNER_PRESIGNED.labels)),
            cosigner_frozen: registered(r, IntGaugeVec::new(opts(&t::COSIGNER_FROZEN), t::COSIGNER_FROZEN.labels)),
            cosigner_bans: registered(r, IntCounterVec::new(opts(&t::COSIGNER_BANS), t::COSIGNER_BANS.labels)),
            cosigner_alarms: registered(r, IntCounterVec::new(opts(&t::COSIGNER_ALARMS), t::COSIGNER_ALARMS.labels)),
            killed: registered(r, IntGauge::with_opts(opts(&t::KILLED))),
            approvals_pending: registered(r, IntGauge::with_opts(opts(&t::APPROVALS_PENDING))),
            approval_notices: registered(r, IntCounterVec::new(opts(&t::APPROVAL_NOTICES), t::APPROVAL_NOTICES.labels)),
            agent_frozen: registered(r, IntGaugeVec::new(opts(&t::AGENT_FROZEN), t::AGENT_FROZEN.labels)),
            hosts_frozen: registered(r, IntGauge::with_opts(opts(&t::HOSTS_FROZEN))),
            freezes: registered(r, IntCounterVec::new(opts(&t::FREEZES), t::FREEZES.labels)),
            access_log_dropped: registered(r, IntCounter::with_opts(opts(&t::ACCESS_LOG_DROPPED))),
            decision_log_dropped: registered(r, IntCounter::with_opts(opts(&t::DECISION_LOG_DROPPED))),
            shadow_decisions: registered(r, IntCounterVec::new(opts(&t::SHADOW_DECISIONS), t::SHADOW_DECISIONS.labels)),
            shadow_reload: registered(r, IntGauge::with_opts(opts(&t::SHADOW_RELOAD))),
            registry: r.clone(),
        })
    }

    /// Registers the agents that have a label of their own, adding to earlier ones: a counter outlives its policy.
    pub fn set_agents(&self, agents: &[AgentId]) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.extend(agents.iter().cloned());
        let few = names.len() <= AGENT_HISTOGRAMS;
        drop(names);
        // What has not happened is zero, not absent: alerts compare with it.
        for by in FROZEN_BY {
            self.freezes.with_label_values(&[by]);
        }
        for result in NoticeResult::ALL {
            self.approval_notices.with_label_values(&[result.as_str()]);
        }
        if !few && self.per_agent_histograms.swap(false, Ordering::AcqRel) {
            for vec in [&self.overhead, &self.authorize, &self.paid_request] {
                vec.reset();
            }
        }
        // Handles may point at `other`, or at series that are gone; connections fetch theirs anew.
        self.handles.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The handle to keep on a connection of `agent`.
    pub fn agent(&self, agent: &AgentId) -> Arc<AgentMetrics> {
        if let Some(handle) = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(agent) {
            return handle.clone();
        }
        let label = self.label(agent);
        let class = |c: &str| self.requests.with_label_values(&[label, c]);
        let handle = Arc::new(AgentMetrics {
            classes: [class(OTHER), class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")],
            overhead: self.overhead.with_label_values(&[self.histogram_label(agent)]),
        });
        if label != OTHER {
            self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(agent.clone(), handle.clone());
        }
        handle
    }

    /// A 402 that was understood.
    pub fn challenge(&self, agent: &AgentId, protocol: ProtocolId) {
        self.challenges.with_label_values(&[self.label(agent), protocol.as_str()]).inc();
    }

    /// A payment that was sent, when its outcome is known.
    pub fn payment(&self, agent: &AgentId, protocol: ProtocolId, network: ChainId, outcome: PaymentOutcome) {
        let network = network.to_string();
        self.payments.with_label_values(&[self.label(agent), protocol.as_str(), &network, outcome.as_str()]).inc();
    }

    /// Money that was signed for.
    pub fn spend(&self, agent: &AgentId, network: ChainId, asset: &str, amount: MicroUsd) {
        let network = network.to_string();
        self.spend.with_label_values(&[self.label(agent), &network, asset]).inc_by(amount.display_dollars().max(0.0));
    }

    /// A payment that was refused.
    pub fn refusal(&self, agent: &AgentId, reason: Reason) {
        self.refusals.with_label_values(&[self.label(agent), reason.as_str()]).inc();
    }

    /// Time one step of an authorization took.
    pub fn authorize(&self, agent: &AgentId, stage: Stage, took: Duration) {
        self.authorize.with_label_values(&[self.histogram_label(agent), stage.as_str()]).observe(took.as_secs_f64());
    }

    /// Time from the paid request's first byte to the end of its answer.
    pub fn paid_request(&self, agent: &AgentId, took: Duration) {
        self.paid_request.with_label_values(&[self.histogram_label(agent)]).observe(took.as_secs_f64());
    }

    /// Sets how many authorizations of `agent` could still be used by a seller.
    pub fn open_authorizations(&self, agent: &AgentId, count: i64) {
        self.open_authorizations.with_label_values(&[self.label(agent)]).set(count);
    }

    /// Sets limit and remainder of one budget in its current period.
    pub fn budget(&self, agent: &AgentId, budget: &str, limit: MicroUsd, remaining: MicroUsd) {
        let labels = [self.label(agent), budget];
        self.budget_limit.with_label_values(&labels).set(limit.display_dollars());
        self.budget_remaining.with_label_values(&labels).set(remaining.display_dollars());
    }

    /// Drops all budget gauges: the next policy may not have them.
    pub fn forget_budgets(&self) {
        self.budget_limit.reset();
        self.budget_remaining.reset();
    }

    /// A policy took effect.
    pub fn policy_loaded(&self, digest: &str, at: Timestamp) {
        self.policy_info.reset();
        self.policy_info.with_label_values(&[digest]).set(1);
        self.reload_time.set(at.millis() as f64 / 1e3);
        self.reload_success.set(1);
    }

    /// The newest policy could not be loaded; the one before stays.
    pub fn policy_failed(&self) {
        self.reload_success.set(0);
    }

    /// The co-signer of that authority answers, or not; and how many presignatures wait for it.
    pub fn cosigner_peer(&self, cosigner: &str, up: bool, presignatures: usize) {
        self.cosigner_up.with_label_values(&[cosigner]).set(up.into());
        self.presigned_pool.with_label_values(&[cosigner]).set(i64::try_from(presignatures).unwrap_or(i64::MAX));
    }

    /// A payment that our policy allowed and the co-signer refused.
    pub fn cosigner_refusal(&self, agent: &AgentId, reason: Reason) {
        self.cosigner_refusals.with_label_values(&[self.label(agent), reason.as_str()]).inc();
    }

    /// Our remainder of today minus the co-signer's (M1.10).
    pub fn divergence(&self, agent: &AgentId, difference: MicroUsd) {
        self.divergence.with_label_values(&[self.label(agent)]).set(difference.display_dollars());
    }

    /// A co-signer answered. Both labels come from closed sets.
    pub fn cosigner_request(&self, kind: &'static str, result: &'static str) {
        self.cosigner_requests.with_label_values(&[kind, result]).inc();
    }

    /// Somebody uses what is not theirs; `kind` is of a closed set.
    pub fn cosigner_alarm(&self, kind: &'static str) {
        self.cosigner_alarms.with_label_values(&[kind]).inc();
    }

    /// What a co-signer has in memory for its wallet; `bans` is the total since the start.
    pub fn cosigner_state(&self, wallet: &str, open: usize, presigned: usize, frozen: bool, bans: u64) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.cosigner_sessions.with_label_values(&[wallet]).set(number(open));
        self.cosigner_presigned.with_label_values(&[wallet]).set(number(presigned));
        self.cosigner_frozen.with_label_values(&[wallet]).set(frozen.into());
        let counted = self.cosigner_bans.with_label_values(&[wallet]);
        counted.inc_by(bans.saturating_sub(counted.get()));
    }

    /// How many questions people have not answered.
    pub fn approvals_pending(&self, n: usize) {
        self.approvals_pending.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// One attempt to tell people of a question.
    pub fn approval_notice(&self, result: NoticeResult) {
        self.approval_notices.with_label_values(&[result.as_str()]).inc();
    }

    /// Whether the kill switch is on.
    pub fn killed(&self, on: bool) {
        self.killed.set(on.into());
    }

    /// Whether `agent` is frozen: so that a dashboard finds a zero for those who are not.
    pub fn agent_frozen(&self, agent: &AgentId, frozen: bool) {
        let label = self.label(agent);
        if label != OTHER {
            self.agent_frozen.with_label_values(&[label]).set(frozen.into());
        }
    }

    /// Who is frozen now, by name, and how many hosts. Only people and risk rules freeze, so there are few.
    pub fn frozen(&self, agents: &[Arc<str>], hosts: usize) {
        self.agent_frozen.reset();
        agents.iter().for_each(|agent| self.agent_frozen.with_label_values(&[&**agent]).set(1));
        self.hosts_frozen.set(i64::try_from(hosts).unwrap_or(i64::MAX));
    }

    /// An agent or host was frozen; `by` is `operator` or a risk rule.
    pub fn frozen_by(&self, by: &'static str) {
        self.freezes.with_label_values(&[by]).inc();
    }

    /// A line of the access log had nowhere to go.
    pub fn access_log_dropped(&self) {
        self.access_log_dropped.inc();
    }

    /// Lines of the decision log that were not written.
    pub fn decision_dropped(&self, lines: u64) {
        self.decision_log_dropped.inc_by(lines);
    }

    /// A draft judged a decision: what came of it and what would have, of `allow`, `ask`, `deny`.
    pub fn shadow(&self, agent: &AgentId, live: &'static str, shadow: &'static str) {
        self.shadow_decisions.with_label_values(&[self.label(agent), live, shadow]).inc();
    }

    /// Whether the newest draft judges along.
    pub fn shadow_loaded(&self, good: bool) {
        self.shadow_reload.set(good.into());
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = Vec::with_capacity(16 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::warn!(%error, "metrics cannot be rendered");
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn label<'a>(&self, agent: &'a AgentId) -> &'a str {
        // An AgentId reaches us only after authentication, so `all_agents` is bounded by the token file.
        let own = self.all_agents || self.names.read().unwrap_or_else(PoisonError::into_inner).contains(agent);
        if own { agent.as_str() } else { OTHER }
    }

    fn histogram_label<'a>(&self, agent: &'a AgentId) -> &'a str {
        if self.per_agent_histograms.load(Ordering::Acquire) && self.names.read().unwrap_or_else(PoisonError::into_inner).contains(agent) {
            agent.as_str()
        } else if self.per_agent_histograms.load(Ordering::Acquire) {
            OTHER
        } else {
            ALL
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn name(text: &str) -> AgentId {
        text.parse().unwrap()
    }

    /// Every method once.
    fn exercised() -> Arc<Metrics> {
        let m = Metrics::new(false);
        let (a, base) = (name("bot"), ChainId::new(8453).unwrap());
        m.set_agents(std::slice::from_ref(&a));
        let handle = m.agent(&a);
        [100, 200, 302, 402, 502, 0, 999].into_iter().for_each(|s| handle.request(s));
        handle.overhead(Duration::from_micros(70));
        m.challenge(&a, ProtocolId::X402V2);
        [PaymentOutcome::Settled, PaymentOutcome::Open, PaymentOutcome::Lost]
            .into_iter()
            .for_each(|o| m.payment(&a, ProtocolId::X402V1, base, o));
        m.spend(&a, base, "USDC", MicroUsd::new(50_000));
        m.refusal(&a, Reason::CapDay);
        [Stage::Policy, Stage::Reserve, Stage::Sign].into_iter().for_each(|s| m.authorize(&a, s, Duration::from_millis(1)));
        m.paid_request(&a, Duration::from_millis(80));
        m.open_authorizations(&a, 2);
        m.budget(&a, "caps.day", MicroUsd::new(5_000_000), MicroUsd::new(4_950_000));
        m.policy_loaded("abc", Timestamp::from_secs(1_700_000_000));
        m.cosigner_peer("cs:7402", true, 3);
        m.cosigner_refusal(&a, Reason::CapPayee);
        m.divergence(&a, MicroUsd::new(-250_000));
        m.cosigner_request("begin", "ok");
        m.cosigner_state("w1", 1, 2, false, 1);
        m.cosigner_alarm("replay");
        m.killed(false);
        m.frozen(&["bot".into()], 1);
        m.frozen_by("operator");
        m.access_log_dropped();
        m.decision_dropped(1);
        m.shadow(&a, "allow", "deny");
        m.shadow_loaded(true);
        m
    }

    #[test]
    fn the_table_and_what_is_rendered_are_the_same() {
        let text = exercised().render();
        let mut rendered = BTreeSet::new();
        for line in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let row = TABLE.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("{name} is not in TABLE"));
            assert_eq!(row.kind, kind, "{name}");
            rendered.insert(name);
            let sample = text.lines().find(|l| l.starts_with(name)).unwrap();
            for label in row.labels {
                assert!(sample.contains(&format!("{label}=\"")), "{sample} has no {label}");
            }
        }
        let table: BTreeSet<&str> = TABLE.iter().map(|r| r.name).collect();
        assert_eq!(rendered, table);
        assert_eq!(table.len(), TABLE.len(), "a name stands twice");
    }

    #[test]
    fn values_arrive_under_their_labels() {
        let m = exercised();
        let text = m.render();
        for line in [
            "tollpass_requests_total{agent=\"bot\",code_class=\"4xx\"} 1",
            "tollpass_requests_total{agent=\"bot\",code_class=\"other\"} 2",
            "tollpass_payments_total{agent=\"bot\",network=\"eip155:8453\",outcome=\"lost\",protocol=\"x402v1\"} 1",
            "tollpass_spend_usd_total{agent=\"bot\",asset=\"USDC\",network=\"eip155:8453\"} 0.05",
            "tollpass_refusals_total{agent=\"bot\",reason=\"cap_day\"} 1",
            "tollpass_budget_remaining_usd{agent=\"bot\",budget=\"caps.day\"} 4.95",
            "tollpass_open_authorizations{agent=\"bot\"} 2",
            "tollpass_policy_reload_success 1",
            "tollpass_policy_reload_timestamp_seconds 1700000000",
            "tollpass_policy_info{digest=\"abc\"} 1",
            "tollpass_request_overhead_seconds_bucket{agent=\"bot\",le=\"0.0001\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        m.policy_failed();
        m.forget_budgets();
        let text = m.render();
        assert!(text.contains("tollpass_policy_reload_success 0") && text.contains("digest=\"abc\"") && !text.contains("caps.day"));
        m.policy_loaded("def", Timestamp::from_secs(1));
        assert!(!m.render().contains("digest=\"abc\""));
    }

    #[test]
    fn unregistered_agents_share_one_label() {
        let m = exercised();
        for stranger in ["x1", "x2"] {
            m.agent(&name(stranger)).request(200);
            m.refusal(&name(stranger), Reason::UnknownAgent);
        }
        let text = m.render();
        assert!(text.contains("tollpass_requests_total{agent=\"other\",code_class=\"2xx\"} 2"));
        assert!(!text.contains("x1") && !text.contains("x2"));
        let m = Metrics::new(true);
        m.refusal(&name("x1"), Reason::UnknownAgent);
        assert!(m.render().contains("tollpass_refusals_total{agent=\"x1\""));
    }

    #[test]
    fn beyond_fifty_agents_histograms_are_one_series() {
        let m = exercised();
        let many: Vec<AgentId> = (0..AGENT_HISTOGRAMS).map(|i| name(&format!("a{i}"))).collect();
        m.set_agents(&many);
        m.agent(&many[0]).overhead(Duration::from_micros(1));
        m.authorize(&many[1], Stage::Sign, Duration::from_micros(1));
        m.agent(&many[2]).request(200);
        let text = m.render();
        let histogram_lines: Vec<&str> = text.lines().filter(|l| l.contains("_bucket{")).collect();
        assert!(!histogram_lines.is_empty() && histogram_lines.iter().all(|l| l.contains("agent=\"all\"")), "{histogram_lines:?}");
        assert!(text.contains("tollpass_requests_total{agent=\"a2\",code_class=\"2xx\"} 1"));
    }

    #[test]
    fn a_handle_taken_before_registration_is_replaced() {
        let m = Metrics::new(false);
        m.agent(&name("late")).request(200);
        m.set_agents(&[name("late")]);
        m.agent(&name("late")).request(200);
        assert!(m.render().contains("tollpass_requests_total{agent=\"late\",code_class=\"2xx\"} 1"));
    }
}
