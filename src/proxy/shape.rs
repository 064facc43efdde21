//! The form a request takes on one version of HTTP. Inside the proxy it is origin-form with one Host; either form can be made of
//! the other, because a request that was never sent may go out on a connection of another version.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri, Version};
use hyper::body::Body;

use super::target::Target;

/// Origin-form, one Host.
pub(super) fn for_http1<B>(request: &mut Request<B>, target: &Target) {
    if request.version() == Version::HTTP_11 {
        return;
    }
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    if let Ok(host) = HeaderValue::try_from(target.authority()) {
        request.headers_mut().insert(HOST, host);
    }
}

/// Says that there will be a body where neither a length nor the method does: the library would leave it away.
pub(super) fn announce_body<B: Body>(request: &mut Request<B>) {
    let unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if unknown && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Scheme, authority and path apart, no Host, no Connection (RFC 9113 §8.2.2, §8.3.1).
pub(super) fn for_http2<B>(request: &mut Request<B>, target: &Target) {
    *request.version_mut() = Version::HTTP_2;
    for name in [HOST, CONNECTION] {
        request.headers_mut().remove(name);
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if target.https { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = target.authority().parse().ok();
    parts.path_and_query = request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// HTTP/2 lets a client split Cookie into fields; everything else knows one (RFC 9113 §8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// gRPC exists on HTTP/2 only, so who sends it knows that the seller speaks that.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::Host;

    #[test]
    fn a_request_changes_its_form_and_back() {
        let target = Target { https: true, host: Host::parse("shop.example").unwrap(), port: 8443 };
        let mut request = Request::get("/a?b=c").header("host", "shop.example:8443").body(()).unwrap();
        for_http2(&mut request, &target);
        assert_eq!(request.uri(), "https://shop.example:8443/a?b=c");
        assert!(!request.headers().contains_key(HOST));
        for_http1(&mut request, &target);
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers()[HOST], "shop.example:8443");
    }

    #[test]
    fn split_cookies_become_one() {
        let mut headers = HeaderMap::new();
        for value in ["x=1", "y=2"] {
            headers.append(COOKIE, HeaderValue::from_static(value));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["x=1; y=2"]);
    }
}
