//! The unpaid path: normalise, send, stream back. Only a 402 leaves it.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;

use super::agent::Caller;
use super::body::{AgentBody, Progress, SellerBody, Timed};
use super::connection::{Connection, Towards};
use super::paywall::{self, Repeatable};
use super::pool::Route;
use super::replay::Replay;
use super::target::{Place, Target, host_target, resolve_location};
use super::upgrade::{self, Switching};
use super::upstream::{SendError, Sender, Wanted};
use super::{connect, error, headers, shape};
use crate::payment::Reason;
use crate::protocol;
use crate::treasurer::Treasurer;

/// Answers one request of an agent's connection. Never fails: a failure is an answer too.
pub(super) async fn serve(conn: &Arc<Connection>, mut request: Request<Incoming>, caller: Result<Caller, Reason>) -> Response<AgentBody> {
    if request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none() {
        // A tunnel inside a tunnel would lead past what the outer one decided.
        if conn.inside.is_some() {
            return error::failure(Reason::BadRequest);
        }
        return Box::pin(connect::serve(conn, request, caller)).await;
    }
    let (caller, place) = match route(conn, &request, caller) {
        Ok(found) => found,
        Err(reason) => return error::failure(reason),
    };
    if headers::is_loop(request.headers(), &conn.proxy.pseudonym) {
        return error::failure(Reason::Loop);
    }
    let carries_payment = protocol::carries_payment(request.headers());
    let switching = upgrade::take(&mut request);
    let wanted = if switching.is_some() { Wanted::Http1 } else { wanted(conn, &request) };
    prepare(conn, &mut request, &place);
    forward(conn, &caller, &place.target, request, Leg { wanted, switching, carries_payment }).await
}

/// What was found out about a request before it took the form in which it is forwarded.
struct Leg {
    wanted: Wanted,
    switching: Option<Switching>,
    carries_payment: bool,
}

/// What to speak with the seller. An agent's HTTP/1 connection has one of its own; HTTP/2 goes on as HTTP/2 where the seller has
/// it, and in the clear where the agent knew that it does.
fn wanted(conn: &Connection, request: &Request<Incoming>) -> Wanted {
    if request.version() != Version::HTTP_2 || !conn.proxy.http2 {
        return Wanted::Http1;
    }
    // Inside a tunnel the agent speaks to the seller itself; to the proxy it may speak HTTP/2 whatever the seller speaks.
    if conn.inside.is_some() || shape::is_grpc(request.headers()) { Wanted::Known } else { Wanted::Negotiated }
}

/// Who asks, and what for. Inside a tunnel both were decided when it was opened.
fn route(conn: &Connection, request: &Request<Incoming>, caller: Result<Caller, Reason>) -> Result<(Caller, Place), Reason> {
    let place = match conn.inside.as_ref().map(|inside| &inside.towards) {
        None => conn.place(|last| Place::absolute(request.uri(), last))?,
        Some(Towards::Fixed(target)) => conn.place(|last| last.map_or_else(|| Place::new(target.clone()), |last| Ok(last.clone())))?,
        Some(Towards::Host { port }) => Place::new(host_target(request.uri(), request.headers(), *port)?)?,
    };
    if conn.inside.is_some() {
        place.check_inner(request.uri(), request.headers())?;
    }
    let caller = caller?;
    conn.permitted(&caller, &place.target)?;
    Ok((caller, place))
}

/// Origin-form, one Host from the target, no hop-by-hop fields.
fn prepare(conn: &Connection, request: &mut Request<Incoming>, place: &Place) {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let many = request.version() == Version::HTTP_2;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers::clean_request(headers, if many { &conn.proxy.via.http2 } else { &conn.proxy.via.http1 });
    if many {
        shape::join_cookies(headers);
    }
    if !headers.get_all(HOST).iter().eq([&place.host]) {
        headers.insert(HOST, place.host.clone());
    }
}

async fn forward(conn: &Arc<Connection>, caller: &Caller, target: &Target, request: Request<Incoming>, leg: Leg) -> Response<AgentBody> {
    let arrived = Instant::now();
    let Leg { wanted, switching, carries_payment } = leg;
    let payable = conn.payable(caller, target);
    let mut repeatable = Repeatable { method: request.method().clone(), uri: request.uri().clone(), copy: None, carries_payment, wanted };
    let (parts, body) = request.into_parts();
    let mut progress = None;
    let body = if switching.is_some() || body.is_end_stream() {
        SellerBody::Empty
    } else if payable {
        let moved = progress.insert(Arc::new(Progress::new(conn.proxy.limits.body))).clone();
        let replay = Replay::new(body, conn.proxy.replay_limit, conn.proxy.replay_budget.clone(), moved);
        let tee = SellerBody::Tee(replay.tee());
        repeatable.copy = Some((parts.headers.clone(), Some(replay)));
        tee
    } else {
        let moved = progress.insert(Arc::new(Progress::new(conn.proxy.limits.body))).clone();
        SellerBody::Agent(body, moved)
    };
    if payable && repeatable.copy.is_none() {
        repeatable.copy = Some((parts.headers.clone(), None));
    }
    let key = (caller.agent.clone(), target.clone());
    let sending = Sending { conn, key, repeatable: &repeatable, kept: switching.is_none(), progress: progress.as_deref(), arrived };
    let (response, added) = match sending.exchange(Request::from_parts(parts, body)).await {
        Ok(done) => done,
        Err(reason) => {
            // A body that broke off because of its framing is the agent's fault.
            let response = error::failure(conn.unflushed.wire.refusal().unwrap_or(reason));
            caller.metrics.request(response.status().as_u16());
            return response;
        }
    };
    let mut response = respond(conn, caller, target, repeatable, response).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response = upgrade::finish(conn, caller, switching, response);
    }
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
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Its headers are the agent's business as they are.
        return response.map(|_| AgentBody::Empty);
    }
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        return Box::pin(paywall::answer(conn, caller, target, request, response)).await;
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

/// One request on its way to the seller.
struct Sending<'a> {
    conn: &'a Arc<Connection>,
    key: Route,
    repeatable: &'a Repeatable,
    /// Whether the connection may serve another request afterwards.
    kept: bool,
    progress: Option<&'a Progress>,
    arrived: Instant,
}

impl Sending<'_> {
    /// Sends on a kept or a new connection. Sent again, once and on a new one: a request that was never sent, and a safe request
    /// without a body whose kept connection ended before an answer (RFC 9110 §9.2.2). A seller may close a kept connection at the
    /// very moment it is used again, and an agent must not pay for our keeping it.
    async fn exchange(self, mut request: Request<SellerBody>) -> Result<(Response<Incoming>, Duration), Reason> {
        let Self { conn, key, progress, arrived, .. } = &self;
        let mut waited = Duration::ZERO;
        let mut kept = self.take_ready().await;
        // One place that sends, for the first time and the second: its state is most of what a request takes.
        loop {
            let spare = kept.as_ref().and_then(|_| self.spare(&request));
            let (first, sent) = (kept.is_some(), Instant::now());
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.open().await?,
            };
            let result = conn.proxy.dialer.exchange(&mut sender, &key.1, request, *progress, sent).await;
            request = match (result, spare) {
                (Ok(response), _) => {
                    // What is not waiting for the seller is ours.
                    let added = sent.duration_since(*arrived).saturating_sub(waited);
                    self.keep(sender);
                    return Ok((response, added));
                }
                (Err(SendError::NotSent(unsent)), _) if first => *unsent,
                (Err(SendError::Failed(Reason::UpstreamClosed)), Some(headers)) => self.again(&headers),
                (Err(SendError::NotSent(_)), _) => return Err(Reason::UpstreamClosed),
                (Err(SendError::Failed(reason)), _) => return Err(reason),
            };
            conn.worker.pool.forget(key);
            waited += sent.elapsed();
        }
    }

    /// A new connection, or the one that all requests share. Boxed: rare beside a request, and it takes much more state.
    fn open(&self) -> Pin<Box<dyn Future<Output = Result<Sender, Reason>> + Send + '_>> {
        let Self { conn, key, repeatable, .. } = self;
        let dialer = &conn.proxy.dialer;
        match repeatable.wanted {
            Wanted::Http1 => Box::pin(dialer.http(&key.1, Wanted::Http1)),
            wanted => Box::pin(conn.worker.pool.shared(dialer, key, wanted)),
        }
    }

    /// A connection that was used before, if there is one.
    async fn take_ready(&self) -> Option<Sender> {
        let pool = &self.conn.worker.pool;
        if self.repeatable.wanted != Wanted::Http1 {
            return pool.open(&self.key).await;
        }
        if let Some(mut sender) = self.conn.unpin(&self.key) {
            // The previous answer was passed on whole, so this is at most a turn of the connection's task.
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
        pool.take(&self.key)
    }

    /// Leaves the connection where the next request finds it.
    fn keep(self, mut sender: Sender) {
        let Self { conn, key, repeatable, kept: true, .. } = self else { return };
        match (repeatable.wanted, &mut sender) {
            (Wanted::Http1, Sender::Http1(_)) => conn.pin(key, sender),
            (_, Sender::Http1(_)) => {
                // Requests of an HTTP/2 agent run side by side: this connection is free when its answer is through.
                let worker = conn.worker.clone();
                tokio::spawn(async move {
                    if sender.ready().await.is_ok() {
                        worker.pool.put(key, sender);
                    }
                });
            }
            // Shared, or of a seller that speaks nothing else: the next request finds it or opens its own.
            (_, Sender::Http2(_)) => {}
        }
    }

    /// The headers of a request that may be sent twice without asking; copied only if they are not kept already.
    fn spare(&self, request: &Request<SellerBody>) -> Option<Cow<'_, HeaderMap>> {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !safe || !matches!(request.body(), SellerBody::Empty) {
            return None;
        }
        Some(match &self.repeatable.copy {
            Some((kept, _)) => Cow::Borrowed(kept),
            None => Cow::Owned(request.headers().clone()),
        })
    }

    /// The same request without a body.
    fn again(&self, headers: &HeaderMap) -> Request<SellerBody> {
        let mut copy = Request::new(SellerBody::Empty);
        *copy.method_mut() = self.repeatable.method.clone();
        *copy.uri_mut() = self.repeatable.uri.clone();
        *copy.headers_mut() = headers.clone();
        copy
    }
}
