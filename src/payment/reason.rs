//! Why something was not paid, not sent or not answered: one closed set for the whole program.
//!
//! The same text stands in `Proxy-Status`, in the problem body, in `tollpass_refusals_total{reason}` and in the log.
//! Names are a contract: add, never rename.

use std::fmt;

macro_rules! reasons {
    ($( $(#[doc = $doc:expr])+ $name:ident = $text:literal, $retry:ident; )+) => {
        /// A stable reason code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// Every reason, in the order of evaluation: for the metric's label set and the documentation test.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// The reason of a code, as another part of this program wrote it.
            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|r| r.as_str() == code)
            }

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// One sentence for people, without any seller text.
            pub const fn explain(self) -> &'static str {
                match self { $( Self::$name => concat!($( $doc ),+).trim_ascii(), )+ }
            }

            /// Whether asking again, unchanged, can help.
            pub const fn retry(self) -> Retry {
                match self { $( Self::$name => Retry::$retry, )+ }
            }
        }
    };
}

/// Whether the same request can succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not without a change of the request, the offer or the policy.
    No,
    /// At once or soon: the cause is passing.
    Soon,
    /// When the budget's period resets (`resets_at`).
    AtReset,
}

reasons! {
    // (0) gates, M3.4
    /// The ledger cannot be written, so nothing is paid.
    LedgerUnavailable = "ledger_unavailable", Soon;
    /// This process does not hold the ledger: another one is taking over from it, or it from another.
    LedgerHandover = "ledger_handover", Soon;
    /// The clock jumped; an operator or the co-signer has to confirm the time.
    ClockUnsure = "clock_unsure", Soon;
    /// The kill switch is on: nothing is paid for anybody until a person turns it off.
    Killed = "killed", No;
    /// This agent is frozen; a person has to look at it and unfreeze it.
    AgentFrozen = "agent_frozen", No;
    /// This host is frozen: nobody pays it until a person unfreezes it.
    HostFrozen = "host_frozen", No;
    /// The agent pays only within a session that an operator opened, and this request names none.
    SessionRequired = "session_required", No;
    /// No open session has this name: it has ended, or was never opened.
    SessionUnknown = "session_unknown", No;
    /// As many sessions as the policy allows are open already.
    SessionLimit = "session_limit", Soon;
    /// No policy names this agent.
    UnknownAgent = "unknown_agent", No;
    /// Only requests whose answer carries the thing bought are paid, so never HEAD, OPTIONS, TRACE or CONNECT.
    MethodNotPayable = "method_not_payable", No;
    /// The request body is larger than `upstream.replay_limit`, or there is no room for it, so it cannot be sent again with a payment.
    BodyNotReplayable = "body_not_replayable", No;
    /// The request body does not end before the answer begins, as with client streaming, so it cannot be sent again.
    BodyOpen = "body_open", No;
    /// The request path has dot segments or encoded slashes, so no path rule can be trusted to match it.
    PathNotNormal = "path_not_normal", No;

    // (1) each offer alone
    /// The entry is not an object with the fields of its protocol version.
    MalformedOffer = "malformed_offer", No;
    /// The scheme is not supported.
    UnsupportedScheme = "unsupported_scheme", No;
    /// The network is not a supported chain in canonical CAIP-2 form.
    UnsupportedNetwork = "unsupported_network", No;
    /// The amount is not a canonical decimal integer below 2^256.
    InvalidAmount = "invalid_amount", No;
    /// The asset is not a well-formed address.
    InvalidAsset = "invalid_asset", No;
    /// The asset is not in the asset table.
    UnknownAsset = "unknown_asset", No;
    /// The EIP-712 name or version differs from the asset table, so the signature would be worthless.
    AssetDomainMismatch = "asset_domain_mismatch", No;
    /// The payee is not a well-formed address, or is zero, the token itself or the payer.
    InvalidPayee = "invalid_payee", No;
    /// The validity window is not a positive whole number of seconds.
    InvalidTimeout = "invalid_timeout", No;
    /// The transfer method is not supported.
    UnsupportedTransfer = "unsupported_transfer", No;
    /// The payment flow is unknown.
    UnsupportedFlow = "unsupported_flow", No;
    /// The asset has no declared, fresh US dollar price.
    AssetNotPriced = "asset_not_priced", No;
    /// The value does not fit the ledger.
    AmountTooLarge = "amount_too_large", No;
    /// The seller listed more entries than are read.
    TooManyOffers = "too_many_offers", No;

    // (2) policy
    /// A deny entry names this host, path, payee or network.
    Denied = "denied", No;
    /// No allow entry matches this request and offer.
    NotAllowed = "not_allowed", No;
    /// The seller is reached over plain http and the allow entry does not say `plain_http: true`.
    PlainHttp = "plain_http", No;
    /// The network is a test network that no allow entry names.
    TestnetNotListed = "testnet_not_listed", No;
    /// The price is zero and the allow entry does not say `allow_zero: true`.
    ZeroAmount = "zero_amount", No;
    /// The payee differs from the one this seller was first paid at.
    PayeeChanged = "payee_changed", No;
    /// The amount is above the agent's cap for one payment.
    CapPerPayment = "cap_per_payment", No;
    /// The amount is above the allow entry's `max`.
    EntryMax = "entry_max", No;
    /// The cap for this hour would be exceeded.
    CapHour = "cap_hour", AtReset;
    /// The cap for today would be exceeded.
    CapDay = "cap_day", AtReset;
    /// The cap for this week would be exceeded.
    CapWeek = "cap_week", AtReset;
    /// The cap for this month would be exceeded.
    CapMonth = "cap_month", AtReset;
    /// The cap for all time would be exceeded.
    CapTotal = "cap_total", No;
    /// The cap over the last hours would be exceeded.
    CapRolling = "cap_rolling", AtReset;
    /// The agent's daily cap for this host would be exceeded.
    CapHost = "cap_host", AtReset;
    /// The agent's daily cap for this payee would be exceeded.
    CapAgentPayee = "cap_agent_payee", AtReset;
    /// The session's money is used up.
    CapSession = "cap_session", No;
    /// A budget shared by several agents would be exceeded.
    BudgetExceeded = "budget_exceeded", AtReset;
    /// It is outside the hours in which this agent may pay.
    OutsideHours = "outside_hours", AtReset;
    /// A rule of the policy denies this payment.
    RuleDenied = "rule_denied", No;
    /// A rule of the policy cannot be evaluated for this request, so it denies.
    RuleError = "rule_error", No;
    /// A person has to approve this payment; asking again after that gets the answer.
    ApprovalRequired = "approval_required", Soon;
    /// The people who were asked said no.
    ApprovalDenied = "approval_denied", No;
    /// Nobody said yes in time.
    ApprovalTimeout = "approval_timeout", Soon;
    /// The payee is on a list of payees that are never paid.
    PayeeListed = "payee_listed", No;
    /// The external decision hook says no.
    HookDenied = "hook_denied", No;
    /// The external decision hook did not answer in time or as agreed, so it counts as a no.
    HookUnavailable = "hook_unavailable", Soon;
    /// Too many payments in the last minute or hour.
    RateLimited = "rate_limited", AtReset;
    /// Too many payments compete for the same budget; nothing was held.
    Busy = "busy", Soon;

    /// The agent hung up before anything was held; nothing was signed.
    AgentLeft = "agent_left", Soon;

    // purchases, money.md section 1
    /// A payment for this request is still live under other terms, so a second one is not signed.
    PaymentOutstanding = "payment_outstanding", Soon;
    /// This request was paid and its answer got lost; it may be bought again after the hold.
    PaidNotDelivered = "paid_not_delivered", AtReset;
    /// Paid answers kept redirecting to further priced addresses.
    PaidRedirectLimit = "paid_redirect_limit", No;
    /// The seller asked for payment again after it had been paid; nothing more is signed for this request.
    NotAcceptedBySeller = "not_accepted_by_seller", Soon;

    // between the two share holders
    /// The share's state is a copy, or was restored: another process has used it since.
    ShareCopied = "share_copied", No;
    /// The wallet holds more than an unaudited library may guard; move funds out, or set `accept_unaudited: true`.
    WalletOverLimit = "wallet_over_limit", Soon;
    /// The co-signer no longer has this signing session; the same payment may be signed again.
    SessionLost = "session_lost", Soon;
    /// The co-signer does as much for this identity as it may; nothing was signed.
    CosignerBusy = "cosigner_busy", Soon;

    // signing
    /// The signer cannot be reached; nothing was signed.
    SignerUnavailable = "signer_unavailable", Soon;
    /// The signer refused; nothing was signed.
    SignerRefused = "signer_refused", No;
    /// The signer did not answer in time; the amount stays spent until proven otherwise.
    SignerTimeout = "signer_timeout", Soon;
    /// The signer answered with a signature that does not fit; the amount stays spent.
    SignatureInvalid = "signature_invalid", No;
    /// Less than ten seconds of the validity window would remain.
    WindowTooShort = "window_too_short", Soon;

    // the co-signer's own judgement (S4, S5); the proxy hands these on as they are
    /// The request speaks a version of the wire that the co-signer does not.
    WireVersion = "wire_version", No;
    /// The co-signer holds no share of this wallet.
    WalletUnknown = "wallet_unknown", No;
    /// The wallet is frozen; its operator has to look at it.
    WalletFrozen = "wallet_frozen", No;
    /// The shares are of different epochs: one side has not taken part in the last refresh.
    StaleEpoch = "stale_epoch", No;
    /// The identity was revoked, or was never enrolled.
    IdentityRevoked = "identity_revoked", No;
    /// The agent is not one of those tied to the identity that asks.
    AgentNotTied = "agent_not_tied", No;
    /// The account to be debited is not the wallet's.
    WrongPayer = "wrong_payer", No;
    /// The wallet was made on one host, so it signs for test networks only.
    TrialWallet = "trial_wallet", No;
    /// The validity window has not begun yet.
    WindowNotOpen = "window_not_open", Soon;
    /// The validity window is longer than the co-signer's policy grants.
    WindowTooLong = "window_too_long", No;
    /// Nothing proves that this payee belongs to a seller the policy names.
    UnverifiedPayee = "unverified_payee", No;
    /// The seller's signed offer does not verify, has ended, or says something else.
    OfferInvalid = "offer_invalid", No;
    /// The seller, asked by the co-signer itself, does not ask for this payment.
    ProbeDiffers = "probe_differs", No;
    /// The human approval does not verify, has ended, or is for something else.
    GrantInvalid = "grant_invalid", No;
    /// The budget for payees that nothing proves would be exceeded.
    CapUnverified = "cap_unverified", AtReset;
    /// The cap for this payee would be exceeded.
    CapPayee = "cap_payee", AtReset;
    /// The cap for this identity would be exceeded.
    CapIdentity = "cap_identity", AtReset;
    /// The cap for this wallet would be exceeded.
    CapWallet = "cap_wallet", AtReset;
    /// Too much is signed and neither used nor expired yet.
    LiveTotal = "live_total", AtReset;
    /// The same key came with another digest before.
    IdempotencyConflict = "idempotency_conflict", No;
    /// This payment was signed as often as one payment may be.
    SignedTooOften = "signed_too_often", No;
    /// The policy changed after this was judged; ask again.
    PolicyChanged = "policy_changed", Soon;

    // the proxy itself
    /// Proxy credentials are missing or wrong.
    ProxyAuthRequired = "proxy_auth_required", No;
    /// The request came back to this proxy.
    Loop = "loop", No;
    /// The request names this proxy as the origin server, or an inner host that is not the tunnel's.
    Misdirected = "misdirected", No;
    /// The request is not well formed.
    BadRequest = "bad_request", No;
    /// `egress` of the policy does not let anything connect to this host.
    EgressDenied = "egress_denied", No;
    /// The head of the request is larger than `limits.header`.
    HeaderTooLarge = "header_too_large", No;
    /// The body of the request is larger than `limits.body`.
    BodyTooLarge = "body_too_large", No;
    /// The address is link-local, metadata, private or one of our own listeners.
    ForbiddenAddress = "forbidden_address", No;
    /// The name of the upstream does not resolve.
    DnsError = "dns_error", Soon;
    /// The upstream refused the connection or cannot be reached.
    ConnectFailed = "connect_failed", Soon;
    /// Connecting to the upstream took too long.
    ConnectTimeout = "connect_timeout", Soon;
    /// The certificate of the upstream does not verify.
    UpstreamTls = "upstream_tls", No;
    /// The upstream did not begin its answer in time.
    FirstByteTimeout = "first_byte_timeout", Soon;
    /// The upstream closed or broke the connection before an answer.
    UpstreamClosed = "upstream_closed", Soon;
    /// The upstream answered with something that is not HTTP.
    UpstreamProtocol = "upstream_protocol", No;
    /// The head of the upstream's answer is larger than `limits.seller_header`, or has more than 100 fields.
    UpstreamHeaderTooLarge = "upstream_header_too_large", No;
    /// The parent proxy of `upstream.proxy` did not open the connection.
    ParentFailed = "parent_failed", Soon;
    /// Too many connections.
    TooManyConnections = "too_many_connections", Soon;
    /// This agent has as many connections as one agent may (`limits.agent_connections`).
    TooManyAgentConnections = "too_many_agent_connections", Soon;
    /// Too many requests are under way (`limits.requests`).
    TooManyRequests = "too_many_requests", Soon;
    /// This agent has as many requests under way as one agent may (`limits.agent_requests`).
    TooManyAgentRequests = "too_many_agent_requests", Soon;
    /// A fault of our own; the log has the details.
    Internal = "internal", Soon;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_snake_case_and_explained() {
        let mut seen = HashSet::new();
        for r in Reason::ALL {
            assert!(seen.insert(r.as_str()), "{r} twice");
            assert!(r.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{r}");
            assert!(r.explain().ends_with('.'), "{r}: {}", r.explain());
        }
    }
}
