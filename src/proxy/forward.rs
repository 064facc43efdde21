//! The unpaid path: normalise, send, stream back. Only a 402 leaves it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue, LOCATION};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};

use super::agent::Caller;
use super::body::{AgentBody, SellerBody, Timed};
use super::paywall::{self, Repeatable};
use super::replay::Replay;
use super::server::Connection;
use super::target::{Target, absolute_target, resolve_location, split_authority};
use super::upstream::{Route, SendError, Sender};
use super::{connect, error, headers};
use crate::payment::Reason;
use crate::protocol;
use crate::treasurer::Treasurer;

/// Answers one request of an agent's connection. Never fails: a failure is an answer too.
pub(super) async fn serve(conn: Arc<Connection>, mut request: Request<Incoming>) -> Response<AgentBody> {
    if request.method() == http::Method::CONNECT {
        // A tunnel inside a tunnel would lead past what the outer one decided.
        return if conn.tunnel.is_none() { connect::serve(&conn, request).await } else { error::failure(Reason::BadRequest) };
    }
    let (caller, target) = match route(&conn, &request) {
        Ok(found) => found,
        Err(reason) => return error::failure(reason),
    };
    if headers::is_loop(request.headers(), &conn.proxy.pseudonym) {
        return error::failure(Reason::Loop);
    }
    let carries_payment = protocol::carries_payment(request.headers());
    prepare(&conn, &mut request, &target);
    forward(&conn, &caller, &target, request, carries_payment).await
}

/// Who asks, and what for. Inside a tunnel both were decided by the CONNECT request.
fn route(conn: &Connection, request: &Request<Incoming>) -> Result<(Caller, Target), Reason> {
    match &conn.tunnel {
        Some(tunnel) => {
            check_inner_host(request, &tunnel.target)?;
            Ok((tunnel.caller.clone(), tunnel.target.clone()))
        }
        None => {
            let target = absolute_target(request.uri())?;
            Ok((conn.identify(request.headers())?, target))
        }
    }
}

/// Inside a tunnel the CONNECT authority decides; an inner Host or absolute form that names another one is refused.
fn check_inner_host(request: &Request<Incoming>, target: &Target) -> Result<(), Reason> {
    let same = |authority: &Authority| {
        split_authority(authority).is_ok_and(|(host, port)| {
            let default = if target.https { 443 } else { 80 };
            host == target.host && (port.unwrap_or(default) == target.port || port.is_none())
        })
    };
    if let Some(authority) = request.uri().authority()
        && !same(authority)
    {
        return Err(Reason::Misdirected);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Reason::BadRequest),
        (Some(host), None) => match host.to_str().ok().and_then(|h| h.parse::<Authority>().ok()) {
            Some(authority) if same(&authority) => Ok(()),
            _ => Err(Reason::Misdirected),
        },
    }
}

/// Origin-form, one Host from the target, no hop-by-hop fields.
fn prepare(conn: &Connection, request: &mut Request<Incoming>, target: &Target) {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.version_mut() = Version::HTTP_11;
    headers::clean_request(request.headers_mut(), &conn.proxy.via);
    if let Ok(host) = HeaderValue::try_from(target.authority()) {
        request.headers_mut().insert(HOST, host);
    }
}

async fn forward(
    conn: &Connection,
    caller: &Caller,
    target: &Target,
    request: Request<Incoming>,
    carries_payment: bool,
) -> Response<AgentBody> {
    let arrived = Instant::now();
    let payable = conn.payable(caller, target);
    let mut repeatable = Repeatable { method: request.method().clone(), uri: request.uri().clone(), copy: None, carries_payment };
    let (parts, body) = request.into_parts();
    let mut progress = None;
    let body = if body.is_end_stream() {
        SellerBody::Empty
    } else if payable {
        let moved = progress.insert(Arc::new(AtomicU64::new(0))).clone();
        let replay = Replay::new(body, conn.proxy.replay_limit, conn.proxy.replay_budget.clone(), moved);
        let tee = SellerBody::Tee(replay.tee());
        repeatable.copy = Some((parts.headers.clone(), Some(replay)));
        tee
    } else {
        let moved = progress.insert(Arc::new(AtomicU64::new(0))).clone();
        SellerBody::Agent(body, moved)
    };
    if payable && repeatable.copy.is_none() {
        repeatable.copy = Some((parts.headers.clone(), None));
    }
    let key = (caller.agent.clone(), target.clone());
    let (response, added) = match exchange(conn, &key, Request::from_parts(parts, body), progress.as_deref(), arrived).await {
        Ok(done) => done,
        Err(reason) => {
            let response = error::failure(reason);
            caller.metrics.request(response.status().as_u16());
            return response;
        }
    };
    let response = respond(conn, caller, target, repeatable, response).await;
    caller.metrics.request(response.status().as_u16());
    caller.metrics.overhead(added);
    response
}

async fn respond(
    conn: &Connection,
    caller: &Caller,
    target: &Target,
    request: Repeatable,
    mut response: Response<Incoming>,
) -> Response<AgentBody> {
    // A message carries the version of who sends it (RFC 9110 §2.5): a seller's 1.0 must not end the agent's connection.
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        return paywall::answer(conn, caller, target, request, response).await;
    }
    if response.status().is_redirection()
        && let Some(till) = conn.proxy.till().filter(|till| till.treasurer.redirects().any())
    {
        follow_free_hop(&till.treasurer, caller, target, &request.uri, &response);
    }
    let idle = conn.proxy.idle;
    let mut response = response.map(|body| AgentBody::Upstream(Timed::new(body, idle)));
    headers::clean_response(response.headers_mut());
    response
}

/// A free redirect in the middle of a chain of paid ones carries the chain on (M1.7).
fn follow_free_hop(treasurer: &Treasurer, caller: &Caller, target: &Target, uri: &Uri, response: &Response<Incoming>) {
    let from = target.url(uri.path_and_query().map_or("/", |p| p.as_str()));
    if let Some(to) = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).and_then(|l| resolve_location(&from, l)) {
        treasurer.redirects().free(&caller.agent, caller.session.as_ref(), from, to, treasurer.now().now);
    }
}

/// Sends on the pinned, a pooled or a new connection. Sent again, once and on a new one: a request that was never sent, and a
/// safe request without a body whose kept connection ended before an answer (RFC 9110 §9.2.2). A seller may close a kept
/// connection at the very moment it is used again, and an agent must not pay for our keeping it.
async fn exchange(
    conn: &Connection,
    key: &Route,
    request: Request<SellerBody>,
    progress: Option<&AtomicU64>,
    arrived: Instant,
) -> Result<(Response<Incoming>, Duration), Reason> {
    let dialer = &conn.proxy.dialer;
    let (mut request, mut waited) = (request, Duration::ZERO);
    if let Some(mut sender) = take_ready(conn, key).await {
        let spare = spare(&request);
        let sent = Instant::now();
        request = match (dialer.exchange(&mut sender, request, progress).await, spare) {
            (Ok(response), _) => {
                conn.pin(key.clone(), sender);
                return Ok((response, arrived.elapsed().saturating_sub(sent.elapsed())));
            }
            (Err(SendError::NotSent(unsent)), _) => *unsent,
            (Err(SendError::Failed(Reason::UpstreamClosed)), Some(spare)) => spare,
            (Err(SendError::Failed(reason)), _) => return Err(reason),
        };
        waited += sent.elapsed();
    }
    let sent = Instant::now();
    let mut sender = dialer.http(&key.1).await?;
    match dialer.exchange(&mut sender, request, progress).await {
        Ok(response) => {
            waited += sent.elapsed();
            conn.pin(key.clone(), sender);
            Ok((response, arrived.elapsed().saturating_sub(waited)))
        }
        Err(SendError::NotSent(_)) => Err(Reason::UpstreamClosed),
        Err(SendError::Failed(reason)) => Err(reason),
    }
}

/// A second copy of a request that may be sent twice without asking.
fn spare(request: &Request<SellerBody>) -> Option<Request<SellerBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe || !matches!(request.body(), SellerBody::Empty) {
        return None;
    }
    let mut copy = Request::new(SellerBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

async fn take_ready(conn: &Connection, key: &Route) -> Option<Sender> {
    if let Some(mut sender) = conn.unpin(key) {
        // The previous answer was passed on whole, so this is at most a turn of the connection's task.
        if sender.ready().await.is_ok() {
            return Some(sender);
        }
    }
    conn.worker.pool.take(key)
}
