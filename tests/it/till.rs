//! What the money tests share: one seller beside one program, the books as rows, and a way to hang up.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, Signature, U256, hex};
use alloy_sol_types::{Eip712Domain, SolStruct};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::{
    Agent, Chain, Plan, Program, Response, Seller, Setup, Terms, TransferWithAuthorization, Visit, Wire, eventually, sha256, shop,
};

/// One cent, in atomic units of USDC and in micro-USD.
pub(crate) const CENT: u64 = 10_000;

/// Who is paid if a test does not say otherwise.
pub(crate) const fn payee() -> Address {
    Address::repeat_byte(0x11)
}

/// A second seller's account.
pub(crate) const fn other_payee() -> Address {
    Address::repeat_byte(0x22)
}

/// One seller, one program, one chain.
pub(crate) struct Till {
    pub(crate) chain: Chain,
    pub(crate) seller: Seller,
    pub(crate) program: Program,
}

impl Till {
    /// A v2 seller that asks for one cent.
    #[track_caller]
    pub(crate) fn new(setup: Setup, plan: impl Fn(&Visit) -> Plan + Send + Sync + 'static) -> Self {
        Self::with(setup, Terms::v2(payee(), CENT), plan)
    }

    #[track_caller]
    pub(crate) fn with(setup: Setup, terms: Terms, plan: impl Fn(&Visit) -> Plan + Send + Sync + 'static) -> Self {
        let chain = Chain::new();
        let seller = Seller::http(shop(&chain, terms, plan));
        Self { chain, seller, program: Program::start(setup) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.seller.url(path)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.program.get(&self.url(path))
    }

    /// A GET whose answer is cut short: a part of it, or not even a whole head.
    #[track_caller]
    pub(crate) fn get_cut(&self, path: &str) {
        let got = try_get(self.program.proxy(), &self.url(path), "");
        assert!(got.as_ref().is_none_or(|r| r.status == 200 && !r.complete), "{got:?}");
    }

    /// A GET that is sent and not yet answered.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str) -> Agent {
        let mut agent = self.program.agent();
        agent.send(Agent::request_bytes("GET", &self.url(path), "", b""));
        agent
    }

    /// Waits until the seller got this many paid requests.
    #[track_caller]
    pub(crate) fn paid(&self, n: usize) {
        eventually(&format!("the seller gets {n} paid requests"), || self.seller.paid().len() >= n);
    }

    /// Waits until the books show exactly these states, in any order. They are written shortly after the fact.
    #[track_caller]
    pub(crate) fn states(&self, expect: &[&str]) {
        let mut expect = expect.to_vec();
        expect.sort_unstable();
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen = rows(&self.program).into_iter().map(|r| r.state).collect();
            seen.sort_unstable();
            if seen == expect {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(seen, expect);
    }

    /// The books hold at least what the chain moved, and this much.
    #[track_caller]
    pub(crate) fn spent(&self, micro: u64) {
        let spent = spent(&self.program);
        assert_eq!(spent, micro, "held in the books");
        assert!(self.chain.total() <= U256::from(spent), "the chain says {} and the books {spent}", self.chain.total());
    }
}

/// A purchase as `ledger show --json` prints it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) state: String,
    pub(crate) micro: u64,
    pub(crate) atomic: u64,
    pub(crate) nonce: String,
    pub(crate) payee: String,
    pub(crate) consumed: bool,
    pub(crate) agent: String,
}

#[track_caller]
pub(crate) fn rows(program: &Program) -> Vec<Row> {
    let json = program.ledger();
    let row = |v: &Value| {
        let text = |key: &str| v[key].as_str().unwrap_or_else(|| panic!("no {key}: {v}")).to_owned();
        Row {
            state: text("state"),
            micro: micro(&text("usd")),
            atomic: text("atomic").parse().unwrap(),
            nonce: text("nonce"),
            payee: text("payee"),
            consumed: v["consumed"].as_bool().unwrap(),
            agent: text("agent"),
        }
    };
    json["purchases"].as_array().unwrap().iter().map(row).collect()
}

/// Everything but void, in micro-USD.
#[track_caller]
pub(crate) fn spent(program: &Program) -> u64 {
    rows(program).iter().filter(|r| r.state != "void").map(|r| r.micro).sum()
}

/// `0.25` → 250000.
fn micro(usd: &str) -> u64 {
    let (whole, part) = usd.split_once('.').unwrap_or((usd, ""));
    whole.parse::<u64>().unwrap() * 1_000_000 + format!("{part:0<6}").parse::<u64>().unwrap()
}

/// A GET that may find nobody, or get no whole head.
pub(crate) fn try_get(proxy: SocketAddr, url: &str, headers: &str) -> Option<Response> {
    let mut agent = Agent { wire: Wire::plain(TcpStream::connect(proxy).ok()?) };
    agent.wire.write(&Agent::request_bytes("GET", url, headers, b"")).ok()?;
    agent.response_to("GET").ok()
}

/// Leaves, and returns once the proxy has noticed.
#[track_caller]
pub(crate) fn hang_up(mut agent: Agent) {
    let _ = agent.wire.tcp().shutdown(Shutdown::Write);
    eventually("the proxy notices that the agent left", || agent.is_closed());
}

/// Closed until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits; gives up with the test's patience, so that a failed test ends.
    pub(crate) fn pass(&self) {
        for _ in 0..10_000 {
            if self.is_open() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The decoded JSON of a payment header.
pub(crate) fn decode(credential: &str) -> Value {
    serde_json::from_slice(&STANDARD.decode(credential).unwrap()).unwrap()
}

/// Who signed a payment in a token other than USDC.
pub(crate) fn signer_of(credential: &str, token: &str, name: &str, version: &str) -> Address {
    let json = decode(credential);
    let payload = &json["payload"];
    let text = |key: &str| payload["authorization"][key].as_str().unwrap().to_owned();
    let number = |key: &str| U256::from_str_radix(&text(key), 10).unwrap();
    let message = TransferWithAuthorization {
        from: text("from").parse().unwrap(),
        to: text("to").parse().unwrap(),
        value: number("value"),
        validAfter: number("validAfter"),
        validBefore: number("validBefore"),
        nonce: text("nonce").parse().unwrap(),
    };
    let domain = Eip712Domain::new(
        Some(name.to_owned().into()),
        Some(version.to_owned().into()),
        Some(U256::from(84532)),
        Some(token.parse().unwrap()),
        None,
    );
    let bytes = hex::decode(payload["signature"].as_str().unwrap()).unwrap();
    Signature::from_raw(&bytes).unwrap().recover_address_from_prehash(&message.eip712_signing_hash(&domain)).unwrap()
}

/// A token file for these agents, and their passwords.
pub(crate) fn tokens<'a>(agents: &[&'a str]) -> (String, HashMap<&'a str, String>) {
    let passwords: HashMap<&str, String> = agents.iter().map(|a| (*a, format!("password of {a}"))).collect();
    let line = |a: &&str| format!("  {a}: [\"sha256:{}\"]\n", hex::encode(sha256(passwords[a].as_bytes())));
    (format!("agents:\n{}", agents.iter().map(line).collect::<String>()), passwords)
}
