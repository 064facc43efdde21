//! What the operator sees and does: metrics, logs, probes, start and stop.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use alloy_primitives::Address;

use crate::harness::{Act, Agent, Chain, Plan, Program, Seller, Setup, Terms, TestCa, Wire, basic, eventually, free_port, payer, seller_text, shop};

const PAYEE: Address = Address::repeat_byte(0x99);

fn selling(chain: &Chain) -> Seller {
    Seller::http(shop(chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")))
}

#[test]
fn labels_do_not_grow_with_hosts_paths_callers_or_sellers() {
    let chain = Chain::new();
    let sellers = [selling(&chain), selling(&chain)];
    let names: Vec<String> = (0..12).map(|n| format!("stranger-{n}")).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "t")).collect();
    let program = Program::start(Setup::new().agents("default: bot, tokens: file:agents.yaml").file("agents.yaml", crate::proxy_agents::tokens(&rows)));
    let traffic = |from: usize, to: usize| {
        for (n, name) in names.iter().enumerate().take(to).skip(from) {
            let url = format!("http://{}:{}/path-{n}?q={n}", ["localhost", "127.0.0.1"][n % 2], sellers[n % 2].port());
            program.request("GET", &url, &format!("User-Agent: ua-{n}\r\nX-Odd-{n}: 1\r\n"), b"");
            program.request(&format!("METHOD{n}"), &url, &basic(name, "t"), b"");
            program.request("GET", &url, &basic("nobody", name), b"");
        }
    };
    traffic(0, 2);
    let count = || program.metrics().series.iter().filter(|(n, ..)| n.starts_with("tollpass_")).count();
    let before = count();
    traffic(2, 12);
    assert_eq!(count(), before);
    for (name, labels, _) in program.metrics().series {
        for (label, value) in labels {
            let leaks = ["stranger", "path-", "localhost", "127.0.0.1", "0x", "METHOD"].iter().any(|s| value.contains(s));
            assert!(!leaks || label == "le" || label == "digest", "{name}{{{label}={value}}}");
        }
    }
}

#[test]
fn probes_answer_on_the_admin_listener_only() {
    let program = Program::start(Setup::new());
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/state", 404), ("/livez/..", 404)] {
        assert_eq!(program.admin_get(path).unwrap().status, status, "{path}");
    }
    assert_eq!(program.admin_get("/readyz").unwrap().json()["ready"], true);
    let mut agent = Agent { wire: Wire::plain(TcpStream::connect(program.admin()).unwrap()) };
    assert_eq!(agent.request("POST", "/metrics", "Host: x\r\n", b"x").status, 405);
}

#[test]
fn the_health_listener_serves_probes_and_nothing_else() {
    let port = free_port();
    let mut setup = Setup::new();
    setup.listen = format!(", health: 127.0.0.1:{port}");
    let program = Program::start(setup);
    let mut agent = Agent { wire: Wire::plain(TcpStream::connect(("127.0.0.1", port)).unwrap()) };
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(agent.request("GET", path, "Host: x\r\n", b"").status, 200, "{path}");
    }
    assert_eq!(agent.request("GET", "/anything", "Host: x\r\n", b"").status, 404);
    assert_eq!(program.get(&format!("http://127.0.0.1:{port}/metrics")).reason(), "forbidden_address", "and no agent reaches it through us");
}

#[test]
fn sigterm_waits_for_a_paid_request_whose_agent_left() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold, slowly").after(Duration::from_millis(800))));
    let mut program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(Agent::request_bytes("GET", &seller.url("/slow"), "", b""));
    eventually("the payment is under way", || !seller.paid().is_empty());
    drop(agent);
    program.terminate();
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(chain.count(), 1);
    program.restart();
    let answer = program.get(&seller.url("/slow"));
    assert_eq!((answer.text().as_str(), chain.count()), ("sold, slowly", 1), "what was paid for is delivered, not bought again");
}

#[test]
fn sigterm_lets_unpaid_requests_finish_within_their_time_and_then_cuts_them() {
    let slow = Seller::http(|call| {
        std::thread::sleep(Duration::from_millis(700));
        call.reply(200, "", "done")
    });
    let never = Seller::http(|call| call.hang());
    let mut program = Program::start(Setup::new().drain("unpaid: 2s, paid: 2s"));
    let ask = |url: String| {
        let proxy = program.proxy();
        std::thread::spawn(move || {
            let mut agent = Agent::to(proxy);
            agent.send(Agent::request_bytes("GET", &url, "", b""));
            agent.response_to("GET")
        })
    };
    let (done, cut) = (ask(slow.url("/")), ask(never.url("/")));
    eventually("both are under way", || slow.count() == 1 && never.count() == 1);
    let idle = program.agent();
    program.terminate();
    assert_eq!(done.join().unwrap().unwrap().text(), "done");
    assert!(cut.join().unwrap().is_err());
    assert_eq!(program.wait().code(), Some(0));
    drop(idle);
}

#[test]
fn an_idle_program_stops_at_once() {
    let chain = Chain::new();
    let seller = selling(&chain);
    let mut program = Program::start(Setup::new());
    let mut agent = program.agent();
    assert_eq!(agent.get(&seller.url("/")).status, 200);
    let mut tunnel = program.agent().connect(&seller.authority(), "");
    assert_eq!(tunnel.request("GET", "/", "", b"").status, 200);
    let started = std::time::Instant::now();
    program.terminate();
    assert_eq!(program.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(4), "idle connections hold nothing up: {:?}", started.elapsed());
}

fn code(output: &std::process::Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn serve_check_says_ok_or_the_place_of_every_mistake() {
    let check = ["serve", "--config", "tollpass.yaml", "--check"];
    let output = Program::once(&Setup::new(), &check);
    assert_eq!(code(&output), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |o: &std::process::Output| format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(!text(&output).contains("ac0974bec39a17e3"));

    let mut wrong = Setup::new().policy("version: 1\nagents:\n  bot:\n    caps: { per_payment: free }\n    allow: []\n");
    wrong.more = "chains: {}\nunknown: 1\n".into();
    let output = Program::once(&wrong, &check);
    assert_eq!(code(&output), Some(2));
    let said = text(&output);
    assert!(said.contains("tollpass.yaml:") && said.contains("not in this version") && said.contains("unknown key `unknown`"), "{said}");

    let output = Program::once(&Setup::new().policy("version: 1\nagents:\n  bot:\n    caps: { per_payment: free, day: 1 }\n"), &check);
    assert_eq!(code(&output), Some(2));
    assert!(text(&output).contains("policy.yaml:4:"), "{}", text(&output));
}

#[test]
fn a_program_that_cannot_start_says_why_and_leaves_nothing_running() {
    let serve = ["serve", "--config", "tollpass.yaml"];
    let stderr = |o: &std::process::Output| String::from_utf8_lossy(&o.stderr).into_owned();
    let output = Program::once(&Setup::new().policy("version: 2\n"), &serve);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("policy.yaml:1:"), "{}", stderr(&output));

    let output = Program::once(&Setup::new().env("TOLLPASS_DEV_KEY", "zz"), &serve);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setup = Setup::new();
    setup.proxy = taken.local_addr().unwrap().to_string();
    let output = Program::once(&setup, &serve);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("listen.proxy"), "{}", stderr(&output));

    let missing = Program::once(&Setup::new(), &["serve", "--config", "nowhere.yaml"]);
    assert_eq!(code(&missing), Some(2));
    assert!(stderr(&missing).contains("tollpass init"), "{}", stderr(&missing));
}

#[test]
fn proxy_variables_of_the_operators_shell_do_not_bend_the_proxy() {
    let chain = Chain::new();
    let (seller, trap) = (selling(&chain), Seller::http(|call| call.reply(200, "", "trap")));
    let url = format!("http://{}", trap.authority());
    let setup = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"].iter().fold(Setup::new(), |s, name| s.env(name, &url));
    assert_eq!(Program::start(setup).get(&seller.url("/")).text(), "sold");
    assert_eq!(trap.connections(), 0);
}

#[test]
fn the_bundle_is_enough_for_a_client_that_takes_one_file() {
    let (chain, ca) = (Chain::new(), TestCa::new());
    let seller = Seller::start(Some(ca.server(&["localhost"]).0), shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new().roots(&ca.pem));
    let bundle = std::fs::read_to_string(program.path("state/trust/bundle.pem")).unwrap();
    assert!(bundle.matches("BEGIN CERTIFICATE").count() > 50, "the system's roots are in it");
    let mine = bundle.rsplit("-----BEGIN CERTIFICATE-----").next().unwrap();
    let pem = format!("-----BEGIN CERTIFICATE-----{mine}");
    let mut agent = program.agent().connect(&format!("localhost:{}", seller.port()), "").tls("localhost", &pem);
    assert_eq!(agent.request("GET", "/", "", b"").text(), "sold");
}
