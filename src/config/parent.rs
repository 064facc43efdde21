//! `upstream.proxy` and `upstream.no_proxy`: the proxy that stands between this one and the sellers.

use super::reader::Reader;
use super::scalar::text;
use super::tree::{Node, Section};
use super::{Cidr, ParentConfig, Secret};
use crate::policy::{Host, HostPattern};

/// A target that is reached without the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// A name, an address, or the names below one.
    Host(HostPattern),
    /// Addresses, where the agent names one.
    Range(Cidr),
}

impl Bypass {
    /// `host`, `.suffix`, `*.suffix`, a range, or `*`.
    fn parse(given: &str) -> Result<Self, String> {
        if let Ok(range) = Cidr::parse(given) {
            return Ok(Self::Range(range));
        }
        let pattern = given.strip_prefix('.').map_or_else(|| given.to_owned(), |suffix| format!("*.{suffix}"));
        let form = "write a host name, .name for every name below it, or a range such as 10.0.0.0/8";
        HostPattern::parse(&pattern).map(Self::Host).map_err(|_| form.to_owned())
    }

    /// True if `host` is one of those meant.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Host(pattern), host) => pattern.matches(host),
            (Self::Range(range), Host::Ip(ip)) => range.contains(*ip),
            (Self::Range(_), Host::Name(_)) => false,
        }
    }
}

/// Reads both keys.
pub(super) fn read(r: &mut Reader<'_>, s: &Section<'_>) -> Option<ParentConfig> {
    let no_proxy = r.list(s, "no_proxy", |n| Bypass::parse(text(n)?));
    let Some(node) = s.get("proxy") else {
        if s.get("no_proxy").is_some() {
            r.problems.at(s.place("no_proxy"), "`upstream.no_proxy` has no effect without `upstream.proxy`: remove it");
        }
        return None;
    };
    let read = match named(r, node) {
        Ok(Some(secret)) => parse(secret.expose()),
        // No secret is read here, so what it says is not known.
        Ok(None) => return None,
        Err(message) => Err(message),
    };
    match read {
        Ok(parent) => Some(ParentConfig { no_proxy, ..parent }),
        Err(message) => {
            r.problems.at(node.at, format!("`upstream.proxy`: {message}"));
            None
        }
    }
}

const FORM: &str = "write http://HOST:PORT, or env:NAME or file:PATH where there are credentials";

/// The URL, from wherever it stands. One with credentials never stands in the file itself, and no message repeats it.
fn named(r: &Reader<'_>, node: &Node) -> Result<Option<Secret>, String> {
    let given = text(node).map_err(|_| FORM.to_owned())?;
    if given.starts_with("env:") || given.starts_with("file:") {
        let found = r.secret(node, Ok)?;
        return Ok((!found.expose().is_empty()).then_some(found));
    }
    if given.contains('@') {
        return Err("credentials are never written into this file: write env:NAME or file:PATH, which hold the whole URL".into());
    }
    Ok(Some(Secret::new(given)))
}

fn parse(url: &str) -> Result<ParentConfig, String> {
    let rest = url.strip_prefix("http://").ok_or(FORM)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, authority) = match rest.rsplit_once('@') {
        Some((user, authority)) => (Some(user), authority),
        None => (None, rest),
    };
    let (host, port) = authority.rsplit_once(':').ok_or(FORM)?;
    let host = Host::parse(host).map_err(|_| FORM)?;
    let port = port.parse().ok().filter(|p| *p != 0).ok_or(FORM)?;
    let credentials =
        user.map(|u| decoded(u).filter(|d| d.contains(':')).ok_or("the user and password must be user:password, percent-encoded"));
    Ok(ParentConfig { host, port, credentials: credentials.transpose()?.map(Secret::new), no_proxy: Vec::new() })
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        out.push(if byte == b'%' { digit(bytes.next())? * 16 + digit(bytes.next())? } else { byte });
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_parent_is_a_url_of_host_and_port_and_its_credentials_are_decoded() {
        let plain = parse("http://proxy.corp.example:3128/").unwrap();
        assert_eq!((plain.host.to_string().as_str(), plain.port, plain.credentials), ("proxy.corp.example", 3128, None));
        let six = parse("http://u%40x:p%3Aw@[::1]:8080").unwrap();
        assert_eq!((six.host.to_string().as_str(), six.credentials.unwrap().expose()), ("[::1]", "u@x:p:w"));
        for bad in [
            "https://p:1",
            "p:1",
            "http://p",
            "http://p:0",
            "http://p:99999",
            "http://user@p:1",
            "http://u:%0d@p:1",
            "http://u:%zz@p:1",
            "http://p:1/path",
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_bypasses_the_parent_is_a_name_names_below_one_or_a_range() {
        for (entry, host, expected) in [
            ("a.example", "a.example", true),
            ("a.example", "b.a.example", false),
            (".a.example", "b.a.example", true),
            (".a.example", "a.example", false),
            ("*.a.example", "b.a.example", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "ten.example", false),
            ("::1", "::1", true),
            ("*", "anything.example", true),
        ] {
            assert_eq!(Bypass::parse(entry).unwrap().matches(&Host::parse(host).unwrap()), expected, "{entry} {host}");
        }
        for bad in ["", "a.example:80", "http://a.example", "10.0.0.1/8", "a.*"] {
            assert!(Bypass::parse(bad).is_err(), "{bad}");
        }
    }
}
