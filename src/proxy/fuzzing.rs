//! The parsers of what agents send first, for the fuzz targets. Not in a release build.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::Uri;

use super::sniff::{self, Hello};
use super::{io, parent, socks, target};

/// The URL of the place that an absolute-form target names.
pub fn absolute(uri: &Uri) -> Option<String> {
    target::absolute_target(uri).ok().map(|target| target.url("/"))
}

/// Host and port of an authority.
pub fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = target::split_authority(&text.parse().ok()?).ok()?;
    Some((host.to_string(), port))
}

/// Where a `Location` leads from `base`.
pub fn location(base: &str, location: &str) -> Option<String> {
    target::resolve_location(base, location)
}

/// What the first bytes are, once that is certain.
pub fn kind(seen: &[u8], ours: bool) -> Option<String> {
    sniff::kind(seen, ours).map(|kind| format!("{kind:?}"))
}

/// The name in a TLS hello: `Ok(None)` while it is unfinished, `Err` if it is none.
pub fn hello(seen: &[u8]) -> Result<Option<Option<String>>, String> {
    match sniff::hello_name(seen) {
        Ok(Hello::Unfinished) => Ok(None),
        Ok(Hello::Name(name)) => Ok(Some(name)),
        Err(error) => Err(error.to_string()),
    }
}

/// Where a SOCKS5 request leads (host, port), and how much of it was read; `None` if it is cut or no request.
pub fn socks_request(bytes: &[u8]) -> Option<(Option<(String, u16)>, usize)> {
    let mut rest = bytes;
    let asked = now(socks::request(&mut rest))?.ok()?;
    let place = asked.ok().map(|target| (target.host.to_string(), target.port));
    Some((place, bytes.len() - rest.len()))
}

/// User and password of RFC 1929.
pub fn socks_credentials(bytes: &[u8]) -> Option<(String, String)> {
    let mut rest = bytes;
    now(socks::credentials(&mut rest))?.ok()
}

/// What of a seller's interim answers an agent may see.
pub fn interim(heads: &[u8], hints: bool) -> Vec<u8> {
    io::clean(heads, hints)
}

/// Whether a seller of HTTP/2 takes extended CONNECT, once its first frame is whole.
pub fn takes_connect(seen: &[u8]) -> Option<bool> {
    io::takes_connect(seen)
}

/// The status in a parent proxy's answer to CONNECT.
pub fn parent_status(head: &[u8]) -> Option<u16> {
    parent::status(head)
}

/// What comes out without waiting.
fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
