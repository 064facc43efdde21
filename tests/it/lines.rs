//! Which connection to the seller a request takes: the paid one, and the first one of a tunnel.

use std::sync::{Arc, Mutex};

use alloy_primitives::Address;

use crate::harness::{Call, Chain, Next, Plan, Program, Seller, Setup, Terms, TestCa, eventually, shop};

const PAYEE: Address = Address::repeat_byte(0x66);

type Log = Arc<Mutex<Vec<(&'static str, usize)>>>;

/// A shop that notes which connection brought what. `ask` answers what is not paid for.
fn noting(ask: impl Fn(&mut Call<'_>, &Terms) -> Next + Send + Sync + 'static) -> (Seller, Chain, Log) {
    let (chain, log, terms) = (Chain::new(), Log::default(), Terms::v2(PAYEE, 10_000));
    let (sell, noted) = (shop(&chain, terms.clone(), |_| Plan::ok("sold")), log.clone());
    let seller = Seller::http(move |call| {
        let kind = if call.head.target() == "/free" {
            "free"
        } else if call.head.has("payment-signature") {
            "paid"
        } else {
            "ask"
        };
        noted.lock().unwrap().push((kind, call.connection));
        match kind {
            "free" => call.reply(200, "", "free"),
            "paid" => sell(call),
            _ => ask(call, &terms),
        }
    });
    (seller, chain, log)
}

#[test]
fn a_paid_request_goes_out_where_its_challenge_came_from_and_so_does_the_next() {
    let (seller, chain, log) = noting(|call, terms| {
        let (headers, body) = terms.answer();
        call.reply(402, &headers, body)
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for n in 0..3 {
        assert_eq!(agent.get(&seller.url(&format!("/{n}"))).text(), "sold");
        assert_eq!(agent.get(&seller.url("/free")).text(), "free");
    }
    let round = [("ask", 0), ("paid", 0), ("free", 0)];
    assert_eq!((log.lock().unwrap().as_slice(), chain.count()), (&[round; 3].concat()[..], 3));
}

#[test]
fn a_paid_request_waits_for_no_connection_that_is_not_certainly_free() {
    type Ask = fn(&mut Call<'_>, &Terms) -> Next;
    let closes: Ask = |call, terms| {
        let (headers, body) = terms.answer();
        call.reply(402, &format!("{headers}Connection: close\r\n"), body);
        Next::Close
    };
    let never_ends: Ask = |call, terms| {
        let (headers, _) = terms.answer();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Content-Length: 1000\r\n\r\nno more than this"));
        call.hang()
    };
    let unknown_length: Ask = |call, terms| {
        let (headers, _) = terms.answer();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"));
        call.chunk("and so on");
        call.hang()
    };
    let large: Ask = |call, terms| {
        let (headers, _) = terms.answer();
        call.reply(402, &headers, vec![b'x'; 1 << 20])
    };
    for (name, ask) in [("closes", closes), ("never ends", never_ends), ("unknown length", unknown_length), ("large", large)] {
        let (seller, chain, log) = noting(ask);
        let program = Program::start(Setup::new());
        let mut agent = program.agent();
        assert_eq!(agent.get(&seller.url("/")).text(), "sold", "{name}");
        assert_eq!(log.lock().unwrap().as_slice(), [("ask", 0), ("paid", 1)], "{name}");
        assert_eq!(agent.get(&seller.url("/free")).text(), "free", "{name}");
        assert_eq!((log.lock().unwrap()[2], chain.count()), (("free", 1), 1), "{name}: the new one is kept");
    }
}

#[test]
fn the_sellers_connection_of_a_tunnel_begins_with_the_agents_hello_and_is_the_only_one() {
    let ca = TestCa::new();
    let seller = Seller::start(Some(ca.server(&["localhost"]).0), |call| call.reply(200, "", "hello"));
    let program = Program::start(Setup::new().roots(&ca.pem));
    let tunnel = || program.agent().connect(&format!("localhost:{}", seller.port()), "").tls("localhost", &program.ca());
    let mut agent = tunnel();
    eventually("the seller was reached before anything was asked", || seller.connections() == 1);
    for _ in 0..3 {
        assert_eq!(agent.request("GET", "/", "", b"").text(), "hello");
    }
    assert_eq!(seller.connections(), 1);
    drop(agent);
    // It is free now, so the next tunnel begins none.
    eventually("the connection is used again", || tunnel().request("GET", "/", "", b"").text() == "hello");
    assert!(seller.connections() <= 2, "{}", seller.connections());
}

#[test]
fn what_fails_while_the_first_request_waits_for_it_is_its_answer_and_not_tried_again() {
    let ca = TestCa::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, reached) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    // Takes every connection and never says a word of TLS.
    let kept = reached.clone();
    std::thread::spawn(move || listener.incoming().for_each(|stream| kept.lock().unwrap().push(stream)));
    let program = Program::start(Setup::new().roots(&ca.pem).upstream("connect: 1s"));
    let mut agent = program.agent().connect(&format!("localhost:{port}"), "").tls("localhost", &program.ca());
    let answer = agent.request("GET", "/", "", b"");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(reached.lock().unwrap().len(), 1);
}
