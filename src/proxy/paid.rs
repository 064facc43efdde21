//! The paid task: from a parsed challenge to a recorded outcome.
//!
//! It owns the purchase and the upstream exchange to the end of the body. The agent's connection only reads from it, so a
//! hang-up cancels nothing that was paid for, and drain can wait for it. Decision, hold and signature are made on the money
//! runtime; the task itself runs on the worker of the agent's connection, so that no answer crosses threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::Proxy;
use super::body::{SellerBody, Timed};
use super::error;
use super::exchange::{Exchange, Failure, Head, Presence};
use super::headers;
use super::io::Manner;
use super::line::Line;
use super::paywall::{Challenged, read_challenge};
use super::record;
use super::strict::Names;
use super::target::{Target, resolve_location};
use super::till::Till;
use super::upload::Upload;
use super::upstream::{SendError, Wanted};
use crate::ledger::{Commitment, Outcome};
use crate::metrics::PaymentOutcome;
use crate::payment::{Challenge, Offer, Reason};
use crate::policy::Refusal;
use crate::protocol;
use crate::treasurer::{Answered, Ask, Payment, Ticket, judge};

/// A request that can be sent again.
pub(super) struct Again {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Upload,
    pub(super) wanted: Wanted,
    /// How the agent wrote the names.
    pub(super) names: Option<Names>,
}

/// One challenged request with all that is needed to pay for it.
pub(super) struct Paid {
    pub(super) proxy: Arc<Proxy>,
    pub(super) till: Arc<Till>,
    pub(super) ask: Arc<Ask>,
    pub(super) challenge: Arc<Challenge>,
    pub(super) target: Target,
    pub(super) request: Again,
    /// The connection that the challenge came on.
    pub(super) line: Line,
    pub(super) exchange: Arc<Exchange>,
    /// Who waits for the exchange, as the treasurer sees it.
    pub(super) presence: Arc<Presence>,
    /// When the challenge came.
    pub(super) started: Instant,
}

/// An answer, and how its names are written.
type Sent = (Response<Incoming>, Option<Names>);

/// An identical exchange that can no longer be read from its start ends within moments; this is how long to wait for it.
const ATTACH_TRIES: usize = 100;
const ATTACH_PAUSE: Duration = Duration::from_millis(50);

impl Paid {
    /// Runs the whole exchange; every way out tells the waiter, the log and the metrics.
    pub(super) async fn run(mut self) {
        for _ in 0..ATTACH_TRIES {
            match self.obtain().await {
                Err(refusal) => return self.refuse(refusal),
                Ok(Ticket::Pay(payment)) => return self.pay(*payment).await,
                Ok(Ticket::Kept(commitment)) if self.is_stale(&commitment) => self.write_off(*commitment),
                Ok(Ticket::Kept(commitment)) => return self.deliver_kept(*commitment).await,
                Ok(Ticket::Join(id)) => {
                    if let Some(seat) = self.proxy.exchanges.attach(&id) {
                        if !self.exchange.hand_over(&seat) {
                            seat.leave();
                        }
                        return;
                    }
                    self.till.ledger().waiter_gone(&id);
                    tokio::time::sleep(ATTACH_PAUSE).await;
                }
            }
        }
        let refusal = Refusal::because(Reason::Busy);
        self.till.treasurer.note(&self.ask, &self.challenge, &refusal);
        self.refuse(refusal);
    }

    /// Decision, hold and signature, on the money runtime. What it began it ends there, even if this task is gone.
    async fn obtain(&self) -> Result<Ticket, Refusal> {
        let (till, presence) = (self.till.clone(), self.presence.clone());
        let (ask, challenge) = (self.ask.clone(), self.challenge.clone());
        let obtaining = async move { till.treasurer.obtain(&ask, &challenge, &*presence).await };
        self.proxy.money.spawn(obtaining).await.unwrap_or_else(|_| Err(Refusal::because(Reason::Internal)))
    }

    fn refuse(&self, refusal: Refusal) {
        record::refusal(&self.ask, &refusal, &self.proxy.policy.load(), self.started.elapsed());
        self.proxy.metrics.refusal(&self.ask.agent, refusal.reason());
        self.exchange.fail(Failure::Refused(refusal));
    }

    async fn pay(&mut self, payment: Payment) {
        let Payment { mut commitment, credential, offer, again, unheard } = payment;
        self.presence.keeps(commitment.purchase().id);
        // Counted once per purchase, whatever becomes of it later: the ledger has its present state.
        if unheard {
            self.proxy.metrics.spend(&self.ask.agent, offer.asset.id.chain, &offer.asset.symbol, commitment.purchase().held);
        }
        match self.send(&mut commitment, credential).await {
            Ok((response, names)) => self.receive(commitment, &offer, (again, unheard), response, names).await,
            Err(reason) => {
                commitment.outcome(Outcome::Open, None);
                self.till.treasurer.failed(&self.ask);
                self.conclude(&commitment, &offer, Outcome::Open, unheard, Some(reason));
                self.presence.end();
                // An orphan before the agent hears of it: one that repeats at once must find this purchase, not buy anew.
                drop(commitment);
                self.exchange.fail(Failure::Broken(reason));
            }
        }
    }

    /// Sends once more, with the payment and without following redirects: on the connection that the challenge came on, if that
    /// is certainly free, else on a new one.
    async fn send(&mut self, commitment: &mut Commitment, credential: (HeaderName, HeaderValue)) -> Result<Sent, Reason> {
        let (mut sender, mut free) = match self.line.take(self.started) {
            Some(sender) => (sender, true),
            None => (self.proxy.dialer.http(&self.target, self.request.wanted).await?, false),
        };
        // It leaves with this request, so that its room is free again once it is written.
        let body = std::mem::take(&mut self.request.body);
        let body = if body.is_empty() { SellerBody::Empty } else { SellerBody::Kept(Box::new(body)) };
        let mut request = Request::new(body);
        *request.method_mut() = self.request.method.clone();
        *request.uri_mut() = self.request.uri.clone();
        *request.headers_mut() = self.request.headers.clone();
        request.headers_mut().insert(credential.0, credential.1);
        let mut request = Some(request);
        commitment.sent();
        // Interim answers to it are not passed on: whoever reads may be another request than the one that waits now.
        let manner = Manner { names: self.request.names.take(), early: None };
        loop {
            let answer = self.proxy.dialer.exchange(&mut sender, &self.target, &mut request, None, Instant::now(), manner.clone());
            match crate::failpoint::after_start("first_byte_sent", answer).await {
                Ok(response) => {
                    let names = sender.names();
                    self.line.put_back(sender);
                    return Ok((response, names));
                }
                // Not a byte of it has left: it ended in the moment between.
                Err(SendError::NotSent(unsent)) if std::mem::take(&mut free) => {
                    sender = self.proxy.dialer.http(&self.target, self.request.wanted).await?;
                    request = Some(*unsent);
                }
                Err(SendError::NotSent(_)) => return Err(Reason::UpstreamClosed),
                Err(SendError::Failed(reason)) => return Err(reason),
            }
        }
    }

    async fn receive(
        &self,
        mut commitment: Commitment,
        offer: &Offer,
        (again, unheard): (bool, bool),
        mut response: Response<Incoming>,
        names: Option<Names>,
    ) {
        crate::failpoint!("headers_received");
        let receipt = protocol::receipt(offer.protocol, response.headers());
        let switched = (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| response.extensions_mut().remove::<OnUpgrade>());
        let challenged =
            if response.status() == 402 { read_challenge(&self.proxy, response).await } else { Challenged::not(response, self.proxy.idle) };
        let said = challenged.challenge.as_ref().and_then(|c| c.error.as_ref());
        let (now, hold) = (self.till.treasurer.now().now, commitment.purchase().repeats.lost_hold);
        let answered = Answered { status: challenged.head.status, receipt: receipt.as_ref(), error: said, flow: offer.flow, again };
        let mut outcome = judge(&answered, now, hold);
        self.follow_location(&challenged.head, now);
        // Recorded before the agent sees a byte: after a crash the purchase is known to have been answered.
        commitment.outcome(outcome, receipt.and_then(|r| r.transaction));
        let mut head = Head { names, ..Head::from(&challenged.head) };
        match switched {
            // Cleaned where the two ends are joined.
            Some(seller) => seller.into_iter().for_each(|seller| self.exchange.upgraded(seller)),
            None => headers::clean_response(&mut head.headers),
        }
        let good = head.status.as_u16() < 400;
        let unserved = (head.status == 402).then_some(Reason::NotAcceptedBySeller);
        if let Some(reason) = unserved {
            // The seller's own words, and beside them that this was not for want of paying.
            head.headers.append(HeaderName::from_static("proxy-status"), error::proxy_status(reason, None, crate::policy::By::Policy));
        }
        if !good {
            // A final answer of 400 and above leaves an orphan (M1.1), and an agent that repeats at once must find it: it
            // joins until this exchange is over.
            commitment.waiter(false);
        }
        self.exchange.answer(head);
        let complete = self.stream(challenged.prefix, challenged.rest).await;
        if !good || (!complete && self.exchange.wanted()) {
            // An agent that hung up is not the seller's fault.
            self.till.treasurer.failed(&self.ask);
        }
        if good && !complete {
            // Before the agent sees the cut, for the same reason.
            outcome = self.lose(&mut commitment);
        }
        self.exchange.finish(complete);
        self.conclude(&commitment, offer, outcome, unheard, unserved);
        self.hand_out(commitment, good && complete).await;
    }

    /// The purchase chain goes on where a paid answer points (M1.7).
    fn follow_location(&self, head: &http::response::Parts, now: crate::payment::Timestamp) {
        if !head.status.is_redirection() {
            return;
        }
        if let Some(to) = head.headers.get(LOCATION).and_then(|v| v.to_str().ok()).and_then(|l| resolve_location(&self.ask.url, l)) {
            self.till.treasurer.redirects().paid(&self.ask, to, now);
        }
    }

    /// Tells signer, metrics and log how the exchange ended. The ledger has it already.
    fn conclude(&self, commitment: &Commitment, offer: &Offer, outcome: Outcome, unheard: bool, reason: Option<Reason>) {
        let label = match outcome {
            Outcome::Settled => PaymentOutcome::Settled,
            Outcome::Open => PaymentOutcome::Open,
            Outcome::Lost { .. } => PaymentOutcome::Lost,
        };
        if unheard {
            self.proxy.metrics.payment(&self.ask.agent, offer.protocol, offer.asset.id.chain, label);
        }
        self.proxy.metrics.paid_request(&self.ask.agent, self.started.elapsed());
        record::payment(&self.ask, commitment.purchase(), label, reason, self.started.elapsed());
        if self.till.signer.listens() {
            let (signer, id) = (self.till.signer.clone(), commitment.purchase().id);
            self.proxy.money.spawn(async move { signer.settle(id, outcome).await });
        }
    }

    /// Settled, and the answer is gone (M1.6).
    fn lose(&self, commitment: &mut Commitment) -> Outcome {
        let hold = i64::try_from(commitment.purchase().repeats.lost_hold.as_millis()).unwrap_or(i64::MAX);
        let outcome = Outcome::Lost { until: self.till.treasurer.now().now.plus_millis(hold) };
        let tx = commitment.purchase().claimed_tx.clone();
        commitment.outcome(outcome, tx);
        tracing::warn!(purchase = %commitment.purchase().id, agent = %self.ask.agent, host = %self.ask.host, "paid, but the answer is lost");
        outcome
    }

    /// Feeds the waiter. True if the body came to its end; the caller says so to the exchange.
    async fn stream(&self, prefix: VecDeque<Bytes>, rest: Option<Timed>) -> bool {
        let mut wanted = true;
        for chunk in prefix {
            wanted &= self.exchange.push(chunk).await;
        }
        let Some(mut body) = rest else { return wanted };
        while wanted {
            match body.frame().await {
                None => return true,
                Some(Err(_)) => break,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        wanted = self.exchange.push(data).await;
                        crate::failpoint!("half_body");
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.exchange.trailers(trailers);
                        }
                    }
                },
            }
        }
        false
    }

    /// Waits for the waiter, or for the next identical request, or keeps the answer and leaves an orphan.
    async fn hand_out(&self, mut commitment: Commitment, deliverable: bool) {
        let id = commitment.purchase().id;
        loop {
            if self.exchange.settled().await {
                self.presence.end();
                if deliverable {
                    self.till.treasurer.consumed(commitment);
                }
                return;
            }
            if self.exchange.retire() {
                break;
            }
        }
        self.presence.end();
        if !deliverable {
            return;
        }
        let kept = match self.exchange.whole() {
            Some((head, chunks)) => {
                let (till, request) = (self.till.clone(), self.request.headers.clone());
                tokio::task::spawn_blocking(move || till.kept.put(id, head, chunks, &request)).await.is_ok_and(|r| r.is_ok())
            }
            None => false,
        };
        if !kept {
            self.lose(&mut commitment);
        }
    }

    /// An answer this old is no answer to the question asked now; it may be bought anew (M1.6).
    fn is_stale(&self, commitment: &Commitment) -> bool {
        let hold = i64::try_from(commitment.purchase().repeats.lost_hold.as_millis()).unwrap_or(i64::MAX);
        self.till.treasurer.now().now >= commitment.purchase().at.plus_millis(hold)
    }

    fn write_off(&self, mut commitment: Commitment) {
        let (id, tx) = (commitment.purchase().id, commitment.purchase().claimed_tx.clone());
        self.till.kept.forget(&id);
        commitment.outcome(Outcome::Lost { until: self.till.treasurer.now().now }, tx);
    }

    /// An answer that was paid for earlier and never delivered.
    async fn deliver_kept(&self, mut commitment: Commitment) {
        let id = commitment.purchase().id;
        let (till, request) = (self.till.clone(), self.request.headers.clone());
        let found = tokio::task::spawn_blocking(move || till.kept.take(&id, &request)).await.ok().flatten();
        let Some((head, chunks)) = found else {
            let Outcome::Lost { until } = self.lose(&mut commitment) else { return };
            let mut refusal = Refusal::because(Reason::PaidNotDelivered);
            if let Some(v) = refusal.violations.first_mut() {
                v.amount = Some(commitment.purchase().held);
                v.resets_at = Some(until);
            }
            drop(commitment);
            self.till.treasurer.note(&self.ask, &self.challenge, &refusal);
            return self.refuse(refusal);
        };
        self.presence.keeps(commitment.purchase().id);
        self.exchange.answer(head);
        let complete = self.stream(chunks.into(), None).await;
        self.exchange.finish(complete);
        self.hand_out(commitment, complete).await;
    }
}
