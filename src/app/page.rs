//! The page behind the link of a notice (S17, S18): GET shows the facts and decides nothing, however often a scanner follows it; POST
//! decides as the person whose token is in the form. No script, no session, no token of a person in any URL.
//!
//! Two things beside the token have to come with a decision: a value in a `SameSite=Strict` cookie, and the value derived from it and
//! from the link that only our own page had in its form. The link's token finds the ticket and is used up by one decision.

mod html;

use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::approvals::{People, refused};
use crate::admin::api::{ApiError, Role, Roles};
use crate::admin::names::Names;
use crate::config::Origin;
use crate::net::Handler;
use crate::payment::Timestamp;
use crate::treasurer::approvals::{Link, Standing, Ticket, Word};
use html::Form;

/// Where the pages are.
pub(super) const ROOT: &str = "/approve/";
const STYLE: &str = "/approve/style.css";

/// S17, to the letter.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; \
                   frame-ancestors 'none'; base-uri 'none'";

/// Whether this path is one of ours.
pub(super) fn is_page(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// The hash of a link's token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Answers everything below [`ROOT`].
pub(super) fn handler(people: Arc<People>, names: Arc<Names>, public: Option<&Origin>) -> Handler {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
    let page = Arc::new(Page { people, names, https: public.is_some_and(Origin::is_https), key });
    Arc::new(move |request| {
        let page = page.clone();
        Box::pin(async move { page.answer(&request) })
    })
}

struct Page {
    people: Arc<People>,
    names: Arc<Names>,
    /// Behind the public name there is TLS: cookies are for it alone.
    https: bool,
    /// Of this process: forms of the one before are old.
    key: hmac::Key,
}

/// What a link leads to.
struct Found {
    hash: [u8; 32],
    ticket: Ticket,
    link: Link,
    now: Timestamp,
}

impl Page {
    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if let Err(error) = self.names.check(request.headers()).or_else(|error| self.arrived(request, error)) {
            return self.failed(&error, None);
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, STYLE) => response(StatusCode::OK, "text/css; charset=utf-8", html::STYLE.to_owned()),
            (&Method::GET | &Method::HEAD, path) => match self.find(path) {
                Ok(found) => self.show(&found, None),
                Err(error) => self.failed(&error, None),
            },
            (&Method::POST, path) if path != STYLE => match self.find(path) {
                Ok(found) => self.decide(request, found),
                Err(error) => self.failed(&error, None),
            },
            _ => self.failed(&ApiError::method(), None),
        }
    }

    /// Somebody who follows a link comes from another site: that is what links are for, and looking changes nothing.
    fn arrived(&self, request: &Request<Bytes>, error: ApiError) -> Result<(), ApiError> {
        let navigates = request.headers().get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        let looks = matches!(*request.method(), Method::GET | Method::HEAD) && error.code == "wrong_origin";
        if looks && navigates && !request.headers().contains_key(http::header::ORIGIN) { Ok(()) } else { Err(error) }
    }

    fn find(&self, path: &str) -> Result<Found, ApiError> {
        let token = path.strip_prefix(ROOT).unwrap_or_default();
        let hash = hash(token);
        let (approvals, now) = self.people.open()?;
        let found = approvals.linked(&hash).filter(|_| token.len() == 32);
        let (ticket, link) = found.ok_or_else(|| ApiError::not_found("this link leads to no question"))?;
        if !link.used && now >= link.until {
            let message = "this link has ended; the question may still be open: see `tollpass approvals list`";
            return Err(ApiError { status: 410, code: "link_ended", message: message.into() });
        }
        Ok(Found { hash, ticket, link, now })
    }

    /// The facts, and the form if the link can still be used.
    fn show(&self, found: &Found, error: Option<&ApiError>) -> Response<Bytes> {
        let status = error.map_or(StatusCode::OK, |e| StatusCode::from_u16(e.status).unwrap_or(StatusCode::FORBIDDEN));
        let open = matches!(found.ticket.standing(found.now), Standing::Pending | Standing::Granted);
        if found.link.used || !open {
            return response(status, HTML, html::page(&found.ticket, found.now, None, error.map(|e| e.message.as_str())));
        }
        let nonce = alloy_primitives::hex::encode(rand::random::<[u8; 16]>());
        let csrf = alloy_primitives::hex::encode(hmac::sign(&self.key, &csrf_text(&nonce, &found.hash)));
        let code = found.ticket.groups.iter().any(|g| g.second_factor.is_some_and(|above| found.ticket.facts.micro_usd > above));
        let form = Form { csrf: &csrf, code };
        let mut page = response(status, HTML, html::page(&found.ticket, found.now, Some(&form), error.map(|e| e.message.as_str())));
        let secure = if self.https { "; Secure" } else { "" };
        let cookie = format!("{}={nonce}; Path={ROOT}; Max-Age=900; HttpOnly; SameSite=Strict{secure}", cookie_name(&found.hash));
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            page.headers_mut().insert(SET_COOKIE, cookie);
        }
        page
    }

    fn failed(&self, error: &ApiError, found: Option<&Found>) -> Response<Bytes> {
        if let Some(found) = found {
            return self.show(found, Some(error));
        }
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response(status, HTML, html::failure(&error.message))
    }

    fn decide(&self, request: &Request<Bytes>, mut found: Found) -> Response<Bytes> {
        let decided = self.take(request, &found);
        // What it says now, whoever said it: a double click sees what the first one did.
        if let Ok((approvals, now)) = self.people.open()
            && let Some((ticket, link)) = approvals.linked(&found.hash)
        {
            found = Found { ticket, link, now, ..found };
        }
        match decided {
            Ok(()) => self.show(&found, None),
            Err(error) => self.failed(&error, Some(&found)),
        }
    }

    fn take(&self, request: &Request<Bytes>, found: &Found) -> Result<(), ApiError> {
        let headers = request.headers();
        if !self.names.from_own_page(headers) {
            return Err(forbidden("wrong_origin", "another site's page sent this"));
        }
        let form = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        let fields = Fields::parse(request.body()).filter(|_| form).ok_or_else(|| ApiError::bad("this is not the page's form"))?;
        let nonce = cookie(headers, &cookie_name(&found.hash));
        let given = alloy_primitives::hex::decode(fields.get("csrf")).unwrap_or_default();
        let own = nonce.is_some_and(|nonce| hmac::verify(&self.key, &csrf_text(&nonce, &found.hash), &given).is_ok());
        if !own {
            return Err(forbidden("form_old", "this page is old, or cookies are off: open the link again"));
        }
        let yes = match fields.get("decision") {
            "approve" => true,
            "deny" => false,
            _ => return Err(ApiError::bad("press Approve or Deny")),
        };
        let (who, roles) = self.person(fields.get("token"))?;
        if !roles.has(Role::Approve) {
            return Err(forbidden("role_missing", "this token lacks the role `approve`"));
        }
        let code = Some(fields.get("code").trim()).filter(|code| !code.is_empty());
        let step = self.people.step(&who, code)?;
        let (approvals, now) = self.people.open()?;
        let word = Word { who: &who, yes, step, link: Some(found.hash) };
        approvals.vote(&found.ticket.id, word, now).map_err(refused)?;
        tracing::info!(ticket = &*found.ticket.id, who = &*who, yes, "a question was answered on its page");
        Ok(())
    }

    fn person(&self, token: &str) -> Result<(Arc<str>, Roles), ApiError> {
        let known = self.people.operators.as_ref().and_then(|tokens| tokens.load().verify(token.trim()));
        let message = "this token is nobody's: it is what `tollpass operator NAME --role approve` printed";
        known.ok_or_else(|| ApiError { status: 401, code: "token_required", message: message.into() })
    }
}

fn forbidden(code: &'static str, message: &str) -> ApiError {
    ApiError { status: 403, code, message: message.into() }
}

fn csrf_text(nonce: &str, link: &[u8; 32]) -> Vec<u8> {
    [b"tollpass/form/1", nonce.as_bytes(), link].concat()
}

/// One for each link: two pages that are open at once do not disturb each other.
fn cookie_name(link: &[u8; 32]) -> String {
    format!("tollpass-{}", alloy_primitives::hex::encode(&link[..4]))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let mut values = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then(|| value.to_owned())
}

const HTML: &str = "text/html; charset=utf-8";

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 8] = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, CSP),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` browsers would send `Origin: null` with our own form.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The fields of a form. A token is among them.
struct Fields(Vec<(String, Zeroizing<String>)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`; a field that stands there twice is a mistake.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut all: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in std::str::from_utf8(body).ok()?.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if all.iter().any(|(known, _)| *known == *name) {
                return None;
            }
            all.push((name.to_string(), value));
        }
        Some(Self(all))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }
}

fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            byte => byte,
        });
    }
    Some(Zeroizing::new(std::str::from_utf8(&out).ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let fields = Fields::parse(b"decision=approve&token=a%2Bb+c%C3%A9&code=&x").unwrap();
        assert_eq!(
            [fields.get("decision"), fields.get("token"), fields.get("code"), fields.get("none")],
            ["approve", "a+b c\u{e9}", "", ""]
        );
        for wrong in ["a=1&a=2", "a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(Fields::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_cookie_that_stands_there_twice_is_none() {
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))]);
            cookie(&headers, "tollpass-00000000")
        };
        assert_eq!(read("a=b; tollpass-00000000=x"), Some("x".into()));
        assert_eq!(read("tollpass-00000000=x; tollpass-00000000=y"), None);
        assert_eq!(read("tollpass-00000001=x"), None);
    }
}
