//! An x402 seller that checks payments as a facilitator does and settles them on a [`Chain`]. Written apart from the
//! code under test: own decoding, own EIP-712 type.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, Signature, U256, address, hex};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::chain::Chain;
use super::seller::{Call, Next};
use super::wire::Head;

sol! {
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }
}

/// USDC on Base Sepolia.
pub(crate) const USDC: Address = address!("036CbD53842c5426634e7929541eC2318f3dCF7e");
const CHAIN_ID: u64 = 84532;

/// Version of the protocol a seller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum X402 {
    V1,
    V2,
    /// Both at once, as sellers in transition do.
    Both,
}

/// What a seller asks for.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) version: X402,
    /// Entries of `accepts` as they are written, v2 or v1 by `version` (`Both`: v2, translated for the body).
    pub(crate) accepts: Vec<Value>,
    /// The `error` member.
    pub(crate) error: String,
    /// Further header lines of the 402, each with CRLF.
    pub(crate) headers: String,
    /// Body of a v2 402.
    pub(crate) body: String,
}

impl Terms {
    /// One entry: `atomic` units of USDC on Base Sepolia to `payee`, version 2.
    pub(crate) fn v2(payee: Address, atomic: u64) -> Self {
        let entry = Self::entry(payee, &atomic.to_string());
        Self { version: X402::V2, accepts: vec![entry], error: "Payment required".into(), headers: String::new(), body: "{}".into() }
    }

    /// The same in version 1.
    pub(crate) fn v1(payee: Address, atomic: u64) -> Self {
        let mut terms = Self::v2(payee, atomic);
        terms.version = X402::V1;
        terms.accepts = terms.accepts.iter().map(to_v1).collect();
        terms
    }

    /// A well-formed v2 entry.
    pub(crate) fn entry(payee: Address, amount: &str) -> Value {
        json!({
            "scheme": "exact",
            "network": format!("eip155:{CHAIN_ID}"),
            "amount": amount,
            "asset": USDC.to_string(),
            "payTo": payee.to_string(),
            "maxTimeoutSeconds": 60,
            "extra": { "name": "USDC", "version": "2" },
        })
    }

    pub(crate) fn with_error(mut self, error: &str) -> Self {
        self.error = error.into();
        self
    }

    /// Version 2, as the JSON of the header.
    pub(crate) fn json(&self) -> Value {
        json!({ "x402Version": 2, "error": self.error, "resource": { "url": "http://seller.example/", "description": "a thing" }, "accepts": self.accepts })
    }

    /// Head lines and body of the 402.
    pub(crate) fn answer(&self) -> (String, String) {
        let v1 = |accepts: &Value| json!({ "x402Version": 1, "error": self.error, "accepts": accepts }).to_string();
        let header = || format!("PAYMENT-REQUIRED: {}\r\n{}", STANDARD.encode(self.json().to_string()), self.headers);
        let kind = "Content-Type: application/json\r\n";
        match self.version {
            X402::V2 => (header() + kind, self.body.clone()),
            X402::V1 => (self.headers.clone() + kind, v1(&self.accepts.clone().into())),
            X402::Both => (header() + kind, v1(&self.accepts.iter().map(to_v1).collect())),
        }
    }
}

fn to_v1(entry: &Value) -> Value {
    let mut entry = entry.clone();
    let map = entry.as_object_mut().unwrap();
    let amount = map.remove("amount").unwrap_or_default();
    map.insert("maxAmountRequired".into(), amount);
    map.insert("network".into(), "base-sepolia".into());
    map.insert("resource".into(), "http://seller.example/".into());
    map.insert("description".into(), "a thing".into());
    map.insert("mimeType".into(), Value::Null);
    entry
}

/// A payment that passed every check but the chain's.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) version: X402,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) nonce: B256,
}

/// A valid paid request, for the closure that decides what to do with it.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) payment: Payment,
    /// How many paid requests came before this one.
    pub(crate) before: usize,
}

/// What a seller says about the settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// As it was; nothing if nothing was settled.
    True,
    /// None, whatever happened.
    None,
    /// Claims success, whatever happened.
    Forged,
    /// Exactly this header value.
    Raw(String),
}

/// What a seller does with a paid request.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Takes the money before answering. A nonce that was used already is refused with 402 by `shop` itself.
    pub(crate) settle: bool,
    pub(crate) receipt: Receipt,
    /// Waits this long before answering.
    pub(crate) delay: Duration,
    pub(crate) act: Act,
}

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Status, further header lines each with CRLF, body.
    Answer(u16, String, Vec<u8>),
    /// Never answers.
    Hang,
    /// Closes with RST before a byte.
    Reset,
    /// Announces the body, sends half of it, closes.
    HalfBody(Vec<u8>),
    /// The head, then nothing more.
    HeadOnly,
    /// Another 402 with these terms.
    Challenge(Terms),
    /// Exactly these bytes, then closes.
    Raw(Vec<u8>),
}

impl Plan {
    /// Settles and answers 200 with `body`.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::settle(Act::Answer(200, "Content-Type: text/plain\r\n".into(), body.as_ref().to_vec()))
    }

    /// Settles, then acts.
    pub(crate) const fn settle(act: Act) -> Self {
        Self { settle: true, receipt: Receipt::True, delay: Duration::ZERO, act }
    }

    /// Acts without taking the money.
    pub(crate) const fn keep(act: Act) -> Self {
        Self { settle: false, receipt: Receipt::True, delay: Duration::ZERO, act }
    }

    pub(crate) const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn receipt(mut self, receipt: Receipt) -> Self {
        self.receipt = receipt;
        self
    }
}

/// A handler for [`super::Seller`]: asks for `terms`, checks what is presented, then does what `plan` says.
pub(crate) fn shop<P>(chain: &Chain, terms: Terms, plan: P) -> impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static
where
    P: Fn(&Visit) -> Plan + Send + Sync + 'static,
{
    let (chain, paid) = (chain.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    move |call| {
        let body = call.body();
        let payment = match present(&call.head, &terms) {
            None => return challenge(call, &terms),
            Some(Err(fault)) => return challenge(call, &terms.clone().with_error(&fault)),
            Some(Ok(payment)) => payment,
        };
        let before = paid.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        let visit = Visit { head: call.head.clone(), body, payment, before };
        let plan = plan(&visit);
        act(call, &chain, &terms, &visit.payment, plan)
    }
}

/// Answers 402.
pub(crate) fn challenge(call: &mut Call<'_>, terms: &Terms) -> Next {
    let (headers, body) = terms.answer();
    call.reply(402, &headers, body)
}

fn act(call: &mut Call<'_>, chain: &Chain, terms: &Terms, payment: &Payment, plan: Plan) -> Next {
    let mut settled = false;
    if plan.settle {
        match chain.settle(payment.from, payment.to, payment.value, payment.nonce) {
            Ok(()) => settled = true,
            Err(fault) => return challenge(call, &terms.clone().with_error(fault)),
        }
    }
    std::thread::sleep(plan.delay);
    let receipt = receipt_line(&plan.receipt, settled, payment);
    match plan.act {
        Act::Answer(status, headers, body) => call.reply(status, &(headers + &receipt), body),
        Act::Hang => call.hang(),
        Act::Reset => Next::Reset,
        Act::HalfBody(body) => {
            call.raw(format!("HTTP/1.1 200 OK\r\n{receipt}Content-Length: {}\r\n\r\n", body.len()));
            call.raw(&body[..body.len() / 2]);
            Next::Close
        }
        Act::HeadOnly => {
            call.raw(format!("HTTP/1.1 200 OK\r\n{receipt}Content-Length: 100\r\n\r\n"));
            call.hang()
        }
        Act::Challenge(terms) => {
            let (headers, body) = terms.answer();
            call.reply(402, &(headers + &receipt), body)
        }
        Act::Raw(bytes) => {
            call.raw(bytes);
            Next::Close
        }
    }
}

fn receipt_line(receipt: &Receipt, settled: bool, payment: &Payment) -> String {
    let name = if payment.version == X402::V1 { "X-PAYMENT-RESPONSE" } else { "PAYMENT-RESPONSE" };
    let network = if payment.version == X402::V1 { "base-sepolia".to_owned() } else { format!("eip155:{CHAIN_ID}") };
    let success = || {
        let hash = alloy_primitives::keccak256(payment.nonce);
        let json = json!({ "success": true, "transaction": hash.to_string(), "network": network, "payer": payment.from.to_string() });
        format!("{name}: {}\r\n", STANDARD.encode(json.to_string()))
    };
    match receipt {
        Receipt::True if settled => success(),
        Receipt::True | Receipt::None => String::new(),
        Receipt::Forged => success(),
        Receipt::Raw(value) => format!("{name}: {value}\r\n"),
    }
}

/// The payment of a request, checked against the terms; `None` if there is none.
pub(crate) fn present(head: &Head, terms: &Terms) -> Option<Result<Payment, String>> {
    if let Some(value) = head.get("payment-signature") {
        return Some(check(value, X402::V2, terms));
    }
    head.get("x-payment").map(|value| check(value, X402::V1, terms))
}

fn check(credential: &str, version: X402, terms: &Terms) -> Result<Payment, String> {
    let fail = |what: &str| what.to_owned();
    let json: Value =
        STANDARD.decode(credential).ok().and_then(|b| serde_json::from_slice(&b).ok()).ok_or_else(|| fail("undecodable payment"))?;
    let (payload, entry) = if version == X402::V2 {
        let accepted = &json["accepted"];
        let entry = terms.accepts.iter().find(|e| *e == accepted).ok_or_else(|| fail("no matching payment requirements"))?;
        (&json["payload"], entry.clone())
    } else {
        let v1: Vec<Value> = if terms.version == X402::V1 { terms.accepts.clone() } else { terms.accepts.iter().map(to_v1).collect() };
        if json["network"] != "base-sepolia" || json["scheme"] != "exact" {
            return Err(fail("invalid_network"));
        }
        let to = &json["payload"]["authorization"]["to"];
        (&json["payload"], v1.into_iter().find(|e| e["payTo"] == *to).ok_or_else(|| fail("recipient_mismatch"))?)
    };
    let amount = entry[if version == X402::V2 { "amount" } else { "maxAmountRequired" }].as_str().unwrap_or_default().to_owned();
    let a = &payload["authorization"];
    let text = |key: &str| a[key].as_str().ok_or_else(|| format!("{key} is no string"));
    let number = |key: &str| U256::from_str_radix(text(key)?, 10).map_err(|_| format!("{key} is no number"));
    let account = |key: &str| Address::parse_checksummed(text(key)?, None).map_err(|_| format!("{key} is no address"));
    let message = TransferWithAuthorization {
        from: account("from")?,
        to: account("to")?,
        value: number("value")?,
        validAfter: number("validAfter")?,
        validBefore: number("validBefore")?,
        nonce: text("nonce")?.parse().map_err(|_| fail("nonce"))?,
    };
    let now = U256::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    if entry["payTo"].as_str() != Some(text("to")?) {
        return Err(fail("recipient_mismatch"));
    }
    if message.value.to_string() != amount {
        return Err(fail("invalid_exact_evm_payload_authorization_value"));
    }
    if message.validAfter >= now || message.validBefore < now + U256::from(6) || message.validBefore > now + U256::from(3600) {
        return Err(fail("invalid_exact_evm_payload_authorization_valid_before"));
    }
    if recover(&message, payload["signature"].as_str().unwrap_or_default()) != Some(message.from) {
        return Err(fail("invalid_exact_evm_payload_signature"));
    }
    Ok(Payment { version, from: message.from, to: message.to, value: message.value, nonce: message.nonce })
}

/// What a signature that somebody got hold of moves, and from when on: `(from, to, value, nonce, validAfter)`; `None` if the token
/// would not take it. `line` has the fields of the authorization as texts, and the signature.
#[cfg(feature = "failpoints")]
pub(crate) fn worth(line: &Value) -> Option<(Address, Address, U256, alloy_primitives::B256, u64)> {
    let text = |key: &str| line[key].as_str();
    let seconds = |key: &str| line[key].as_u64();
    let message = TransferWithAuthorization {
        from: text("from")?.parse().ok()?,
        to: text("to")?.parse().ok()?,
        value: text("value")?.parse().ok()?,
        validAfter: U256::from(seconds("validAfter")?),
        validBefore: U256::from(seconds("validBefore")?),
        nonce: text("nonce")?.parse().ok()?,
    };
    let signed = recover(&message, text("signature")?) == Some(message.from);
    signed.then_some((message.from, message.to, message.value, message.nonce, seconds("validAfter")?))
}

/// Who signed, as the token contract computes it: 65 bytes, low s, v 27 or 28.
fn recover(message: &TransferWithAuthorization, signature: &str) -> Option<Address> {
    let domain = Eip712Domain::new(Some("USDC".into()), Some("2".into()), Some(U256::from(CHAIN_ID)), Some(USDC), None);
    let bytes = hex::decode(signature).ok().filter(|b| b.len() == 65 && matches!(b[64], 27 | 28))?;
    let signature = Signature::from_raw(&bytes).ok().filter(|s| s.normalize_s().is_none())?;
    signature.recover_address_from_prehash(&message.eip712_signing_hash(&domain)).ok()
}
