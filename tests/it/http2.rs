//! HTTP/2 with agents and sellers: the same requests, payments and limits, in another form.

use alloy_primitives::Address;
use http::{Request, Response};

use crate::harness::{
    Agent2, Chain, Message, Plan, Program, Seen2, Seller, Seller2, Setup, Terms, TestCa, agreed, basic, get, present, shop,
};

const PAYEE: Address = Address::repeat_byte(0x22);

fn seller2(tls: bool, handler: impl Fn(&Seen2) -> Response<Message> + Send + Sync + 'static) -> (Seller2, TestCa) {
    let ca = TestCa::new();
    let config = tls.then(|| ca.server(&["localhost", "127.0.0.1"]).0);
    (Seller2::start(config, handler), ca)
}

/// Asks for money, takes it, answers with `body` and a trailer. `padding` makes the challenge long.
fn shop2(chain: &Chain, padding: usize) -> impl Fn(&Seen2) -> Response<Message> + Send + Sync + use<> {
    let (chain, mut terms) = (chain.clone(), Terms::v2(PAYEE, 10_000));
    terms.error = "p".repeat(padding);
    move |seen| match present(&seen.head, &terms) {
        Some(Ok(payment)) if chain.settle(payment.from, payment.to, payment.value, payment.nonce).is_ok() => {
            Response::new(Message::new(seen.body.clone()).trailer("grpc-status", "0"))
        }
        _ => {
            let lines = terms.answer().0;
            let mut answer = Response::builder().status(402);
            for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
                answer = answer.header(name, value);
            }
            answer.body(Message::new("")).unwrap()
        }
    }
}

/// The inside of an intercepted tunnel.
fn inside(program: &Program, port: u16) -> Agent2 {
    let tunnel = program.agent().connect(&format!("localhost:{port}"), "");
    Agent2::tls(tunnel.wire.tcp().try_clone().unwrap(), "localhost", &program.ca())
}

fn url(seller: &Seller2, path: &str) -> String {
    format!("https://localhost:{}{path}", seller.address.port())
}

#[test]
fn an_http2_agent_is_served_by_an_http1_seller() {
    let seller = Seller::http(|call| {
        let body = call.body();
        call.reply(200, "Connection: X-Hop\r\nX-Hop: 1\r\n", body)
    });
    let program = Program::start(Setup::new());
    let agent = Agent2::to(program.proxy());
    let mut request = Request::post(seller.url("/a?b")).body(Message::new("hello")).unwrap();
    for cookie in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", cookie.parse().unwrap());
    }
    let answer = agent.send(request);
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert!(!answer.headers.contains_key("x-hop"));
    let head = &seller.seen()[0].head;
    assert_eq!((head.start.as_str(), head.get("host")), ("POST /a?b HTTP/1.1", Some(seller.authority().as_str())));
    assert_eq!(head.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
    assert!(head.get("via").unwrap().starts_with("2.0 tollpass-"));
}

#[test]
fn http2_requests_run_side_by_side_and_keep_their_connections() {
    let seller = Seller::http(|call| {
        let path = call.head.target().to_owned();
        call.reply(200, "", path)
    });
    let program = Program::start(Setup::new());
    let agent = Agent2::to(program.proxy());
    for round in 0..3 {
        let requests: Vec<_> = (0..8).map(|n| get(&seller.url(&format!("/{round}/{n}")))).collect();
        for (n, answer) in agent.send_all(requests).into_iter().enumerate() {
            assert_eq!(answer.text(), format!("/{round}/{n}"));
        }
    }
    assert!(seller.connections() <= 8, "{} connections for at most 8 requests at once", seller.connections());
}

#[test]
fn http2_goes_on_as_http2_with_trailers_both_ways() {
    let (seller, ca) = seller2(true, |seen| Response::new(Message::new(seen.body.clone()).trailer("grpc-status", "0")));
    let program = Program::start(Setup::new().roots(&ca.pem));
    let agent = inside(&program, seller.address.port());
    let request = Request::post(url(&seller, "/svc/Method")).header("te", "trailers").header("content-type", "application/grpc");
    let answer = agent.send(request.body(Message::new("request").trailer("x-sum", "7")).unwrap());
    assert_eq!((answer.status, answer.text().as_str(), &answer.trailers["grpc-status"]), (200, "request", &"0".parse().unwrap()));
    let seen = &seller.seen()[0];
    assert_eq!((seen.head.get("te"), seen.trailers.get("x-sum").map(String::as_str)), (Some("trailers"), Some("7")));
    assert!(!seen.head.has("host") && !seen.head.has("connection"));
    assert_eq!(seen.head.target(), url(&seller, "/svc/Method"));
}

#[test]
fn requests_of_one_agent_share_an_http2_connection_and_agents_do_not() {
    let (seller, ca) = seller2(true, |_| Response::new(Message::new("x")));
    let tokens = crate::proxy_agents::tokens(&[("bot", "secret"), ("other", "secret")]);
    let setup = Setup::new().agents("tokens: file:tokens.yaml").file("tokens.yaml", tokens).tls("intercept: all").roots(&ca.pem);
    let program = Program::start(setup);
    let port = seller.address.port();
    let mut agents = Vec::new();
    for name in ["bot", "other"] {
        let tunnel = program.agent().connect(&format!("localhost:{port}"), &basic(name, "secret"));
        let agent = Agent2::tls(tunnel.wire.tcp().try_clone().unwrap(), "localhost", &program.ca());
        assert_eq!(agent.send(get(&url(&seller, "/warm"))).status, 200);
        let before = seller.connections();
        assert!(agent.send_all((0..20).map(|_| get(&url(&seller, "/"))).collect()).iter().all(|a| a.status == 200));
        assert_eq!(seller.connections(), before, "{name}");
        agents.push(agent);
    }
    assert_eq!(seller.connections(), 2);
}

#[test]
fn an_http1_agent_reaches_a_seller_that_speaks_http2_only() {
    let (seller, ca) = seller2(true, |seen| Response::new(Message::new(seen.body.clone())));
    let program = Program::start(Setup::new().roots(&ca.pem));
    let answer = program.request("POST", &url(&seller, "/x"), "", b"hello");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
}

#[test]
fn a_purchase_over_http2_with_a_challenge_of_20_kb_is_paid_once() {
    let chain = Chain::new();
    let (seller, ca) = seller2(true, shop2(&chain, 15_000));
    let program = Program::start(Setup::new().roots(&ca.pem));
    let body = vec![7; 300_000];
    let request = Request::post(url(&seller, "/buy")).header("te", "trailers").body(Message::new(body.clone())).unwrap();
    let answer = inside(&program, seller.address.port()).send(request);
    assert_eq!((answer.status, answer.body == body), (200, true));
    assert_eq!(answer.trailers["grpc-status"], "0", "trailers of a paid answer");
    assert_eq!((chain.count(), seller.seen().len()), (1, 2));
}

#[test]
fn prior_knowledge_inside_a_tunnel_means_that_the_seller_has_it_too() {
    let chain = Chain::new();
    let (seller, _) = seller2(false, shop2(&chain, 0));
    let program = Program::start(Setup::new());
    let tunnel = program.agent().connect(&seller.address.to_string(), "");
    let agent = Agent2::plain(tunnel.wire.tcp().try_clone().unwrap());
    let answer = agent.send(Request::post(format!("http://{}/m", seller.address)).body(Message::new("hi")).unwrap());
    assert_eq!((answer.status, answer.text().as_str(), chain.count()), (200, "hi", 1));
}

#[test]
fn identical_http2_requests_side_by_side_are_as_many_purchases_m1_1() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |visit| Plan::ok(visit.head.target())));
    let program = Program::start(Setup::new());
    let agent = Agent2::to(program.proxy());
    let answers = agent.send_all((0..10).map(|_| get(&seller.url("/same"))).collect());
    assert!(answers.iter().all(|a| a.status == 200));
    assert_eq!(chain.count(), 10);
}

#[test]
fn a_stream_of_the_client_is_not_payable() {
    let seller = Seller::http(|call| {
        let (headers, _) = Terms::v2(PAYEE, 10_000).answer();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Content-Length: 0\r\n\r\n"));
        call.hang()
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        seller.url("/"),
        seller.authority()
    ));
    let answer = agent.response();
    assert_eq!((answer.status, answer.reason().as_str()), (402, "body_open"));
}

#[test]
fn http2_can_be_turned_off() {
    let seller = Seller::http(|call| call.reply(200, "", "x"));
    let program = Program::start(Setup::new().tls("intercept: all").upstream("http2: never"));
    let tunnel = program.agent().connect(&format!("localhost:{}", seller.port()), "");
    assert_eq!(agreed(tunnel.wire.tcp().try_clone().unwrap(), "localhost", &program.ca()).unwrap(), b"http/1.1");
}

#[test]
fn an_inner_authority_that_differs_is_421_in_http2_too() {
    let (seller, ca) = seller2(true, |_| Response::new(Message::new("x")));
    let program = Program::start(Setup::new().roots(&ca.pem));
    let agent = inside(&program, seller.address.port());
    let answer = agent.send(get("https://other.example/"));
    assert_eq!((answer.status, answer.reason().as_str()), (421, "misdirected"));
    assert_eq!(seller.seen().len(), 0);
}
