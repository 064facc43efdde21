//! A recorded challenge: a whole HTTP response, a bare `PAYMENT-REQUIRED` value, or a JSON body.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::payment::{AssetTable, Challenge};
use crate::protocol::{self, Answer};

/// Largest decoded body.
const LIMIT: usize = 1 << 20;

/// Reads `bytes` in any of the three forms; the error says what they are not.
pub(super) fn parse(bytes: &[u8], assets: &AssetTable) -> Result<Challenge, String> {
    let trimmed = bytes.trim_ascii();
    let (status, headers, body) = if trimmed.starts_with(b"HTTP/") {
        response(trimmed)?
    } else if trimmed.starts_with(b"{") {
        (StatusCode::PAYMENT_REQUIRED.as_u16(), HeaderMap::new(), trimmed.to_vec())
    } else {
        let value = trimmed.splitn(2, |b| *b == b':').last().unwrap_or_default().trim_ascii();
        let value = HeaderValue::from_bytes(value).map_err(|_| "neither an HTTP response, nor a header value, nor JSON".to_owned())?;
        (402, HeaderMap::from_iter([(HeaderName::from_static("payment-required"), value)]), Vec::new())
    };
    if status != StatusCode::PAYMENT_REQUIRED {
        return Err(format!("the response has status {status}; only 402 asks for a payment"));
    }
    let encoding = headers.get(http::header::CONTENT_ENCODING).and_then(|v| v.to_str().ok());
    let body = match encoding {
        // `curl -i --compressed` leaves the header and decodes the body.
        Some(_) if body.trim_ascii_start().starts_with(b"{") => body.as_slice().into(),
        encoding => protocol::body::decode(encoding, &body, LIMIT).map_err(|e| format!("the body cannot be decoded: {e}"))?,
    };
    let answer = Answer { status, headers: &headers, body: &body };
    match protocol::parse(&answer, assets) {
        Ok(Some(challenge)) => Ok(challenge),
        Ok(None) => Err("not a challenge of a protocol we know: it would go back to the agent untouched".into()),
        Err(e) => Err(format!("the challenge is broken and would go back to the agent untouched: {e}")),
    }
}

/// Status, headers and body; with several heads in a row (`curl -i` through a proxy), the last one.
fn response(bytes: &[u8]) -> Result<(u16, HeaderMap, Vec<u8>), String> {
    let mut rest = bytes;
    loop {
        let (head, body) = split(rest);
        let text = std::str::from_utf8(head).map_err(|_| "the response head is not text".to_owned())?;
        let mut lines = text.lines();
        let status = lines
            .next()
            .and_then(|l| l.split(' ').nth(1))
            .and_then(|s| s.parse().ok())
            .ok_or("the first line is not an HTTP status line")?;
        if body.starts_with(b"HTTP/") {
            rest = body;
            continue;
        }
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| "a header line has no colon".to_owned())?;
            let name: HeaderName = name.trim().parse().map_err(|_| "a header name is not valid".to_owned())?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("the value of {name} is not valid"))?;
            headers.append(name, value);
        }
        return Ok((status, headers, body.to_vec()));
    }
}

/// Head and body around the first empty line.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = |needle: &[u8]| bytes.windows(needle.len()).position(|w| w == needle).map(|i| (i, i + needle.len()));
    let end = [at(b"\r\n\r\n"), at(b"\n\n")].into_iter().flatten().min();
    end.map_or((bytes, &[]), |(head, body)| (&bytes[..head], &bytes[body..]))
}
