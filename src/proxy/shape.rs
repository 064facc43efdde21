//! The form a request takes on one version of HTTP. Inside the proxy it is origin-form with one Host; either form can be made of
//! the other, because a request that was never sent may go out on a connection of another version.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body;
use hyper::ext::Protocol;

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

/// Scheme, authority and path apart, no Host, no Connection (RFC 9113 §8.2.2, §8.3.1). An upgrade becomes extended CONNECT.
pub(super) fn for_http2<B>(request: &mut Request<B>, target: &Target) -> Option<Box<Switch>> {
    *request.version_mut() = Version::HTTP_2;
    let switch = Switch::of(request);
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
    switch
}

/// An upgrade that was asked for by extended CONNECT (RFC 8441 §5): the answer gets the form that HTTP/1 has for it.
pub(super) struct Switch {
    protocol: HeaderValue,
    accept: Option<HeaderValue>,
}

impl Switch {
    fn of<B>(request: &mut Request<B>) -> Option<Box<Self>> {
        let protocol = request.headers_mut().remove(UPGRADE)?;
        request.extensions_mut().insert(Protocol::from(protocol.to_str().ok()?));
        *request.method_mut() = Method::CONNECT;
        // Over HTTP/2 nobody has to show that he reads what he answers.
        let accept = request.headers_mut().remove(SEC_WEBSOCKET_KEY).and_then(|key| accept(&key));
        Some(Box::new(Self { protocol, accept }))
    }

    /// A yes as a 101.
    pub(super) fn agreed<B>(self, mut answer: Response<B>) -> Response<B> {
        if answer.status().is_success() {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, self.protocol);
            self.accept.map(|accept| headers.insert(SEC_WEBSOCKET_ACCEPT, accept));
        }
        answer
    }
}

/// What an HTTP/1 server answers to the key of a WebSocket handshake (RFC 6455 §4.2.2).
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::try_from(BASE64_STANDARD.encode(hash)).ok()
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
