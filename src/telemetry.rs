//! Logs: set-up, and the one line per payment or refusal.
//!
//! The line is a typed function so that nothing else can get into it: no signature, key, credential, query string or text
//! of a seller. Everything else in the program logs with plain `tracing` macros.

use std::io::IsTerminal as _;
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::metrics::PaymentOutcome;
use crate::payment::{AgentId, ChainId, MicroUsd, Payee, ProtocolId, PurchaseId, Reason, SessionName};
use crate::policy::{By, RuleId};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The level is not a filter.
    #[error("not a log level: write error, warn, info, debug or trace, or a filter such as tollpass=debug,info")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// A second call.
    #[error("logging was set up already")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sends log lines to standard error. `level` wins over `RUST_LOG`, which wins over `info`.
///
/// # Errors
/// [`SetupError`].
pub fn init(format: LogFormat, level: Option<&str>) -> Result<(), SetupError> {
    let given = level.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok()).filter(|l| !l.is_empty());
    let filter: Targets = given.as_deref().unwrap_or("info").parse()?;
    let subscriber = subscriber(format, filter, std::io::stderr().is_terminal(), std::io::stderr);
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

fn subscriber<W>(format: LogFormat, filter: Targets, ansi: bool, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let filtered = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => Box::new(filtered.with(lines.with_ansi(ansi).with_target(false))),
        LogFormat::Json => Box::new(filtered.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false))),
    }
}

/// What a request was, for its line.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// Whose budget.
    pub agent: &'a AgentId,
    /// Its session.
    pub session: Option<&'a SessionName>,
    /// Seller's host.
    pub host: &'a str,
    /// Request method.
    pub method: &'a http::Method,
    /// Path; a query is cut off.
    pub path: &'a str,
    /// Digest of the policy that decided.
    pub policy: &'a str,
    /// From the challenge to this line.
    pub took: Duration,
}

/// What was offered, as far as it is known and by our own tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct TermsLine<'a> {
    /// Wire protocol.
    pub protocol: Option<ProtocolId>,
    /// Network.
    pub network: Option<ChainId>,
    /// Symbol from our asset table.
    pub asset: Option<&'a str>,
    /// Price.
    pub amount: Option<MicroUsd>,
    /// Who is paid.
    pub payee: Option<Payee>,
    /// The rule that decided.
    pub rule: Option<&'a RuleId>,
    /// The purchase.
    pub purchase: Option<&'a PurchaseId>,
}

/// The one line of a payment.
pub fn payment_line(request: &RequestLine<'_>, terms: &TermsLine<'_>, outcome: PaymentOutcome) {
    line(request, terms, outcome.as_str(), None, None);
}

/// The one line of a refusal; `by` says whose policy the rule stands in.
pub fn refusal_line(request: &RequestLine<'_>, terms: &TermsLine<'_>, reason: Reason, by: By) {
    line(request, terms, "refused", Some(reason), Some(by));
}

fn line(request: &RequestLine<'_>, terms: &TermsLine<'_>, outcome: &str, reason: Option<Reason>, by: Option<By>) {
    tracing::info!(
        target: "tollpass::payment",
        agent = request.agent.as_str(),
        session = request.session.map(SessionName::as_str),
        host = printable(request.host),
        method = request.method.as_str(),
        path = printable(without_query(request.path)),
        protocol = terms.protocol.map(ProtocolId::as_str),
        network = terms.network.map(tracing::field::display),
        asset = terms.asset,
        amount = terms.amount.map(tracing::field::display),
        payee = terms.payee.map(|p| tracing::field::display(p.0)),
        outcome,
        reason = reason.map(Reason::as_str),
        by = by.map(By::as_str),
        rule = terms.rule.map(tracing::field::display),
        policy = request.policy,
        purchase = terms.purchase.map(tracing::field::display),
        ms = u64::try_from(request.took.as_millis()).unwrap_or(u64::MAX),
        "{}", if reason.is_some() { "payment refused" } else { "payment" }
    );
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// A host or path that is safe in any log: at most 200 characters, no control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, "info".parse().unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    fn lines() {
        let agent = "research-bot".parse().unwrap();
        let session = "run-7".parse().unwrap();
        let request = RequestLine {
            agent: &agent,
            session: Some(&session),
            host: "api.bureau.example",
            method: &http::Method::GET,
            path: "/v2/report?ssn=canary#canary",
            policy: "abc",
            took: Duration::from_millis(83),
        };
        let rule = RuleId("bureau".into());
        let purchase = PurchaseId::from_bytes([1; 16]);
        let terms = TermsLine {
            protocol: Some(ProtocolId::X402V2),
            network: ChainId::new(8453),
            asset: Some("USDC"),
            amount: Some(MicroUsd::new(50_000)),
            payee: Some(Payee(alloy_primitives::Address::repeat_byte(0x11))),
            rule: Some(&rule),
            purchase: Some(&purchase),
        };
        payment_line(&request, &terms, PaymentOutcome::Settled);
        let evil = RequestLine { session: None, host: "a\u{1b}[31m\n2026 INFO forged", ..request };
        refusal_line(&evil, &TermsLine::default(), Reason::CapDay, By::Cosigner);
    }

    #[test]
    fn a_payment_and_a_refusal_are_one_json_line_each() {
        let text = logged(LogFormat::Json, lines);
        let rows: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(rows.len(), 2, "{text}");
        let expected = [
            ("agent", "research-bot"),
            ("session", "run-7"),
            ("host", "api.bureau.example"),
            ("method", "GET"),
            ("path", "/v2/report"),
            ("protocol", "x402v2"),
            ("network", "eip155:8453"),
            ("asset", "USDC"),
            ("amount", "0.05"),
            ("payee", "0x1111111111111111111111111111111111111111"),
            ("outcome", "settled"),
            ("rule", "bureau"),
            ("policy", "abc"),
            ("purchase", "01010101010101010101010101010101"),
            ("message", "payment"),
            ("level", "INFO"),
        ];
        for (key, value) in expected {
            assert_eq!(rows[0][key], value, "{key}");
        }
        assert_eq!(rows[0]["ms"], 83);
        assert_eq!((rows[1]["outcome"].as_str(), rows[1]["reason"].as_str()), (Some("refused"), Some("cap_day")));
        assert_eq!(rows[1]["by"], "cosigner");
        assert!(rows[1].get("payee").is_none() && rows[1].get("session").is_none());
    }

    #[test]
    fn text_lines_cannot_be_forged_and_have_no_query() {
        let text = logged(LogFormat::Text, lines);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains("canary") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("reason=\"cap_day\""), "{text}");
    }
}
