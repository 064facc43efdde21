//! What a request says of itself in `Tollpass-Context` (M3.1, M3.2): an RFC 9651 dictionary of which only the keys that the policy
//! declares are read. It is the agent's own word, so it can only tighten.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::condition::Decimal;
use super::read::{Report, named, one, shown};
use super::yaml::Node;

/// Longest header that is read, bytes; a longer one counts as absent.
const MAX_HEADER: usize = 4096;

/// Longest text value, bytes.
const MAX_TEXT: usize = 256;

/// What a declared key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A decimal or an integer.
    Decimal,
    /// An integer.
    Integer,
    /// A string or a token.
    Text,
    /// A boolean.
    Flag,
}

const KINDS: [(&str, Kind); 4] = [("decimal", Kind::Decimal), ("integer", Kind::Integer), ("text", Kind::Text), ("flag", Kind::Flag)];

/// The key that budgets `per: customer` are counted by.
const CUSTOMER: &str = "customer";

/// The keys that a policy declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextKeys(BTreeMap<Arc<str>, Kind>);

impl ContextKeys {
    /// Reads `context`.
    pub(super) fn read(node: &Node, report: &mut Report) -> Self {
        let mut keys = Self::default();
        for pair in named(node, "context", report) {
            let name = pair.key.as_str();
            let legal = name.len() <= 32
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !legal {
                let name = shown(name);
                report.error(
                    &pair.at,
                    format!("context: \"{name}\" is not a key: write up to 32 lower-case letters, digits and _, a letter first"),
                );
                continue;
            }
            let kind = one(&pair.value, &format!("context.{name}"), report, |t| {
                let kind = KINDS.iter().find(|(word, _)| *word == t).map(|(_, kind)| *kind);
                kind.ok_or_else(|| format!("\"{}\" is not a kind of value: write decimal, integer, text or flag", shown(t)))
            });
            if let Some(kind) = kind {
                keys.0.insert(name.into(), kind);
            }
        }
        keys
    }

    /// Keys without a policy file, for the fuzz targets.
    #[cfg(feature = "failpoints")]
    pub fn of<'a>(keys: impl IntoIterator<Item = (&'a str, Kind)>) -> Self {
        Self(keys.into_iter().map(|(name, kind)| (name.into(), kind)).collect())
    }

    /// What `key` holds; `None` if it is not declared.
    pub fn kind(&self, key: &str) -> Option<Kind> {
        self.0.get(key).copied()
    }

    /// The declared names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|k| &**k)
    }

    /// True if no key is declared: no header is read then.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_customer(&self) -> bool {
        self.kind(CUSTOMER) == Some(Kind::Text)
    }
}

#[cfg(test)]
impl FromIterator<(&'static str, Kind)> for ContextKeys {
    fn from_iter<T: IntoIterator<Item = (&'static str, Kind)>>(keys: T) -> Self {
        Self(keys.into_iter().map(|(name, kind)| (name.into(), kind)).collect())
    }
}

/// A value of a request's context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// With at most three decimals.
    Decimal(Decimal),
    /// Up to fifteen digits.
    Integer(i64),
    /// At most 256 bytes.
    Text(Arc<str>),
    /// Yes or no.
    Flag(bool),
}

/// The values of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context(BTreeMap<Arc<str>, Value>);

impl Context {
    /// Reads the values of the header's lines. A malformed header is absent as a whole; undeclared keys and values of another kind
    /// than declared are dropped (M3.7).
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>, keys: &ContextKeys) -> Self {
        if keys.is_empty() {
            return Self::default();
        }
        let mut joined: Vec<u8> = Vec::new();
        for (n, line) in lines.into_iter().enumerate() {
            if n > 0 {
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(line);
            if joined.len() > MAX_HEADER {
                return Self::default();
            }
        }
        let Ok(members) = sfv::Parser::new(&joined).parse::<sfv::Dictionary>() else { return Self::default() };
        let value = |(name, entry): (sfv::Key, sfv::ListEntry)| {
            let sfv::ListEntry::Item(item) = entry else { return None };
            let (name, kind) = keys.0.get_key_value(name.as_str())?;
            Some((Arc::clone(name), read(&item.bare_item, *kind)?))
        };
        Self(members.into_iter().filter_map(value).collect())
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The customer that the request is for, if the policy declares that key as text.
    pub fn customer(&self) -> Option<Arc<str>> {
        match self.0.get(CUSTOMER) {
            Some(Value::Text(text)) => Some(Arc::clone(text)),
            _ => None,
        }
    }

    /// True if nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn read(item: &sfv::BareItem, kind: Kind) -> Option<Value> {
    use sfv::BareItem as B;
    let text = |t: &str| (t.len() <= MAX_TEXT).then(|| Value::Text(t.into()));
    match (kind, item) {
        (Kind::Decimal, B::Decimal(d)) => Some(Value::Decimal(Decimal::from_thousandths(i64::from(d.as_integer_scaled_1000())))),
        (Kind::Decimal, B::Integer(i)) => Some(Value::Decimal(Decimal::from_thousandths(i64::from(*i).checked_mul(1000)?))),
        (Kind::Integer, B::Integer(i)) => Some(Value::Integer(i64::from(*i))),
        (Kind::Text, B::String(t)) => text(t.as_str()),
        (Kind::Text, B::Token(t)) => text(t.as_str()),
        (Kind::Flag, B::Boolean(b)) => Some(Value::Flag(*b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ContextKeys {
        [("confidence", Kind::Decimal), ("n", Kind::Integer), ("customer", Kind::Text), ("urgent", Kind::Flag)].into_iter().collect()
    }

    fn shown(lines: &[&str]) -> String {
        let context = Context::parse(lines.iter().map(|l| l.as_bytes()), &keys());
        serde_json::to_string(&context).unwrap_or_default()
    }

    #[test]
    fn m3_7_declared_keys_of_their_kind_are_read_and_nothing_else() {
        for (lines, expected) in [
            (&["confidence=0.9"][..], r#"{"confidence":{"decimal":"0.9"}}"#),
            (&["confidence=1"], r#"{"confidence":{"decimal":"1"}}"#),
            (&["confidence=0.9;source=model"], r#"{"confidence":{"decimal":"0.9"}}"#),
            (&["confidence=0.9, reason=\"x\""], r#"{"confidence":{"decimal":"0.9"}}"#),
            (&["confidence=0.9", "n=7, urgent"], r#"{"confidence":{"decimal":"0.9"},"n":{"integer":7},"urgent":{"flag":true}}"#),
            (&["urgent=?0"], r#"{"urgent":{"flag":false}}"#),
            (&["customer=\"ac\\\"me\""], r#"{"customer":{"text":"ac\"me"}}"#),
            (&["customer=acme"], r#"{"customer":{"text":"acme"}}"#),
            // The last of two wins, as the RFC says.
            (&["n=1, n=2"], r#"{"n":{"integer":2}}"#),
            // Another kind is dropped, alone.
            (&["confidence=\"0.9\", n=1"], r#"{"n":{"integer":1}}"#),
            (&["n=1.5"], "{}"),
            (&["customer=(a b)"], "{}"),
            (&["customer=:YQ==:"], "{}"),
            (&["customer=?1"], "{}"),
            // Malformed is absent as a whole.
            (&["confidence=0.9, n="], "{}"),
            (&["confidence=0.9 n=1"], "{}"),
            (&["confidence=.9"], "{}"),
            (&["confidence=0.9999"], "{}"),
            (&["Confidence=0.9"], "{}"),
            (&["confidence=0.9,"], "{}"),
            (&["", "n=1"], "{}"),
            (&["n=1", ""], "{}"),
            (&["customer=\"\u{fc}\""], "{}"),
            (&[""], "{}"),
            (&[], "{}"),
        ] {
            assert_eq!(shown(lines), expected, "{lines:?}");
        }
        let long = format!("customer=\"{}\"", "x".repeat(MAX_TEXT + 1));
        assert_eq!(shown(&[&long]), "{}");
        assert_eq!(shown(&[&format!("n=1, x=\"{}\"", "y".repeat(MAX_HEADER))]), "{}");
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(line in proptest::collection::vec(0_u8..255, 0..200)) {
            let _ = Context::parse([&line[..]], &keys());
        }
    }
}
