//! The `Tollpass-Context` header: an RFC 9651 dictionary, as far as decimals, integers and strings go (M3.2, M3.7).

use super::cel::{Value, score};
use super::yaml::Node;
use std::collections::BTreeMap;

/// The keys that the policy declares, of the type it declares; a header that cannot be read is no header.
pub(crate) fn context(policy: &Node, header: &str) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else { return BTreeMap::new() };
        let key_is_good = key.starts_with(|c: char| c.is_ascii_lowercase())
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let (value, after) = if let Some(inner) = after.strip_prefix('"') {
            let Some((text, after)) = inner.split_once('"') else { return BTreeMap::new() };
            (Value::Text(text.to_owned()), after)
        } else {
            let end = after.find(',').unwrap_or(after.len());
            let Some(number) = number(after[..end].trim_end()) else { return BTreeMap::new() };
            (number, &after[end..])
        };
        if !key_is_good {
            return BTreeMap::new();
        }
        let declared = policy.get("context").get(key).text();
        let right = matches!((declared, &value), (Some("decimal"), Value::Score(_)) | (Some("text"), Value::Text(_)));
        out.remove(key);
        if right {
            out.insert(key.to_owned(), value);
        }
        let after = after.trim_start();
        match after.strip_prefix(',') {
            // a comma at the end is not a dictionary
            Some(more) if !more.trim().is_empty() => rest = more.trim_start(),
            None if after.is_empty() => break,
            _ => return BTreeMap::new(),
        }
    }
    out
}

/// An RFC 9651 integer or decimal; the decimal has one to three digits after the point.
fn number(text: &str) -> Option<Value> {
    let digits = |t: &str| !t.is_empty() && t.len() <= 12 && t.bytes().all(|b| b.is_ascii_digit());
    match text.trim_start_matches('-').split_once('.') {
        Some((whole, part)) if digits(whole) && digits(part) && part.len() <= 3 => Some(Value::Score(score(text))),
        None if digits(text.trim_start_matches('-')) => text.parse().ok().map(Value::Whole),
        _ => None,
    }
}
