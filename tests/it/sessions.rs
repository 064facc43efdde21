//! Sessions, the page that an agent may ask for, and what it says of its requests, on the real program (M2.4, M3.2, S17, S19).

use alloy_primitives::Address;
use serde_json::Value;

use crate::harness::{Agent, Chain, Plan, Program, Response, Seller, Setup, Terms, basic, shop};
use crate::proxy_agents::tokens;

const PAYEE: Address = Address::repeat_byte(0x55);
const PAGE: &str = "http://tollpass.invalid/session";

struct Rig {
    chain: Chain,
    seller: Seller,
    program: Program,
}

/// One agent `bot` with the token `secret` and these lines of policy; the seller asks for one cent.
fn rig(lines: &str) -> Rig {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let policy = Setup::policy_with("per_payment: 5, day: 1000", "", lines);
    let setup = Setup::new().agents("tokens: file:agents.yaml").file("agents.yaml", tokens(&[("bot", "secret")])).policy(policy);
    Rig { chain, seller, program: Program::start(setup) }
}

impl Rig {
    fn buy(&self, user: &str, password: &str) -> Response {
        self.program.request("GET", &self.seller.url("/"), &basic(user, password), b"")
    }

    /// Status and reason of a purchase.
    fn bought(&self, user: &str, password: &str) -> (u16, String) {
        let answer = self.buy(user, password);
        (answer.status, if answer.status == 200 { String::new() } else { answer.reason() })
    }

    #[track_caller]
    fn said(&self, args: &[&str]) -> Value {
        let output = self.program.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn page(&self, user: &str, password: &str) -> Value {
        self.program.request("GET", PAGE, &basic(user, password), b"").json()
    }
}

fn refused(reason: &str) -> (u16, String) {
    (402, reason.to_owned())
}

fn paid() -> (u16, String) {
    (200, String::new())
}

#[test]
fn m2_4_a_required_session_is_issued_shown_once_and_worth_nothing_when_it_is_closed() {
    let rig = rig("    sessions: { required: true, expires: 10m, open: 2 }\n");
    assert_eq!(rig.bought("bot", "secret"), refused("session_required"));
    assert_eq!(rig.bought("bot+mine", "secret"), refused("session_unknown"));
    let opened = rig.said(&["session", "open", "bot", "--name", "run-1", "--expires", "5m", "--max", "0.02", "--json"]);
    let token = opened["token"].as_str().unwrap().to_owned();
    let url = opened["proxy_url"].as_str().unwrap();
    assert!(url.starts_with(&format!("http://bot+run-1:{token}@127.0.0.1:")), "{url}");
    assert_eq!(rig.bought("bot+run-1", &token), paid());
    assert_eq!(rig.bought("bot+run-1", "secret").0, 407, "an issued name needs its own token");
    assert_eq!(rig.bought("bot", &token).0, 407, "and its token opens no other name");
    assert_eq!(rig.bought("bot+run-2", &token).0, 407);
    // Its own limit, below the policy's.
    assert_eq!(rig.bought("bot+run-1", &token), paid());
    let answer = rig.buy("bot+run-1", &token);
    assert_eq!((answer.status, answer.reason().as_str()), (402, "cap_session"));
    let body = answer.json();
    assert_eq!((&body["limit_usd"], &body["remaining_usd"]), (&"0.02".into(), &"0.00".into()), "{body}");
    let page = rig.page("bot+run-1", &token);
    let session = &page["session"];
    assert_eq!((&session["max_usd"], &session["spent_usd"], &session["remaining_usd"]), (&"0.02".into(), &"0.02".into(), &"0.00".into()));
    // Names are used once; no more than `open` at once.
    for (args, says) in [
        (&["session", "open", "bot", "--name", "run-1"][..], "names are used once"),
        (&["session", "open", "bot", "--expires", "11m"], "at most 600s"),
        (&["session", "open", "stranger"], "the policy has no agent stranger"),
        (&["session", "open", "bot", "--max", "1,5"], "`max`"),
    ] {
        let output = rig.program.run(args);
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(says), "{args:?} {output:?}");
    }
    rig.said(&["session", "open", "bot", "--json"]);
    assert!(String::from_utf8_lossy(&rig.program.run(&["session", "open", "bot"]).stderr).contains("session_limit"));
    assert_eq!(rig.said(&["session", "list", "--json"])["sessions"].as_array().unwrap().len(), 2);
    // Closed: also on a connection that was used before.
    let mut warm = rig.program.agent();
    assert_eq!(warm.request("GET", &rig.seller.url("/"), &basic("bot+run-1", &token), b"").reason(), "cap_session");
    assert_eq!(rig.said(&["session", "close", "bot", "run-1", "--json"])["changed"], true);
    assert_eq!(warm.request("GET", &rig.seller.url("/"), &basic("bot+run-1", &token), b"").status, 407);
    assert_eq!(rig.chain.count(), 2);
    let journal = std::fs::read_to_string(rig.program.path("state/private/sessions.jsonl")).unwrap();
    assert!(!journal.contains(&token) && !rig.program.log().contains(&token), "a token is kept as a hash alone");
}

#[test]
fn m2_4_self_made_sessions_are_bounded_and_an_ended_one_never_comes_back_over_a_restart() {
    let mut rig = rig("    sessions: { expires: 2s, open: 1, max: 0.01 }\n");
    assert_eq!(rig.bought("bot", "secret"), paid(), "no session is needed");
    assert_eq!(rig.bought("bot+a", "secret"), paid());
    assert_eq!(rig.bought("bot+a", "secret"), refused("cap_session"));
    assert_eq!(rig.bought("bot+b", "secret"), refused("session_limit"));
    // Its end is absolute: being used does not prolong it.
    crate::harness::eventually("the session ends", || rig.bought("bot+a", "secret") == refused("session_unknown"));
    assert_eq!(rig.bought("bot+b", "secret"), paid(), "its end makes room");
    rig.program.kill9();
    rig.program.restart();
    assert_eq!(rig.bought("bot+a", "secret"), refused("session_unknown"));
    assert_eq!(rig.chain.count(), 3);
}

#[test]
fn s17_the_page_is_for_the_caller_read_only_and_never_dialled() {
    let rig = rig("    sessions: { max: 1.00, expires: 10m }\n");
    assert_eq!(rig.program.request("GET", PAGE, "", b"").status, 407);
    assert_eq!(rig.bought("bot+a", "secret"), paid());
    let answer = rig.program.request("GET", PAGE, &basic("bot+a", "secret"), b"");
    let header = |name: &str| answer.head.get(name).unwrap_or_default().to_owned();
    assert_eq!(answer.status, 200);
    for (name, value) in [("content-type", "application/json"), ("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(header(name), value, "{name}");
    }
    let page = answer.json();
    assert_eq!(
        (&page["agent"], &page["pays"], &page["frozen"], &page["killed"]),
        (&"bot".into(), &true.into(), &false.into(), &false.into())
    );
    let session = &page["session"];
    assert_eq!((&session["name"], &session["spent_usd"], &session["remaining_usd"]), (&"a".into(), &"0.01".into(), &"0.99".into()));
    assert!(session["expires_at"].is_string() && page["policy"].is_string(), "{page}");
    let day = page["budgets"].as_array().unwrap().iter().find(|b| b["name"] == "caps.day").unwrap();
    assert_eq!((&day["limit_usd"], &day["spent_usd"], &day["remaining_usd"]), (&"1000.00".into(), &"0.01".into(), &"999.99".into()));
    for (method, url, status) in [
        ("POST", PAGE, 405),
        ("HEAD", PAGE, 405),
        ("DELETE", PAGE, 405),
        ("GET", "http://tollpass.invalid/", 404),
        ("GET", "http://tollpass.invalid/session/x", 404),
        ("GET", "http://TOLLPASS.invalid:8080/session", 200),
        ("GET", "http://tollpass.invalid/session?x=1", 200),
    ] {
        let mut agent = rig.program.agent();
        agent.send(Agent::request_bytes(method, url, &basic("bot", "secret"), b""));
        assert_eq!(agent.response_to(method).unwrap().status, status, "{method} {url}");
    }
    let mut inside = rig.program.agent().connect("tollpass.invalid:80", &basic("bot+a", "secret"));
    assert_eq!(inside.request("GET", "/session", "Host: tollpass.invalid\r\n", b"").json()["session"]["name"], "a");
    let frozen = rig.said(&["agent", "freeze", "bot", "--json"]);
    assert_eq!((&frozen["changed"], &rig.page("bot", "secret")["frozen"]), (&true.into(), &true.into()));
}

#[test]
fn s19_what_an_agent_says_of_its_request_is_judged_and_reaches_no_seller() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let policy = Setup::policy_with(
        "per_payment: 5, day: 1000",
        "",
        "    rules:\n      - { id: risky, when: \"has(ctx.risk) && ctx.risk > 0.5\", then: deny }\n",
    );
    let program = Program::start(Setup::new().policy(policy.replacen("version: 1\n", "version: 1\ncontext: { risk: decimal }\n", 1)));
    let buy = |path: &str, line: &str| program.request("GET", &seller.url(path), line, b"");
    let refused = buy("/a", "Tollpass-Context: risk=0.9\r\nTollpass-Other: x\r\n");
    assert_eq!((refused.status, refused.reason().as_str()), (402, "rule_denied"));
    assert_eq!(chain.count(), 0);
    assert_eq!(buy("/a", "Tollpass-Context: risk=0.1\r\nTollpass-Other: x\r\n").status, 200);
    assert_eq!(buy("/b", "").status, 200);
    assert_eq!(chain.count(), 2);
    for seen in seller.seen() {
        assert!(!seen.head.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("tollpass-")), "{:?}", seen.head);
    }
}
