//! A YAML document as a tree in which every key and value knows its line and column.
//!
//! Reading our small files by hand instead of by derive buys three things: all mistakes at once, the place of each, and a
//! sentence that says what to write instead. Values are never echoed here: a key in the wrong place must not reach a log.

use std::fmt;

use crate::spelling::nearest;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What stands there.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Text(String),
    /// A number with a point or exponent: never wanted.
    Float,
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and its place.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) at: At,
    pub(crate) text: String,
}

/// One mistake in a file, as the operator reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// Line and column from 1; `None` if the file as a whole is meant.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Collects mistakes while a file is read.
#[derive(Debug)]
pub(crate) struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    pub(crate) fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: Vec::new() }
    }

    pub(crate) fn at(&mut self, at: At, message: impl Into<String>) {
        self.list.push(Problem { file: self.file.clone(), place: Some((at.line, at.column)), message: message.into() });
    }

    pub(crate) fn whole(&mut self, message: impl Into<String>) {
        self.list.push(Problem { file: self.file.clone(), place: None, message: message.into() });
    }

    /// The mistakes in file order.
    pub(crate) fn into_list(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|p| p.place);
        self.list
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Reads `text`; a syntax error is a [`Problem`].
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    let options =
        serde_saphyr::options! { strict_booleans: true, with_snippet: false, merge_keys: serde_saphyr::options::MergeKeyPolicy::Error };
    match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(node) => Some(node),
        Err(error) => {
            // The parser's words may quote the document; keep what comes before a quote or a line break.
            let words = error.without_snippet().to_string();
            let words = words.split(['`', '"', '\n']).next().unwrap_or_default().trim().trim_end_matches(':').to_owned();
            let words = words.split(" at line ").next().unwrap_or_default();
            match error.location() {
                Some(l) => problems.at(at(&l), format!("not valid YAML: {words}")),
                None => problems.whole(format!("not valid YAML: {words}")),
            }
            None
        }
    }
}

fn at(location: &serde_saphyr::Location) -> At {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).max(1);
    At { line: number(location.line()), column: number(location.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { at: at(&referenced), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Int(v.into()))
    }
    fn visit_i128<E>(self, v: i128) -> Result<Value, E> {
        Ok(Value::Int(v))
    }
    fn visit_u128<E>(self, v: u128) -> Result<Value, E> {
        Ok(i128::try_from(v).map_or(Value::Float, Value::Int))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Float)
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Node>()? {
            entries.push((Key { at: at(&key.referenced), text: key.value }, node));
        }
        Ok(Value::Map(entries))
    }
}

impl Node {
    /// Names the shape for a message, without the content.
    pub(crate) fn shape(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a true/false",
            Value::Int(_) => "a number",
            Value::Float => "a number with a fraction",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }
}

/// A mapping whose keys are a closed set.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) at: At,
    entries: &'a [(Key, Node)],
}

/// The keys of a section: those of this version, and those that a later one brings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub(crate) known: &'static [&'static str],
    pub(crate) later: &'static [&'static str],
}

impl<'a> Section<'a> {
    /// Checks shape and keys of `node`; `path` is its name in messages, empty for the whole file.
    pub(crate) fn open(node: &'a Node, path: &str, keys: Keys, problems: &mut Problems) -> Self {
        let entries: &'a [(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                let name = if path.is_empty() { "the file" } else { path };
                problems.at(node.at, format!("{name} must be a section with {}, not {}", one_of(keys.known), node.shape()));
                &[]
            }
        };
        for (key, _) in entries {
            check_key(key, path, keys, problems);
        }
        Self { at: node.at, entries }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// The place of `key`, or of the section.
    pub(crate) fn place(&self, key: &str) -> At {
        self.entries.iter().find(|(k, _)| k.text == key).map_or(self.at, |(k, _)| k.at)
    }

    /// The value of `key` through `read`, or `default` if it is absent or wrong.
    pub(crate) fn read<T>(&self, key: &str, default: T, problems: &mut Problems, read: impl Fn(&Node) -> Result<T, String>) -> T {
        let Some(node) = self.get(key) else { return default };
        match read(node) {
            Ok(value) => value,
            Err(message) => {
                problems.at(node.at, format!("`{key}`: {message}"));
                default
            }
        }
    }
}

fn check_key(key: &Key, path: &str, keys: Keys, problems: &mut Problems) {
    let name = &key.text;
    if keys.known.contains(&name.as_str()) {
        return;
    }
    let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
    if keys.later.contains(&name.as_str()) {
        problems.at(key.at, format!("`{full}` is not in this version of tollpass: remove it"));
        return;
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let hint = nearest(name, keys.known).map_or_else(|| format!("write {}", one_of(keys.known)), |k| format!("did you mean `{k}`?"));
    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    let known = if hint.starts_with("did") { format!(" Known here: {}", keys.known.join(", ")) } else { String::new() };
    problems.at(key.at, format!("unknown key `{shown}`{place}: {hint}{known}"));
}

/// `` `a`, `b` or `c` ``.
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
