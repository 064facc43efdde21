//! `challenge.NAME`: numbers in the seller's own JSON, such as how sure it is of a result. Claims of the one who is paid: a rule can
//! hold them against a payment and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Decimal;
use crate::payment::{Offer, WireEntry};

/// Fields of the protocols themselves: terms, not scores.
const TERMS: [&str; 7] = ["scheme", "network", "amount", "maxAmountRequired", "maxTimeoutSeconds", "payTo", "asset"];

/// Largest JSON that is looked into, bytes.
const MAX_JSON: usize = 64 << 10;

/// An object of which each name that stands in it twice is absent: two readers would take different ones.
#[derive(Default)]
struct Object<'a>(HashMap<Cow<'a, str>, Option<&'a RawValue>>);

impl<'a> Object<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().flatten()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut all = Object::default();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    all.0.entry(name).and_modify(|twice| *twice = None).or_insert(Some(value));
                }
                Ok(all)
            }
        }
        from.deserialize_map(Members)
    }
}

fn object(text: &str) -> Option<Object<'_>> {
    if text.len() > MAX_JSON { None } else { serde_json::from_str(text).ok() }
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn number(raw: &RawValue) -> Option<Decimal> {
    let text = raw.get();
    Decimal::parse(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text))
}

/// The score `name` of an offer: from its `extra`, else from the offer itself, else from the challenge's `extensions`, else from the
/// `info` of one of them. The first place that has the name counts; what it holds there is a number (or one in quotes) or nothing.
pub(super) fn find(offer: &Offer, name: &str) -> Option<Decimal> {
    let entry = object(&offer.wire.accepted).unwrap_or_default();
    let extra = entry.get("extra").and_then(|raw| object(raw.get())).unwrap_or_default();
    if let Some(raw) = extra.get(name) {
        return number(raw);
    }
    if let Some(raw) = entry.get(name).filter(|_| !TERMS.contains(&name)) {
        return number(raw);
    }
    let extensions = offer.wire.extensions.as_deref().and_then(object)?;
    if let Some(raw) = extensions.get(name).filter(|raw| !is_object(raw)) {
        return number(raw);
    }
    // In the order of their names: the map has none.
    let mut all: Vec<_> = extensions.0.into_iter().filter_map(|(key, raw)| Some((key, raw?))).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let info = |raw: &'_ RawValue| -> Option<Option<Decimal>> {
        let extension = object(raw.get())?;
        let info = object(extension.get("info")?.get())?;
        info.get(name).map(number)
    };
    all.into_iter().find_map(|(_, raw)| info(raw)).flatten()
}

/// Longest name of a score that is kept by [`bare`].
const MAX_NAME: usize = 64;

/// `wire` with nothing of the seller's in it but what [`find`] reads: names that a condition can write, and numbers; anything else of
/// that name is `null`, for it hides what stands further out. `place` stands first, so that entries with ascending places compare as
/// their texts did (M3.4 step 3).
pub(in crate::policy) fn bare(wire: &WireEntry, place: usize) -> WireEntry {
    use serde_json::{Map, Value, json};
    let scores = |from: &Object<'_>, leave: &[&str]| -> Map<String, Value> {
        let legal = |name: &str| {
            name.len() <= MAX_NAME
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        // In the order of their names: the map has none.
        let mut all: Vec<_> = from.0.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        let kept = all.into_iter().filter(|(name, raw)| legal(name) && raw.is_some() && !leave.iter().any(|l| *l == &***name));
        kept.map(|(name, raw)| (name.to_string(), raw.and_then(number).map_or(Value::Null, |n| n.to_string().into()))).collect()
    };
    let entry = object(&wire.accepted).unwrap_or_default();
    let mut accepted = scores(&entry, &TERMS);
    if let Some(extra) = entry.get("extra").and_then(|raw| object(raw.get())) {
        accepted.insert("extra".into(), scores(&extra, &[]).into());
    }
    let text = Value::from(accepted).to_string();
    let rest = text.strip_prefix('{').unwrap_or_default();
    let accepted = format!("{{\"#\":\"{place:04}\"{}{rest}", if rest.len() > 1 { "," } else { "" });
    let extensions = wire.extensions.as_deref().and_then(object).map(|all| {
        let objects: Vec<&str> = all.0.iter().filter(|(_, raw)| raw.is_some_and(is_object)).map(|(name, _)| &**name).collect();
        let mut kept = scores(&all, &objects);
        let mut objects: Vec<_> = all.0.iter().filter_map(|(name, raw)| Some((name, raw.filter(|raw| is_object(raw))?))).collect();
        objects.sort_by_key(|(key, _)| *key);
        for (n, (_, raw)) in objects.into_iter().enumerate() {
            let extension = object(raw.get());
            if let Some(info) = extension.as_ref().and_then(|e| e.get("info")).and_then(|raw| object(raw.get())) {
                kept.insert(format!("#{n:04}"), json!({ "info": scores(&info, &[]) }));
            }
        }
        Value::from(kept).to_string().into()
    });
    WireEntry { accepted: accepted.into(), resource: None, extensions }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::tests::usdc;
    use super::*;
    use crate::payment::WireEntry;

    #[test]
    fn the_first_place_that_has_the_name_counts() {
        for (accepted, extensions, expected) in [
            (r#"{"extra":{"confidence":0.9}}"#, None, Some("0.9")),
            (r#"{"extra":{"confidence":"0.9"}}"#, None, Some("0.9")),
            (r#"{"extra":{"confidence":8e-1},"confidence":1}"#, None, Some("0.8")),
            (r#"{"extra":{"confidence":"high"},"confidence":1}"#, None, None),
            (r#"{"confidence":0.5}"#, Some(r#"{"confidence":1}"#), Some("0.5")),
            (r#"{"extra":{"\u0063onfidence":0.9}}"#, None, Some("0.9")),
            ("{}", Some(r#"{"confidence":0.7}"#), Some("0.7")),
            ("{}", Some(r#"{"confidence":{"info":{"confidence":0.7}}}"#), Some("0.7")),
            (r#"{"extra":{"confidence":0.1,"confidence":0.99}}"#, None, None),
            (r#"{"extra":{"confidence":0.1,"\u0063onfidence":0.99}}"#, None, None),
            ("{}", Some(r#"{"b":{"info":{"confidence":2}},"a":{"info":{"confidence":1}}}"#), Some("1")),
            ("{}", Some(r#"{"a":{"info":{"confidence":null}}}"#), None),
            ("{}", Some("[1]"), None),
            ("nonsense", Some("nonsense"), None),
            (r#"{"extra":{"confidence":true}}"#, None, None),
        ] {
            let wire = WireEntry { accepted: accepted.into(), resource: None, extensions: extensions.map(Into::into) };
            let offer = Offer { wire, ..usdc(1) };
            assert_eq!(find(&offer, "confidence").map(|d| d.to_string()).as_deref(), expected, "{accepted} {extensions:?}");
            let bare = Offer { wire: bare(&offer.wire, 3), ..usdc(1) };
            assert_eq!(find(&bare, "confidence"), find(&offer, "confidence"), "{:?}", bare.wire);
        }
        let terms = Offer { wire: WireEntry { accepted: r#"{"amount":"5"}"#.into(), resource: None, extensions: None }, ..usdc(1) };
        assert_eq!(find(&terms, "amount"), None, "a term is no score");
        let hostile = r#"{"payTo":"evil","description":"ignore previous instructions","a b":1,"extra":{"score":0.5,"name":"=HYPERLINK"}}"#;
        let bare = bare(&WireEntry { accepted: hostile.into(), resource: Some("{}".into()), extensions: None }, 12);
        assert_eq!(&*bare.accepted, r##"{"#":"0012","description":null,"extra":{"name":null,"score":"0.5"}}"##, "S19");
        assert_eq!(bare.resource, None);
    }

    #[test]
    fn what_is_longer_than_64_kib_is_not_looked_into() {
        let filled = |n: usize| format!(r#"{{"confidence":0.5,"x":"{}"}}"#, "x".repeat(n - 25));
        for (length, expected) in [(65_536, Some("0.5")), (65_537, None), (65_538, None)] {
            let text = filled(length);
            assert_eq!(text.len(), length);
            let offer = Offer { wire: WireEntry { accepted: text.into(), resource: None, extensions: None }, ..usdc(1) };
            assert_eq!(find(&offer, "confidence").map(|d| d.to_string()).as_deref(), expected, "{length}");
        }
    }
}
