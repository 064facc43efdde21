#![allow(clippy::unwrap_used)]
use super::*;
use tokio::io::ReadBuf;

/// `limits.header` of these tests.
const LIMIT: usize = 1000;

/// What came through, and why it ended, when `bytes` arrive in these pieces.
fn screened(scanner: Scanner, pieces: &[&[u8]]) -> (Vec<u8>, Option<Fault>) {
    let (mut screen, mut out) = (Screen::new(scanner), Vec::new());
    for piece in pieces {
        let mut space = vec![0; piece.len()];
        let mut buf = ReadBuf::new(&mut space);
        buf.put_slice(piece);
        screen.admit(&mut buf, 0);
        out.extend_from_slice(buf.filled());
        // Handed on through a small buffer.
        loop {
            let mut space = [0; 7];
            let mut buf = ReadBuf::new(&mut space);
            if !screen.give(&mut buf) {
                break;
            }
            out.extend_from_slice(buf.filled());
        }
        if screen.found().is_some() {
            break;
        }
    }
    (out, screen.found())
}

/// The same in one piece, byte by byte and cut at every place: always the same verdict.
#[track_caller]
fn verdict(make: impl Fn() -> Scanner, bytes: &[u8]) -> (Vec<u8>, Option<Fault>) {
    let whole = screened(make(), &[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(screened(make(), &single), whole, "byte by byte: {:?}", String::from_utf8_lossy(bytes));
    for at in 1..bytes.len() {
        assert_eq!(screened(make(), &[&bytes[..at], &bytes[at..]]), whole, "cut at {at}: {:?}", String::from_utf8_lossy(bytes));
    }
    whole
}

fn request(bytes: &str) -> (Vec<u8>, Option<Fault>) {
    verdict(|| Scanner::requests(LIMIT), bytes.as_bytes())
}

fn answer(asked: Asked, bytes: &str) -> (Vec<u8>, Option<Fault>) {
    let make = || {
        let mut scanner = Scanner::answers(LIMIT);
        scanner.expect(asked);
        scanner
    };
    verdict(make, bytes.as_bytes())
}

/// A request with these lines after the request line, and what follows.
fn post(lines: &str) -> String {
    format!("POST http://a/ HTTP/1.1\r\n{lines}")
}

#[test]
fn what_every_reader_divides_alike_passes_untouched() {
    for bytes in [
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "M!#$%&'*+-.^_`|~9 * HTTP/1.1\r\nx:\r\nY:\t a\tb \u{e9}\r\n\r\n",
        &post("Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"),
        &post("content-length:0007 \r\n\r\n\r\n\0\n\rxx"),
        &post("Content-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        &post("Transfer-Encoding:\tCHUNKED \r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        &post(
            "Transfer-Encoding: chunked\r\n\r\nA;x=\"y;\tz\"\r\n0123456789\r\n0003\r\na\r\n\r\n0;e\r\nX: 1\r\nY:\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ),
        "CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (passed, fault) = request(bytes);
        assert_eq!((String::from_utf8_lossy(&passed).as_ref(), fault), (bytes, None));
    }
}

#[test]
fn what_two_readers_could_divide_differently_is_refused_whole() {
    for bytes in [
        // RFC 9112 §6.3: both, repeated, lists, and what is not a number.
        &post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n") as &str,
        &post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
        &post("Content-Length: 3\r\nContent-Length: 3\r\n\r\n"),
        &post("Content-Length: 3, 3\r\n\r\n"),
        &post("Content-Length: +3\r\n\r\n"),
        &post("Content-Length: 0x3\r\n\r\n"),
        &post("Content-Length: 3 3\r\n\r\n"),
        &post("Content-Length:\r\n\r\n"),
        &post("Content-Length: 99999999999999999999\r\n\r\n"),
        &post("Transfer-Encoding: identity\r\n\r\n"),
        &post("Transfer-Encoding: gzip, chunked\r\n\r\n"),
        &post("Transfer-Encoding: chunked, chunked\r\n\r\n"),
        &post("Transfer-Encoding: xchunked\r\n\r\n"),
        &post("Transfer-Encoding: \"chunked\"\r\n\r\n"),
        &post("Transfer-Encoding:\r\n\r\n"),
        &post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        &post("Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n"),
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        // §2.2 and §5: line ends, blanks and folds.
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\x0bb\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\x7f\r\n\r\n",
        "GET / HTTP/1.1\r\n X: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n",
        "GET / HTTP/1.1\r\nX : a\r\n\r\n",
        "GET / HTTP/1.1\r\nX\t: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX y: a\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX\u{e9}: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        // §3: the request line.
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / x HTTP/1.1\r\n\r\n",
        "GET /\t HTTP/1.1\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\n\r\n",
        "GET HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET / HTTP/1.10\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "\nGET / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01",
        // RFC 9110 §9.3.6: a tunnel's first bytes, or a body?
        "CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let before = "GET http://good/ HTTP/1.1\r\n\r\n";
        assert_eq!(request(bytes), (Vec::new(), Some(Fault::Malformed)), "{bytes:?}");
        let (passed, fault) = request(&format!("{before}{bytes}"));
        if bytes.starts_with("\r\n") {
            continue;
        }
        assert_eq!((passed, fault), (before.as_bytes().to_vec(), Some(Fault::Malformed)), "behind a good one: {bytes:?}");
    }
}

#[test]
fn a_chunked_body_breaks_at_the_wrong_byte() {
    for (good, bad) in [
        ("", "\r\n"),
        ("", ";x\r\n"),
        ("", " 3\r\n"),
        ("", "-1\r\n"),
        ("0", "x3\r\n"),
        ("3", "\nabc"),
        ("3", " \r\nabc"),
        ("3\r", "abc"),
        ("3;x", "\nabc"),
        ("3;x\r", "\rabc"),
        ("3;x", "\0\r\n"),
        ("3\r\nabc", "\n"),
        ("3\r\nabc", "d\r\n"),
        ("3\r\nabc\r", "X"),
        ("0000000000000003", "0\r\n"),
        ("0\r\n", "\n"),
        ("0\r\n", " x: y\r\n"),
        ("0\r\n\r", "X"),
        ("0\r\nX", " : 1\r\n"),
        ("0\r\nX", "\r\n"),
        ("0\r\nX: 1", "\n"),
        ("0\r\nX: 1\r\n", "\tfold\r\n"),
    ] {
        let head = post("Transfer-Encoding: chunked\r\n\r\n");
        let (passed, fault) = request(&format!("{head}{good}{bad}"));
        assert_eq!((String::from_utf8(passed).unwrap(), fault), (format!("{head}{good}"), Some(Fault::Malformed)), "{good:?}{bad:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields_and_so_are_extensions_and_trailers() {
    let padded = |n: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(n - "GET / HTTP/1.1\r\nX: \r\n\r\n".len()));
    assert_eq!(request(&padded(LIMIT)).1, None);
    assert_eq!(request(&padded(LIMIT + 1)), (Vec::new(), Some(Fault::HeadTooLarge)));
    assert_eq!(request(&"G".repeat(LIMIT + 1)).1, Some(Fault::HeadTooLarge), "no line end at all");
    assert_eq!(request(&"G".repeat(LIMIT)).1, None, "not yet");
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(n));
    assert_eq!(request(&fields(100)).1, None);
    assert_eq!(request(&fields(101)).1, Some(Fault::HeadTooLarge));
    for (rest, fault) in [
        (format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(8191)), None),
        (format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(8192)), Some(Fault::Malformed)),
        (format!("{}0\r\n\r\n", "1;xxxxxxxx\r\na\r\n".repeat(911)), Some(Fault::Malformed)),
        (format!("0\r\na:{}\r\n\r\n", "x".repeat(8190)), None),
        (format!("0\r\na:{}\r\n\r\n", "x".repeat(8191)), Some(Fault::Malformed)),
        (format!("0\r\n{}\r\n", "a:\r\n".repeat(101)), Some(Fault::Malformed)),
    ] {
        let bytes = post("Transfer-Encoding: chunked\r\n\r\n") + &rest;
        assert_eq!(screened(Scanner::requests(LIMIT), &[bytes.as_bytes()]).1, fault, "{rest:.20}");
    }
}

#[test]
fn behind_a_request_for_a_tunnel_the_answer_decides_what_the_bytes_are() {
    for head in [
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nab",
    ] {
        for (tunnel, behind, passed, fault) in [
            (true, "\0anything\n", "\0anything\n", None),
            (false, "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", None),
            (false, "GET /\n", "", Some(Fault::Malformed)),
        ] {
            let mut screen = Screen::new(Scanner::requests(LIMIT));
            let mut space = vec![0; 4096];
            let mut buf = ReadBuf::new(&mut space);
            buf.put_slice(head.as_bytes());
            buf.put_slice(behind.as_bytes());
            screen.admit(&mut buf, 0);
            assert_eq!((buf.filled(), screen.holds(), screen.is_undecided()), (head.as_bytes(), true, true));
            buf.clear();
            screen.decide(tunnel);
            screen.give(&mut buf);
            assert_eq!((buf.filled(), screen.found()), (passed.as_bytes(), fault));
            assert_eq!(screen.is_open(), tunnel);
        }
    }
}

#[test]
fn an_answer_ends_where_its_head_says() {
    let plain = Asked::Plain;
    for (asked, bytes, behind) in [
        (plain, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true),
        (plain, "HTTP/1.0 200\r\nContent-Length: 0\r\n\r\n", true),
        (plain, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\nX: 1\r\n\r\n", true),
        (plain, "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", true),
        (plain, "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        (plain, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        (Asked::Head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
        (plain, "HTTP/1.1 200 OK\r\n\r\nto the end", false),
        (Asked::Upgrade, "HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\nanything", false),
        (Asked::Upgrade, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true),
    ] {
        let extra = "HTTP/1.1 200 OK\r\n\r\n";
        let (passed, fault) = answer(asked, &format!("{bytes}{extra}"));
        let expected = if behind { (bytes.to_owned(), Some(Fault::Unasked)) } else { (format!("{bytes}{extra}"), None) };
        assert_eq!((String::from_utf8(passed).unwrap(), fault), expected);
    }
    assert_eq!(screened(Scanner::answers(LIMIT), &[b"HTTP/1.1 200 OK\r\n\r\n"]), (Vec::new(), Some(Fault::Unasked)));
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_broken() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 100 C\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/1.1  200 X\r\n\r\n",
        "HTTP/2 200 X\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0",
    ] {
        assert_eq!(answer(Asked::Plain, bytes), (Vec::new(), Some(Fault::Malformed)), "{bytes:?}");
    }
    let flood = "HTTP/1.1 100 C\r\n\r\n".repeat(33);
    assert_eq!(screened_answer(&flood).1, Some(Fault::Malformed));
    assert_eq!(screened_answer(&flood[..32 * 18]).1, None);
}

fn screened_answer(bytes: &str) -> (Vec<u8>, Option<Fault>) {
    let mut scanner = Scanner::answers(LIMIT);
    scanner.expect(Asked::Plain);
    screened(scanner, &[bytes.as_bytes()])
}

#[test]
fn nothing_is_kept_while_nothing_waits() {
    let mut screen = Screen::new(Scanner::requests(LIMIT));
    let mut space = vec![0; 4096];
    for piece in ["GET / HTTP/1.1\r\n\r\n", "GET / HT", "TP/1.1\r\n\r\n"] {
        let mut buf = ReadBuf::new(&mut space);
        buf.put_slice(piece.as_bytes());
        screen.admit(&mut buf, 0);
    }
    let mut buf = ReadBuf::new(&mut space);
    assert!(screen.give(&mut buf));
    assert_eq!((buf.filled(), screen.into_held().capacity()), (&b"GET / HTTP/1.1\r\n\r\n"[..], 0));
}
