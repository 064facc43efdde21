//! Host names as policy compares them: lower-case A-labels without the trailing dot, IP literals as addresses (M3.7).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A normalised host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in lower-case A-labels.
    Name(Arc<str>),
    /// An address literal; v4-mapped IPv6 is IPv4.
    Ip(IpAddr),
}

/// Not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host: write a DNS name or an IP address, without scheme, port or path")]
pub struct HostError;

impl Host {
    /// Normalises a host as it stands in an authority or a policy file (IPv6 with or without brackets).
    ///
    /// # Errors
    /// [`HostError`] for anything that is neither a DNS name by UTS 46 nor an address, such as a number form of IPv4.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        if bare.len() != text.len() {
            return Err(HostError);
        }
        let name = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::URL).map_err(|_| HostError)?;
        let name = name.strip_suffix('.').unwrap_or(&name);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let label_ok = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(plain);
        let looks_numeric = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()) || l.starts_with("0x"));
        if name.is_empty() || name.len() > 253 || !name.split('.').all(label_ok) || looks_numeric {
            return Err(HostError);
        }
        Ok(Self::Name(name.into()))
    }

    /// True for loopback addresses and `localhost` names.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(n) => &**n == "localhost" || n.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(n) => f.write_str(n),
            Self::Ip(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3_7_hosts_are_lower_case_a_labels_or_addresses() {
        for (text, expected) in [
            ("API.Example.", "api.example"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("a\u{3002}example", "a.example"),
            ("x_y.example", "x_y.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("::FFFF:127.0.0.1", "127.0.0.1"),
            ("[2001:DB8:0::1]", "[2001:db8::1]"),
            ("3com.example", "3com.example"),
        ] {
            assert_eq!(Host::parse(text).map(|h| h.to_string()), Ok(expected.into()), "{text}");
        }
    }

    #[test]
    fn number_forms_of_addresses_and_other_text_are_no_hosts() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0x7f000001",
            "0177.0.0.1",
            "1.2.3.4.5",
            "a b",
            "a*",
            "*",
            "a@b",
            "a:80",
            "a/b",
            "[::1",
            "[a]",
            "::1%lo",
            "a,b",
        ] {
            assert_eq!(Host::parse(text), Err(HostError), "{text:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(64)), Err(HostError));
        assert_eq!(Host::parse(&"a.".repeat(127)).map(|_| ()), Ok(()));
        assert_eq!(Host::parse(&"a.".repeat(128)), Err(HostError));
    }

    #[test]
    fn loopback_is_an_address_or_the_name_localhost() {
        for (text, expected) in [
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("localhost", true),
            ("a.localhost", true),
            ("notlocalhost", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(Host::parse(text).map(|h| h.is_loopback()), Ok(expected), "{text}");
        }
    }
}
