//! 402 → challenge → treasurer → the paid task, or the answer untouched, or a refusal that teaches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, Method, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Proxy;
use super::agent::Caller;
use super::body::{AgentBody, Timed};
use super::connection::Connection;
use super::error;
use super::exchange::{Exchange, Failure, Presence, Seat, Waiting};
use super::headers;
use super::line::Line;
use super::paid::{Again, Paid};
use super::record;
use super::replay::{NotKept, Replay};
use super::server::Open;
use super::target::Target;
use super::upload::Upload;
use super::upstream::Wanted;
use crate::payment::{Challenge, Reason};
use crate::policy::{Context, Refusal, RefusalBody};
use crate::protocol;
use crate::treasurer::{Ask, KeyBuilder};

/// How long the rest of an upload may take after an early 402.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(60);

/// A body of no announced length that says nothing for so long counts as a stream.
const STREAM_SILENCE: Duration = Duration::from_secs(2);

/// What is remembered of a request to a host that could be paid.
pub(super) struct Repeatable {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// `None` where no allow entry could match: nothing was copied.
    pub(super) copy: Option<(HeaderMap, Option<Replay>)>,
    /// What the agent says of it (M3.2); `None` where it says nothing.
    pub(super) context: Option<Box<headers::Said>>,
    pub(super) carries_payment: bool,
    /// What the paid request is to be spoken in.
    pub(super) wanted: Wanted,
    /// The agent's connection has a connection to the seller of its own, which stays HTTP.
    pub(super) own_line: bool,
}

/// A seller's answer of which the body may have been read in part, in search of a challenge.
pub(super) struct Challenged {
    pub(super) head: http::response::Parts,
    pub(super) challenge: Option<Challenge>,
    pub(super) prefix: VecDeque<Bytes>,
    pub(super) rest: Option<Timed>,
}

impl Challenged {
    /// An answer that is not looked into (yet).
    pub(super) fn not(response: Response<Incoming>, idle: Duration) -> Self {
        let (head, body) = response.into_parts();
        Self { head, challenge: None, prefix: VecDeque::new(), rest: Some(Timed::new(body, idle)) }
    }

    /// Back to the agent as it came.
    fn untouched(self) -> Response<AgentBody> {
        let mut response = Response::from_parts(self.head, AgentBody::Prefixed(self.prefix, self.rest));
        headers::clean_response(response.headers_mut());
        response
    }
}

/// Looks for a challenge in a 402, reading at most `limits.challenge` bytes for at most `limits.challenge_time`.
pub(super) async fn read_challenge(proxy: &Proxy, response: Response<Incoming>) -> Challenged {
    let mut answer = Challenged::not(response, proxy.idle);
    let policy = proxy.policy.load_full();
    match protocol::parse_head(&answer.head.headers, policy.assets()) {
        Ok(Some(challenge)) => {
            answer.challenge = Some(challenge);
            return answer;
        }
        Err(error) => {
            tracing::debug!(%error, "a 402 that is not a valid challenge");
            return answer;
        }
        Ok(None) if !protocol::may_be_in_body(&answer.head.headers) => return answer,
        Ok(None) => {}
    }
    if !collect(&mut answer, proxy.limits.challenge, proxy.limits.challenge_time).await {
        return answer;
    }
    let raw: Vec<u8> = answer.prefix.iter().flat_map(|b| b.iter().copied()).collect();
    let encoding = answer.head.headers.get(CONTENT_ENCODING).and_then(|v| v.to_str().ok());
    let Ok(body) = protocol::body::decode(encoding, &raw, proxy.limits.challenge) else { return answer };
    let seen = protocol::Answer { status: answer.head.status.as_u16(), headers: &answer.head.headers, body: &body };
    match protocol::parse(&seen, policy.assets()) {
        Ok(challenge) => answer.challenge = challenge,
        Err(error) => tracing::debug!(%error, "a 402 that is not a valid challenge"),
    }
    answer
}

/// Reads the body into `prefix`. False if it is larger or slower than allowed: what was read stays in front of the rest.
async fn collect(answer: &mut Challenged, limit: usize, time: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + time;
    let mut size = 0;
    loop {
        let Some(body) = answer.rest.as_mut() else { return true };
        match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(None) => answer.rest = None,
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    size += data.len();
                    answer.prefix.push_back(data);
                }
                if size > limit {
                    return false;
                }
            }
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// Answers a request that got a 402.
pub(super) async fn answer(
    conn: &Arc<Connection>,
    caller: &Caller,
    target: &Target,
    request: Repeatable,
    response: Response<Incoming>,
) -> Response<AgentBody> {
    let proxy = &conn.proxy;
    if request.carries_payment {
        // The agent pays by itself: we stand aside.
        return Challenged::not(response, proxy.idle).untouched();
    }
    let mut seller = read_challenge(proxy, response).await;
    let Some(challenge) = seller.challenge.take() else { return seller.untouched() };
    proxy.metrics.challenge(&caller.agent, challenge.protocol);
    let paid = {
        let mut paying = std::pin::pin!(pay(conn, caller, target, request, challenge));
        let mut rest = std::pin::pin!(read_rest(&mut seller));
        let mut reading = true;
        // Read while the payment is made: the connection is then free for the paid request.
        std::future::poll_fn(|cx| {
            reading = reading && rest.as_mut().poll(cx).is_pending();
            paying.as_mut().poll(cx)
        })
        .await
    };
    match paid {
        Ok(response) => {
            discard(seller);
            response
        }
        Err(Failure::Broken(reason)) => ours(conn, error::failure(reason)),
        Err(Failure::Refused(refusal)) => refused(conn, caller, target, &refusal, seller),
    }
}

/// An answer that is not the seller's after all, so neither is the way its names are written.
fn ours(conn: &Connection, answer: Response<AgentBody>) -> Response<AgentBody> {
    conn.unflushed.wire.aside.spell(None);
    answer
}

fn refused(conn: &Connection, caller: &Caller, target: &Target, refusal: &Refusal, seller: Challenged) -> Response<AgentBody> {
    let proxy = &conn.proxy;
    match proxy.policy.load().refusal_body(&caller.agent) {
        RefusalBody::Problem => {
            discard(seller);
            ours(conn, error::refusal(refusal, &target.host.to_string(), proxy.now()))
        }
        RefusalBody::Seller => {
            let mut response = seller.untouched();
            response.headers_mut().append(HeaderName::from_static("proxy-status"), error::refusal_status(refusal));
            response
        }
    }
}

/// What a body may have that is read although nobody wants it: so that its connection can serve the next request.
const SMALL: usize = 64 * 1024;

fn is_small(seller: &Challenged) -> bool {
    seller.head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).is_some_and(|n: usize| n <= SMALL)
}

/// Reads a small body to its end. It stays in front of what is left, for a refusal that passes the seller's own words on.
async fn read_rest(seller: &mut Challenged) {
    if seller.rest.is_some() && is_small(seller) {
        collect(seller, SMALL, Duration::from_secs(1)).await;
    }
}

/// Reads a small body to its end in the background.
fn discard(mut seller: Challenged) {
    if seller.rest.is_some() && is_small(&seller) {
        tokio::spawn(async move { read_rest(&mut seller).await });
    }
}

async fn pay(
    conn: &Arc<Connection>,
    caller: &Caller,
    target: &Target,
    request: Repeatable,
    challenge: Challenge,
) -> Result<Response<AgentBody>, Failure> {
    let proxy = &conn.proxy;
    let started = Instant::now();
    let mut ask = Ask {
        agent: caller.agent.clone(),
        session: caller.session.clone(),
        method: request.method.clone(),
        https: target.https,
        host: target.host.clone(),
        port: target.port,
        path: request.uri.path().to_owned(),
        url: target.url(request.uri.path_and_query().map_or("/", |p| p.as_str())),
        context: context(proxy, request.context.as_deref()),
        key: crate::payment::RequestKey([0; 32]),
        likeness: crate::ledger::Likeness::default(),
    };
    let refuse = |ask: &Ask, refusal: Refusal| {
        record::refusal(ask, &refusal, &proxy.policy.load(), started.elapsed());
        proxy.metrics.refusal(&ask.agent, refusal.reason());
        Failure::Refused(refusal)
    };
    let handover = || Refusal::because(Reason::LedgerHandover);
    let Some((headers, body)) = request.copy.filter(|_| proxy.till().is_some()) else {
        // Nobody here pays now; or no allow entry matches this host, so nothing was kept that could be sent again.
        let refusal = proxy.till().map_or_else(handover, |till| till.treasurer.refuse(&ask, &challenge));
        return Err(refuse(&ask, refusal));
    };
    let gate = |ask: &Ask, reason: Reason| {
        let refusal = Refusal::because(reason);
        proxy.till().iter().for_each(|till| till.treasurer.note(ask, &challenge, &refusal));
        refuse(ask, refusal)
    };
    let body = match finish_upload(body.as_ref()).await {
        Ok(body) => body,
        Err(NotKept::TooLarge) => return Err(gate(&ask, Reason::BodyNotReplayable)),
        Err(NotKept::Open) => return Err(gate(&ask, Reason::BodyOpen)),
        Err(NotKept::Over) => return Err(Failure::Broken(Reason::BodyTooLarge)),
        Err(NotKept::Broken) => return Err(Failure::Broken(Reason::BadRequest)),
    };
    let digest = match body.digest().await {
        Ok(digest) => digest,
        Err(error) => {
            tracing::warn!(%error, "a request body cannot be read back from disk, so the request cannot be paid for");
            return Err(gate(&ask, Reason::BodyNotReplayable));
        }
    };
    let key = KeyBuilder::new(&ask.agent, ask.session.as_ref(), &ask.method, &ask.url);
    (ask.key, ask.likeness) = key.finish(&headers, &digest);
    let names = conn.unflushed.wire.aside.asked();
    let line = if request.own_line { Line::of(conn, (caller.agent.clone(), target.clone())) } else { Line::none() };
    let again = Again { method: request.method, uri: request.uri, headers, body, wanted: request.wanted, names };
    start(conn, ask, challenge, target.clone(), again, line, started).await
}

/// The declared values of what the agent said. Not in the request key (M1.1): another word for the same request buys it no twin.
fn context(proxy: &Proxy, said: Option<&headers::Said>) -> Context {
    said.map_or_else(Context::default, |lines| Context::parse(lines.iter().map(|v| v.as_bytes()), proxy.policy.load().context_keys()))
}

/// The whole body, once the agent has sent it. A body of no announced length that stands still is a stream: its end may never come,
/// and what the agent says next may depend on an answer.
async fn finish_upload(body: Option<&Replay>) -> Result<Upload, NotKept> {
    let Some(body) = body else { return Ok(Upload::default()) };
    let deadline = Instant::now() + UPLOAD_DEADLINE;
    let mut finishing = std::pin::pin!(body.finish());
    loop {
        let before = body.progress();
        match tokio::time::timeout(STREAM_SILENCE, finishing.as_mut()).await {
            Ok(done) => return done,
            Err(_) if Instant::now() >= deadline => return Err(NotKept::Broken),
            Err(_) if body.is_open_ended() && body.progress() == before => return Err(NotKept::Open),
            Err(_) => {}
        }
    }
}

/// Starts the paid task and waits for its answer.
async fn start(
    conn: &Arc<Connection>,
    ask: Ask,
    challenge: Challenge,
    target: Target,
    request: Again,
    line: Line,
    started: Instant,
) -> Result<Response<AgentBody>, Failure> {
    let proxy = &conn.proxy;
    let refuse = |reason| {
        record::refusal(&ask, &Refusal::because(reason), &proxy.policy.load(), started.elapsed());
        proxy.metrics.refusal(&ask.agent, reason);
        Failure::Refused(Refusal::because(reason))
    };
    let live = proxy.live.enter(ask.key, proxy.limits.identical).ok_or_else(|| refuse(Reason::Busy))?;
    // Looked at after the task was counted: who waits for the count to fall misses none that pays.
    let till = proxy.till().ok_or_else(|| refuse(Reason::LedgerHandover))?;
    let exchange = Exchange::new();
    let waiting = Waiting::new(Seat::first(exchange.clone()));
    let (ask, challenge) = (Arc::new(ask), Arc::new(challenge));
    let presence = Arc::new(Presence::new(exchange.clone(), proxy.exchanges.clone(), till.ledger().clone()));
    let paid = Paid { proxy: Arc::clone(proxy), till, ask, challenge, target, request, line, exchange, presence, started };
    // The worker lives as long as the task, whatever becomes of the agent's connection.
    let open = Open::of(&conn.worker);
    tokio::spawn(async move {
        let _counted = (live, open);
        paid.run().await;
    });
    waiting.response(&conn.unflushed).await.map(|response| response.map(AgentBody::Paid))
}
