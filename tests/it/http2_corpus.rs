//! HTTP/2 frame by frame: what breaks the rules of RFC 9113, what tries to exhaust the proxy, and what an HTTP/1 seller must
//! never see. The connection errors follow the sections that h2spec goes through; the floods have the names of their CVEs.

mod frames;

use std::time::Instant;

use frames::{Client, END_HEADERS, END_STREAM, Event, field, frame, settings};

use crate::harness::{Agent2, Program, Seller, Setup, eventually, get};
use crate::smuggling::tap::Tap;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The pseudo-headers of a GET and further fields.
fn request(authority: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", path)];
    pseudo.iter().chain(more).flat_map(|(n, v)| field(n, v)).collect()
}

#[test]
fn a_connection_error_is_a_goaway_and_the_end() {
    let seller = Seller::http(|call| call.reply(200, "", "x"));
    let program = Program::start(Setup::new());
    let authority = seller.authority();
    let ask = request(&authority, "/", &[]);
    let open = frame(HEADERS, END_HEADERS, 1, &ask);
    for (row, bytes, expected) in [
        ("4.2 a frame over the limit", frame(DATA, 0, 1, &[0; 16_385]), FRAME_SIZE_ERROR),
        ("4.3 an index that is none", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0x0f]), COMPRESSION_ERROR),
        ("5.1 DATA on an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("5.1 RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), PROTOCOL_ERROR),
        ("5.1 WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 8]), PROTOCOL_ERROR),
        ("5.1.1 a stream of the server's", frame(HEADERS, END_HEADERS | END_STREAM, 2, &ask), PROTOCOL_ERROR),
        ("6.1 DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("6.1 padding longer than the frame", [open.clone(), frame(DATA, 8, 1, &[9, 0, 0])].concat(), PROTOCOL_ERROR),
        ("6.2 HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &ask), PROTOCOL_ERROR),
        ("6.2 a frame within a header block", [frame(HEADERS, 0, 1, &ask), frame(PING, 0, 0, &[0; 8])].concat(), PROTOCOL_ERROR),
        ("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 1]), PROTOCOL_ERROR),
        ("6.4 RST_STREAM of 3 bytes", [open.clone(), frame(RST_STREAM, 0, 1, &[0, 0, 0])].concat(), FRAME_SIZE_ERROR),
        ("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        ("6.5 SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("6.5 an acknowledgement with content", frame(SETTINGS, 1, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("6.5.2 a window of 2^31", settings(&[(4, 1 << 31)]), FLOW_CONTROL_ERROR),
        ("6.5.2 a frame size of 16383", settings(&[(5, 16_383)]), PROTOCOL_ERROR),
        ("6.6 PUSH_PROMISE of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &ask].concat()), PROTOCOL_ERROR),
        ("6.7 PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("6.7 PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("6.9 an increment of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        ("6.9 WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        ("6.9.1 a window over 2^31", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), FLOW_CONTROL_ERROR),
        ("6.10 CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &ask), PROTOCOL_ERROR),
    ] {
        let mut client = Client::new(&program);
        client.send(&bytes);
        let code = client.goaway();
        // The library names some of them with the general code.
        assert!(code == Some(expected) || code == Some(PROTOCOL_ERROR), "{row}: {code:?}");
        assert!(client.is_closed(), "{row}");
    }
    assert_eq!(Agent2::to(program.proxy()).send(get(&seller.url("/"))).status, 200, "others are served");
}

#[test]
fn what_is_no_preface_is_closed() {
    let program = Program::start(Setup::new());
    for bytes in ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut agent = program.agent();
        agent.send(bytes);
        agent.send([0; 64]);
        // Whatever is said, it is not an answer to a request, and then it is over.
        agent.wire.wait_for_close();
        assert!(agent.is_closed(), "{bytes}");
    }
}

/// Requests that must not be made HTTP/1 of: each resets its stream or is answered 400 or 421; the connection lives on.
#[test]
fn what_would_divide_an_http1_seller_is_refused_and_the_connection_goes_on() {
    let tap = Tap::start(None);
    let program = Program::start(Setup::new());
    let authority = tap.authority();
    let with = |more: &[(&str, &str)]| request(&authority, "/a", more);
    let pseudo = |rows: &[(&str, &str)]| -> Vec<u8> { rows.iter().flat_map(|(n, v)| field(n, v)).collect() };
    let (method, scheme, auth, path) = ((":method", "GET"), (":scheme", "http"), (":authority", &*authority), (":path", "/a"));
    let smuggled = "/a HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled";
    for (row, block) in [
        ("8.2.1 an uppercase name", with(&[("X-Upper", "1")])),
        ("8.2.1 LF in a value", with(&[("x", "a\nb: c")])),
        ("8.2.1 CR in a value", with(&[("x", "a\rb")])),
        ("8.2.1 NUL in a value", with(&[("x", "a\0b")])),
        ("8.2.1 a blank in a name", with(&[("x y", "1")])),
        ("8.2.1 a colon in a name", with(&[("x:y", "1")])),
        ("8.2.1 CRLF in a name", with(&[("x\r\nhost", "evil")])),
        ("8.2.1 an empty name", with(&[("", "1")])),
        ("8.2.2 H2.TE", with(&[("transfer-encoding", "chunked")])),
        ("8.2.2 Connection", with(&[("connection", "x-hop")])),
        ("8.2.2 Keep-Alive", with(&[("keep-alive", "1")])),
        ("8.2.2 Proxy-Connection", with(&[("proxy-connection", "keep-alive")])),
        ("8.2.2 Upgrade", with(&[("upgrade", "websocket")])),
        ("8.2.2 TE that is not trailers", with(&[("te", "gzip")])),
        ("8.1.1 H2.CL with another length than the data", with(&[("content-length", "40")])),
        ("8.1.1 two lengths", with(&[("content-length", "0"), ("content-length", "3")])),
        ("8.1.1 a length that is no number", with(&[("content-length", "+0")])),
        ("8.3 a pseudo-header behind a field", [pseudo(&[method, scheme, auth]), field("x", "1"), pseudo(&[path])].concat()),
        ("8.3 an unknown pseudo-header", pseudo(&[method, scheme, auth, path, (":x", "1")])),
        ("8.3 :status in a request", pseudo(&[method, scheme, auth, path, (":status", "200")])),
        ("8.3.1 no :method", pseudo(&[scheme, auth, path])),
        ("8.3.1 no :path", pseudo(&[method, scheme, auth])),
        ("8.3.1 no :scheme", pseudo(&[method, auth, path])),
        ("8.3.1 an empty :path", pseudo(&[method, scheme, auth, (":path", "")])),
        ("8.3.1 :method twice", pseudo(&[method, method, scheme, auth, path])),
        ("8.3.1 :path twice", pseudo(&[method, scheme, auth, path, (":path", "/b")])),
        ("8.3.1 :authority twice", pseudo(&[method, scheme, auth, auth, path])),
        ("desync :path with a request in it", pseudo(&[method, scheme, auth, (":path", smuggled)])),
        ("desync :path with a blank", pseudo(&[method, scheme, auth, (":path", "/a HTTP/1.1")])),
        ("desync :path that is a URL", pseudo(&[method, scheme, auth, (":path", "http://evil.example/")])),
        ("desync :method with a request in it", pseudo(&[(":method", "GET / HTTP/1.1\r\nx: "), scheme, auth, path])),
        ("desync :authority with CRLF", pseudo(&[method, scheme, (":authority", "a\r\nx: y"), path])),
        ("desync :authority with a path", pseudo(&[method, scheme, (":authority", &format!("{authority}/b")), path])),
        ("desync :authority with a user", pseudo(&[method, scheme, (":authority", &format!("x@{authority}")), path])),
        ("desync :scheme with a URL", pseudo(&[method, (":scheme", "http://evil.example/?"), auth, path])),
    ] {
        let mut client = Client::new(&program);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        let event = client.event(1);
        assert!(
            matches!(event, Event::Reset(PROTOCOL_ERROR) | Event::Status(400 | 421) | Event::GoAway(PROTOCOL_ERROR)),
            "{row}: {event:?}"
        );
        assert_eq!(tap.drain(), [""; 0], "{row}");
        if !matches!(event, Event::GoAway(_)) {
            client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &with(&[])));
            assert_eq!(client.event(3), Event::Status(200), "{row}");
            assert_eq!(tap.drain(), ["GET /a "], "{row}");
        }
    }
}

#[test]
fn near_misses_of_http2_reach_the_seller_as_one_request() {
    let tap = Tap::start(None);
    let program = Program::start(Setup::new());
    let authority = tap.authority();
    let with = |more: &[(&str, &str)]| request(&authority, "/a", more);
    let long = "y".repeat(20_000);
    for (row, bytes, seen) in [
        ("plain", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[])), "GET /a "),
        ("the same host", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[("host", &authority)])), "GET /a "),
        ("another host does not decide", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[("host", "evil.example")])), "GET /a "),
        ("TE: trailers", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[("te", "trailers")])), "GET /a "),
        (
            "a body of the length it says",
            [frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "5")])), frame(DATA, END_STREAM, 1, b"hello")].concat(),
            "GET /a hello",
        ),
        (
            "a body without a length, in pieces and padded",
            [frame(HEADERS, END_HEADERS, 1, &with(&[])), frame(DATA, 8, 1, b"\x02hel\0\0"), frame(DATA, END_STREAM, 1, b"lo")].concat(),
            "GET /a hello",
        ),
        ("a header list of 20 kB", frames::headers(1, &with(&[("x", &long)])), "GET /a "),
        ("a header block in many frames", frames::split_headers(1, &with(&[("x", "y")]), 40), "GET /a "),
        (
            "a frame of an unknown type",
            [frame(0xee, 0xff, 0, b"?"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[]))].concat(),
            "GET /a ",
        ),
    ] {
        let mut client = Client::new(&program);
        client.send(&bytes);
        assert_eq!(client.event(1), Event::Status(200), "{row}");
        assert_eq!(tap.drain(), [seen], "{row}");
    }
}

#[test]
fn a_body_that_does_not_keep_its_length_is_reset_and_never_whole_for_the_seller() {
    let tap = Tap::start(None);
    let program = Program::start(Setup::new());
    let authority = tap.authority();
    for (length, data) in [("5", "hel"), ("3", "hello"), ("0", "hello")] {
        let mut client = Client::new(&program);
        client.send(&frame(HEADERS, END_HEADERS, 1, &request(&authority, "/a", &[("content-length", length)])));
        client.send(&frame(DATA, END_STREAM, 1, data.as_bytes()));
        let event = client.event(1);
        let allowed = matches!(event, Event::Reset(PROTOCOL_ERROR) | Event::GoAway(PROTOCOL_ERROR) | Event::Status(400 | 502));
        assert!(allowed, "{length}: {event:?}");
        assert_eq!(tap.drain(), [""; 0], "{length}: {data}");
    }
}

#[test]
fn a_header_list_over_the_limit_is_431() {
    let tap = Tap::start(None);
    let program = Program::start(Setup::new().limits("header: 32KiB"));
    let authority = tap.authority();
    let mut client = Client::new(&program);
    client.send(&frames::headers(1, &request(&authority, "/a", &[("x", &"y".repeat(33_000))])));
    assert_eq!(client.event(1), Event::Status(431));
    client.send(&frames::headers(3, &request(&authority, "/a", &[("x", &"y".repeat(30_000))])));
    assert_eq!(client.event(3), Event::Status(200));
    assert_eq!(tap.drain(), ["GET /a "]);
    // Up to twice the limit the answer says why; beyond, the library refuses before anybody of ours has seen a request.
    for (length, reason) in [(33_000, Some("header_too_large")), (60_000, Some("header_too_large")), (70_000, None)] {
        let mut long = get(&format!("http://{authority}/a"));
        long.headers_mut().insert("x", "y".repeat(length).parse().unwrap());
        let answer = Agent2::to(program.proxy()).send(long);
        assert_eq!((answer.status, reason.is_some()), (431, answer.headers.contains_key("proxy-status")), "{length}");
        if let Some(reason) = reason {
            assert_eq!(answer.reason(), reason, "{length}");
        }
    }
    let many = (0..600).fold(get(&format!("http://{authority}/a")), |mut many, n| {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{n:03}")).unwrap(), "y".parse().unwrap());
        many
    });
    assert_eq!(Agent2::to(program.proxy()).send(many).status, 200, "names and values are what counts, not their number");
    assert_eq!(tap.drain(), ["GET /a "]);
}

/// Runs a flood on one connection and looks at the process: how it ended, what it cost, and whether others are served.
#[track_caller]
fn flood(row: &str, setup: Setup, run: impl FnOnce(&mut Client, &str) -> Option<u32>) -> Option<u32> {
    let seller = Seller::http(|call| call.reply(200, "", vec![b'x'; 256 << 10]));
    let program = Program::start(setup);
    let other = Agent2::to(program.proxy());
    assert_eq!(other.send(get(&seller.url("/warm"))).status, 200);
    let before = program.memory_kib();
    let mut client = Client::new(&program);
    let code = run(&mut client, &seller.authority());
    let started = Instant::now();
    assert_eq!(other.send(get(&seller.url("/other"))).status, 200, "{row}");
    assert!(started.elapsed().as_secs() < 5, "{row}: others waited {:?}", started.elapsed());
    let grown = program.peak_kib().saturating_sub(before);
    println!("{row}: ended with {code:?}, the process grew by at most {grown} KiB");
    assert!(grown < 40 << 10, "{row}: {grown} KiB");
    drop(client);
    assert_eq!(Agent2::to(program.proxy()).send(get(&seller.url("/new"))).status, 200, "{row}");
    code
}

#[test]
fn a_flood_of_continuations_is_ended() {
    // CVE-2024-27316 and its like: a header block without an end.
    let code = flood("CONTINUATION", Setup::new(), |client, authority| {
        client.try_send(&frame(HEADERS, 0, 1, &request(authority, "/", &[])));
        let piece = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(4_000)));
        (0..50_000).any(|_| !client.try_send(&piece));
        client.goaway()
    });
    assert!(matches!(code, Some(PROTOCOL_ERROR | ENHANCE_YOUR_CALM | COMPRESSION_ERROR) | None), "{code:?}");
}

#[test]
fn a_flood_of_empty_continuations_is_ended() {
    let code = flood("empty CONTINUATION", Setup::new(), |client, authority| {
        client.try_send(&frame(HEADERS, 0, 1, &request(authority, "/", &[])));
        let pieces = frame(CONTINUATION, 0, 1, &[]).repeat(1000);
        assert!((0..2_000).any(|_| !client.try_send(&pieces)), "two million frames were taken");
        client.goaway()
    });
    assert!(matches!(code, Some(PROTOCOL_ERROR | ENHANCE_YOUR_CALM) | None), "{code:?}");
}

#[test]
fn rapid_resets_are_ended() {
    // CVE-2023-44487.
    let code = flood("rapid reset", Setup::new(), |client, authority| {
        let block = request(authority, "/", &[]);
        let mut sent = 0;
        for n in 0..100_000_u32 {
            let id = 2 * n + 1;
            let pair = [frame(HEADERS, END_HEADERS | END_STREAM, id, &block), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat();
            if !client.try_send(&pair) {
                break;
            }
            sent = n;
        }
        assert!(sent < 99_999, "all of them were taken");
        client.goaway()
    });
    assert!(matches!(code, Some(ENHANCE_YOUR_CALM) | None), "{code:?}");
}

#[test]
fn resets_that_the_agent_provokes_are_ended() {
    // CVE-2025-8671: the server resets, and the request goes on behind it.
    let code = flood("made you reset", Setup::new(), |client, authority| {
        let block = request(authority, "/", &[]);
        let ended = (0..100_000_u32).any(|n| {
            let id = 2 * n + 1;
            let pair = [frame(HEADERS, END_HEADERS | END_STREAM, id, &block), frame(WINDOW_UPDATE, 0, id, &[0, 0, 0, 0])].concat();
            !client.try_send(&pair)
        });
        assert!(ended, "all of them were taken");
        client.goaway()
    });
    assert!(matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | None), "{code:?}");
}

#[test]
fn pings_and_settings_that_nobody_reads_the_answers_of_cost_nothing() {
    // CVE-2019-9512 and CVE-2019-9515.
    for (row, piece) in [("PING", frame(PING, 0, 0, &[7; 8])), ("SETTINGS", settings(&[(3, 100)]))] {
        flood(row, Setup::new(), |client, _| {
            let pieces = piece.repeat(1000);
            // Until it does not take more, or ends the connection.
            client.set_write_timeout(std::time::Duration::from_secs(2));
            (0..1_000).any(|_| !client.try_send(&pieces));
            None
        });
    }
}

#[test]
fn an_agent_that_opens_no_window_holds_no_memory() {
    // CVE-2019-9511 and CVE-2019-9517: a hundred answers that nobody takes.
    flood("zero window", Setup::new(), |client, authority| {
        client.send(&settings(&[(4, 0)]));
        let block = request(authority, "/", &[]);
        for n in 0..100 {
            client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block));
        }
        assert_eq!(client.statuses(100), vec![200; 100]);
        None
    });
}

#[test]
fn streams_over_the_limit_are_refused() {
    let seller = Seller::http(|call| call.hang());
    let program = Program::start(Setup::new());
    let mut client = Client::new(&program);
    let block = request(&seller.authority(), "/", &[]);
    for n in 0..200 {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block));
    }
    // REFUSED_STREAM: safe to send again.
    assert_eq!(client.event(2 * 199 + 1), Event::Reset(7));
    eventually("the others are under way", || seller.count() >= 100);
    assert!(seller.count() <= 128);
}

#[test]
fn a_stream_that_ended_takes_no_more() {
    let tap = Tap::start(None);
    let program = Program::start(Setup::new());
    let mut client = Client::new(&program);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(&tap.authority(), "/a", &[])));
    assert_eq!(client.event(1), Event::Status(200));
    client.send(&frame(DATA, END_STREAM, 1, b"more"));
    let event = client.event(1);
    assert!(matches!(event, Event::Reset(STREAM_CLOSED) | Event::GoAway(STREAM_CLOSED | PROTOCOL_ERROR)), "{event:?}");
    assert_eq!(tap.drain(), ["GET /a "]);
}
