//! From an HTTP request to a [`Call`]: over the socket everybody is the owner of the state, over TCP a token says who it is
//! and a browser must not be made to send it (S17).

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::api::{Api, ApiError, Call, ROOT, Roles};
use super::names::Names;
use super::tokens::OperatorTokens;
use crate::net::Handler;

/// The name of whoever calls over the socket.
const SOCKET: &str = "socket";

/// The operators' tokens, if there are some; hot.
pub type Tokens = Option<Arc<ArcSwap<OperatorTokens>>>;

/// Answers on the Unix socket. Who brings a token speaks as that person, with that person's roles.
pub fn socket(api: Arc<Api>, tokens: Tokens) -> Handler {
    Arc::new(move |request| {
        let (api, tokens) = (api.clone(), tokens.clone());
        Box::pin(async move {
            let known = match request.headers().contains_key(AUTHORIZATION) {
                true => person(request.headers(), tokens.as_deref()),
                false => Ok((SOCKET.into(), Roles::ALL)),
            };
            match known {
                Ok((who, roles)) => respond(&api, who, roles, &request).await,
                Err(error) => refused(&error),
            }
        })
    })
}

/// Answers `/v1/…` under `names`; without tokens there is nobody to answer.
pub fn tcp(api: Arc<Api>, tokens: Tokens, names: Arc<Names>) -> Handler {
    Arc::new(move |request| {
        let (api, tokens, names) = (api.clone(), tokens.clone(), names.clone());
        Box::pin(async move {
            let known = names.check(request.headers()).and_then(|()| person(request.headers(), tokens.as_deref()));
            match known {
                Ok((who, roles)) => respond(&api, who, roles, &request).await,
                Err(error) => refused(&error),
            }
        })
    })
}

/// Whether this path belongs to the API.
pub fn is_api(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whose token this is.
fn person(headers: &HeaderMap, tokens: Option<&ArcSwap<OperatorTokens>>) -> Result<(Arc<str>, Roles), ApiError> {
    let Some(tokens) = tokens else {
        let message = "no tokens are configured: set `admin: { tokens: file:PATH }`, or use the socket".into();
        return Err(ApiError { status: 401, code: "token_required", message });
    };
    let text = headers.get(AUTHORIZATION).map(|v| v.to_str().unwrap_or("?"));
    let bearer = text.and_then(|v| v.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let known = bearer.and_then(|(_, token)| tokens.load().verify(token.trim()));
    known.ok_or_else(|| ApiError { status: 401, code: "token_required", message: "send `Authorization: Bearer TOKEN`".into() })
}

async fn respond(api: &Api, who: Arc<str>, roles: Roles, request: &Request<Bytes>) -> Response<Bytes> {
    let Some(path) = request.uri().path().strip_prefix(ROOT).filter(|rest| rest.starts_with('/')) else {
        return refused(&ApiError::not_found(format!("the API is below {ROOT}/")));
    };
    let body = match request.body() {
        empty if empty.is_empty() => Value::Null,
        text => match serde_json::from_slice(text) {
            Ok(body @ Value::Object(_)) => body,
            _ => return refused(&ApiError::bad("the body must be one JSON object")),
        },
    };
    let call = Call { who, roles, method: request.method().clone(), path: path.to_owned(), body };
    match api.answer(&call).await {
        Ok(value) => answer(StatusCode::OK, &value),
        Err(error) => refused(&error),
    }
}

fn refused(error: &ApiError) -> Response<Bytes> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, &json!({ "error": error.code, "message": error.message }));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    response
}

fn answer(status: StatusCode, value: &Value) -> Response<Bytes> {
    super::response(status, "application/json", value.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::admin::api::{Answer, Desk, Role};

    /// Echoes who asked; a path per role.
    struct Mirror;

    impl Desk for Mirror {
        fn prefix(&self) -> &'static str {
            "/mirror"
        }

        fn call<'a>(&'a self, call: &'a Call) -> Answer<'a> {
            Box::pin(async move {
                let role = Role::ALL.into_iter().find(|r| call.route("/mirror").1 == format!("/{}", r.as_str()));
                call.need(role.ok_or_else(|| ApiError::not_found("no such path"))?)?;
                Ok(json!({ "who": &*call.who, "body": call.body }))
            })
        }
    }

    async fn ask(handler: &Handler, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path).body(Bytes::from(body.to_owned())).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let response = handler(request).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    fn over_tcp() -> Handler {
        let lines: Vec<String> = Role::ALL
            .into_iter()
            .map(|r| {
                format!(
                    "  {0}: {{ roles: [{0}], tokens: [\"sha256:{1}\"] }}\n",
                    r.as_str(),
                    alloy_primitives::hex::encode(Sha256::digest(r.as_str()))
                )
            })
            .collect();
        let tokens = OperatorTokens::parse("f", &format!("operators:\n{}", lines.concat())).unwrap();
        let names = Arc::new(Names::new("127.0.0.1:9402".parse().unwrap(), None));
        tcp(Arc::new(Api::new(vec![Arc::new(Mirror)])), Some(Arc::new(ArcSwap::from_pointee(tokens))), names)
    }

    #[tokio::test]
    async fn a_token_opens_what_its_roles_say_and_nothing_more() {
        let handler = over_tcp();
        for token in Role::ALL {
            for wanted in Role::ALL {
                let headers = [("host", "127.0.0.1:9402"), ("authorization", &*format!("Bearer {}", token.as_str()))];
                let (status, body) = ask(&handler, "POST", &format!("/v1/mirror/{}", wanted.as_str()), &headers, "{}").await;
                let may = wanted == token || wanted == Role::Read;
                assert_eq!(status, if may { 200 } else { 403 }, "{token:?} {wanted:?} {body}");
            }
        }
        for credentials in ["", "Bearer", "Bearer x", "Basic read", "read"] {
            let headers = [("host", "localhost:9402"), ("authorization", credentials)];
            assert_eq!(ask(&handler, "GET", "/v1/mirror/read", &headers, "").await.0, 401, "{credentials}");
        }
        assert_eq!(ask(&handler, "GET", "/v1/mirror/read?token=read", &[("host", "localhost:9402")], "").await.0, 401, "no token in URLs");
    }

    #[tokio::test]
    async fn s17_a_page_of_another_site_gets_nowhere() {
        let handler = over_tcp();
        let own = ("host", "127.0.0.1:9402");
        for (headers, status) in [
            (vec![own], 200),
            (vec![("host", "[::1]:9402")], 200),
            (vec![("host", "127.0.0.1")], 421),
            (vec![("host", "rebound.example:9402")], 421),
            (vec![own, own], 421),
            (vec![], 421),
            (vec![own, ("origin", "http://127.0.0.1:9402")], 200),
            (vec![own, ("origin", "https://evil.example")], 403),
            (vec![own, ("origin", "null")], 403),
            (vec![own, ("sec-fetch-site", "none")], 200),
            (vec![own, ("sec-fetch-site", "cross-site")], 403),
            (vec![own, ("sec-fetch-site", "same-site")], 403),
        ] {
            let all: Vec<_> = headers.iter().copied().chain([("authorization", "Bearer operate")]).collect();
            assert_eq!(ask(&handler, "POST", "/v1/mirror/operate", &all, "").await.0, status, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn who_brings_a_token_to_the_socket_is_that_person_and_no_more() {
        let hash = alloy_primitives::hex::encode(Sha256::digest("x"));
        let tokens =
            OperatorTokens::parse("f", &format!("operators: {{ ann: {{ roles: [approve], tokens: [\"sha256:{hash}\"] }} }}")).unwrap();
        let handler = socket(Arc::new(Api::new(vec![Arc::new(Mirror)])), Some(Arc::new(ArcSwap::from_pointee(tokens))));
        let as_ann = [("authorization", "Bearer x")];
        assert_eq!(ask(&handler, "POST", "/v1/mirror/approve", &as_ann, "{}").await, (200, r#"{"who":"ann","body":{}}"#.to_owned()));
        assert_eq!(ask(&handler, "POST", "/v1/mirror/operate", &as_ann, "{}").await.0, 403, "her roles, not the socket's");
        assert_eq!(ask(&handler, "POST", "/v1/mirror/read", &[("authorization", "Bearer y")], "{}").await.0, 401);
    }

    #[tokio::test]
    async fn the_socket_may_do_everything_and_bodies_are_objects() {
        let handler = socket(Arc::new(Api::new(vec![Arc::new(Mirror)])), None);
        for role in Role::ALL {
            let (status, body) = ask(&handler, "POST", &format!("/v1/mirror/{}", role.as_str()), &[], r#"{"a":1}"#).await;
            assert_eq!((status, &*body), (200, r#"{"who":"socket","body":{"a":1}}"#));
        }
        for (path, body, status) in [
            ("/v1/mirror/read", "[]", 400),
            ("/v1/mirror/read", "{", 400),
            ("/v1/none", "", 404),
            ("/v1", "", 404),
            ("/v1/mirrors", "", 404),
            ("/v2/mirror/read", "", 404),
        ] {
            assert_eq!(ask(&handler, "POST", path, &[], body).await.0, status, "{path} {body}");
        }
    }
}
