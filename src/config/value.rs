//! Single values of the start-up file: sizes and durations with units, address ranges, secrets.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroize;

/// A secret from the environment or a file: wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; keep it out of logs and errors.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Scheme, host and port of a web site, as browsers write it in `Origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    text: String,
    https: bool,
}

impl Origin {
    /// Reads `https://HOST[:PORT]`, or http to this machine; without a path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = || "write https://HOST or https://HOST:PORT, without a path; http only for this machine".to_owned();
        let lower = text.trim_end_matches('/').to_ascii_lowercase();
        let (https, authority) = match (lower.strip_prefix("https://"), lower.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(form()),
        };
        // Browsers leave out the port that the scheme has anyway.
        let authority = authority.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(authority);
        let parsed: http::uri::Authority = authority.parse().map_err(|_| form())?;
        let host = parsed.host();
        let here = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if host.is_empty() || authority.contains('@') || !authority.is_ascii() || (!https && !here) {
            return Err(form());
        }
        Ok(Self { text: format!("{}://{authority}", if https { "https" } else { "http" }), https })
    }

    /// As in `Origin`: scheme, host and port.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As in `Host`: host and port.
    pub fn authority(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Whether it is https.
    pub const fn is_https(&self) -> bool {
        self.https
    }
}

/// Reads a secret from a file that others cannot read.
pub(crate) fn secret_file(path: &Path) -> Result<Secret, String> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(format!("{shown} is open to every user of this machine: run chmod 0400 {shown}"));
    }
    if meta.len() > 64 << 10 {
        return Err(format!("{shown} is too large for a secret"));
    }
    let mut text = std::fs::read_to_string(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let secret = Secret::new(text.trim_end_matches(['\r', '\n']));
    text.zeroize();
    if secret.expose().is_empty() { Err(format!("{shown} is empty")) } else { Ok(secret) }
}

/// Accepts 32 bytes in hex, not all zero.
pub(crate) fn private_key(secret: Secret) -> Result<Secret, String> {
    let digits = secret.expose().strip_prefix("0x").unwrap_or(secret.expose());
    let fits = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) && digits.bytes().any(|b| b != b'0');
    if fits { Ok(secret) } else { Err("the secret it names is not a private key: it must be 64 hex digits, with or without 0x".into()) }
}

/// A range of IP addresses such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Parses `address/bits`, or a single address.
    ///
    /// # Errors
    /// What is wrong, for a message; host bits below the mask are refused because they hide a slip.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "write a range such as 10.0.0.0/8 or fd00::/8";
        let (address, bits) = match text.split_once('/') {
            Some((a, b)) => (a, Some(b)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| format!("not an address range: {form}"))?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(b) if b.len() <= 3 && b.bytes().all(|c| c.is_ascii_digit()) => {
                b.parse().map_err(|_| format!("not an address range: {form}"))?
            }
            Some(_) => return Err(format!("not an address range: {form}")),
        };
        if bits > width {
            return Err(format!("the mask /{bits} is longer than the address: {form}"));
        }
        let range = Self { network, bits };
        let base = range.masked(network);
        if base != network {
            return Err(format!("the address has bits below the mask: write {base}/{bits}"));
        }
        Ok(range)
    }

    /// True if `ip` lies in the range; a v4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && self.masked(ip) == self.network
    }

    fn masked(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::from((v4.to_bits() & mask).to_be_bytes())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::from((v6.to_bits() & mask).to_be_bytes())
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// `5s`, `300s`, `15m`, `250ms`, `2h`: a whole number and one unit, at most seven days.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let form = "write a whole number with a unit, such as 250ms, 5s, 15m or 2h";
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    if number.is_empty() || number.len() > 12 {
        return Err(form.into());
    }
    let number: u64 = number.parse().map_err(|_| form.to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(format!("{number} has no unit: {form}")),
        _ => return Err(form.into()),
    };
    let millis = number.saturating_mul(millis);
    if millis > 7 * 24 * 3_600_000 {
        return Err("longer than seven days: write a shorter time".into());
    }
    Ok(Duration::from_millis(millis))
}

/// `512B`, `64KiB`, `16MiB`, `1GiB`: a whole number and one binary unit, at most 1 TiB.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let form = "write a whole number with a unit, such as 64KiB or 16MiB";
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    if number.is_empty() || number.len() > 13 {
        return Err(form.into());
    }
    let number: u64 = number.parse().map_err(|_| form.to_owned())?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("{number} has no unit: {form}")),
        "kB" | "KB" | "K" | "k" => return Err(format!("write {number}KiB")),
        "MB" | "M" => return Err(format!("write {number}MiB")),
        "GB" | "G" => return Err(format!("write {number}GiB")),
        _ => return Err(form.into()),
    };
    number.checked_mul(factor).filter(|n| *n <= 1 << 40).ok_or_else(|| "larger than 1 TiB: write a smaller size".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit() {
        for (text, ms) in [("250ms", 250), ("5s", 5_000), ("15m", 900_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["5", "", "s", "5 s", "-5s", "5sec", "1.5s", "٥s", "99999999999999s", "169h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("16MiB", 16 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("16MB").unwrap_err(), "write 16MiB");
        for bad in ["16", "MiB", "1.5MiB", "16 MiB", "9999999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_contains_its_addresses_and_mapped_ones() {
        let yes = [
            ("10.0.0.0/8", "10.255.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("fd00::/8", "fd12::1"),
            ("::1", "::1"),
            ("127.0.0.1", "127.0.0.1"),
        ];
        let no = [("10.0.0.0/8", "11.0.0.0"), ("fd00::/8", "fe80::1"), ("::/0", "1.2.3.4"), ("127.0.0.1", "127.0.0.2")];
        for (range, ip) in yes {
            assert!(Cidr::parse(range).unwrap().contains(ip.parse().unwrap()), "{range} {ip}");
        }
        for (range, ip) in no {
            assert!(!Cidr::parse(range).unwrap().contains(ip.parse().unwrap()), "{range} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "host/8", "10.0.0.1/8"] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Cidr::parse("10.0.0.1/8").unwrap_err(), "the address has bits below the mask: write 10.0.0.0/8");
    }

    #[test]
    fn a_secret_prints_nothing() {
        let s = Secret::new("canary");
        assert_eq!(format!("{s:?} {:?}", Some(&s)), "Secret(…) Some(Secret(…))");
    }
}
