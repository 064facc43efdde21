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
pub enum HostPattern {
    /// `*`
    Any,
    /// A name or an address.
    Exact(Host),
    /// `*.x`, kept as `.x`.
    Below(Arc<str>),
}

impl HostPattern {
    /// Reads one value of `host`.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        match Host::parse(name) {
            Ok(host) if !below => Ok(Self::Exact(host)),
            Ok(Host::Name(name)) => Ok(Self::Below(format!(".{name}").into())),
            _ => Err(host_fault(text)),
        }
    }

    /// True if `host` is one of those meant.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(own), host) => own == host,
            // No name begins with a dot, so there is something before the suffix.
            (Self::Below(suffix), Host::Name(name)) => name.ends_with(&**suffix),
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
            Self::Below(suffix) => suffix.ends_with(".localhost"),
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
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = if bare.contains(':') { format!("\"{}\"", shown(bare)) } else { shown(bare) };
        return format!("\"{seen}\" has a port: write `host: {host}` and `ports: [{port}]`");
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
        // Callers pass no query; a stray one must not keep a deny entry from matching.
        let path = path.split('?').next().filter(|p| !p.is_empty()).unwrap_or("/");
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn path_matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().allows(&RequestPath::new(path).unwrap())
    }

    #[test]
    fn m3_6_a_star_stays_inside_a_segment_and_two_cross() {
        for (pattern, yes, no) in [
            ("/", &["/", ""][..], &["/a", "//"][..]),
            ("/v2", &["/v2"], &["/v2/", "/v2/a", "/v", "/v22"]),
            ("/v2/", &["/v2/"], &["/v2", "/v2/a"]),
            ("/v2/*", &["/v2/", "/v2/a"], &["/v2", "/v2/a/b", "/v2/a/"]),
            ("/v2/**", &["/v2/", "/v2/a", "/v2/a/b", "/v2//"], &["/v2", "/v3/a", "/"]),
            ("/**", &["/", "/a", "/a/b", "//"], &[]),
            ("/a*c", &["/ac", "/abc", "/abcc", "/a*c"], &["/ab", "/a/c", "/acd", "/a"]),
            ("/a*b*c", &["/abc", "/aXbYc", "/abbc"], &["/ac", "/acb", "/ab"]),
            ("/a*b*b*c", &["/abbc", "/aXbXbXc"], &["/abc", "/abXc"]),
            ("/*aa*", &["/aa", "/aaa", "/baab"], &["/a", "/aba"]),
            ("/*", &["/", "/a"], &["/a/b", "//"]),
            ("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z", "/a/z/z"], &["/a/b", "/z", "/a/z/b", "/az"]),
            ("/**/admin/**", &["/admin/", "/x/admin/y", "/x/y/admin/z/w", "/admin/admin/a"], &["/admin", "/x/admin", "/xadmin/y"]),
            ("/a b%2Bc", &["/a%20b+c", "/a b%2bc"], &["/a+b+c"]),
            ("/%7Euser", &["/~user", "/%7euser", "/%7Euser"], &["/%257Euser"]),
            ("/x%2A", &["/x*", "/x%2a"], &["/xy"]),
        ] {
            for path in yes {
                assert!(path_matches(pattern, path), "{pattern} takes {path}");
            }
            for path in no {
                assert!(!path_matches(pattern, path), "{pattern} does not take {path}");
            }
        }
    }

    #[test]
    fn m3_6_host_patterns() {
        for (pattern, yes, no) in [
            ("a.example", &["a.example", "A.Example.", "a\u{3002}example"][..], &["b.a.example", "aa.example"][..]),
            ("*.example.com", &["a.example.com", "b.a.example.com"], &["example.com", "notexample.com", "10.0.0.1"]),
            ("bücher.example", &["xn--bcher-kva.example", "BÜCHER.example"], &["bucher.example"]),
            ("*.bücher.example", &["a.xn--bcher-kva.example"], &["xn--bcher-kva.example"]),
            ("10.0.0.1", &["10.0.0.1", "::ffff:10.0.0.1", "[::ffff:a00:1]"], &["10.0.0.2"]),
            ("\u{ff11}0.0.0.1.example", &["10.0.0.1.example"], &[]),
            ("[2001:DB8::1]", &["2001:db8:0:0::1", "[2001:db8::1]"], &["2001:db8::2"]),
            ("*", &["a", "10.0.0.1", "::1"], &[]),
        ] {
            let pattern = HostPattern::parse(pattern).unwrap();
            for host in yes {
                assert!(pattern.matches(&Host::parse(host).unwrap()), "{pattern:?} takes {host}");
            }
            for host in no {
                assert!(!pattern.matches(&Host::parse(host).unwrap()), "{pattern:?} does not take {host}");
            }
        }
        for bad in [
            "",
            ".",
            "*.",
            "**",
            "*a.example",
            "a.*",
            "*.*.a",
            "a..b",
            "127.1",
            "1.2.3",
            "0x7f000001",
            "a/b",
            "user@a",
            "a:1",
            "fe80::1%eth0",
            "[a]",
            " a",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn covering_is_claimed_only_where_it_is_certain() {
        let path = |t| PathPattern::parse(t).unwrap();
        for (wide, narrow, expected) in
            [("/**", "/a", true), ("/a/**", "/a/b/**", true), ("/a/**", "/a", false), ("/a/*", "/a/b", false), ("/a", "/a", true)]
        {
            assert_eq!(path(wide).covers(&path(narrow)), expected, "{wide} {narrow}");
        }
        let host = |t| HostPattern::parse(t).unwrap();
        for (wide, narrow, expected) in [
            ("*", "*.a.b", true),
            ("*.b", "*.a.b", true),
            ("*.a.b", "*.b", false),
            ("*.a.b", "a.b", false),
            ("*.a.b", "x.a.b", true),
            ("*.b", "*", false),
        ] {
            assert_eq!(host(wide).covers(&host(narrow)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let path = format!("/{}b", "a/".repeat(2_000));
        let pattern = PathPattern::parse(&"/**/a".repeat(20)).unwrap();
        assert!(!pattern.allows(&RequestPath::new(&path).unwrap()));
        let segment = format!("/{}", "a".repeat(5_000));
        assert!(!PathPattern::parse(&format!("/{}b", "*a".repeat(30))).unwrap().allows(&RequestPath::new(&segment).unwrap()));
    }

    /// The same rules, written the slow and obvious way.
    fn naive(pattern: &[&str], path: &[&str]) -> bool {
        match pattern {
            [] => path.is_empty(),
            ["**"] => !path.is_empty(),
            ["**", rest @ ..] => (0..=path.len()).any(|n| naive(rest, &path[n..])),
            [first, rest @ ..] => path.split_first().is_some_and(|(s, tail)| glob(first.as_bytes(), s.as_bytes()) && naive(rest, tail)),
        }
    }

    fn glob(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|n| glob(rest, &text[n..])),
            [byte, rest @ ..] => text.split_first().is_some_and(|(b, tail)| b == byte && glob(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn matching_never_panics(pattern in "\\PC{0,40}", path in "\\PC{0,40}", host in "\\PC{0,20}") {
            let request = RequestPath::new(&path);
            if let (Ok(pattern), Some(request)) = (PathPattern::parse(&format!("/{pattern}")), &request) {
                pattern.allows(request);
                pattern.denies(request);
            }
            if let (Ok(pattern), Ok(host)) = (HostPattern::parse(&host), Host::parse(&path)) {
                pattern.matches(&host);
            }
        }

        #[test]
        fn matching_agrees_with_the_obvious_matcher(
            pattern in prop::collection::vec(prop::sample::select(vec!["**", "*", "a", "b", "a*", "*b*", ""]), 1..6),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "ba", ""]), 1..6),
        ) {
            let (p, t) = (format!("/{}", pattern.join("/")), format!("/{}", path.join("/")));
            prop_assert_eq!(path_matches(&p, &t), naive(&pattern, &path), "{} {}", p, t);
        }

        #[test]
        fn a_host_is_stable_under_reading_it_again(text in "[a-zA-Z0-9.:\\[\\]ü-]{1,30}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }
    }
}
