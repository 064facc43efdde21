//! The access log: a line per request and per tunnel, without a secret and without holding anything up.

use std::process::{Command, Stdio};

use alloy_primitives::Address;
use serde_json::{Value, json};

use crate::harness::{Agent, Chain, Plan, Program, Seller, Setup, Terms, TestCa, basic, eventually, shop};

const PAYEE: Address = Address::repeat_byte(0x66);

fn with(format: &str) -> Setup {
    let mut setup = Setup::new();
    setup.more = format!("access_log: {format}\n");
    setup
}

/// Waits for so many lines.
#[track_caller]
fn lines(program: &Program, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines"), || program.out().len() >= count);
    let out = program.out();
    assert_eq!(out.len(), count, "{out:#?}");
    out.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn every_request_has_one_line_that_says_what_came_of_it() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let free = Seller::http(|call| call.reply(200, "", "hello"));
    let policy = format!("{}egress: {{ deny: [denied.example] }}\n", Setup::policy_with("per_payment: 5, day: 1000", "", ""));
    let program = Program::start(with("json").policy(policy));
    assert_eq!(program.request("POST", &free.url("/a/b?token=secret"), "", b"12345678").status, 200);
    assert_eq!(program.get(&seller.url("/buy")).status, 200);
    assert_eq!(program.get("http://denied.example/x").status, 403);
    let told = lines(&program, 3);
    for (line, expected) in told.iter().zip([
        json!({ "agent": "bot", "method": "POST", "scheme": "http", "host": "127.0.0.1", "port": free.port(), "path": "/a/b", "status": 200,
                "up": 8, "down": 5, "reason": null, "paid": false }),
        json!({ "agent": "bot", "method": "GET", "port": seller.port(), "path": "/buy", "status": 200, "up": 0, "down": 4, "paid": true }),
        json!({ "host": "denied.example", "port": 80, "path": "/x", "status": 403, "reason": "egress_denied", "paid": false }),
    ]) {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key}: {line}");
        }
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["duration_us"].as_u64().unwrap() > 0, "{line}");
    }
    assert!(!program.out().concat().contains("secret"), "a query was logged");
}

#[test]
fn a_tunnel_has_one_line_when_it_ends_and_so_has_each_request_inside() {
    let ca = TestCa::new();
    let secure = Seller::start(Some(ca.server(&["localhost"]).0), |call| call.reply(200, "", "inside"));
    let echo = Seller::tcp(|wire| {
        let _ = wire.exactly(5).map(|said| wire.write(&[&said[..], b"!!"].concat()));
    });
    let program = Program::start(with("json").tls("never: [127.0.0.1]").roots(&ca.pem));
    let mut blind = program.agent().connect(&echo.authority(), "");
    blind.send("hello");
    assert_eq!(blind.wire.exactly(7).unwrap(), b"hello!!");
    drop(blind);
    let line = &lines(&program, 1)[0];
    assert_eq!((&line["method"], &line["port"], &line["scheme"]), (&json!("CONNECT"), &json!(echo.port()), &json!(null)), "{line}");
    assert_eq!((&line["status"], &line["up"], &line["down"]), (&json!(200), &json!(5), &json!(7)), "{line}");
    let mut inside = program.agent().connect(&format!("localhost:{}", secure.port()), "").tls("localhost", &program.ca());
    assert_eq!(inside.get("/in?side").text(), "inside");
    drop(inside);
    let told = lines(&program, 3);
    assert_eq!((&told[1]["scheme"], &told[1]["path"], &told[1]["down"]), (&json!("https"), &json!("/in"), &json!(6)), "{}", told[1]);
    assert_eq!(
        (&told[2]["method"], &told[2]["host"], &told[2]["up"]),
        (&json!("CONNECT"), &json!("localhost"), &json!(null)),
        "{}",
        told[2]
    );
}

#[test]
fn s19_no_credential_and_no_word_of_a_seller_is_in_a_line_of_text() {
    let seller =
        Seller::http(|call| call.reply(404, "X-Note: SELLER-CANARY\r\nProxy-Status: tollpass; details=\"cap_day\"\r\n", "SELLER-CANARY"));
    let tokens = crate::proxy_agents::tokens(&[("bot", "token-canary")]);
    let program = Program::start(with("text").agents("tokens: file:agents.yaml").file("agents.yaml", tokens));
    let headers = format!("{}Authorization: Bearer canary\r\nCookie: canary=1\r\n", basic("bot", "token-canary"));
    assert_eq!(program.request("GET", &seller.url("/p?canary"), &headers, b"").status, 404);
    assert_eq!(program.request("GET", &seller.url("/p"), &basic("bot", "wrong-canary"), b"").status, 407);
    eventually("two lines", || program.out().len() == 2);
    let out = program.out();
    assert!(out[0].contains(&format!(" bot GET http://{}/p 404 up=0 down=13 us=", seller.authority())), "{}", out[0]);
    assert!(out[0].ends_with(" paid=no reason=-"), "a reason is ours alone: {}", out[0]);
    assert!(out[1].contains(" - GET http://") && out[1].ends_with(" reason=proxy_auth_required"), "{}", out[1]);
    assert!(!out.concat().to_ascii_lowercase().contains("canary"), "{out:?}");
}

#[test]
fn off_is_the_default_and_writes_nothing() {
    let seller = Seller::http(|call| call.reply(200, "", "ok"));
    let mut program = Program::start(Setup::new());
    assert_eq!(program.get(&seller.url("/")).status, 200);
    program.terminate();
    assert!(program.wait().success());
    assert!(program.out().is_empty(), "{:?}", program.out());
}

#[test]
fn a_stop_writes_the_last_lines() {
    let seller = Seller::http(|call| call.reply(200, "", "ok"));
    let mut program = Program::start(with("json"));
    let mut agent = program.agent();
    for _ in 0..200 {
        assert_eq!(agent.get(&seller.url("/")).status, 200);
    }
    program.terminate();
    assert!(program.wait().success());
    lines(&program, 200);
}

#[test]
fn a_reader_that_stands_still_loses_lines_and_holds_nothing_up() {
    let seller = Seller::http(|call| call.reply(200, "", "ok"));
    let program = Program::start(with("json"));
    // A second process whose output nobody reads.
    let proxy = crate::harness::free_port();
    let admin = crate::harness::free_port();
    let dir = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(program.path("tollpass.yaml")).unwrap();
    let config = config.replace("proxy: 127.0.0.1:0, admin: 127.0.0.1:0", &format!("proxy: 127.0.0.1:{proxy}, admin: 127.0.0.1:{admin}"));
    std::fs::write(dir.path().join("tollpass.yaml"), config).unwrap();
    std::fs::copy(program.path("policy.yaml"), dir.path().join("policy.yaml")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollpass"))
        .args(["serve", "--config", "tollpass.yaml"])
        .current_dir(dir.path())
        .env("TOLLPASS_DEV_KEY", "11".repeat(32))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let unread = child.stdout.take();
    eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", proxy)).is_ok());
    // Much more than the pipe and the queue hold. A worker that waited for the reader would wait for ever.
    let path = "x".repeat(900);
    let mut agent = Agent::to(([127, 0, 0, 1], proxy).into());
    let url = seller.url(&format!("/{path}"));
    for _ in 0..4600 {
        assert_eq!(agent.get(&url).status, 200);
    }
    let mut operator = Agent::to(([127, 0, 0, 1], admin).into());
    let metrics = operator.request("GET", "/metrics", "Host: x\r\n", b"").text();
    let line = metrics.lines().find(|l| l.starts_with("tollpass_access_log_dropped_total ")).unwrap();
    assert!(line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() > 0, "{line}");
    let _ = child.kill();
    let _ = child.wait();
    drop(unread);
}
