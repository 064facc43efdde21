//! Whether the HTTP library can read a request target. Where it cannot, it answers by itself, without `Proxy-Status` or a
//! document; so the bytes are looked at here first. Ordinary targets are told by one pass; the rest is the library's own word.

use http::Uri;

const fn plain_table() -> [bool; 256] {
    let (mut table, mut byte) = ([false; 256], 0u8);
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
            || matches!(byte, b':' | b'@' | b'/' | b'?' | b'%');
        byte += 1;
    }
    table
}

/// What may stand in a path and a query by RFC 3986.
const PLAIN: [bool; 256] = plain_table();

/// True for what becomes a request of the library.
pub(super) fn is_target(target: &[u8]) -> bool {
    let plain = target.iter().fold(true, |plain, b| plain & PLAIN[usize::from(*b)]);
    let place = match target.strip_prefix(b"http://") {
        Some(rest) => &rest[..rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len())],
        None if target.first() == Some(&b'/') => b"a",
        None => target,
    };
    (plain && is_place(place)) || (is_printed(target) && Uri::try_from(target).is_ok())
}

/// A name or an IPv4 address, with or without a port.
fn is_place(place: &[u8]) -> bool {
    let (name, port) = match place.iter().position(|b| *b == b':') {
        Some(colon) => (&place[..colon], Some(&place[colon + 1..])),
        None => (place, None),
    };
    let digits = |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) && port.is_none_or(digits)
}

/// Text without a blank: the library lets some bytes pass that end a request line for others.
fn is_printed(target: &[u8]) -> bool {
    std::str::from_utf8(target).is_ok() && target.iter().all(|b| *b > b' ' && *b != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_library_cannot_read_is_no_target() {
        for (target, taken) in [
            ("/", true),
            ("*", true),
            ("/a/b?c=d&e=%20", true),
            ("/a\"b{c}|^", true),
            ("/caf\u{e9}?q=\u{2713}", true),
            ("http://a.example/x", true),
            ("http://a.example", true),
            ("http://a.example:8080?x=/y", true),
            ("http://[::1]:80/x", true),
            ("https://u:p@a.example/", true),
            ("a.example:443", true),
            ("[::1]:443", true),
            ("", false),
            ("/a<b>", false),
            ("/a`b", false),
            ("/a?b<c", false),
            ("http://", false),
            ("http:///x", false),
            ("http://a b/", false),
            ("http://a.example:80:80/", false),
            ("http://[::1/", false),
            ("a.example:", true),
            ("a/b", false),
            ("?a", false),
            ("/a b", false),
            ("/a\tb", false),
            ("/a\u{7f}", false),
        ] {
            assert_eq!(is_target(target.as_bytes()), taken, "{target:?}");
        }
        assert!(!is_target(b"/\xff"));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_readable(start in "(/|http://|https://|\\*|)", rest in "[a-z0-9:/?#.@%<>\"`{}|\\\\^\\[\\]_~!$&'()*+,;=-]{0,24}") {
            let target = format!("{start}{rest}");
            prop_assert_eq!(is_target(target.as_bytes()), Uri::try_from(target.as_str()).is_ok(), "{}", target);
        }
    }
}
