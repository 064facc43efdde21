//! Notices to people, over an operator's webhook (S21): signed, repeated until they arrive or are no longer of use, and without a
//! word that a seller chose (S19). One task, a bounded queue; nobody who pays waits for it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::header::{HeaderName, HeaderValue};
use http::{StatusCode, Uri};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock;
use crate::net::{Fetch, Fetcher};

/// Notices that may wait. More than that at once is somebody's loop.
const QUEUE: usize = 256;
/// How often one notice is sent at most.
const ATTEMPTS: u32 = 5;
/// A receiver refuses what was signed longer ago.
pub const FRESH_SECS: i64 = 300;

const SIGNATURE: HeaderName = HeaderName::from_static("tollpass-signature");
const DELIVERY: HeaderName = HeaderName::from_static("tollpass-delivery");

/// What is to be said. Our own words, names of the policy and numbers; still escaped on the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is, such as `approval_required`.
    pub kind: &'static str,
    /// The ticket it is about.
    pub ticket: String,
    /// One sentence.
    pub headline: String,
    /// Name and value of each fact.
    pub facts: Vec<(&'static str, String)>,
    /// Where it can be decided, if pages are served.
    pub link: Option<String>,
}

/// How to send.
#[derive(Clone)]
pub struct Webhook {
    /// Where to; absolute, http or https. It may carry a key, so it is never shown.
    pub url: Uri,
    /// The key of the signature.
    pub secret: Arc<str>,
    /// The pause before the second attempt; each one after it is twice as long.
    pub pause: Duration,
    /// A notice that took longer is given up.
    pub deadline: Duration,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

/// Called once for every notice that did not arrive.
pub type Failed = Arc<dyn Fn() + Send + Sync>;

/// Takes notices.
#[derive(Clone)]
pub struct Notifier {
    queue: mpsc::Sender<Notice>,
    failed: Failed,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notifier")
    }
}

impl Notifier {
    /// A notifier, and the task that does its work until every notifier is gone.
    pub fn new(webhook: Webhook, fetcher: Fetcher, failed: Failed) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, notices) = mpsc::channel(QUEUE);
        let told = failed.clone();
        (Self { queue, failed }, work(webhook, fetcher, notices, told))
    }

    /// Sends in the background. What does not fit in the queue counts as failed.
    pub fn send(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            tracing::warn!("a notice was dropped: too many are waiting");
            (self.failed)();
        }
    }
}

async fn work(webhook: Webhook, fetcher: Fetcher, mut notices: mpsc::Receiver<Notice>, failed: Failed) {
    while let Some(notice) = notices.recv().await {
        if let Err(why) = deliver(&webhook, &fetcher, &notice).await {
            tracing::warn!(kind = notice.kind, ticket = %notice.ticket, why, "a notice did not arrive");
            failed();
        }
    }
}

/// Repeats what may yet succeed; every attempt is signed anew and carries the same delivery id.
async fn deliver(webhook: &Webhook, fetcher: &Fetcher, notice: &Notice) -> Result<(), &'static str> {
    let delivery = alloy_primitives::hex::encode(rand::random::<[u8; 16]>());
    let body = body(notice, &delivery).to_string();
    let (ends, mut pause) = (Instant::now() + webhook.deadline, webhook.pause);
    for attempt in 1..=ATTEMPTS {
        let sending = tokio::time::timeout_at(ends, fetcher.fetch(request(webhook, &body, &delivery)?));
        match sending.await {
            Err(_) => return Err("no time is left"),
            Ok(Ok(answer)) if answer.status().is_success() => return Ok(()),
            Ok(Ok(answer)) if is_final(answer.status()) => return Err("the receiver refuses it"),
            Ok(_) => {}
        }
        if attempt < ATTEMPTS {
            if Instant::now() + pause >= ends {
                return Err("no time is left");
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    Err("the receiver does not answer")
}

/// Saying it again would not help. A redirect is not followed (S21), so it is one of these.
fn is_final(status: StatusCode) -> bool {
    (status.is_redirection() || status.is_client_error()) && !matches!(status.as_u16(), 408 | 425 | 429)
}

fn request(webhook: &Webhook, body: &str, delivery: &str) -> Result<Fetch, &'static str> {
    let mut fetch = Fetch::json(webhook.url.clone(), body.to_owned());
    let signature = sign(&webhook.secret, clock::read().wall.secs(), body.as_bytes());
    for (name, value) in [(SIGNATURE, signature.as_str()), (DELIVERY, delivery)] {
        fetch.headers.insert(name, HeaderValue::from_str(value).map_err(|_| "it has no header form")?);
    }
    Ok(fetch)
}

/// The value of `Tollpass-Signature`: `t=<Unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`.
pub fn sign(secret: &str, at: i64, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &signed_text(at, body));
    format!("t={at},v1={}", alloy_primitives::hex::encode(tag))
}

/// What a receiver does with a delivery: recompute, compare in constant time, refuse what is older than [`FRESH_SECS`]; then look
/// whether it has seen the delivery id before.
pub fn verify(secret: &str, header: &str, body: &[u8], now: i64) -> bool {
    let Some((at, tag)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else { return false };
    let (Ok(at), Ok(tag)) = (at.parse::<i64>(), alloy_primitives::hex::decode(tag)) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, &signed_text(at, body), &tag).is_ok() && now.abs_diff(at) <= FRESH_SECS.unsigned_abs()
}

fn signed_text(at: i64, body: &[u8]) -> Vec<u8> {
    [format!("{at}.").as_bytes(), body].concat()
}

/// `text` and `blocks` are what Slack shows; the rest is for programs.
fn body(notice: &Notice, delivery: &str) -> serde_json::Value {
    let headline = slack(&notice.headline);
    let facts: Vec<String> = notice.facts.iter().map(|(name, value)| format!("*{name}:* {}", slack(value))).collect();
    let section = |text: String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } });
    let mut blocks = vec![section(headline.clone()), section(facts.join("\n"))];
    if let Some(link) = &notice.link {
        // A button, not a link in text: scanners follow links, and the page decides nothing by being looked at (S18).
        blocks.push(json!({ "type": "actions", "elements": [
            { "type": "button", "text": { "type": "plain_text", "text": "Look at it" }, "url": link }
        ] }));
    }
    let plain: serde_json::Map<_, _> = notice.facts.iter().map(|(name, value)| ((*name).to_owned(), clean(value).into())).collect();
    json!({
        "id": delivery,
        "type": notice.kind,
        "ticket": clean(&notice.ticket),
        "facts": plain,
        "link": notice.link,
        "text": headline,
        "blocks": blocks,
    })
}

/// At most 200 characters, none that controls, hides or turns text around (S19).
fn clean(text: &str) -> String {
    let hides = |c: &char| matches!(*c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    text.chars().filter(|c| !c.is_control() && !hides(c)).take(200).collect()
}

/// The same for Slack: no mention, no link, no markup.
fn slack(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '*' | '~' | '`' => {
                // Markup begins only where a word does; a zero-width character would hide, a space is honest.
                out.push(' ');
                out.push(c);
                out.push(' ');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
