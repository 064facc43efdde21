//! Host and path patterns (M3.6), compiled once at load, matched without allocating.
//!
//! Hosts: a name, an address, `*.x` for subdomains of any depth without the apex, or `*`. Paths: `*` stays inside a segment
//! and may match nothing; `**` is a segment of its own: at the end it takes one or more segments (`/v2/**` takes `/v2/` and
//! below, not `/v2`), elsewhere zero or more. Matching is case-sensitive and greedy with one point of return, so it is never
//! exponential.

use std::borrow::Cow;
use std::sync::Arc;

use super::Host;
use super::read::shown;

/// One value of `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// `*`
    Any,
    /// A name or an address.
    Exact(Host),
    /// `*.x`, kept as `.x`.
    Below(Arc<str>),
}

impl HostPattern {
    /// Reads one value of `host`; the error says what to write.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        match Host::parse(name) {
            Ok(host) if !below && !name.contains('*') => Ok(Self::Exact(host)),
            Ok(Host::Name(name)) if below => Ok(Self::Below(format!(".{name}").into())),
            _ => Err(host_fault(text)),
        }
    }

    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(own), host) => own == host,
            (Self::Below(suffix), Host::Name(name)) => name.len() > suffix.len() && name.ends_with(&**suffix),
            (Self::Below(_), Host::Ip(_)) => false,
        }
    }

    /// True if everything `other` matches is matched here too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(host)) => self.matches(host),
            (Self::Below(wide), Self::Below(narrow)) => narrow.ends_with(&**wide),
            _ => false,
        }
    }

    /// True for a pattern that can only be a loopback address or `localhost`.
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Exact(host) => host.is_loopback(),
            Self::Below(suffix) => &**suffix == ".localhost" || suffix.ends_with(".localhost"),
            Self::Any => false,
        }
    }
}

fn host_fault(text: &str) -> String {
    let seen = shown(text);
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return format!("\"{seen}\" has a scheme: write only the host, such as {} (`plain_http: true` allows http)", shown(host));
    }
    if let Some((host, path)) = text.split_once('/') {
        return format!("\"{seen}\" has a path: write `host: {}` and `paths: [\"/{}\"]`", shown(host), shown(path));
    }
    if let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())) {
        return format!("\"{seen}\" has a port: write `host: {}` and `ports: [{port}]`", shown(host));
    }
    if text.contains('*') {
        return format!("\"{seen}\": a `*` stands only in front, as in \"*.example.com\" for all subdomains");
    }
    format!("\"{seen}\" is {}", super::HostError)
}

/// One value of `paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Vec<u8>),
    /// The pieces between the stars: at least two.
    Glob(Vec<Vec<u8>>),
    /// `**`
    Cross,
}

impl PathPattern {
    /// Reads one value of `paths`; the error says what to write.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let seen = shown(text);
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("\"{seen}\" does not begin with /: write a path such as /v2/**"));
        };
        if text.contains(['?', '#']) {
            return Err(format!("\"{seen}\" has a query or fragment: only the path is matched, write it without"));
        }
        if RequestPath::new(text).is_none() {
            return Err(format!(
                "\"{seen}\" has a dot segment, a backslash or an encoded slash: such requests are never paid, so it could never match"
            ));
        }
        let segments =
            rest.split('/').map(|s| Segment::parse(s).ok_or_else(|| format!("\"{seen}\": `**` must be a whole segment, as in /v2/**")));
        Ok(Self { segments: segments.collect::<Result<_, _>>()? })
    }

    /// An allow entry's reading: exactly the path that is sent.
    pub(super) fn allows(&self, path: &RequestPath<'_>) -> bool {
        self.matches(&path.bytes)
    }

    /// A deny entry's reading: also the path as a server that merges `//` would see it.
    pub(super) fn denies(&self, path: &RequestPath<'_>) -> bool {
        self.matches(&path.bytes) || path.merged.as_ref().is_some_and(|merged| self.matches(merged))
    }

    fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(b"/") else { return false };
        let mut path = rest.split(|b| *b == b'/');
        let mut pattern = self.segments.as_slice();
        let mut back: Option<(&[Segment], std::slice::Split<'_, u8, _>)> = None;
        loop {
            if let [Segment::Cross, rest @ ..] = pattern {
                if rest.is_empty() {
                    return path.next().is_some();
                }
                back = Some((rest, path.clone()));
                pattern = rest;
                continue;
            }
            let segment = path.next();
            match (pattern.split_first(), segment) {
                (None, None) => return true,
                (Some((own, rest)), Some(segment)) if own.matches(segment) => pattern = rest,
                (_, segment) => {
                    // Give the last `**` one segment more; without a segment left there is nothing to give.
                    let Some((after, from)) = back.as_mut() else { return false };
                    if segment.is_none() || from.next().is_none() {
                        return false;
                    }
                    (pattern, path) = (*after, from.clone());
                }
            }
        }
    }

    /// True if everything `other` matches is surely matched here too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let Some((Segment::Cross, prefix)) = self.segments.split_last() else { return false };
        let literal = prefix.iter().all(|s| matches!(s, Segment::Literal(_)));
        literal && other.segments.len() > prefix.len() && other.segments.starts_with(prefix)
    }
}

impl Segment {
    fn parse(text: &str) -> Option<Self> {
        if text == "**" {
            return Some(Self::Cross);
        }
        if text.contains("**") {
            return None;
        }
        let mut pieces: Vec<Vec<u8>> = text.split('*').map(|p| decoded(p).into_owned()).collect();
        if pieces.len() == 1 { pieces.pop().map(Self::Literal) } else { Some(Self::Glob(pieces)) }
    }

    fn matches(&self, segment: &[u8]) -> bool {
        match self {
            Self::Literal(own) => own == segment,
            Self::Cross => true,
            Self::Glob(pieces) => {
                let [first, middle @ .., last] = pieces.as_slice() else { return false };
                let Some(mut rest) = segment.strip_prefix(first.as_slice()).and_then(|s| s.strip_suffix(last.as_slice())) else {
                    return false;
                };
                middle.iter().all(|piece| match find(rest, piece) {
                    Some(at) => {
                        rest = &rest[at + piece.len()..];
                        true
                    }
                    None => false,
                })
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// A request path that rules may be compared with: absolute, no dot segments, no encoded slashes, no backslashes (M3.6).
///
/// Compared with every percent-escape decoded once, in patterns and paths alike, so that `/%61dmin` is `/admin` to a deny
/// entry. What a seller's server makes of its own paths beyond that is unknown here: a deny that must hold names the host.
#[derive(Debug)]
pub(super) struct RequestPath<'a> {
    bytes: Cow<'a, [u8]>,
    merged: Option<Vec<u8>>,
}

impl<'a> RequestPath<'a> {
    /// `None` = `path_not_normal`. An empty path is `/`.
    pub(super) fn new(path: &'a str) -> Option<Self> {
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') || path.contains('\\') {
            return None;
        }
        let slashes = |p: &str| p.as_bytes().iter().filter(|b| **b == b'/').count();
        let bytes = decoded(path);
        // A slash or backslash that decoding brought to light.
        let hidden =
            matches!(bytes, Cow::Owned(_)) && (bytes.contains(&b'\\') || bytes.iter().filter(|b| **b == b'/').count() != slashes(path));
        if hidden || bytes.split(|b| *b == b'/').any(is_dots) {
            return None;
        }
        let merged = bytes.windows(2).any(|w| w == b"//").then(|| merge(&bytes));
        Some(Self { bytes, merged })
    }
}

/// `.` or `..`, also with the path parameters that some servers cut off first (`..;x`).
fn is_dots(segment: &[u8]) -> bool {
    matches!(segment.split(|b| *b == b';').next(), Some(b"." | b".."))
}

fn merge(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
    merged
}

/// Percent-escapes decoded once; a `%` without two hex digits stays as it is.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}
