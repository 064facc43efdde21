//! What an agent says first: targets, authorities, credentials, SOCKS5, the first bytes of TLS; and the small things that others
//! say: settings of HTTP/2, interim answers, names of fields, a parent proxy's answer, receipts, the context header. Nothing panics;
//! what is taken has one meaning, which survives being written and read again; more bytes never change what the first ones said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Uri};
use tollpass::agents::parse_basic;
use tollpass::payment::ProtocolId;
use tollpass::policy::{Context, ContextKeys, Kind};
use tollpass::protocol;
use tollpass::proxy::fuzzing;
use tollpass::proxy::strict::{Asked, Scanner, Screen};

/// True if it was taken for something.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((which, bytes)) = data.split_first() else { return false };
    match which % 12 {
        0 => text(bytes).is_some_and(target),
        1 => text(bytes).is_some_and(location),
        2 => credentials(bytes),
        3 => socks(bytes),
        4 => hello(bytes),
        5 => kind(bytes),
        6 => settings(bytes),
        7 => interim(bytes),
        8 => names(bytes),
        9 => fuzzing::parent_status(bytes).is_some_and(|status| (100..1000).contains(&status)),
        10 => receipt(bytes),
        _ => context(bytes),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A host that may be dialled and written into a Host field.
fn is_plain(host: &str) -> bool {
    !host.is_empty() && !host.contains(|c: char| c.is_control() || c.is_whitespace() || "@/?#\\%".contains(c)) && host.is_ascii()
}

fn target(text: &str) -> bool {
    if let Some((host, port)) = fuzzing::authority(text) {
        assert!(is_plain(&host), "{host:?}");
        let again = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        assert_eq!(fuzzing::authority(&again), Some((host, port)), "{text:?}");
    }
    let Some(url) = text.parse::<Uri>().ok().and_then(|uri| fuzzing::absolute(&uri)) else { return false };
    let again: Uri = url.parse().unwrap_or_else(|e| panic!("{e}: {url:?}"));
    assert!(is_plain(again.host().unwrap()), "{url:?}");
    assert_eq!(fuzzing::absolute(&again), Some(url), "{text:?}");
    true
}

fn location(text: &str) -> bool {
    let Some((base, location)) = text.split_once('\n') else { return false };
    let Some(url) = fuzzing::location(base, location) else { return false };
    assert!(url.starts_with("http://") || url.starts_with("https://"), "{url:?}");
    assert!(!url.contains('#'), "{url:?}");
    true
}

fn credentials(bytes: &[u8]) -> bool {
    // The fuzzer finds text, not base64: give it the decoded side, then the raw one.
    let encoded = format!("Basic {}", STANDARD.encode(bytes));
    let found = [HeaderValue::try_from(encoded).ok(), HeaderValue::from_bytes(bytes).ok()].map(|v| v.and_then(|v| parse_basic(&v)));
    for (user, password) in found.iter().flatten() {
        assert!(!user.contains(':') && !format!("{user}{password}").contains(char::is_control));
    }
    if let Some((user, password)) = &found[0] {
        assert_eq!(format!("{user}:{password}").as_bytes(), bytes);
    }
    found.iter().any(Option::is_some)
}

fn socks(bytes: &[u8]) -> bool {
    if let Some((user, password)) = fuzzing::socks_credentials(bytes) {
        assert!(user.len() <= 255 && password.len() <= 255);
    }
    let Some((place, read)) = fuzzing::socks_request(bytes) else { return false };
    // What stands behind a request is the tunnel's.
    assert_eq!(fuzzing::socks_request(&bytes[..read]), Some((place.clone(), read)));
    let taken = place.is_some();
    if let Some((host, port)) = place {
        assert!(is_plain(&host) && port != 0 && bytes[..2] == [5, 1], "{host:?}");
    }
    taken
}

fn hello(bytes: &[u8]) -> bool {
    let whole = fuzzing::hello(bytes);
    for at in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let earlier = fuzzing::hello(&bytes[..at]);
        assert!(!matches!(earlier, Ok(Some(_))) || earlier == whole, "the name changed with more bytes");
    }
    matches!(whole, Ok(Some(_)))
}

fn kind(bytes: &[u8]) -> bool {
    for ours in [false, true] {
        let whole = fuzzing::kind(bytes, ours);
        for at in 0..bytes.len() {
            let earlier = fuzzing::kind(&bytes[..at], ours);
            // What only begins like the preface of HTTP/2 breaks off there, or is refused as HTTP/1.
            let preface = earlier.as_deref() == Some("Http2");
            assert!(earlier.is_none() || preface || earlier == whole, "the protocol changed with more bytes");
        }
    }
    fuzzing::kind(bytes, false).is_some()
}

fn settings(bytes: &[u8]) -> bool {
    let whole = fuzzing::takes_connect(bytes);
    for at in 0..bytes.len().min(64) {
        let earlier = fuzzing::takes_connect(&bytes[..at]);
        assert!(earlier.is_none() || earlier == whole, "the settings changed with more bytes");
    }
    whole == Some(true)
}

/// Bytes in which the scanner of answers finds interim heads: what is passed on is whole heads, smaller, and private to nobody.
fn interim(bytes: &[u8]) -> bool {
    let mut scanner = Scanner::answers(1024);
    scanner.expect(Asked::Plain);
    let mut screen = Screen::new(scanner);
    let mut space = bytes.to_vec();
    let mut buf = tokio::io::ReadBuf::new(&mut space);
    buf.set_filled(bytes.len());
    screen.admit(&mut buf, 0);
    let Some(heads) = screen.early() else { return false };
    for hints in [false, true] {
        let clean = fuzzing::interim(&heads, hints);
        assert!(clean.is_empty() || clean.ends_with(b"\r\n\r\n"));
        assert_eq!(fuzzing::interim(&clean, hints), clean, "what is clean stays so");
        let mut rest = &clean[..];
        while !rest.is_empty() {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Response::new(&mut fields);
            let Ok(httparse::Status::Complete(length)) = head.parse(rest) else { panic!("no whole head is passed on") };
            assert!((102..200).contains(&head.code.unwrap()));
            for field in head.headers.iter() {
                let name = field.name.to_ascii_lowercase();
                assert!(!name.starts_with("tollpass-") && name != "connection" && name != "proxy-status", "{name}");
                assert!(!hints || name == "link", "{name}");
            }
            rest = &rest[length..];
        }
    }
    true
}

/// Names noted in a request and written into the head that the library would write: only their case differs from it.
fn names(bytes: &[u8]) -> bool {
    let mut screen = Screen::new(Scanner::requests(1024));
    let mut space = bytes.to_vec();
    let mut buf = tokio::io::ReadBuf::new(&mut space);
    buf.set_filled(bytes.len());
    screen.admit(&mut buf, 0);
    let passed = buf.filled().to_vec();
    let Some(names) = screen.names().next().flatten() else { return false };
    // In the library's case, over what was read and over anything at all.
    for head in [&passed[..], bytes] {
        let mut written = head.to_ascii_lowercase();
        names.spell(&mut written);
        assert!(written.eq_ignore_ascii_case(head), "a byte that is no case changed");
    }
    let end = passed.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    // An empty line may come before the first.
    let start = if passed.starts_with(b"\r\n") { 2 } else { 0 };
    let first = passed[start..].iter().position(|b| *b == b'\n').unwrap() + start + 1;
    let mut written = passed[start..end].to_vec();
    for line in written[first - start..].split_mut(|b| *b == b'\n') {
        let name = line.iter().position(|b| *b == b':').unwrap_or(0);
        line[..name].make_ascii_lowercase();
    }
    names.spell(&mut written);
    assert_eq!(written, passed[start..end], "a head came out in another case than it came in");
    true
}

fn receipt(bytes: &[u8]) -> bool {
    let mut found = false;
    for value in [HeaderValue::try_from(STANDARD.encode(bytes)).ok(), HeaderValue::from_bytes(bytes).ok()].into_iter().flatten() {
        for (protocol, name) in [(ProtocolId::X402V1, "x-payment-response"), (ProtocolId::X402V2, "payment-response")] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.clone());
            found |= protocol::receipt(protocol, &headers).is_some();
        }
    }
    found
}

fn context(bytes: &[u8]) -> bool {
    let keys = ContextKeys::of([("amount", Kind::Decimal), ("n", Kind::Integer), ("t", Kind::Text), ("f", Kind::Flag)]);
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    let context = Context::parse(lines.iter().copied(), &keys);
    assert_eq!(Context::parse(lines, &keys), context);
    ["amount", "n", "t", "f"].iter().any(|key| context.get(key).is_some())
}
