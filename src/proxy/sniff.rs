//! What an agent speaks, by its first bytes. Nothing is consumed: what was read is put back in front.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::stream::AgentStream;

/// How long the first bytes may take before the connection counts as one on which the server speaks first.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// Longest TLS hello that is waited for: post-quantum key shares make them larger than a segment.
const HELLO: usize = 16 * 1024;

const TLS_HANDSHAKE: u8 = 0x16;
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods that are plain HTTP inside a tunnel.
const METHODS: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"];

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tls,
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
    Other,
    /// Nothing was said in time, or the connection ended.
    Silent,
}

/// Reads until the protocol is certain, or for as long as `patience`. `ours`: the peer speaks to us as to a proxy, so that any
/// method is HTTP/1.
pub(super) async fn look(stream: AgentStream, ours: bool, patience: Duration) -> (Kind, AgentStream) {
    let certain = |seen: &[u8]| kind(seen, ours);
    let (seen, stream) = read_until(stream, |seen| certain(seen).is_some(), 64, patience).await;
    let found = if seen.is_empty() { Kind::Silent } else { certain(&seen).unwrap_or(Kind::Other) };
    (found, stream.rewound(seen))
}

/// The protocol, once `seen` is enough to tell.
pub(super) fn kind(seen: &[u8], ours: bool) -> Option<Kind> {
    let first = *seen.first()?;
    if first == TLS_HANDSHAKE {
        return Some(Kind::Tls);
    }
    let shared = seen.len().min(HTTP2_PREFACE.len());
    if seen[..shared] == HTTP2_PREFACE[..shared] {
        // `PRI` is no other method: four bytes are enough, and fewer could still be a POST.
        return (shared >= 4).then_some(Kind::Http2);
    }
    if ours {
        return Some(Kind::Http1);
    }
    match seen.iter().position(|b| *b == b' ') {
        Some(end) => Some(if METHODS.contains(&&seen[..end]) { Kind::Http1 } else { Kind::Other }),
        None if seen.len() < 8 && seen.iter().all(u8::is_ascii_uppercase) => None,
        None => Some(Kind::Other),
    }
}

/// Reads at most `limit` bytes, until `enough` says so, the stream ends or `patience` does.
async fn read_until(mut stream: AgentStream, enough: impl Fn(&[u8]) -> bool, limit: usize, patience: Duration) -> (Vec<u8>, AgentStream) {
    // Most of a request's head comes in one piece: what is read here is not read again from the socket.
    let mut seen = Vec::with_capacity(limit.max(1024));
    let reading = async {
        while seen.len() < limit && !enough(&seen) {
            if !matches!(stream.read_buf(&mut seen).await, Ok(1..)) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(patience, reading).await;
    (seen, stream)
}

/// The server name in a TLS hello, read to the end of its record but not consumed.
pub(super) async fn server_name(stream: AgentStream) -> (io::Result<Option<String>>, AgentStream) {
    let (seen, stream) = read_until(stream, |seen| !matches!(hello_name(seen), Ok(Hello::Unfinished)), HELLO, SILENCE).await;
    let name = match hello_name(&seen) {
        Ok(Hello::Name(name)) => Ok(name),
        Ok(Hello::Unfinished) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(error),
    };
    (name, stream.rewound(seen))
}

/// What is known of a hello so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Unfinished,
    Name(Option<String>),
}

pub(super) fn hello_name(seen: &[u8]) -> io::Result<Hello> {
    // A hello that comes byte by byte is looked at once its first record is whole.
    if let [_, _, _, high, low, rest @ ..] = seen
        && rest.len() < usize::from(u16::from_be_bytes([*high, *low]))
    {
        return Ok(Hello::Unfinished);
    }
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = seen;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Hello::Name(accepted.client_hello().server_name().map(str::to_owned))),
            Ok(None) => {}
            Err((error, _)) => return Err(io::Error::other(error)),
        }
    }
    Ok(Hello::Unfinished)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_bytes_tell_tls_http_and_the_rest_apart() {
        for (bytes, inside, ours) in [
            (&b"\x16\x03\x01\x02\x00"[..], Some(Kind::Tls), Some(Kind::Tls)),
            (b"GET / HTTP/1.1\r\n", Some(Kind::Http1), Some(Kind::Http1)),
            (b"OPTIONS * HTTP/1", Some(Kind::Http1), Some(Kind::Http1)),
            (b"PRI ", Some(Kind::Http2), Some(Kind::Http2)),
            (b"PR", None, None),
            (b"POS", None, Some(Kind::Http1)),
            (b"POST /", Some(Kind::Http1), Some(Kind::Http1)),
            (b"SSH-2.0-OpenSSH_", Some(Kind::Other), Some(Kind::Http1)),
            (b"GETX / HTTP/1.1\r", Some(Kind::Other), Some(Kind::Http1)),
            (b"CONNECT a:1 HTTP/1.1", Some(Kind::Other), Some(Kind::Http1)),
            (b"", None, None),
        ] {
            assert_eq!(kind(bytes, false), inside, "{bytes:?}");
            assert_eq!(kind(bytes, true), ours, "{bytes:?}");
        }
    }

    #[test]
    fn the_name_in_a_hello_is_found_however_it_is_cut() {
        let roots = std::sync::Arc::new(rustls::RootCertStore::empty());
        let config = rustls::ClientConfig::builder_with_provider(crate::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        for (name, expected) in [("shop.example", Some("shop.example".to_owned())), ("192.0.2.7", None)] {
            let server = rustls::pki_types::ServerName::try_from(name).unwrap();
            let mut client = rustls::ClientConnection::new(config.clone().into(), server).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            for cut in 0..hello.len() {
                assert_eq!(hello_name(&hello[..cut]).unwrap(), Hello::Unfinished, "{cut}");
            }
            assert_eq!(hello_name(&hello).unwrap(), Hello::Name(expected));
        }
        assert!(hello_name(b"\x16\x03\x01\x00\x05hello").is_err());
    }
}
