//! The demo's sellers: x402 version 1 and 2 over plain HTTP on loopback, settling in process.
//!
//! A payment is checked as a facilitator checks it: the terms are the ones offered, and the token moves the money only for
//! a valid signature, an open window, an unused nonce and a sufficient balance. Each challenge and the payment that follows
//! are timed, because that is what paying costs an agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, U256, hex, keccak256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::goods::{GOODS, Good, Trick, Wire};
use super::token::{Call, Token, Transfer};
use crate::{clock, net};

/// USDC on Base Sepolia, a test network: what the sellers want to be paid in.
const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/// The same but for one digit.
const FAKE: &str = "0x036cbd53842c5426634e7929541ec2318f3dcf7f";

/// All sellers of a run, and their books.
#[derive(Debug, Default)]
pub(super) struct Market {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Token,
    /// When a challenge was given, by path and query.
    asked: HashMap<String, Instant>,
    /// From a challenge to the payment for it.
    waits: Vec<Duration>,
}

impl Market {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the buyer money to begin with.
    pub(super) fn fund(&self, account: Address, value: U256) {
        self.state().token.fund(account, value);
    }

    pub(super) fn balance(&self, account: Address) -> U256 {
        self.state().token.balance(account)
    }

    /// Everything that was paid so far.
    pub(super) fn transfers(&self) -> Vec<Transfer> {
        self.state().token.transfers().to_vec()
    }

    /// How long each payment took to come, after its challenge.
    pub(super) fn waits(&self) -> Vec<Duration> {
        self.state().waits.clone()
    }

    /// Answers on `listener` until `shutdown` is ready.
    pub(super) async fn serve(self: Arc<Self>, listener: tokio::net::TcpListener, shutdown: impl Future) {
        let handler: net::Handler = Arc::new(move |request| {
            let market = self.clone();
            Box::pin(async move { market.answer(&request) })
        });
        net::serve(listener, handler, shutdown).await;
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if request.uri().path() == "/free" {
            return reply(StatusCode::OK, &json!({ "price": "nothing" }));
        }
        let Some(good) = GOODS.iter().find(|g| g.path == request.uri().path()) else {
            return reply(StatusCode::NOT_FOUND, &json!({ "error": "not sold here" }));
        };
        let offer = offer(good, request);
        let address = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        let Some(header) = request.headers().get(good.wire.payment()) else {
            self.state().asked.insert(address, Instant::now());
            return challenge(good, &offer, "payment required");
        };
        let mut state = self.state();
        if let Some(asked) = state.asked.remove(&address) {
            state.waits.push(asked.elapsed());
        }
        let Some(call) = read(header, good, &offer) else { return challenge(good, &offer, "invalid_payload") };
        let now = u64::try_from(clock::read().wall.secs()).unwrap_or(0);
        match state.token.transfer(&call, now) {
            Ok(transfer) => deliver(good, &transfer),
            Err(rejected) => challenge(good, &offer, rejected.code()),
        }
    }
}

/// Where a seller listens: a host of its own for the one that the policy does not know.
pub(super) const fn hosts() -> [SocketAddr; 2] {
    use std::net::{IpAddr, Ipv4Addr};
    [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0)]
}

impl Wire {
    const fn payment(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::V1 => "x-payment",
            Self::V2 => "payment-signature",
        })
    }

    const fn receipt(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::V1 => "x-payment-response",
            Self::V2 => "payment-response",
        })
    }

    const fn network(self) -> &'static str {
        match self {
            Self::V1 => "base-sepolia",
            Self::V2 => "eip155:84532",
        }
    }
}

/// The entry of `accepts`.
fn offer(good: &Good, request: &Request<Bytes>) -> Value {
    let mut offer = json!({
        "scheme": "exact",
        "network": good.wire.network(),
        "payTo": good.payee().to_string(),
        "maxTimeoutSeconds": 60,
        "asset": if good.trick == Trick::FakeToken { FAKE } else { USDC },
        "extra": { "name": "USDC", "version": "2" },
    });
    let price = good.atomic().to_string();
    match good.wire {
        Wire::V1 => {
            offer["maxAmountRequired"] = price.into();
            offer["resource"] = request.uri().to_string().into();
            offer["description"] = good.item.into();
            offer["mimeType"] = "application/json".into();
        }
        Wire::V2 => offer["amount"] = price.into(),
    }
    offer
}

fn challenge(good: &Good, offer: &Value, error: &str) -> Response<Bytes> {
    match good.wire {
        Wire::V1 => reply(StatusCode::PAYMENT_REQUIRED, &json!({ "x402Version": 1, "error": error, "accepts": [offer] })),
        Wire::V2 => {
            let resource = json!({ "url": good.path, "description": good.item, "mimeType": "application/json" });
            let document = json!({ "x402Version": 2, "error": error, "resource": resource, "accepts": [offer] });
            let mut response = reply(StatusCode::PAYMENT_REQUIRED, &json!({}));
            put(&mut response, HeaderName::from_static("payment-required"), &document);
            response
        }
    }
}

fn deliver(good: &Good, transfer: &Transfer) -> Response<Bytes> {
    if good.trick == Trick::Crash {
        return reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "sorry" }));
    }
    let transaction = keccak256(transfer.nonce).to_string();
    let receipt =
        json!({ "success": true, "transaction": transaction, "network": good.wire.network(), "payer": transfer.from.to_string() });
    let mut response = reply(StatusCode::OK, &json!({ "seller": good.seller, "item": good.item }));
    put(&mut response, good.wire.receipt(), &receipt);
    response
}

fn reply(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn put(response: &mut Response<Bytes>, name: HeaderName, document: &Value) {
    if let Ok(value) = HeaderValue::try_from(STANDARD.encode(document.to_string())) {
        response.headers_mut().insert(name, value);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    x402_version: u8,
    scheme: Option<String>,
    network: Option<String>,
    accepted: Option<Value>,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    authorization: Authorization,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

/// The payment, if it is for exactly these terms.
fn read(header: &HeaderValue, good: &Good, offer: &Value) -> Option<Call> {
    let payment: Payment = serde_json::from_slice(&STANDARD.decode(header.as_bytes()).ok()?).ok()?;
    let fits = match good.wire {
        Wire::V1 => {
            payment.x402_version == 1
                && payment.scheme.as_deref() == Some("exact")
                && payment.network.as_deref() == Some(good.wire.network())
        }
        Wire::V2 => payment.x402_version == 2 && payment.accepted.as_ref() == Some(offer),
    };
    let Authorization { from, to, value, valid_after, valid_before, nonce } = payment.payload.authorization;
    let number = |text: &str| U256::from_str_radix(text, 10).ok();
    let call = Call {
        from: from.parse().ok()?,
        to: to.parse().ok()?,
        value: number(&value)?,
        valid_after: number(&valid_after)?,
        valid_before: number(&valid_before)?,
        nonce: nonce.parse().ok()?,
        signature: hex::decode(payment.payload.signature).ok()?,
    };
    (fits && call.to == good.payee() && call.value == good.atomic()).then_some(call)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::goods::{RECORDS, WEATHER};
    use super::*;
    use crate::payment::AssetTable;
    use crate::protocol::{Answer, parse};

    fn ask(market: &Market, good: &Good, header: Option<&str>) -> Response<Bytes> {
        let mut request = Request::get(format!("http://127.0.0.1{}?n=1", good.path)).body(Bytes::new()).unwrap();
        if let Some(header) = header {
            request.headers_mut().insert(good.wire.payment(), HeaderValue::from_str(header).unwrap());
        }
        market.answer(&request)
    }

    #[test]
    fn both_versions_of_a_challenge_are_valid_x402() {
        for good in [WEATHER, RECORDS] {
            let response = ask(&Market::default(), &good, None);
            let answer = Answer { status: 402, headers: response.headers(), body: response.body() };
            let challenge = parse(&answer, &AssetTable::shipped()).unwrap().unwrap();
            assert_eq!(challenge.offers.len(), 1, "{}: {:?}", good.seller, challenge.rejected);
            assert_eq!(challenge.offers[0].price, good.price());
        }
    }

    #[test]
    fn a_payment_that_is_not_for_the_offered_terms_moves_nothing() {
        let market = Market::default();
        for good in [WEATHER, RECORDS] {
            for header in ["", "e30=", "!!!!"] {
                assert_eq!(ask(&market, &good, Some(header)).status(), 402, "{header}");
            }
        }
        assert!(market.transfers().is_empty());
    }
}
