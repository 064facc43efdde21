//! The way to the operator's decision hook: one signed POST, no redirects, 64 KiB, a deadline (S21).

use std::sync::Arc;

use aws_lc_rs::hmac;
use http::HeaderValue;

use super::outward::{Outward, text};
use crate::clock;
use crate::net::Fetch;
use crate::policy::HookAt;
use crate::treasurer::{Hook, Said};

/// Header with `t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`.
const SIGNATURE: &str = "tollpass-signature";

/// Asks over HTTP.
pub(super) struct HttpHook(pub(super) Arc<Outward>);

impl HttpHook {
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
        let fetcher = self.0.fetcher().ok_or("no TLS roots")?.bounded(64 << 10, at.deadline);
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
