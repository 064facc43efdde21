//! Forwarding, hygiene, identity and the requests that are not for a proxy.

use std::net::Shutdown;

use crate::harness::{Agent, Program, Seller, Setup, basic, eventually};

/// A seller that answers everything with 200 and its request target.
fn echo() -> Seller {
    Seller::http(|call| {
        let target = call.head.target().to_owned();
        call.reply(200, "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n", target)
    })
}

fn tokens() -> Setup {
    let line = |token: &str| {
        let digest: String = crate::harness::sha256(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        format!("sha256:{digest}")
    };
    let file = format!("agents:\n  bot: [ \"{}\", \"{}\" ]\n", line("old"), line("new"));
    Setup::new().agents("tokens: file:secrets/agents.yaml").file("secrets/agents.yaml", file)
}

#[test]
fn an_absolute_form_request_reaches_the_seller_in_origin_form_with_one_host() {
    let (seller, program) = (echo(), Program::start(Setup::new()));
    let mut agent = program.agent();
    agent.send(format!("GET {} HTTP/1.1\r\nHost: liar.example\r\n\r\n", seller.url("/a/b?c=d")));
    let answer = agent.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "/a/b?c=d"));
    let head = &seller.seen()[0].head;
    assert_eq!(head.all("host").collect::<Vec<_>>(), [seller.authority()]);
}

#[test]
fn hop_by_hop_fields_and_proxy_credentials_stay_between_agent_and_proxy() {
    let (seller, program) = (echo(), Program::start(Setup::new()));
    let lines = format!(
        "{}Proxy-Connection: keep-alive\r\nConnection: X-Private\r\nX-Private: 1\r\nTE: deflate\r\nUpgrade: h2c\r\nTollpass-Context: a=1\r\nX-Kept: 1\r\n",
        basic("bot", "x")
    );
    let answer = program.request("GET", &seller.url("/"), &lines, b"");
    assert_eq!(answer.status, 200);
    let head = &seller.seen()[0].head;
    for name in ["proxy-authorization", "proxy-connection", "x-private", "te", "upgrade", "tollpass-context", "connection"] {
        assert!(!head.has(name), "{name} reached the seller");
    }
    assert!(head.has("x-kept") && head.has("via"));
    for name in ["x-hop", "keep-alive"] {
        assert!(!answer.head.has(name), "{name} reached the agent");
    }
}

#[test]
fn a_seller_cannot_speak_in_our_name_s19() {
    let seller = Seller::http(|call| {
        call.reply(200, "Tollpass-Reason: ok\r\nProxy-Status: tollpass; error=x\r\nProxy-Status: cdn; fwd=miss\r\n", "")
    });
    let answer = Program::start(Setup::new()).get(&seller.url("/"));
    assert!(!answer.head.has("tollpass-reason"));
    assert_eq!(answer.head.all("proxy-status").collect::<Vec<_>>(), ["cdn; fwd=miss"]);
}

#[test]
fn one_agent_connection_serves_many_requests_to_many_sellers() {
    let (one, two, program) = (echo(), echo(), Program::start(Setup::new()));
    let mut agent = program.agent();
    for n in 0..6 {
        let seller = if n % 2 == 0 { &one } else { &two };
        assert_eq!(agent.get(&seller.url(&format!("/{n}"))).text(), format!("/{n}"));
    }
    assert_eq!((one.connections(), two.connections()), (1, 1), "upstream connections are kept");
}

#[test]
fn a_request_on_a_connection_that_the_seller_closed_meanwhile_is_sent_again() {
    let seller = Seller::http(|call| {
        call.reply(200, "", "x");
        crate::harness::Next::Close
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for _ in 0..5 {
        assert_eq!(agent.get(&seller.url("/")).status, 200);
    }
}

#[test]
fn origin_form_on_the_proxy_port_is_421() {
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let answer = agent.response();
    assert_eq!((answer.status, answer.reason().as_str()), (421, "misdirected"));
    assert!(answer.head.get("proxy-status").is_some_and(|v| v.starts_with("tollpass; error=")));
}

#[test]
fn user_information_and_foreign_schemes_are_refused() {
    let program = Program::start(Setup::new());
    for target in ["http://user:pw@127.0.0.1/", "ftp://127.0.0.1/", "http://127.0.0.1:0/"] {
        assert_eq!(program.get(target).status, 400, "{target}");
    }
}

#[test]
fn a_proxy_that_meets_itself_says_508() {
    let program = Program::start(Setup::new());
    let seller = echo();
    program.get(&seller.url("/"));
    let via = seller.seen()[0].head.get("via").unwrap().to_owned();
    let answer = program.request("GET", &seller.url("/"), &format!("Via: 1.1 other, {via}\r\n"), b"");
    assert_eq!((answer.status, answer.reason().as_str()), (508, "loop"));
    assert_eq!(seller.count(), 1);
}

#[test]
fn a_407_keeps_the_connection_and_the_same_connection_then_gets_through() {
    let (seller, program) = (echo(), Program::start(tokens()));
    let mut agent = program.agent();
    let answer = agent.get(&seller.url("/"));
    assert_eq!((answer.status, answer.reason().as_str()), (407, "proxy_auth_required"));
    assert!(answer.head.get("proxy-authenticate").is_some_and(|v| v.starts_with("Basic ")));
    assert_eq!(agent.request("GET", &seller.url("/"), &basic("bot", "new"), b"").status, 200);
    // CONNECT as git does it: first without, then with credentials, on one connection.
    let mut agent = program.agent();
    agent.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", seller.authority()));
    assert_eq!(agent.response().status, 407);
    let mut inside = agent.connect(&seller.authority(), &basic("bot", "new"));
    inside.send(format!("GET /in HTTP/1.1\r\nHost: {}\r\n\r\n", seller.authority()));
    assert_eq!(inside.response().text(), "/in");
}

#[test]
fn two_tokens_are_live_and_wrong_ones_are_not() {
    let (seller, program) = (echo(), Program::start(tokens()));
    for (user, password, status) in [
        ("bot", "old", 200),
        ("bot", "new", 200),
        ("bot+session1", "new", 200),
        ("bot", "wrong", 407),
        ("bot", "", 407),
        ("other", "new", 407),
        ("bot+bad/session", "new", 407),
    ] {
        let answer = program.request("GET", &seller.url("/"), &basic(user, password), b"");
        assert_eq!(answer.status, status, "{user}:{password}");
    }
    assert!(!program.log().contains("new"), "a token reached the log");
}

#[test]
fn a_changed_token_file_takes_effect_on_a_living_connection() {
    let (seller, program) = (echo(), Program::start(tokens()));
    let mut agent = program.agent();
    assert_eq!(agent.request("GET", &seller.url("/"), &basic("bot", "new"), b"").status, 200);
    let text = std::fs::read_to_string(program.path("secrets/agents.yaml")).unwrap();
    let first = text.find("sha256:").unwrap();
    let second = text[first + 1..].find("sha256:").unwrap() + first + 1;
    let kept = format!("{}\"{}", &text[..first - 1], &text[first..second].trim_end_matches(['"', ',', ' ']).to_owned());
    std::fs::write(program.path("secrets/agents.yaml"), kept + "\" ]\n").unwrap();
    eventually("the revoked token is refused", || agent.request("GET", &seller.url("/"), &basic("bot", "new"), b"").status == 407);
    assert_eq!(agent.request("GET", &seller.url("/"), &basic("bot", "old"), b"").status, 200);
}

#[test]
fn the_loopback_default_may_name_a_session_but_no_other_agent() {
    let (seller, program) = (echo(), Program::start(Setup::new()));
    assert_eq!(program.request("GET", &seller.url("/"), &basic("bot+s1", ""), b"").status, 200);
    assert_eq!(program.request("GET", &seller.url("/"), &basic("rich-bot", ""), b"").status, 407);
}

#[test]
fn the_resolved_address_is_guarded_s16() {
    let (seller, program) = (echo(), Program::start(Setup::new()));
    let (proxy, admin) = (program.proxy(), program.admin());
    // Always refused, whatever allow_private says.
    for target in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::ffff:169.254.169.254]/".into(),
        format!("http://{proxy}/"),
        format!("http://localhost:{}/metrics", admin.port()),
        "http://0.0.0.0/".into(),
    ] {
        let answer = program.get(&target);
        assert_eq!((answer.status, answer.reason().as_str()), (403, "forbidden_address"), "{target}");
    }
    // Loopback only where it is allowed, by name too, in every way in.
    let mut closed = Setup::new();
    closed.upstream = "allow_private: false".into();
    let program = Program::start(closed);
    for host in [seller.authority(), format!("localhost:{}", seller.port())] {
        assert_eq!(program.get(&format!("http://{host}/")).status, 403, "{host}");
    }
    let mut agent = program.agent();
    agent.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", seller.authority()));
    // An intercepted tunnel is opened first and refused inside.
    let status = agent.response_to("CONNECT").unwrap().status;
    if status == 200 {
        agent.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", seller.authority()));
        assert_eq!(agent.response().status, 403);
    } else {
        assert_eq!(status, 403);
    }
    assert_eq!(seller.count(), 0);
}

#[test]
fn upstream_failures_have_a_status_and_a_reason() {
    let program = Program::start(Setup::new());
    let free = crate::harness::free_port();
    let nonsense = Seller::tcp(|wire| {
        let _ = wire.head();
        let _ = wire.write(b"SSH-2.0-hello\r\n\r\n");
        wire.shutdown(Shutdown::Both);
    });
    let silent = Seller::tcp(|wire| {
        let _ = wire.head();
        wire.shutdown(Shutdown::Both);
    });
    for (target, status, reason) in [
        (format!("http://127.0.0.1:{free}/"), 502, "connect_failed"),
        ("http://no-such-name.invalid/".into(), 502, "dns_error"),
        (nonsense.url("/"), 502, "upstream_protocol"),
        (silent.url("/"), 502, "upstream_closed"),
    ] {
        let answer = program.get(&target);
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{target}");
    }
}

#[test]
fn connections_over_the_limit_are_turned_away_and_places_come_back() {
    let (seller, program) = (echo(), Program::start(Setup::new().limits("connections: 4")));
    let mut held: Vec<Agent> = (0..4).map(|_| program.agent()).collect();
    for agent in &mut held {
        assert_eq!(agent.get(&seller.url("/")).status, 200);
    }
    let mut fifth = program.agent();
    assert_eq!(
        fifth.head().unwrap().get("proxy-status"),
        Some("tollpass; error=connection_limit_reached; details=\"too_many_connections\"")
    );
    drop(held);
    eventually("a place is free again", || {
        let mut agent = program.agent();
        let _ = agent.wire.write(&Agent::request_bytes("GET", &seller.url("/"), "", b""));
        agent.response_to("GET").is_ok_and(|r| r.status == 200)
    });
}
