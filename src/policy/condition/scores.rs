//! `challenge.NAME`: numbers in the seller's own JSON, such as how sure it is of a result. Claims of the one who is paid: a rule can
//! hold them against a payment and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Decimal;
use crate::payment::Offer;

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
        }
        let terms = Offer { wire: WireEntry { accepted: r#"{"amount":"5"}"#.into(), resource: None, extensions: None }, ..usdc(1) };
        assert_eq!(find(&terms, "amount"), None, "a term is no score");
    }
}
