//! Who is calling: the loopback default, tokens, sessions; and that nothing of it leaks.

use alloy_primitives::Address;

use crate::harness::{Chain, Plan, Program, Seller, Setup, Terms, basic, eventually, sha256, shop};

const PAYEE: Address = Address::repeat_byte(0x55);

/// A token file; one agent may stand there twice.
pub(crate) fn tokens(rows: &[(&str, &str)]) -> String {
    let mut names: Vec<&str> = rows.iter().map(|(n, _)| *n).collect();
    names.dedup();
    let hashes = |name: &str| -> Vec<String> {
        let hash = |token: &str| format!("\"sha256:{}\"", alloy_primitives::hex::encode(sha256(token.as_bytes())));
        rows.iter().filter(|(n, _)| *n == name).map(|(_, t)| hash(t)).collect()
    };
    names.iter().fold("agents:\n".to_owned(), |out, name| out + &format!("  {name}: [{}]\n", hashes(name).join(", ")))
}

struct Shop {
    chain: Chain,
    seller: Seller,
    program: Program,
}

fn with_tokens(agents: &str, rows: &[(&str, &str)]) -> Shop {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new().agents(agents).file("agents.yaml", tokens(rows)));
    Shop { chain, seller, program }
}

const TOKENS_ONLY: &str = "tokens: file:agents.yaml";

impl Shop {
    /// Status of a request with these header lines.
    fn status(&self, headers: &str) -> u16 {
        self.program.request("GET", &self.seller.url("/"), headers, b"").status
    }
}

#[test]
fn without_credentials_407_keeps_the_connection_which_then_takes_them() {
    let shop = with_tokens(TOKENS_ONLY, &[("bot", "secret")]);
    let url = shop.seller.url("/");
    let mut agent = shop.program.agent();
    let answer = agent.get(&url);
    assert_eq!((answer.status, answer.reason().as_str()), (407, "proxy_auth_required"));
    assert!(answer.head.get("proxy-authenticate").unwrap().starts_with("Basic realm="), "{:?}", answer.head);
    assert!(answer.head.content_length().is_some() && !answer.head.get("connection").is_some_and(|c| c.contains("close")));
    assert_eq!(shop.seller.count(), 0);
    let answer = agent.request("GET", &url, &basic("bot", "secret"), b"");
    assert_eq!((answer.status, shop.chain.count()), (200, 1));
    assert_eq!(agent.get(&url).status, 407, "credentials count for one request, not for the connection");
}

#[test]
fn a_407_on_an_upload_that_was_not_read_does_not_confuse_the_connection() {
    let shop = with_tokens(TOKENS_ONLY, &[("bot", "secret")]);
    let mut agent = shop.program.agent();
    assert_eq!(agent.request("POST", &shop.seller.url("/"), "", &vec![b'x'; 20_000]).status, 407);
    if let Ok(()) = agent.wire.write(&crate::harness::Agent::request_bytes("POST", &shop.seller.url("/"), &basic("bot", "secret"), b"y"))
        && let Ok(answer) = agent.response_to("POST")
    {
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn wrong_credentials_are_407_even_where_a_default_exists() {
    let shop = with_tokens("default: bot, tokens: file:agents.yaml", &[("bot", "right"), ("other", "theirs")]);
    for (user, password) in [("bot", "wrong"), ("bot", ""), ("nobody", "right"), ("bot", "theirs"), ("", ""), ("bot+", "right"), ("bot+a/b", "right")] {
        assert_eq!(shop.status(&basic(user, password)), 407, "{user}:{password}");
    }
    for line in ["Proxy-Authorization: Basic !!!\r\n", "Proxy-Authorization: Bearer right\r\n", "Proxy-Authorization: Basic\r\n"] {
        assert_eq!(shop.status(line), 407, "{line}");
    }
    assert_eq!(shop.chain.count(), 0);
    assert_eq!((shop.status(&basic("bot", "right")), shop.status("")), (200, 200));
}

#[test]
fn the_token_file_is_hot_and_a_broken_one_changes_nothing() {
    let shop = with_tokens(TOKENS_ONLY, &[("bot", "old")]);
    assert_eq!(shop.status(&basic("bot", "old")), 200);
    let path = shop.program.path("agents.yaml");
    std::fs::write(&path, "agents: { bot: [nonsense] }").unwrap();
    eventually("the broken file was noticed", || shop.program.log().contains("tokens is broken"));
    assert_eq!(shop.status(&basic("bot", "old")), 200);
    std::fs::write(&path, tokens(&[("bot", "new")])).unwrap();
    eventually("the new token works", || shop.status(&basic("bot", "new")) == 200);
    assert_eq!(shop.status(&basic("bot", "old")), 407);
    assert!(!shop.program.log().contains("nonsense"), "the content of the file is not quoted");
}

#[test]
fn a_token_made_by_the_command_works_in_the_running_proxy() {
    let shop = with_tokens(TOKENS_ONLY, &[("bot", "old")]);
    let output = shop.program.run(&["agent", "token", "bot", "--file", "agents.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    eventually("the new token works", || shop.status(&basic("bot", &token)) == 200);
    assert_eq!(shop.status(&basic("bot", "old")), 200, "and so does its predecessor");
}

#[test]
fn a_session_is_named_in_the_user_name_and_shown_in_the_log() {
    let shop = with_tokens(TOKENS_ONLY, &[("bot", "secret")]);
    assert_eq!(shop.status(&basic("bot+run-7", "secret")), 200);
    eventually("the log line", || shop.program.log().contains("\"session\":\"run-7\""));
    assert!(shop.program.log().contains("\"agent\":\"bot\""));
}

#[test]
fn an_agent_without_a_policy_passes_but_does_not_pay() {
    let shop = with_tokens(TOKENS_ONLY, &[("stranger", "x"), ("bot", "y")]);
    let free = Seller::http(|call| call.reply(200, "", "free"));
    assert_eq!(shop.program.request("GET", &free.url("/"), &basic("stranger", "x"), b"").text(), "free");
    let answer = shop.program.request("GET", &shop.seller.url("/"), &basic("stranger", "x"), b"");
    assert_eq!((answer.status, answer.reason().as_str()), (402, "unknown_agent"));
    assert_eq!(shop.chain.count(), 0);
}

#[test]
fn no_credential_reaches_a_seller_the_log_or_the_metrics() {
    let shop = with_tokens(TOKENS_ONLY, &[("bot", "tp_canary_token")]);
    assert_eq!(shop.status(&basic("bot", "tp_canary_token")), 200);
    assert_eq!(shop.status(&basic("bot", "tp_canary_wrong")), 407);
    let encoded = basic("bot", "tp_canary_token");
    let encoded = encoded.trim_end().rsplit(' ').next().unwrap();
    for seen in shop.seller.seen() {
        assert!(!seen.head.headers.iter().any(|(_, v)| v.contains(encoded) || v.contains("canary")), "{:?}", seen.head);
    }
    let page = shop.program.admin_get("/metrics").unwrap().text();
    for text in [shop.program.log(), page] {
        assert!(!text.contains("canary") && !text.contains(encoded), "{text}");
    }
}
