//! Notices to people over an operator's webhook (S21): signed as Standard Webhooks has it (standardwebhooks.com), in a body that
//! Slack's incoming webhooks show, and without a word that a seller chose (S19). One notice and one attempt; when and how often is the
//! caller's business.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use crate::net::{Fetch, Fetcher};
use crate::payment::{escape_log, escape_slack};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What a secret begins with whose rest is base64.
const PREFIX: &str = "whsec_";
/// A key with fewer bytes can be guessed.
const LEAST_KEY: usize = 16;
/// The longest pause that a receiver may ask for.
const MOST_AFTER: Duration = Duration::from_secs(300);

/// What is to be said. Our own words, names of the policy and numbers; still escaped on the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The same for every attempt, also after a restart: receivers drop what they have seen.
    pub id: String,
    /// What it is, such as `approval.required`.
    pub kind: &'static str,
    /// When it came to be, RFC 3339.
    pub at: String,
    /// One sentence.
    pub headline: String,
    /// Name and value of each fact, for people.
    pub facts: Vec<(&'static str, String)>,
    /// The same for programs.
    pub data: Value,
    /// Where it can be decided, if pages are served.
    pub link: Option<String>,
}

/// Where to, and the keys. The URL may carry a key too, so neither is ever shown.
#[derive(Clone)]
pub struct Webhook {
    url: Uri,
    keys: Vec<hmac::Key>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

/// Why a notice did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Whether another attempt may help, and what the receiver said about when.
    pub again: Option<Duration>,
    /// For the log.
    pub why: &'static str,
}

impl Webhook {
    /// `url` is https, or http to this machine. `secret` is `whsec_` and base64, or text of 16 bytes and more without blanks; while it is
    /// exchanged, the old and the new one with a blank between: both sign.
    ///
    /// # Errors
    /// What is wrong with them, without showing them.
    pub fn new(url: &str, secret: &str) -> Result<Self, &'static str> {
        let url: Uri = url.parse().map_err(|_| "the URL is none")?;
        let host = url.host().unwrap_or_default();
        let here = host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match url.scheme_str() {
            Some("https") if !host.is_empty() => {}
            Some("http") if here => {}
            _ => return Err("the URL must be https, or http to this machine"),
        }
        let keys: Result<Vec<hmac::Key>, &'static str> = secret.split_whitespace().map(key).collect();
        match keys? {
            keys if keys.is_empty() => Err("the secret is empty"),
            keys => Ok(Self { url, keys }),
        }
    }

    /// One attempt, signed at `now`, Unix seconds.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub async fn send(&self, fetcher: &Fetcher, notice: &Notice, now: i64) -> Result<(), Undelivered> {
        let body = body(notice).to_string();
        let mut fetch = Fetch::json(self.url.clone(), body.clone());
        let (at, signature) = (now.to_string(), self.sign(&notice.id, now, body.as_bytes()));
        for (name, value) in [(ID, &notice.id), (TIMESTAMP, &at), (SIGNATURE, &signature)] {
            let value = HeaderValue::from_str(value).map_err(|_| Undelivered { again: None, why: "it has no header form" })?;
            fetch.headers.insert(name, value);
        }
        let answer = fetcher.fetch(fetch).await.map_err(|error| {
            tracing::debug!(%error, "a webhook cannot be reached");
            Undelivered { again: Some(Duration::ZERO), why: "the receiver cannot be reached" }
        })?;
        if answer.status().is_success() {
            return Ok(());
        }
        let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let after = Duration::from_secs(after.unwrap_or(0)).min(MOST_AFTER);
        // A redirect is not followed (S21); saying the same again would not help there, nor where it is refused.
        let refused = (answer.status().is_redirection() || answer.status().is_client_error())
            && !matches!(answer.status(), StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        Err(if refused {
            Undelivered { again: None, why: "the receiver refuses it" }
        } else {
            Undelivered { again: Some(after), why: "the receiver fails" }
        })
    }

    /// The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`, one for each key.
    fn sign(&self, id: &str, at: i64, body: &[u8]) -> String {
        let text = [format!("{id}.{at}.").as_bytes(), body].concat();
        let one = |key: &hmac::Key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &text)));
        self.keys.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

fn key(secret: &str) -> Result<hmac::Key, &'static str> {
    let bytes = match secret.strip_prefix(PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| "what follows whsec_ in the secret is not base64")?,
        None => secret.as_bytes().to_vec(),
    };
    if bytes.len() < LEAST_KEY {
        return Err("the secret is too short: 16 bytes or more, such as whsec_ and 32 random bytes in base64");
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// `text` and `blocks` are what Slack shows, in its plain text, which has no markup; `type`, `timestamp` and `data` are for programs.
fn body(notice: &Notice) -> Value {
    let plain = |text: &str| json!({ "type": "plain_text", "text": text, "emoji": false });
    let headline = escape_slack(&notice.headline);
    let facts: Vec<String> = notice.facts.iter().map(|(name, value)| format!("{name}: {}", escape_slack(value))).collect();
    let mut blocks =
        vec![json!({ "type": "section", "text": plain(&headline) }), json!({ "type": "section", "text": plain(&facts.join("\n")) })];
    if let Some(link) = &notice.link {
        // A button, not a link in text: scanners follow links, and the page decides nothing by being looked at (S18).
        blocks.push(json!({ "type": "actions", "elements": [{ "type": "button", "text": plain("Look at it"), "url": link }] }));
    }
    let mut data = notice.data.clone();
    clean(&mut data);
    if let Some(link) = &notice.link {
        data["link"] = link.as_str().into();
    }
    json!({ "type": notice.kind, "timestamp": notice.at, "data": data, "text": headline, "mrkdwn": false, "blocks": blocks })
}

/// Every text in it as it may stand in a log.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = escape_log(text),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(map) => map.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests;
