//! What an agent says first: targets, authorities, credentials, SOCKS5, the first bytes of TLS. Nothing panics; what is taken
//! has one meaning, which survives being written and read again; more bytes never change what the first ones said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use tollpass::agents::parse_basic;
use tollpass::proxy::fuzzing;

/// True if it was taken for something.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((which, bytes)) = data.split_first() else { return false };
    match which % 6 {
        0 => text(bytes).is_some_and(target),
        1 => text(bytes).is_some_and(location),
        2 => credentials(bytes),
        3 => socks(bytes),
        4 => hello(bytes),
        _ => kind(bytes),
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
