//! The way to the operator's decision hook: one signed POST, no redirects, 64 KiB, a deadline (S21).

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use aws_lc_rs::hmac;
use http::HeaderValue;

use crate::clock;
use crate::net::{Fetch, Fetcher, address};
use crate::policy::{Found, HookAt};
use crate::treasurer::{Hook, Said};

/// Header with `t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`.
const SIGNATURE: &str = "tollpass-signature";
/// Longest URL or secret.
const LONGEST: u64 = 4096;

/// Asks over HTTP. Reading the roots is slow, so it is done once, when there is something to ask.
pub(super) struct HttpHook {
    extra_roots: Vec<PathBuf>,
    fetcher: OnceLock<Option<Fetcher>>,
}

impl HttpHook {
    pub(super) const fn new(extra_roots: Vec<PathBuf>) -> Self {
        Self { extra_roots, fetcher: OnceLock::new() }
    }

    /// The operator's own program may be on a private address.
    fn fetcher(&self) -> Option<Fetcher> {
        let made = self.fetcher.get_or_init(|| {
            let made = Fetcher::new(&self.extra_roots, |ip| address::permits(ip, true));
            made.inspect_err(|error| tracing::error!("the decision hook cannot be asked: {error:#}")).ok()
        });
        made.clone()
    }

    async fn post(&self, at: &HookAt, facts: Vec<u8>) -> Result<bool, String> {
        let url = text(&at.url).ok_or("risk.hook.url: there is nothing where it should be found")?;
        let secret = text(&at.secret).ok_or("risk.hook.secret: there is nothing where it should be found")?;
        let url = url.parse().map_err(|_| "risk.hook.url: not a URL")?;
        let seconds = clock::read().wall.secs().to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let mut signing = hmac::Context::with_key(&key);
        [seconds.as_bytes(), b".", &facts].into_iter().for_each(|part| signing.update(part));
        let signature = format!("t={seconds},v1={}", alloy_primitives::hex::encode(signing.sign()));
        let mut fetch = Fetch::json(url, facts);
        fetch.headers.insert(SIGNATURE, HeaderValue::from_str(&signature).map_err(|e| e.to_string())?);
        let fetcher = self.fetcher().ok_or("no TLS roots")?.bounded(64 << 10, at.deadline);
        let answer = fetcher.fetch(fetch).await.map_err(|e| e.to_string())?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        let said: serde_json::Value = serde_json::from_slice(answer.body()).map_err(|_| "no JSON")?;
        match said.get("decision").and_then(serde_json::Value::as_str) {
            Some("allow") => Ok(true),
            Some("deny") => Ok(false),
            _ => Err("neither allow nor deny".into()),
        }
    }
}

impl Hook for HttpHook {
    fn ask<'a>(&'a self, at: &'a HookAt, facts: Vec<u8>) -> Said<'a> {
        Box::pin(async move {
            let answer = self.post(at, facts).await;
            answer.inspect_err(|error| tracing::warn!(error, "the decision hook did not decide: nothing is paid")).ok()
        })
    }
}

/// The text behind it, without blanks around; `None` if there is none.
fn text(found: &Found) -> Option<String> {
    let text = match found {
        Found::Env(name) => std::env::var(&**name).ok()?,
        Found::File(path) => {
            let mut text = String::new();
            std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
            text
        }
        Found::Here(text) => text.to_string(),
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
