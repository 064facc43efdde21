//! Header hygiene on both legs: hop-by-hop fields, our own names, `Via` (RFC 9110 §7.6, S19).

use http::header::{
    ALT_SVC, CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};

/// RFC 9110 §7.6.1, plus the proxy's own and what clients send by mistake. `Trailer` is not one of them (§6.6.2): it announces
/// what is passed on, and on HTTP/1 only what it announces is sent.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
const CONNECTION_AT: usize = 0;
const TE_AT: usize = 5;
const UPGRADE_AT: usize = 7;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What a head holds that is not simply passed on, found in one pass over the names: most heads hold next to nothing of it, and
/// looking each name up would cost more than the rest of a request's hygiene.
struct Found {
    /// Bits by place in [`HOP_BY_HOP`].
    hop_by_hop: u16,
    expect: bool,
    ours: bool,
    proxy_status: bool,
    alt_svc: bool,
}

impl Found {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self { hop_by_hop: 0, expect: false, ours: false, proxy_status: false, alt_svc: false };
        for name in headers.keys() {
            let place = match name.as_str() {
                "connection" => CONNECTION_AT,
                "keep-alive" => 1,
                "proxy-connection" => 2,
                "proxy-authenticate" => 3,
                "proxy-authorization" => 4,
                "te" => TE_AT,
                "transfer-encoding" => 6,
                "upgrade" => UPGRADE_AT,
                "expect" => {
                    found.expect = true;
                    continue;
                }
                "alt-svc" => {
                    found.alt_svc = true;
                    continue;
                }
                "proxy-status" => {
                    found.proxy_status = true;
                    continue;
                }
                name => {
                    found.ours |= name.starts_with("tollpass-");
                    continue;
                }
            };
            found.hop_by_hop |= 1 << place;
        }
        found
    }

    const fn has(&self, place: usize) -> bool {
        self.hop_by_hop & (1 << place) != 0
    }
}

/// Removes what belongs to one connection only. A field named by `Connection` goes too, except the ones that frame the message.
fn strip_hop_by_hop(headers: &mut HeaderMap, found: &Found) {
    if found.hop_by_hop == 0 {
        return;
    }
    if found.has(CONNECTION_AT) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|v| v.as_bytes().split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|option| !is_no_other_field(option))
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .filter(|name| *name != http::header::CONTENT_LENGTH && *name != http::header::HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for (place, name) in HOP_BY_HOP.iter().enumerate() {
        if found.has(place) {
            headers.remove(name);
        }
    }
}

/// What nearly every `Connection` says: an option that is no field's name, or one that is taken out anyway.
fn is_no_other_field(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// `Tollpass-*` belongs to us: a seller may not forge it and does not get to see it (S19).
fn strip_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().starts_with("tollpass-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// True for what no seller says to an agent: fields of one connection, ways around us, words in our name (S19).
pub(super) fn is_private(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || [PROXY_STATUS, ALT_SVC].contains(name) || name.as_str().starts_with("tollpass-")
}

/// The lines of `Tollpass-Context` (M3.2).
pub(super) type Said = Vec<HeaderValue>;

const CONTEXT: HeaderName = HeaderName::from_static("tollpass-context");

/// What the agent says of its request, taken out of a head that holds something of ours.
fn take_context(headers: &HeaderMap) -> Option<Box<Said>> {
    let lines: Said = headers.get_all(CONTEXT).iter().cloned().collect();
    (!lines.is_empty()).then(|| Box::new(lines))
}

/// Makes an agent's request fit for the seller, and takes out what only we are to read. `Proxy-Authorization` goes even inside tunnels, where Deno leaks it.
pub(super) fn clean_request(headers: &mut HeaderMap, via: &HeaderValue) -> Option<Box<Said>> {
    let found = Found::of(headers);
    // We read trailers, so a seller may send them if the agent does too (RFC 9110 §10.1.4); gRPC insists.
    let trailers =
        found.has(TE_AT) && headers.get_all(TE).iter().any(|v| v.to_str().is_ok_and(|t| t.split(',').any(|t| t.trim() == "trailers")));
    // Before `Connection` can name it.
    let context = if found.ours { take_context(headers) } else { None };
    let switch = if found.has(UPGRADE_AT) { upgrade(headers) } else { None };
    strip_hop_by_hop(headers, &found);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = switch {
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    // The expectation was answered when the body was first read; hyper sends the body without waiting.
    if found.expect {
        headers.remove(EXPECT);
    }
    if found.ours {
        strip_ours(headers);
    }
    headers.append(VIA, via.clone());
    context
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
    let found = Found::of(headers);
    strip_hop_by_hop(headers, &found);
    if found.alt_svc {
        // It would lead the agent around the proxy, to a port or a protocol that nobody looks into (RFC 7838).
        headers.remove(ALT_SVC);
    }
    if found.ours {
        strip_ours(headers);
    }
    if found.proxy_status {
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

/// Makes trailers fit for whoever gets them: no hop-by-hop field, nothing in our name.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    let found = Found::of(trailers);
    strip_hop_by_hop(trailers, &found);
    strip_ours(trailers);
    trailers.remove(PROXY_STATUS);
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
        let said = clean_request(&mut h, &HeaderValue::from_static("1.1 tollpass-1"));
        assert_eq!(said.map(|lines| *lines), Some(vec![HeaderValue::from_static("a=1")]));
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
    fn every_hop_by_hop_field_is_found_at_its_place() {
        for (place, name) in HOP_BY_HOP.iter().enumerate() {
            let mut h = HeaderMap::new();
            h.insert(name, HeaderValue::from_static("x"));
            assert!(Found::of(&h).has(place), "{name}");
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
