//! How a reason becomes a response: status, `Proxy-Status` (RFC 9209), problem document (RFC 9457).
//!
//! No seller text in any of them (S19): enums, numbers, our rule ids and the requested host.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::body::AgentBody;
use crate::payment::{Reason, Retry, Timestamp};
use crate::policy::{By, Refusal, Violation};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Status and RFC 9209 error type of a reason. Exhaustive, so that a new reason forces a decision here.
const fn meaning(reason: Reason) -> (StatusCode, &'static str) {
    use Reason as R;
    use StatusCode as S;
    match reason {
        R::ProxyAuthRequired => (S::PROXY_AUTHENTICATION_REQUIRED, "http_request_denied"),
        R::Loop => (S::LOOP_DETECTED, "proxy_loop_detected"),
        R::Misdirected => (S::MISDIRECTED_REQUEST, "http_request_error"),
        R::BadRequest => (S::BAD_REQUEST, "http_request_error"),
        R::EgressDenied => (S::FORBIDDEN, "http_request_denied"),
        R::HeaderTooLarge => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error"),
        R::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "http_request_error"),
        R::ForbiddenAddress => (S::FORBIDDEN, "destination_ip_prohibited"),
        R::DnsError => (S::BAD_GATEWAY, "dns_error"),
        R::ConnectFailed => (S::BAD_GATEWAY, "connection_refused"),
        R::ConnectTimeout => (S::GATEWAY_TIMEOUT, "connection_timeout"),
        R::UpstreamTls => (S::BAD_GATEWAY, "tls_certificate_error"),
        R::FirstByteTimeout => (S::GATEWAY_TIMEOUT, "http_response_timeout"),
        R::UpstreamClosed => (S::BAD_GATEWAY, "connection_terminated"),
        R::UpstreamProtocol => (S::BAD_GATEWAY, "http_protocol_error"),
        R::UpstreamHeaderTooLarge => (S::BAD_GATEWAY, "http_response_header_section_size"),
        R::ParentFailed => (S::BAD_GATEWAY, "destination_unavailable"),
        R::TooManyAgentConnections | R::TooManyAgentRequests => (S::TOO_MANY_REQUESTS, "http_request_denied"),
        R::TooManyRequests => (S::SERVICE_UNAVAILABLE, "http_request_denied"),
        R::TooManyConnections => (S::SERVICE_UNAVAILABLE, "connection_limit_reached"),
        R::Internal => (S::INTERNAL_SERVER_ERROR, "proxy_internal_error"),
        R::LedgerUnavailable
        | R::LedgerHandover
        | R::ClockUnsure
        | R::UnknownAgent
        | R::Killed
        | R::AgentFrozen
        | R::HostFrozen
        | R::SessionRequired
        | R::SessionUnknown
        | R::SessionLimit
        | R::CapRolling
        | R::CapHost
        | R::CapAgentPayee
        | R::CapSession
        | R::BudgetExceeded
        | R::OutsideHours
        | R::RuleDenied
        | R::RuleError
        | R::ApprovalRequired
        | R::ApprovalDenied
        | R::ApprovalTimeout
        | R::PayeeListed
        | R::HookDenied
        | R::HookUnavailable
        | R::MethodNotPayable
        | R::BodyNotReplayable
        | R::BodyOpen
        | R::PathNotNormal
        | R::MalformedOffer
        | R::UnsupportedScheme
        | R::UnsupportedNetwork
        | R::InvalidAmount
        | R::InvalidAsset
        | R::UnknownAsset
        | R::AssetDomainMismatch
        | R::InvalidPayee
        | R::InvalidTimeout
        | R::UnsupportedTransfer
        | R::UnsupportedFlow
        | R::AssetNotPriced
        | R::AmountTooLarge
        | R::TooManyOffers
        | R::Denied
        | R::NotAllowed
        | R::PlainHttp
        | R::TestnetNotListed
        | R::ZeroAmount
        | R::PayeeChanged
        | R::CapPerPayment
        | R::EntryMax
        | R::CapHour
        | R::CapDay
        | R::CapWeek
        | R::CapMonth
        | R::CapTotal
        | R::RateLimited
        | R::Busy
        | R::AgentLeft
        | R::PaymentOutstanding
        | R::PaidNotDelivered
        | R::PaidRedirectLimit
        | R::NotAcceptedBySeller
        | R::WireVersion
        | R::WalletUnknown
        | R::WalletFrozen
        | R::StaleEpoch
        | R::IdentityRevoked
        | R::AgentNotTied
        | R::WrongPayer
        | R::TrialWallet
        | R::WindowNotOpen
        | R::WindowTooLong
        | R::UnverifiedPayee
        | R::OfferInvalid
        | R::ProbeDiffers
        | R::GrantInvalid
        | R::CapUnverified
        | R::CapPayee
        | R::CapIdentity
        | R::CapWallet
        | R::LiveTotal
        | R::IdempotencyConflict
        | R::SignedTooOften
        | R::PolicyChanged
        | R::SignerUnavailable
        | R::SignerRefused
        | R::SignerTimeout
        | R::SignatureInvalid
        | R::WindowTooShort
        | R::ShareCopied
        | R::WalletOverLimit
        | R::SessionLost
        | R::CosignerBusy => (S::PAYMENT_REQUIRED, "http_request_denied"),
    }
}

/// The status of a reason's answer.
pub(super) const fn status(reason: Reason) -> StatusCode {
    meaning(reason).0
}

/// The `Proxy-Status` member for a reason (RFC 9209 §2).
pub(super) fn proxy_status(reason: Reason, rule: Option<&str>, by: By) -> HeaderValue {
    let mut text = format!("tollpass; error={}; details=\"{reason}\"", meaning(reason).1);
    if let Some(rule) = rule {
        // Rule ids come from the policy file, whose grammar has no quote or backslash.
        text.push_str("; rule=\"");
        text.push_str(rule);
        text.push('"');
    }
    if by == By::Cosigner {
        text.push_str("; by=cosigner");
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("tollpass"))
}

/// A failure of the proxy or the upstream, as the agent sees it.
pub(super) fn failure(reason: Reason) -> Response<AgentBody> {
    let (status, _) = meaning(reason);
    let document = json!({
        "type": format!("https://tollpass.invalid/problems/{reason}"),
        "title": reason.explain(),
        "status": status.as_u16(),
        "reason": reason.as_str(),
        "retry": retry_text(reason.retry()),
    });
    let mut response = problem(status, &document);
    response.headers_mut().insert(PROXY_STATUS, proxy_status(reason, None, By::Policy));
    if reason == Reason::ProxyAuthRequired {
        response.headers_mut().insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tollpass\", charset=\"UTF-8\""));
    }
    response
}

/// The whole answer to a connection over the limit: written without a task, a buffer or a look at what it wants.
pub(super) fn too_many_connections() -> String {
    let reason = Reason::TooManyConnections;
    let (status, error) = meaning(reason);
    format!(
        "HTTP/1.1 {status}\r\nproxy-status: tollpass; error={error}; details=\"{reason}\"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
}

/// A refused payment, as the agent sees it: 402 with every violation.
pub(super) fn refusal(refusal: &Refusal, host: &str, now: Timestamp) -> Response<AgentBody> {
    let lead = refusal.violations.first();
    let reason = refusal.reason();
    let mut document = Map::new();
    document.insert("type".into(), format!("https://tollpass.invalid/problems/{reason}").into());
    document.insert("title".into(), reason.explain().into());
    document.insert("status".into(), 402.into());
    if let Some(lead) = lead {
        describe(lead, &mut document);
    }
    document.insert("retry".into(), retry_text(reason.retry()).into());
    document.insert("host".into(), host.into());
    let all: Vec<Value> = refusal
        .violations
        .iter()
        .map(|v| {
            let mut one = Map::new();
            describe(v, &mut one);
            if let Some(offer) = v.offer {
                one.insert("offer".into(), offer.into());
            }
            one.into()
        })
        .collect();
    document.insert("violations".into(), all.into());
    let mut response = problem(StatusCode::PAYMENT_REQUIRED, &document.into());
    if let Some(at) = lead.and_then(|v| v.resets_at) {
        let seconds = (at.millis() - now.millis()).max(0).saturating_add(999) / 1000;
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response.headers_mut().insert(PROXY_STATUS, refusal_status(refusal));
    response
}

/// The `Proxy-Status` of a refusal, for the seller's own body too.
pub(super) fn refusal_status(refusal: &Refusal) -> HeaderValue {
    let lead = refusal.violations.first();
    let rule = lead.and_then(|v| v.rule.as_ref());
    proxy_status(refusal.reason(), rule.map(|r| &*r.0), lead.map_or(By::Policy, |v| v.by))
}

fn describe(v: &Violation, into: &mut Map<String, Value>) {
    into.insert("reason".into(), v.reason.as_str().into());
    into.insert("by".into(), v.by.as_str().into());
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            into.insert(name.into(), value.into());
        }
    };
    put("rule", v.rule.as_ref().map(ToString::to_string));
    put("amount_usd", v.amount.map(|m| m.to_string()));
    put("limit_usd", v.limit.map(|m| m.to_string()));
    put("remaining_usd", v.remaining.map(|m| m.to_string()));
    put("resets_at", v.resets_at.map(Timestamp::rfc3339));
}

const fn retry_text(retry: Retry) -> &'static str {
    match retry {
        Retry::No => "no",
        Retry::Soon => "soon",
        Retry::AtReset => "at_reset",
    }
}

fn problem(status: StatusCode, document: &Value) -> Response<AgentBody> {
    let mut response = Response::new(AgentBody::Full(Some(Bytes::from(document.to_string()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
