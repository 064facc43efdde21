//! JSON objects read without losing anything: members stay verbatim text, and a key given twice is seen.
//!
//! `serde_json` on its own takes the last of two equal keys in silence, as the JavaScript client does (x402 reference §16.9). A policy
//! that judges one value while the seller's server compares the other is exactly the hole this closes.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON object; values are not looked into until asked for.
pub(super) struct Object<'a> {
    members: Vec<(String, &'a RawValue)>,
    duplicate: bool,
}

impl<'a> Object<'a> {
    /// Reads one object, alone in `text`.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Reads one object that has no duplicate key at any depth and nests no deeper than `serde_json` recurses (128).
    pub(super) fn read_deep(text: &'a str) -> Option<Self> {
        serde_json::from_str::<UniqueKeys>(text).ok()?;
        Self::read(text)
    }

    /// True if two members carry the same key, compared after unescaping.
    pub(super) const fn has_duplicate(&self) -> bool {
        self.duplicate
    }

    /// The value under `key`; `null` counts as absent, as Python sellers write optional fields.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.all(key).find(|v| v.get() != "null")
    }

    /// Every value under `key`.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'a RawValue> {
        self.members.iter().filter(move |(k, _)| k == key).map(|(_, v)| *v)
    }

    /// The value under `key` if it is a string.
    pub(super) fn string(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.get(key)?.get()).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut members, mut seen, mut duplicate) = (Vec::new(), HashSet::new(), false);
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    duplicate |= !seen.insert(key.clone());
                    members.push((key, value));
                }
                Ok(Object { members, duplicate })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Walks a whole value and fails on the first repeated key.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
            map.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn members_stay_verbatim() {
        let object = Object::read(r#" {"a" : { "b":1.0 ,"c":[ ]}, "d":null, "e":"\u0041"} "#).unwrap();
        assert_eq!(object.get("a").unwrap().get(), r#"{ "b":1.0 ,"c":[ ]}"#);
        assert!(object.get("d").is_none());
        assert_eq!(object.string("e").as_deref(), Some("A"));
        assert_eq!(object.string("a"), None);
    }

    #[test]
    fn only_an_object_is_an_object() {
        for bad in ["", "null", "[]", "1", "\"{}\"", "{", "{}{}", "{} x", "{\"a\":1,}", "{a:1}", "{\"a\":01}", "\u{feff}{}"] {
            assert!(Object::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_repeated_key_is_seen_however_it_is_written() {
        assert!(Object::read(r#"{"a":1,"b":2,"\u0061":3}"#).unwrap().has_duplicate());
        assert!(!Object::read(r#"{"a":1,"A":2,"b":{"x":1,"x":2}}"#).unwrap().has_duplicate());
        assert!(Object::read_deep(r#"{"b":[{"x":1,"x":2}]}"#).is_none());
        assert!(Object::read_deep(r#"{"b":[{"x":1},{"x":2}]}"#).is_some());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(Object::read_deep(&nested(100)).is_some());
        assert!(Object::read_deep(&nested(200)).is_none());
        assert!(Object::read_deep(&nested(100_000)).is_none());
    }
}
