//! What the proxy knows about a challenged request, and the key that says when two requests are the same purchase.

use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, RANGE};
use sha2::{Digest, Sha256};

use crate::ledger::Likeness;
use crate::payment::{AgentId, RequestKey, SessionName};
use crate::policy::Host;

/// A challenged request, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The authenticated caller.
    pub agent: AgentId,
    /// Its session.
    pub session: Option<SessionName>,
    /// Method.
    pub method: http::Method,
    /// TLS towards the seller.
    pub https: bool,
    /// The host that was connected to.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Path without query.
    pub path: String,
    /// Scheme, authority, path and query: part of the key; for redirect chains. Never logged.
    pub url: String,
    /// What the request says of itself, declared keys only (M3.2).
    pub context: crate::policy::Context,
    /// Which purchase this is (M1.1).
    pub key: RequestKey,
    /// The headers that are not in the key.
    pub likeness: Likeness,
}

/// Headers whose values make another purchase (M1.1). Credentials among them enter hashed, as everything does.
const KEYED: [HeaderName; 6] = [ACCEPT, ACCEPT_LANGUAGE, RANGE, CONTENT_TYPE, AUTHORIZATION, COOKIE];

/// Headers that differ from one attempt to the next and say nothing about the request.
const IGNORED: [&str; 5] = ["date", "traceparent", "tracestate", "x-request-id", "content-length"];

/// Builds a [`RequestKey`]: every part is length-prefixed, so that no two requests share an encoding.
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// Starts with the parts that are always there.
    pub fn new(agent: &AgentId, session: Option<&SessionName>, method: &http::Method, url: &str) -> Self {
        let mut key = Self(Sha256::new_with_prefix(b"tollpass/request-key/1"));
        key.part(agent.as_str().as_bytes());
        key.part(session.map_or("", SessionName::as_str).as_bytes());
        key.part(method.as_str().as_bytes());
        key.part(url.as_bytes());
        key
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// Adds the headers and the hash of the body; gives key and likeness.
    pub fn finish(mut self, headers: &HeaderMap, body_sha256: &[u8; 32]) -> (RequestKey, Likeness) {
        let idempotency = HeaderName::from_static("idempotency-key");
        for name in KEYED.iter().chain(std::iter::once(&idempotency)) {
            self.part(name.as_str().as_bytes());
            for value in headers.get_all(name) {
                self.part(value.as_bytes());
            }
        }
        self.part(body_sha256);
        let likeness = headers
            .iter()
            .filter(|(name, _)| !KEYED.contains(name) && **name != idempotency && !IGNORED.contains(&name.as_str()))
            .map(|(name, value)| short_hash(name.as_str(), value.as_bytes()));
        let mut likeness: Vec<u64> = likeness.collect();
        likeness.sort_unstable();
        (RequestKey(self.0.finalize().into()), Likeness(likeness))
    }
}

fn short_hash(name: &str, value: &[u8]) -> u64 {
    let digest = Sha256::new_with_prefix(name).chain_update([0]).chain_update(value).finalize();
    u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{HeaderValue, Method};

    fn key(url: &str, headers: &[(&'static str, &'static str)], body: u8) -> (RequestKey, Likeness) {
        let mut map = HeaderMap::new();
        for (n, v) in headers {
            map.append(*n, HeaderValue::from_static(v));
        }
        KeyBuilder::new(&"a".parse().unwrap(), None, &Method::GET, url).finish(&map, &[body; 32])
    }

    #[test]
    fn m1_1_keyed_headers_body_and_url_make_another_purchase() {
        let base = key("http://x/a", &[("accept", "*/*")], 0).0;
        assert_eq!(base, key("http://x/a", &[("accept", "*/*")], 0).0);
        assert_ne!(base, key("http://x/b", &[("accept", "*/*")], 0).0);
        assert_ne!(base, key("http://x/a", &[("accept", "text/html")], 0).0);
        assert_ne!(base, key("http://x/a", &[("accept", "*/*")], 1).0);
        assert_ne!(base, key("http://x/a", &[("accept", "*/*"), ("idempotency-key", "1")], 0).0);
        assert_ne!(base, key("http://x/a", &[("accept", "*/*"), ("authorization", "Bearer x")], 0).0);
    }

    #[test]
    fn m1_1_other_headers_are_likeness_not_key() {
        let (a, la) = key("http://x/a", &[("user-agent", "one"), ("traceparent", "1")], 0);
        let (b, lb) = key("http://x/a", &[("user-agent", "two"), ("traceparent", "2")], 0);
        assert_eq!(a, b);
        assert_ne!(la, lb);
        assert_eq!(la.0.len(), 1, "a trace id must not make two attempts unlike");
    }

    #[test]
    fn values_cannot_slide_between_headers() {
        let a = key("http://x/a", &[("accept", "ab"), ("range", "c")], 0).0;
        let b = key("http://x/a", &[("accept", "a"), ("range", "bc")], 0).0;
        assert_ne!(a, b);
    }
}
