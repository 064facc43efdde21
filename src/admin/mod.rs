//! `/metrics`, `/livez`, `/readyz`: what an operator's machines ask. Read-only, and the same on the admin listener and on
//! `listen.health`. Live means that the process answers; ready means that it can do its work, and the body says what lacks.

pub mod api;
pub mod entrance;
pub mod names;
pub mod tokens;
pub mod totp;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};

use crate::metrics::Metrics;
use crate::net::Handler;

/// What must be there before traffic may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A policy is in effect.
    Policy,
    /// The CA certificate is written where agents read it.
    Ca,
    /// The proxy listens.
    Listener,
    /// The ledger can be written.
    Ledger,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Ca, Self::Listener, Self::Ledger];

    /// Name in the body of `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Ca => "ca",
            Self::Listener => "listener",
            Self::Ledger => "ledger",
        }
    }
}

/// Asked at every `/readyz` whether the ledger accepts writes.
type Probe = Box<dyn Fn() -> bool + Send + Sync>;

/// What is there. Starts with nothing.
#[derive(Default)]
pub struct Readiness {
    there: [AtomicBool; 4],
    draining: AtomicBool,
    ledger: OnceLock<Probe>,
}

impl Readiness {
    /// Nothing is there yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Says that `part` is there, or gone.
    pub fn set(&self, part: Part, there: bool) {
        self.there[part as usize].store(there, Ordering::Release);
    }

    /// Asks `available` at each probe instead of a flag; the first call wins.
    pub fn ledger(&self, available: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.ledger.set(Box::new(available));
    }

    /// No new work: a stop has begun.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What lacks, empty when ready; `draining` comes first.
    pub fn missing(&self) -> Vec<&'static str> {
        let draining = self.draining.load(Ordering::Acquire).then_some("draining");
        let lacks = |part: &Part| match (part, self.ledger.get()) {
            (Part::Ledger, Some(available)) => !available(),
            _ => !self.there[*part as usize].load(Ordering::Acquire),
        };
        draining.into_iter().chain(Part::ALL.iter().filter(|p| lacks(p)).map(|p| p.as_str())).collect()
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("missing", &self.missing()).finish()
    }
}

/// Answers the three paths.
pub fn handler(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Handler {
    Arc::new(move |request| {
        let response = respond(&request, &metrics, &readiness);
        Box::pin(std::future::ready(response))
    })
}

fn respond(request: &Request<Bytes>, metrics: &Metrics, readiness: &Readiness) -> Response<Bytes> {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const JSON: &str = "application/json";
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/livez" | "/readyz") {
        let body = r#"{"error":"not_found","paths":["/metrics","/livez","/readyz"]}"#;
        return response(StatusCode::NOT_FOUND, JSON, body.to_owned());
    }
    if request.method() != Method::GET {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, JSON, r#"{"error":"method_not_allowed"}"#.to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match path {
        "/metrics" => response(StatusCode::OK, TEXT, metrics.render()),
        "/livez" => response(StatusCode::OK, JSON, r#"{"live":true}"#.to_owned()),
        _ => {
            let missing = readiness.missing();
            let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            response(status, JSON, serde_json::json!({ "ready": missing.is_empty(), "missing": missing }).to_string())
        }
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(readiness: &Readiness, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        let response = respond(&request, &Metrics::new(false), readiness);
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    #[test]
    fn ready_only_when_everything_is_there_and_nothing_drains() {
        let r = Readiness::new();
        assert_eq!(ask(&r, "GET", "/readyz"), (503, r#"{"ready":false,"missing":["policy","ca","listener","ledger"]}"#.into()));
        Part::ALL.into_iter().for_each(|p| r.set(p, true));
        assert_eq!(ask(&r, "GET", "/readyz"), (200, r#"{"ready":true,"missing":[]}"#.into()));
        r.set(Part::Listener, false);
        assert_eq!(r.missing(), ["listener"]);
        r.set(Part::Listener, true);
        let up = Arc::new(AtomicBool::new(true));
        let seen = up.clone();
        r.ledger(move || seen.load(Ordering::SeqCst));
        assert!(r.missing().is_empty());
        up.store(false, Ordering::SeqCst);
        assert_eq!(r.missing(), ["ledger"]);
        r.drain();
        assert_eq!(r.missing(), ["draining", "ledger"]);
        assert_eq!(ask(&r, "GET", "/livez").0, 200);
    }

    #[test]
    fn three_paths_and_one_method() {
        let r = Readiness::new();
        assert!(ask(&r, "GET", "/metrics").1.contains("tollpass_build_info{"));
        for path in ["/", "/metrics/", "/livez/x", "/Metrics"] {
            assert_eq!(ask(&r, "GET", path).0, 404, "{path}");
        }
        for method in ["POST", "HEAD", "OPTIONS", "DELETE"] {
            assert_eq!(ask(&r, method, "/livez").0, 405, "{method}");
        }
        assert_eq!(ask(&r, "GET", "/livez?x=1").0, 200);
    }
}
