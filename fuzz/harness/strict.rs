//! The scanner of HTTP/1 bytes against two other readers. Whatever it lets pass, httparse must take, and hyper must find the
//! same requests with the same bodies in it; and how the bytes arrive makes no difference.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::ReadBuf;
use tollpass::proxy::strict::{Asked, Fault, Scanner, Screen};

/// Longest head: short enough to be reached.
const LIMIT: usize = 512;

/// How many requests, or answers, were let through and agreed on.
pub(crate) fn run(data: &[u8]) -> usize {
    let [how, cut, bytes @ ..] = data else { return 0 };
    let asked = [None, Some(Asked::Plain), Some(Asked::Head), Some(Asked::Upgrade)][usize::from(how & 3)];
    let make = || match asked {
        None => Scanner::requests(LIMIT),
        Some(asked) => {
            let mut scanner = Scanner::answers(LIMIT);
            scanner.expect(asked);
            scanner
        }
    };
    let (passed, fault) = screened(make(), &[bytes]);
    assert_eq!(screened(make(), &bytes.chunks(1).collect::<Vec<_>>()), (passed.clone(), fault), "byte by byte");
    let (one, two) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    assert_eq!(screened(make(), &[one, two]), (passed.clone(), fault), "in two pieces");
    assert!(bytes.starts_with(&passed), "what passes is what came");
    match asked {
        None => {
            let found = requests(&passed);
            compare(&passed, &found);
            found.len()
        }
        Some(asked) => answers(&passed, asked),
    }
}

fn screened(scanner: Scanner, pieces: &[&[u8]]) -> (Vec<u8>, Option<Fault>) {
    let (mut screen, mut out) = (Screen::new(scanner), Vec::new());
    for piece in pieces.iter().filter(|p| !p.is_empty()) {
        let mut space = piece.to_vec();
        let mut buf = ReadBuf::new(&mut space);
        buf.set_filled(piece.len());
        screen.admit(&mut buf, 0);
        out.extend_from_slice(buf.filled());
        let mut space = [0; 16];
        loop {
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

/// Method, target and body of each whole request.
type Request = (String, String, Vec<u8>);

/// Reads what passed in the plainest way. Panics where there is more than one.
fn requests(mut bytes: &[u8]) -> Vec<Request> {
    let mut found = Vec::new();
    loop {
        if let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        if bytes.is_empty() {
            return found;
        }
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(length) = head.parse(bytes).expect("httparse refuses it") else {
            panic!("an incomplete head passed")
        };
        bytes = &bytes[length..];
        let (method, target) = (head.method.unwrap().to_owned(), head.path.unwrap().to_owned());
        assert!(fields_named(head.headers, "host") <= 1);
        let switches = method == "CONNECT" || fields_named(head.headers, "upgrade") > 0;
        let Some((body, length)) = body(head.headers, bytes, Some(0)) else { return found };
        bytes = &bytes[length..];
        found.push((method, target, body));
        if switches {
            assert!(bytes.is_empty(), "bytes behind a request for a tunnel passed undecided");
        }
    }
}

fn fields_named(fields: &[httparse::Header<'_>], name: &str) -> usize {
    fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).count()
}

/// The body and its length, if it is whole. `otherwise`: its length if no field says one; `None`: to the end.
fn body(fields: &[httparse::Header<'_>], bytes: &[u8], otherwise: Option<usize>) -> Option<(Vec<u8>, usize)> {
    let all = |name: &str| {
        let values = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        values.map(|f| std::str::from_utf8(f.value).unwrap().trim().to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let length = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => otherwise.unwrap_or(bytes.len()),
        ([length], []) => {
            assert!(length.bytes().all(|b| b.is_ascii_digit()), "a length of {length:?}");
            usize::try_from(length.parse::<u64>().unwrap()).unwrap()
        }
        ([], [coding]) if coding == "chunked" => return chunks(bytes),
        other => panic!("more than one framing: {other:?}"),
    };
    bytes.get(..length).map(|body| (body.to_vec(), length))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    let line = |at: usize| bytes[at..].iter().position(|b| *b == b'\n').map(|n| &bytes[at..at + n + 1]);
    loop {
        let said = line(at)?;
        at += said.len();
        let said = std::str::from_utf8(said).map(str::to_owned).unwrap_or_else(|_| String::from_utf8_lossy(said).into_owned());
        let said = said.strip_suffix("\r\n").expect("a chunk line that ends in LF");
        let size = said.split(';').next().unwrap().trim_end_matches([' ', '\t']);
        let size = u64::from_str_radix(size, 16).unwrap_or_else(|_| panic!("a chunk size of {size:?}"));
        if size == 0 {
            break;
        }
        let data = bytes.get(at..)?.get(..usize::try_from(size).unwrap())?;
        body.extend_from_slice(data);
        at += data.len();
        let end = bytes.get(at..at + 2)?;
        assert_eq!(end, b"\r\n", "a chunk of another length");
        at += 2;
    }
    loop {
        let said = line(at)?;
        at += said.len();
        assert!(said.ends_with(b"\r\n") && !said.starts_with(b" ") && !said.starts_with(b"\t"), "a trailer line");
        if said == b"\r\n" {
            return Some((body, at));
        }
    }
}

/// hyper finds the same; it may refuse what follows, such as a target that is no URI, but not read it in another way.
fn compare(bytes: &[u8], expected: &[Request]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = Arc::<Mutex<Vec<Request>>>::default();
    let log = found.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let log = log.clone();
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                log.lock().unwrap().push((head.method.to_string(), head.uri.to_string(), body.to_bytes().to_vec()));
            }
            Ok::<_, Infallible>(http::Response::new(Empty::<hyper::body::Bytes>::new()))
        }
    });
    let io = TokioIo::new(tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    let _ = runtime.block_on(builder.half_close(true).serve_connection(io, service).with_upgrades());
    let found = found.lock().unwrap();
    assert!(found.len() <= expected.len(), "hyper finds more: {found:?} instead of {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        // It writes a target in its own way: only method and body are compared to the byte.
        assert_eq!((&found.0, &found.2), (&expected.0, &expected.2));
    }
}

/// Reads the answer that passed.
fn answers(mut bytes: &[u8], asked: Asked) -> usize {
    let mut found = 0;
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = head.parse(bytes).expect("httparse refuses it") else {
            panic!("an incomplete head passed")
        };
        bytes = &bytes[length..];
        found += 1;
        match head.code.unwrap() {
            101 => {
                assert_eq!(asked, Asked::Upgrade);
                return found;
            }
            100..200 => continue,
            204 | 304 => {}
            _ if asked == Asked::Head => {}
            _ => {
                let Some((_, length)) = body(head.headers, bytes, None) else { return found };
                bytes = &bytes[length..];
            }
        }
        assert!(bytes.is_empty(), "bytes behind the answer passed");
    }
    found
}
