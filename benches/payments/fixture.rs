//! One policy, one challenge, one request: the same for every part.

use http::{HeaderMap, HeaderValue, Method};
use tollpass::ledger::Ledger;
use tollpass::payment::{AgentId, Challenge, MicroUsd, Payer, Timestamp};
use tollpass::policy::{Approval, Context, Decision, Host, Input, Policy, Source, View};
use tollpass::protocol;

/// Five caps and a rate for the agent, twenty allow entries of which the last one matches.
fn policy_text() -> String {
    let mut text = String::from(
        "version: 1\nagents:\n  bot:\n    caps: { per_payment: 5, hour: 900000, day: 9000000, week: 90000000, month: 900000000, total: 9999999999 }\n    rate: { per_minute: 1000000 }\n    allow:\n",
    );
    for n in 0..19 {
        text.push_str(&format!(
            "      - {{ id: other{n}, host: s{n}.example, networks: [\"eip155:84532\"], assets: [USDC], pay_to: any }}\n"
        ));
    }
    text.push_str("      - { id: seller, host: seller.example, methods: [GET], paths: [\"/v2/**\"], networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, caps: { day: 9000000 } }\n");
    text
}

/// A v2 challenge as a real seller writes it: one entry, USDC on Base Sepolia.
pub(super) fn headers() -> HeaderMap {
    use base64::Engine as _;
    let json = r#"{"x402Version":2,"error":"Payment required","resource":{"url":"https://seller.example/v2/data","description":"data","mimeType":"application/json"},"accepts":[{"scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x209693Bc6afc0C5328bA36FaF03C514EF312287C","maxTimeoutSeconds":60,"extra":{"name":"USDC","version":"2"}}]}"#;
    let mut headers = HeaderMap::new();
    let value = base64::engine::general_purpose::STANDARD.encode(json);
    headers.insert("payment-required", HeaderValue::try_from(value).unwrap());
    headers
}

/// Everything a decision needs but the books.
pub(super) struct Judge {
    pub(super) policy: Policy,
    pub(super) challenge: Challenge,
    agent: AgentId,
    host: Host,
}

impl Judge {
    pub(super) fn new() -> Self {
        let policy = Policy::parse(&[Source { name: "bench.yaml".into(), text: policy_text() }], 0).unwrap();
        let challenge = protocol::parse_head(&headers(), policy.assets()).unwrap().unwrap();
        Self { policy, challenge, agent: "bot".parse().unwrap(), host: Host::parse("seller.example").unwrap() }
    }

    pub(super) fn decide(&self, books: &dyn View, now: Timestamp) -> Decision {
        let input = Input {
            agent: &self.agent,
            session: None,
            method: &Method::GET,
            https: true,
            host: &self.host,
            port: 443,
            path: "/v2/data",
            payer: Payer("0x1111111111111111111111111111111111111111".parse().unwrap()),
            now,
            context: &Context::default(),
            granted: &[],
            held: MicroUsd::ZERO,
            bound_to: None,
            session_max: None,
        };
        self.policy.evaluate(&input, &self.challenge, books)
    }

    pub(super) fn approve(&self, ledger: &Ledger, now: Timestamp) -> Approval {
        ledger.read(|books| self.decide(books, now)).verdict.unwrap()
    }
}
