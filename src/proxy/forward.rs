//! The unpaid path: normalise, send, stream back. Only a 402 leaves it.

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
use super::io::{Early, Manner};
use super::paywall::{self, Repeatable};
use super::pool::Route;
use super::reach;
use super::replay::Replay;
use super::target::{Place, Target, host_target, resolve_location};
use super::upgrade::{self, Switching};
use super::upstream::{SendError, Sender, Wanted};
use super::{connect, error, headers, information, shape};
use crate::payment::Reason;
use crate::protocol;
use crate::treasurer::Treasurer;

/// A request with which everything is done that waits for nothing. Small: it is part of what every request allocates.
pub(super) enum Begun {
    /// To be sent on.
    Leg(Box<Leg>),
    /// The answer is there.
    Answered(Box<Response<AgentBody>>),
    /// CONNECT.
    Opening(Pin<Box<dyn Future<Output = Response<AgentBody>> + Send>>),
}

/// The first part of answering one request of an agent's connection. Never fails: a failure is an answer too.
pub(super) fn begin(conn: &Arc<Connection>, request: Request<Incoming>, caller: Result<Caller, Reason>) -> Begun {
    let answered = |response| Begun::Answered(Box::new(response));
    if request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none() {
        // A tunnel inside a tunnel would lead past what the outer one decided.
        if conn.inside.is_some() {
            return answered(error::failure(Reason::BadRequest));
        }
        let conn = conn.clone();
        return Begun::Opening(Box::pin(async move { connect::serve(&conn, request, caller).await }));
    }
    if information::is_asked(conn, &request) {
        return answered(information::answer(conn, request.method(), request.uri().path(), caller));
    }
    match prepare(conn, request, caller) {
        Ok(leg) => Begun::Leg(leg),
        Err(reason) => answered(error::failure(reason)),
    }
}

/// The rest of it.
pub(super) async fn finish(conn: &Arc<Connection>, begun: Begun) -> Response<AgentBody> {
    match begun {
        Begun::Leg(mut leg) => forward(conn, &mut leg).await,
        Begun::Answered(response) => *response,
        Begun::Opening(opening) => opening.await,
    }
}

/// A request in the form in which it is forwarded, and what was found out about it before. There is one of it, and it is lent:
/// whatever a step takes by value is once more in the state that every request allocates.
pub(super) struct Leg {
    caller: Caller,
    place: Place,
    /// Until it is sent.
    request: Option<Request<SellerBody>>,
    /// Until somebody pays with it.
    repeatable: Option<Repeatable>,
    wanted: Wanted,
    switching: Option<Switching>,
    progress: Option<Arc<Progress>>,
    /// The agent speaks HTTP/1.1, and so understands interim answers.
    interim: bool,
    arrived: Instant,
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

/// Who asks, what for, and whether it could be paid for. Inside a tunnel the first two were decided when it was opened.
fn route(conn: &Connection, request: &Request<Incoming>, caller: Result<Caller, Reason>) -> Result<(Caller, Place, bool), Reason> {
    let place = match conn.inside.as_ref().map(|inside| &inside.towards) {
        None => conn.place(|last| Place::absolute(request.uri(), last))?,
        Some(Towards::Fixed(target)) => conn.place(|last| last.map_or_else(|| Place::new(target.clone()), |last| Ok(last.clone())))?,
        Some(Towards::Host { port }) => Place::new(host_target(request.uri(), request.headers(), *port)?)?,
    };
    if conn.inside.is_some() {
        place.check_inner(request.uri(), request.headers())?;
    }
    let caller = caller?;
    let payable = conn.permitted(&caller, &place.target)?;
    Ok((caller, place, payable))
}

/// All that is done before something is waited for.
fn prepare(conn: &Connection, mut request: Request<Incoming>, caller: Result<Caller, Reason>) -> Result<Box<Leg>, Reason> {
    let (caller, place, payable) = route(conn, &request, caller)?;
    if headers::is_loop(request.headers(), &conn.proxy.pseudonym) {
        return Err(Reason::Loop);
    }
    let carries_payment = protocol::carries_payment(request.headers());
    let switching = upgrade::take(&mut request);
    let wanted = if switching.is_some() { Wanted::Upgrade } else { wanted(conn, &request) };
    let interim = request.version() == Version::HTTP_11;
    let context = origin_form(conn, &mut request, &place);
    let arrived = Instant::now();
    let own_line = wanted == Wanted::Http1 && switching.is_none();
    let mut repeatable =
        Repeatable { method: request.method().clone(), uri: request.uri().clone(), copy: None, context, carries_payment, wanted, own_line };
    let bodiless = switching.is_some() || request.body().is_end_stream();
    let progress = (!bodiless).then(|| Arc::new(Progress::new(conn.proxy.limits.body)));
    let copy = payable.then(|| request.headers().clone());
    let mut replay = None;
    let request = request.map(|body| match &progress {
        None => SellerBody::Empty,
        Some(moved) if payable => {
            let kept = Replay::new(body, conn.proxy.replay_limit, conn.proxy.replay_budget.clone(), moved.clone());
            SellerBody::Tee(replay.insert(kept).tee())
        }
        Some(moved) => SellerBody::Agent(body, moved.clone()),
    });
    repeatable.copy = copy.map(|headers| (headers, replay));
    Ok(Box::new(Leg { caller, place, request: Some(request), repeatable: Some(repeatable), wanted, switching, progress, interim, arrived }))
}

/// Origin-form, one Host from the target, no hop-by-hop fields. What the agent says of its request, for us alone.
fn origin_form(conn: &Connection, request: &mut Request<Incoming>, place: &Place) -> Option<Box<headers::Said>> {
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let many = request.version() == Version::HTTP_2;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let context = headers::clean_request(headers, if many { &conn.proxy.via.http2 } else { &conn.proxy.via.http1 });
    if many {
        shape::join_cookies(headers);
    }
    if !headers.get_all(HOST).iter().eq([&place.host]) {
        headers.insert(HOST, place.host.clone());
    }
    context
}

async fn forward(conn: &Arc<Connection>, leg: &mut Leg) -> Response<AgentBody> {
    let (mut response, added) = match exchange(conn, leg).await {
        Ok(done) => done,
        Err(reason) => {
            // A body that broke off because of its framing is the agent's fault.
            let response = error::failure(conn.unflushed.wire.refusal().unwrap_or(reason));
            leg.caller.metrics.request(response.status().as_u16());
            return response;
        }
    };
    // A message carries the version of who sends it (RFC 9110 §2.5): a seller's 1.0 must not end the agent's connection.
    *response.version_mut() = Version::HTTP_11;
    let mut response = match (response.status(), leg.repeatable.take()) {
        // Its headers are the agent's business as they are.
        (StatusCode::SWITCHING_PROTOCOLS, _) => response.map(|_| AgentBody::Empty),
        (StatusCode::PAYMENT_REQUIRED, Some(repeatable)) => {
            Box::pin(paywall::answer(conn, &leg.caller, &leg.place.target, repeatable, response)).await
        }
        (_, repeatable) => pass(conn, leg, repeatable, response),
    };
    // Paid for or not.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response = upgrade::finish(conn, &leg.caller, leg.switching.take(), response);
    }
    leg.caller.metrics.request(response.status().as_u16());
    leg.caller.metrics.overhead(added);
    response
}

/// The answer as it goes to the agent.
fn pass(conn: &Connection, leg: &Leg, repeatable: Option<Repeatable>, response: Response<Incoming>) -> Response<AgentBody> {
    if response.status().is_redirection()
        && let Some(till) = conn.proxy.till().filter(|till| till.treasurer.redirects().any())
        && let Some(request) = repeatable
    {
        follow_free_hop(&till.treasurer, &leg.caller, &leg.place.target, &request.uri, &response);
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

/// Sends on a kept or a new connection. Sent again, once and on a new one: a request that was never sent, and a safe request
/// without a body whose kept connection ended before an answer (RFC 9110 §9.2.2). A seller may close a kept connection at the
/// very moment it is used again, and an agent must not pay for our keeping it.
async fn exchange(conn: &Arc<Connection>, leg: &mut Leg) -> Result<(Response<Incoming>, Duration), Reason> {
    let key = (leg.caller.agent.clone(), leg.place.target.clone());
    let mut waited = Duration::ZERO;
    let mut kept = take_ready(conn, &key, leg.wanted).await?;
    // One place that sends, for the first time and the second: its state is most of what a request takes.
    loop {
        let spare = kept.as_ref().and_then(|_| leg.spare());
        let (first, sent) = (kept.is_some(), Instant::now());
        let mut sender = match kept.take() {
            Some(sender) => sender,
            None => open(conn, &key, leg.wanted).await?,
        };
        let manner = leg.manner(conn);
        let result = conn.proxy.dialer.exchange(&mut sender, &key.1, &mut leg.request, leg.progress.as_deref(), sent, manner).await;
        leg.request = match (result, spare) {
            (Ok(response), _) => {
                conn.unflushed.wire.aside.spell(sender.names());
                // What is not waiting for the seller is ours.
                let added = sent.duration_since(leg.arrived).saturating_sub(waited);
                if leg.switching.is_none() {
                    keep(conn, key, leg.wanted, sender);
                }
                return Ok((response, added));
            }
            (Err(SendError::NotSent(unsent)), _) if first => Some(*unsent),
            (Err(SendError::Failed(Reason::UpstreamClosed)), Some(again)) => leg.again(again),
            (Err(SendError::NotSent(_)), _) => return Err(Reason::UpstreamClosed),
            (Err(SendError::Failed(reason)), _) => return Err(reason),
        };
        conn.worker.pool.forget(&key);
        waited += sent.elapsed();
    }
}

/// A new connection, or the one that all requests share. Boxed: rare beside a request, and it takes much more state.
fn open<'a>(conn: &'a Connection, key: &'a Route, wanted: Wanted) -> Pin<Box<dyn Future<Output = Result<Sender, Reason>> + Send + 'a>> {
    let dialer = &conn.proxy.dialer;
    match wanted {
        Wanted::Http1 | Wanted::Upgrade => Box::pin(dialer.http(&key.1, wanted)),
        wanted => Box::pin(conn.worker.pool.shared(dialer, key, wanted)),
    }
}

/// A connection that was used before, if there is one.
async fn take_ready(conn: &Connection, key: &Route, wanted: Wanted) -> Result<Option<Sender>, Reason> {
    let pool = &conn.worker.pool;
    if !wanted.is_single() {
        return Ok(Box::pin(pool.open(key)).await);
    }
    if let Some(mut sender) = conn.unpin(key) {
        // The previous answer was passed on whole, so this is at most a turn of the connection's task.
        if sender.ready().await.is_ok() {
            return Ok(Some(sender));
        }
    }
    if let Some(coming) = conn.coming.take() {
        // Used as a kept one is: it may have waited for long.
        return match Box::pin(reach::arrival(coming)).await {
            // HTTP/2 alone is no reason not to upgrade.
            Err(_) if wanted == Wanted::Upgrade => Ok(None),
            arrived => arrived,
        };
    }
    Ok(pool.take(key))
}

/// Leaves the connection where the next request finds it.
fn keep(conn: &Arc<Connection>, key: Route, wanted: Wanted, mut sender: Sender) {
    match (wanted, &mut sender) {
        (Wanted::Http1 | Wanted::Upgrade, Sender::Http1(_)) => conn.pin(key, sender),
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

/// What it takes to send a request a second time without asking.
enum Spare {
    /// Its headers are kept already.
    Kept,
    Copied(HeaderMap),
}

impl Leg {
    /// What goes with the request. Before a 402 that may be paid here, only hints reach the agent: it never sees that answer.
    fn manner(&self, conn: &Connection) -> Manner {
        let early = self.interim.then(|| Early {
            to: conn.unflushed.clone(),
            request: conn.unflushed.wire.serving(),
            hints: self.repeatable.as_ref().is_some_and(|r| r.copy.is_some() && !r.carries_payment),
        });
        Manner { names: conn.unflushed.wire.aside.asked(), early }
    }

    fn spare(&self) -> Option<Spare> {
        let request = self.request.as_ref()?;
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !safe || !matches!(request.body(), SellerBody::Empty) {
            return None;
        }
        let kept = self.repeatable.as_ref().is_some_and(|r| r.copy.is_some());
        Some(if kept { Spare::Kept } else { Spare::Copied(request.headers().clone()) })
    }

    /// The same request, without a body.
    fn again(&self, spare: Spare) -> Option<Request<SellerBody>> {
        let repeatable = self.repeatable.as_ref()?;
        let mut request = Request::new(SellerBody::Empty);
        *request.method_mut() = repeatable.method.clone();
        *request.uri_mut() = repeatable.uri.clone();
        *request.headers_mut() = match (spare, &repeatable.copy) {
            (Spare::Copied(headers), _) => headers,
            (Spare::Kept, Some((headers, _))) => headers.clone(),
            (Spare::Kept, None) => return None,
        };
        Some(request)
    }
}
