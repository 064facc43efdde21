//! The table of metrics: what `/metrics` shows is exactly this, and README repeats it.

/// One metric, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricRow {
    /// Full name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
    /// What it tells, in one sentence.
    pub meaning: &'static str,
}

const fn row(name: &'static str, kind: &'static str, labels: &'static [&'static str], meaning: &'static str) -> MetricRow {
    MetricRow { name, kind, labels, meaning }
}

pub(super) const REQUESTS: MetricRow =
    row("tollpass_requests_total", "counter", &["agent", "code_class"], "Requests answered, by class of the status the agent got.");
pub(super) const OVERHEAD: MetricRow =
    row("tollpass_request_overhead_seconds", "histogram", &["agent"], "Time the proxy itself added to a request.");
pub(super) const CHALLENGES: MetricRow =
    row("tollpass_challenges_total", "counter", &["agent", "protocol"], "Answers with status 402 that were understood as a challenge.");
pub(super) const PAYMENTS: MetricRow = row(
    "tollpass_payments_total",
    "counter",
    &["agent", "protocol", "network", "outcome"],
    "Payments sent, by outcome: settled, open (no proof either way), lost (charged, answer lost).",
);
pub(super) const SPEND: MetricRow =
    row("tollpass_spend_usd_total", "counter", &["agent", "network", "asset"], "US dollars signed for; for display, the ledger is exact.");
pub(super) const REFUSALS: MetricRow =
    row("tollpass_refusals_total", "counter", &["agent", "reason"], "Payments refused, by leading reason code.");
pub(super) const BUDGET_LIMIT: MetricRow = row("tollpass_budget_limit_usd", "gauge", &["agent", "budget"], "Limit of a cap, US dollars.");
pub(super) const BUDGET_REMAINING: MetricRow =
    row("tollpass_budget_remaining_usd", "gauge", &["agent", "budget"], "Limit minus what was spent in the current period, US dollars.");
pub(super) const AUTHORIZE: MetricRow = row(
    "tollpass_authorize_seconds",
    "histogram",
    &["agent", "stage"],
    "Time of the steps from challenge to credential: policy, reserve, sign.",
);
pub(super) const PAID_REQUEST: MetricRow =
    row("tollpass_paid_request_seconds", "histogram", &["agent"], "Time from the paid request to the end of its answer.");
pub(super) const OPEN_AUTHORIZATIONS: MetricRow =
    row("tollpass_open_authorizations", "gauge", &["agent"], "Signed payments that a seller could still use.");
pub(super) const RELOAD_SUCCESS: MetricRow =
    row("tollpass_policy_reload_success", "gauge", &[], "1 if the newest policy took effect, 0 if it is broken and the one before stays.");
pub(super) const RELOAD_TIME: MetricRow =
    row("tollpass_policy_reload_timestamp_seconds", "gauge", &[], "When the policy in effect was loaded, Unix time.");
pub(super) const POLICY_INFO: MetricRow =
    row("tollpass_policy_info", "gauge", &["digest"], "Always 1; the label is the digest of the policy in effect.");
pub(super) const COSIGNER_UP: MetricRow =
    row("tollpass_cosigner_up", "gauge", &["cosigner"], "1 while the co-signer answers, 0 while it does not.");
pub(super) const COSIGNER_REFUSALS: MetricRow =
    row("tollpass_cosigner_refusals_total", "counter", &["agent", "reason"], "Payments that the policy allowed and the co-signer refused.");
pub(super) const DIVERGENCE: MetricRow = row(
    "tollpass_ledger_divergence_usd",
    "gauge",
    &["agent"],
    "What we would still let the agent spend today minus what the co-signer would, US dollars.",
);
pub(super) const PRESIGNED_POOL: MetricRow =
    row("tollpass_presignatures", "gauge", &["cosigner"], "Presignatures that wait to be used, on the proxy's side.");
pub(super) const COSIGNER_REQUESTS: MetricRow = row(
    "tollpass_cosigner_requests_total",
    "counter",
    &["kind", "result"],
    "Co-signer: requests by kind and result: ok, a reason code, or closed (not answered).",
);
pub(super) const COSIGNER_SESSIONS: MetricRow =
    row("tollpass_cosigner_sessions_open", "gauge", &["wallet"], "Co-signer: signing sessions that wait for their second message.");
pub(super) const COSIGNER_PRESIGNED: MetricRow =
    row("tollpass_cosigner_presignatures", "gauge", &["wallet"], "Co-signer: presignatures that wait to be used.");
pub(super) const COSIGNER_FROZEN: MetricRow =
    row("tollpass_cosigner_frozen", "gauge", &["wallet"], "Co-signer: 1 while the wallet is frozen and signs nothing.");
pub(super) const COSIGNER_BANS: MetricRow =
    row("tollpass_cosigner_bans_total", "counter", &["wallet"], "Co-signer: bans since the start; one is an attack or a broken disk.");
pub(super) const COSIGNER_ALARMS: MetricRow = row(
    "tollpass_cosigner_alarms_total",
    "counter",
    &["kind"],
    "Co-signer: agent_not_tied, share_copied, revoked_identity, replay: somebody uses what is not theirs. Look at the log.",
);
pub(super) const APPROVALS_PENDING: MetricRow =
    row("tollpass_approvals_pending", "gauge", &[], "Questions about payments that people have not answered.");
pub(super) const KILLED: MetricRow = row("tollpass_killed", "gauge", &[], "1 while the kill switch is on: nothing is signed.");
pub(super) const AGENT_FROZEN: MetricRow =
    row("tollpass_agent_frozen", "gauge", &["agent"], "1 while the agent is frozen; a person has to look at it and unfreeze it.");
pub(super) const HOSTS_FROZEN: MetricRow =
    row("tollpass_hosts_frozen", "gauge", &[], "Hosts that nobody pays until a person unfreezes them.");
pub(super) const FREEZES: MetricRow =
    row("tollpass_freezes_total", "counter", &["by"], "Agents and hosts that were frozen, by operator or by a risk rule of the policy.");
pub(super) const APPROVAL_NOTICES: MetricRow = row(
    "tollpass_approval_notices_total",
    "counter",
    &["result"],
    "Attempts to tell people of a question over their webhook: delivered, retried, or failed for good.",
);
pub(super) const ACCESS_LOG_DROPPED: MetricRow = row(
    "tollpass_access_log_dropped_total",
    "counter",
    &[],
    "Lines of the access log that were dropped because standard output was not read fast enough.",
);
pub(super) const DECISION_LOG_DROPPED: MetricRow = row(
    "tollpass_decision_log_dropped_total",
    "counter",
    &[],
    "Lines of the decision log that were not written: too many refusals at once, or the disk.",
);
pub(super) const SHADOW_DECISIONS: MetricRow = row(
    "tollpass_shadow_decisions_total",
    "counter",
    &["agent", "live", "shadow"],
    "Decisions that the draft judged too: what came of them, and what would have come of them (allow, ask, deny).",
);
pub(super) const SHADOW_RELOAD: MetricRow =
    row("tollpass_shadow_reload_success", "gauge", &[], "1 if the newest draft judges along, 0 if it is broken or there is none.");
pub(super) const BUILD: MetricRow = row("tollpass_build_info", "gauge", &["version", "commit"], "Always 1; the labels say what runs.");

/// Every metric, in the order of the README.
pub const TABLE: &[MetricRow] = &[
    REQUESTS,
    OVERHEAD,
    CHALLENGES,
    PAYMENTS,
    SPEND,
    REFUSALS,
    BUDGET_LIMIT,
    BUDGET_REMAINING,
    AUTHORIZE,
    PAID_REQUEST,
    OPEN_AUTHORIZATIONS,
    RELOAD_SUCCESS,
    RELOAD_TIME,
    POLICY_INFO,
    COSIGNER_UP,
    COSIGNER_REFUSALS,
    DIVERGENCE,
    PRESIGNED_POOL,
    COSIGNER_REQUESTS,
    COSIGNER_SESSIONS,
    COSIGNER_PRESIGNED,
    COSIGNER_FROZEN,
    COSIGNER_BANS,
    COSIGNER_ALARMS,
    APPROVALS_PENDING,
    APPROVAL_NOTICES,
    KILLED,
    AGENT_FROZEN,
    HOSTS_FROZEN,
    FREEZES,
    ACCESS_LOG_DROPPED,
    DECISION_LOG_DROPPED,
    SHADOW_DECISIONS,
    SHADOW_RELOAD,
    BUILD,
    row("process_cpu_seconds_total", "counter", &[], "User and system CPU time, seconds."),
    row("process_open_fds", "gauge", &[], "Open file descriptors."),
    row("process_max_fds", "gauge", &[], "Most file descriptors the process may open."),
    row("process_virtual_memory_bytes", "gauge", &[], "Virtual memory, bytes."),
    row("process_resident_memory_bytes", "gauge", &[], "Resident memory, bytes."),
    row("process_start_time_seconds", "gauge", &[], "When the process started, Unix time."),
    row("process_threads", "gauge", &[], "Threads."),
];
