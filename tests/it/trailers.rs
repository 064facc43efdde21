//! Trailers over HTTP/1: what was announced passes, where the other side can take it.

use std::sync::mpsc::channel;

use crate::harness::{Program, Seller, Setup};

#[test]
fn announced_trailers_of_a_request_reach_the_seller_and_framing_fields_among_them_do_not() {
    for (target, setup) in
        [("payable", Setup::new()), ("not payable", Setup::new().policy("version: 1\nagents: { bot: { caps: {}, allow: [] } }\n"))]
    {
        let (told, heard) = channel();
        let told = std::sync::Mutex::new(told);
        let seller = Seller::tcp(move |wire| {
            let Ok(Some(head)) = wire.head() else { return };
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n") {
                rest.extend(wire.some().unwrap());
            }
            let _ = wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let _ = told.lock().unwrap().send((head, String::from_utf8(rest).unwrap()));
        });
        let program = Program::start(setup);
        let mut agent = program.agent();
        agent.send(format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum, Content-Length, Host\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\nX-Unannounced: 8\r\nContent-Length: 40\r\nHost: evil\r\n\r\n",
            seller.url("/a")
        ));
        assert_eq!(agent.response().status, 200, "{target}");
        let (head, rest) = heard.recv().unwrap();
        assert_eq!(rest.to_ascii_lowercase(), "2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n", "{target}");
        assert_eq!((head.get("te"), head.get("connection"), head.has("content-length")), (Some("trailers"), Some("te"), false), "{target}");
    }
}

#[test]
fn announced_trailers_of_an_answer_reach_an_agent_that_takes_them() {
    let seller = Seller::http(|call| {
        call.raw(
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Tollpass-Reason\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n0\r\nX-Sum: 7\r\nTollpass-Reason: ok\r\nContent-Length: 9\r\n\r\n",
        );
        crate::harness::Next::Keep
    });
    let program = Program::start(Setup::new());
    for (lines, end) in [("TE: trailers\r\nConnection: TE\r\n", "0\r\nx-sum: 7\r\n\r\n"), ("", "0\r\n\r\n")] {
        let mut agent = program.agent();
        agent.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n{lines}\r\n", seller.url("/a")));
        let head = agent.head().unwrap();
        assert!(head.chunked());
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            rest.extend(agent.wire.some().unwrap());
        }
        assert_eq!(String::from_utf8(rest).unwrap().to_ascii_lowercase(), format!("2\r\nab\r\n{end}"), "{lines}");
    }
}
