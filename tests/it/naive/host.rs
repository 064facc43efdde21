//! Hosts, ports and paths (M3.6, M3.7).

use super::case::Request;
use super::yaml::Node;
use std::net::IpAddr;

/// Lower-case A-labels without one trailing dot; an IP literal as its address.
pub(crate) fn plain(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.to_string();
    }
    let undotted = host.strip_suffix('.').unwrap_or(host);
    idna::domain_to_ascii(undotted).unwrap_or_else(|_| undotted.to_lowercase())
}

/// Whether one pattern of a `host` list names this host (already plain). `*.x` is every subdomain and not x itself.
pub(crate) fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.strip_prefix("*.") {
        Some(apex) => host.strip_suffix(&plain(apex)).is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        None => plain(pattern) == host,
    }
}

/// Absent ports are the scheme's own, and any on a loopback address.
pub(crate) fn port_matches(entry: &Node, request: &Request) -> bool {
    let ports = entry.get("ports");
    if ports.is_there() {
        return ports.texts().contains(&request.port.to_string().as_str());
    }
    let loopback = request.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || request.port == if request.scheme == "https" { 443 } else { 80 }
}

/// `*` is any text without a slash, `/**` at the end is a slash and anything.
pub(crate) fn path_matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'/', b'*', b'*'] => path.first() == Some(&b'/'),
        [b'*', rest @ ..] => path_matches(rest, path) || path.first().is_some_and(|c| *c != b'/') && path_matches(pattern, &path[1..]),
        [c, rest @ ..] => path.first() == Some(c) && path_matches(rest, &path[1..]),
    }
}

/// Dot segments and encoded slashes are refused before anything is matched.
pub(crate) fn path_is_normal(path: &str) -> bool {
    let lower = path.to_lowercase();
    !lower.contains("%2f")
        && !lower.contains("%5c")
        && !lower.contains('\\')
        && !lower.split('/').any(|s| {
            let s = s.replace("%2e", ".");
            s == "." || s == ".."
        })
}
