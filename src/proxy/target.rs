//! Where a request goes, read from the one place that decides: the request line or the CONNECT authority.

use http::header::{HOST, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Uri};

use crate::payment::Reason;
use crate::policy::Host;

/// Where a request goes: decided by the request line or the CONNECT authority, never by an inner Host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) https: bool,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Target {
    /// `host` or `host:port`, as the Host header wants it.
    pub(super) fn authority(&self) -> String {
        let default = if self.https { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Absolute URL of a path on this target.
    pub(super) fn url(&self, path_and_query: &str) -> String {
        format!("{}://{}{path_and_query}", if self.https { "https" } else { "http" }, self.authority())
    }
}

/// A target with the Host field that names it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) target: Target,
    pub(super) host: HeaderValue,
}

impl Place {
    pub(super) fn new(target: Target) -> Result<Self, Reason> {
        let host = HeaderValue::try_from(target.authority()).map_err(|_| Reason::BadRequest)?;
        Ok(Self { target, host })
    }

    /// True if this scheme and authority, as they are written, lead here. False for another spelling too.
    fn is(&self, https: bool, authority: &str) -> bool {
        self.target.https == https && self.host.as_bytes() == authority.as_bytes()
    }

    /// The place of an absolute-form request: `last` itself, if it names that one again.
    pub(super) fn absolute(uri: &Uri, last: Option<&Self>) -> Result<Self, Reason> {
        if let (Some(last), Some(scheme), Some(authority)) = (last, uri.scheme(), uri.authority())
            && last.is(*scheme == Scheme::HTTPS, authority.as_str())
        {
            return Ok(last.clone());
        }
        Self::new(absolute_target(uri)?)
    }

    /// Inside a tunnel what opened it decides; a Host or absolute form that names another place is refused.
    pub(super) fn check_inner(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Reason> {
        let target = &self.target;
        let same = |authority: &Authority| {
            split_authority(authority).is_ok_and(|(host, port)| {
                let default = if target.https { 443 } else { 80 };
                host == target.host && (port.unwrap_or(default) == target.port || port.is_none())
            })
        };
        if let Some(authority) = uri.authority()
            && self.host.as_bytes() != authority.as_str().as_bytes()
            && !same(authority)
        {
            return Err(Reason::Misdirected);
        }
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (None, _) => Ok(()),
            (Some(_), Some(_)) => Err(Reason::BadRequest),
            (Some(host), None) if *host == self.host => Ok(()),
            (Some(host), None) => match host.to_str().ok().and_then(|h| h.parse::<Authority>().ok()) {
                Some(authority) if same(&authority) => Ok(()),
                _ => Err(Reason::Misdirected),
            },
        }
    }
}

/// The target of an absolute-form request; anything else on the proxy port is not for us (421).
pub(super) fn absolute_target(uri: &Uri) -> Result<Target, Reason> {
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) => return Err(Reason::BadRequest),
        None => return Err(Reason::Misdirected),
    };
    let authority = uri.authority().ok_or(Reason::BadRequest)?;
    let (host, port) = split_authority(authority)?;
    Ok(Target { https, host, port: port.unwrap_or(if https { 443 } else { 80 }) })
}

/// The target of a redirected clear-text request: `:authority` or Host names it, `port` is where the agent connected to.
pub(super) fn host_target(uri: &Uri, headers: &HeaderMap, port: u16) -> Result<Target, Reason> {
    let named = match uri.authority() {
        Some(authority) => authority.clone(),
        None => {
            let mut hosts = headers.get_all(HOST).iter();
            let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Reason::BadRequest) };
            host.to_str().ok().and_then(|h| h.parse().ok()).ok_or(Reason::BadRequest)?
        }
    };
    let (host, said) = split_authority(&named)?;
    if said.is_some_and(|said| said != port) {
        return Err(Reason::Misdirected);
    }
    Ok(Target { https: false, host, port })
}

/// Host and port of an authority without user information.
pub(super) fn split_authority(authority: &Authority) -> Result<(Host, Option<u16>), Reason> {
    if authority.as_str().contains('@') {
        return Err(Reason::BadRequest);
    }
    let host = Host::parse(authority.host()).map_err(|_| Reason::BadRequest)?;
    let port = match authority.port() {
        None => None,
        Some(port) => Some(port.as_str().parse().ok().filter(|p| *p != 0).ok_or(Reason::BadRequest)?),
    };
    Ok((host, port))
}

/// The absolute URL, without fragment, that a `Location` means at `base` (RFC 9110 §10.2.2). Dot segments are left alone:
/// a chain is looked up by the URL the agent then asks for.
pub(super) fn resolve_location(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next()?;
    let base: Uri = base.parse().ok()?;
    let absolute = |text: &str| {
        let uri: Uri = text.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Some(absolute_target(&uri).ok()?.url(path))
    };
    if location.contains("://") {
        return absolute(location);
    }
    if location.starts_with("//") {
        return absolute(&format!("{}:{location}", base.scheme_str()?));
    }
    let target = absolute_target(&base).ok()?;
    if location.starts_with('/') {
        return Some(target.url(location));
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = if location.starts_with('?') { format!("{}{location}", base.path()) } else { format!("{folder}/{location}") };
    Some(target.url(&joined))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_location_is_resolved_as_the_agent_would() {
        for (base, location, url) in [
            ("http://a.example/x/y?q=1", "/z?r=2", "http://a.example/z?r=2"),
            ("http://a.example/x/y", "z", "http://a.example/x/z"),
            ("http://a.example/x/y", "?p=2", "http://a.example/x/y?p=2"),
            ("https://a.example/x", "//b.example:8443/y#f", "https://b.example:8443/y"),
            ("http://a.example:8080/x", "https://B.example:443/", "https://b.example/"),
        ] {
            assert_eq!(resolve_location(base, location).unwrap(), url, "{base} → {location}");
        }
        assert!(resolve_location("http://a.example/", "ftp://b/").is_none());
    }

    #[test]
    fn a_redirected_request_names_the_host_but_not_the_port() {
        let target = |uri: &str, host: &'static str, port| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, http::HeaderValue::from_static(host));
            host_target(&uri.parse().unwrap(), &headers, port).map(|t| t.authority())
        };
        assert_eq!(target("/x", "A.example", 8080), Ok("a.example:8080".to_owned()));
        assert_eq!(target("/x", "a.example:8080", 8080), Ok("a.example:8080".to_owned()));
        assert_eq!(target("/x", "a.example:22", 80), Err(Reason::Misdirected));
        assert_eq!(target("http://b.example/x", "b.example", 80), Ok("b.example".to_owned()));
        assert_eq!(host_target(&"/x".parse().unwrap(), &HeaderMap::new(), 80), Err(Reason::BadRequest));
    }

    #[test]
    fn only_absolute_form_is_for_a_proxy() {
        let target = |text: &str| absolute_target(&text.parse().unwrap());
        assert_eq!(target("/path"), Err(Reason::Misdirected));
        assert_eq!(target("http://user@a.example/"), Err(Reason::BadRequest));
        assert_eq!(target("ftp://a.example/"), Err(Reason::BadRequest));
        assert_eq!(target("http://A.Example./x").unwrap().authority(), "a.example");
        assert_eq!(target("http://[::ffff:1.2.3.4]:81/").unwrap().authority(), "1.2.3.4:81");
    }
}
