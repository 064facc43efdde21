//! Under which names `listen.admin` answers, and whose pages may send it something (S17).

use std::net::SocketAddr;

use http::header::{HOST, HeaderMap, ORIGIN};

use super::api::ApiError;
use crate::config::Origin;

/// The exact names: a name that was rebound to this machine is none of them.
#[derive(Clone, Debug)]
pub struct Names {
    hosts: Vec<String>,
    origins: Vec<String>,
    bound: SocketAddr,
}

impl Names {
    /// Those of a loopback listener at `bound`, and the name that people outside know it by.
    pub fn new(bound: SocketAddr, public: Option<&Origin>) -> Self {
        let port = bound.port();
        let mut hosts = vec![bound.to_string(), format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("localhost:{port}")];
        let mut origins: Vec<String> = hosts.iter().map(|host| format!("http://{host}")).collect();
        hosts.extend(public.map(|url| url.authority().to_owned()));
        origins.extend(public.map(|url| url.as_str().to_owned()));
        Self { hosts, origins, bound }
    }

    /// Passes what was sent to one of our names, and by no other site's page.
    ///
    /// # Errors
    /// 421 or 403.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        let host = text(HOST.as_str()).filter(|_| headers.get_all(HOST).iter().count() == 1);
        if !host.is_some_and(|host| self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host))) {
            return Err(ApiError { status: 421, code: "wrong_host", message: format!("this listener is {}", self.bound) });
        }
        let foreign = text(ORIGIN.as_str()).is_some_and(|origin| !self.is_own(origin));
        let cross = text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
        if foreign || cross {
            return Err(ApiError { status: 403, code: "wrong_origin", message: "another site's page sent this".into() });
        }
        Ok(())
    }

    /// Whether our own page sent this: browsers say so with every form.
    pub fn from_own_page(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(ORIGIN).and_then(|v| v.to_str().ok());
        let site = headers.get("sec-fetch-site").map(|v| v.as_bytes());
        headers.get_all(ORIGIN).iter().count() == 1 && origin.is_some_and(|o| self.is_own(o)) && site.is_none_or(|s| s == b"same-origin")
    }

    fn is_own(&self, origin: &str) -> bool {
        self.origins.iter().any(|o| o.eq_ignore_ascii_case(origin))
    }
}
