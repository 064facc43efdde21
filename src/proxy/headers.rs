//! Header hygiene on both legs: hop-by-hop fields, our own names, `Via` (RFC 9110 §7.6, S19).

use http::header::{
    ALT_SVC, CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};

/// RFC 9110 §7.6.1, plus the proxy's own and what clients send by mistake.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Removes what belongs to one connection only. A field named by `Connection` goes too, except the ones that frame the message.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| *name != http::header::CONTENT_LENGTH && *name != http::header::HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// `Tollpass-*` belongs to us: a seller may not forge it and does not get to see it (S19).
fn strip_ours(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with("tollpass-")) {
        let ours: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().starts_with("tollpass-")).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
    }
}

/// Makes an agent's request fit for the seller. `Proxy-Authorization` goes even inside tunnels, where Deno leaks it.
pub(super) fn clean_request(headers: &mut HeaderMap, via: &HeaderValue) {
    // We read trailers, so a seller may send them if the agent does too (RFC 9110 §10.1.4); gRPC insists.
    let trailers = headers.get_all(TE).iter().any(|v| v.to_str().is_ok_and(|t| t.split(',').any(|t| t.trim() == "trailers")));
    let switch = upgrade(headers);
    strip_hop_by_hop(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = switch {
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    // The expectation was answered when the body was first read; hyper sends the body without waiting.
    headers.remove(EXPECT);
    strip_ours(headers);
    headers.append(VIA, via.clone());
}

/// The protocol that a message asks, or agrees, to go on with (RFC 9110 §7.8). Not HTTP/2 in the clear: that way is closed
/// (RFC 9113 §3.1), and the agent's connection is not the seller's.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = |v: &HeaderValue| v.to_str().is_ok_and(|t| t.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")));
    let protocol = headers.get(UPGRADE)?;
    let h2c = protocol.to_str().is_ok_and(|t| t.split(',').any(|t| t.trim().eq_ignore_ascii_case("h2c")));
    (!h2c && headers.get_all(CONNECTION).iter().any(asks)).then(|| protocol.clone())
}

/// Makes a seller's answer fit for the agent.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    // It would lead the agent around the proxy, to a port or a protocol that nobody looks into (RFC 7838).
    headers.remove(ALT_SVC);
    strip_ours(headers);
    if headers.contains_key(PROXY_STATUS) {
        // A member may be a token or a quoted string, and its parameters may hold any byte (RFC 9209 §2).
        let ours = |member: &[u8]| {
            let name = member.trim_ascii_start();
            name.strip_prefix(b"\"").unwrap_or(name).starts_with(b"tollpass")
        };
        let forged = |v: &HeaderValue| v.as_bytes().split(|b| *b == b',').any(ours);
        if headers.get_all(PROXY_STATUS).iter().any(forged) {
            let kept: Vec<HeaderValue> = headers.get_all(PROXY_STATUS).iter().filter(|v| !forged(v)).cloned().collect();
            headers.remove(PROXY_STATUS);
            for value in kept {
                headers.append(PROXY_STATUS, value);
            }
        }
    }
}

/// True if the request passed this very proxy before.
pub(super) fn is_loop(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(VIA).iter().any(|v| v.to_str().is_ok_and(|t| t.contains(pseudonym)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut m = HeaderMap::new();
        for (n, v) in rows {
            m.append(*n, HeaderValue::from_static(v));
        }
        m
    }

    #[test]
    fn hop_by_hop_and_named_fields_are_removed() {
        let mut h = map(&[
            ("connection", "close, X-Secret, content-length"),
            ("x-secret", "1"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "deflate"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("tollpass-context", "a=1"),
            ("content-length", "3"),
            ("accept", "*/*"),
        ]);
        clean_request(&mut h, &HeaderValue::from_static("1.1 tollpass-1"));
        let left: Vec<&str> = h.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["content-length", "accept", "via"]);
    }

    #[test]
    fn trailers_and_an_upgrade_are_asked_for_again_on_our_own_leg() {
        let mut h =
            map(&[("te", "gzip;q=0.5, trailers"), ("connection", "TE, Upgrade, X-Mine"), ("upgrade", "websocket"), ("x-mine", "1")]);
        clean_request(&mut h, &HeaderValue::from_static("1.1 tollpass-1"));
        let connection: Vec<&str> = h.get_all(CONNECTION).iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!((connection, h[TE].to_str().unwrap(), h[UPGRADE].to_str().unwrap()), (vec!["te", "upgrade"], "trailers", "websocket"));
        assert!(!h.contains_key("x-mine"));
        for (connection, upgrade) in [("keep-alive", "websocket"), ("upgrade", "h2c"), ("upgrade", "websocket, h2c")] {
            let mut h = map(&[("connection", connection), ("upgrade", upgrade)]);
            clean_request(&mut h, &HeaderValue::from_static("1.1 tollpass-1"));
            assert!(!h.contains_key(UPGRADE) && !h.contains_key(CONNECTION), "{connection} {upgrade}");
        }
    }

    #[test]
    fn s19_a_seller_cannot_speak_in_our_name() {
        let mut h = map(&[
            ("tollpass-reason", "ok"),
            ("proxy-status", "tollpass; error=x"),
            ("proxy-status", "cdn; fwd=miss"),
            ("proxy-status", "cdn, \"tollpass\""),
            ("alt-svc", "h3=\":443\""),
        ]);
        clean_response(&mut h);
        assert_eq!(h.len(), 1);
        assert_eq!(h["proxy-status"], "cdn; fwd=miss");
    }
}
