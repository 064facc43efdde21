//! YAML text → a small tree in which every scalar is its raw text and every node knows its place.
//!
//! Read from parser events, not through serde's self-describing types: those turn `0.05` into a float before anyone can say
//! no, and money must stay text (M3.1). The part of YAML that makes a policy hard to read — anchors, aliases, merge keys,
//! tags, several documents — is refused by name, so there is nothing to expand and nothing to bomb.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::PolicyError;

/// A place in a file, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Pos {
    pub(super) fn error(&self, message: impl Into<String>) -> PolicyError {
        PolicyError { file: self.file.to_string(), line: self.line, column: self.column, message: message.into() }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Pos,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any scalar as written, quotes removed, never interpreted.
    Text(String),
    List(Vec<Node>),
    Map(Vec<Pair>),
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) at: Pos,
    pub(super) value: Node,
}

impl Node {
    /// What this is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Deepest nesting that is read; the format itself needs eight levels.
const MAX_DEPTH: usize = 24;
/// Most nodes that are read from one file.
const MAX_NODES: usize = 1_000_000;

/// Mappings of up to so many keys are searched from the front: nearly all of them.
const SMALL: usize = 16;

/// Reads the one document of `text`. Duplicate keys are reported and the first one kept.
///
/// # Errors
/// The first mistake of syntax, since nothing after it can be trusted.
pub(super) fn parse(file: &str, text: &str, errors: &mut Vec<PolicyError>) -> Result<Node, PolicyError> {
    let mut options = Options::default();
    options.emit_unresolved_aliases = true;
    let parser = Parser::new_from_str_with_options(text, options);
    let mut tree = Tree { events: Box::new(parser), file: file.into(), nodes: 0, errors };
    let root = tree.document()?;
    Ok(root)
}

type Item<'a> = Result<(Event<'a>, Span), ScanError>;

struct Tree<'a, 'e> {
    events: Box<dyn Iterator<Item = Item<'a>> + 'a>,
    file: Arc<str>,
    nodes: usize,
    errors: &'e mut Vec<PolicyError>,
}

impl<'a> Tree<'a, '_> {
    fn pos(&self, line: usize, col: usize) -> Pos {
        Pos { file: self.file.clone(), line: line.max(1), column: col + 1 }
    }

    fn next(&mut self) -> Result<(Event<'a>, Pos), PolicyError> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, self.pos(span.start.line(), span.start.col()))),
            Some(Err(e)) => {
                let at = self.pos(e.marker().line(), e.marker().col());
                let hint = if e.info().contains("alias") { ": put text that begins with * or & in quotes" } else { "" };
                Err(at.error(format!("this is not YAML: {}{hint}", e.info())))
            }
            None => Err(self.pos(1, 0).error("this is not YAML: it ends too early")),
        }
    }

    fn document(&mut self) -> Result<Node, PolicyError> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(at.error("a second document: write one policy per file, without `---` in between"));
                }
                Event::DocumentStart(..) => {
                    let (event, at) = self.next()?;
                    root = Some(self.node(event, at, 0)?);
                }
                Event::StreamEnd => {
                    let at = self.pos(1, 0);
                    return Ok(root.unwrap_or(Node { at, value: Value::Null }));
                }
                _ => return Err(at.error("this is not YAML: a value outside the document")),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Pos, depth: usize) -> Result<Node, PolicyError> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(at.error("nested too deeply or too large for a policy"));
        }
        if event.is_alias() {
            return Err(at.error(
                "a `*` in front makes this a YAML alias, which is not read in a policy: put text in quotes, such as \"*.example.com\"",
            ));
        }
        if event.anchor_id().is_some() {
            return Err(at.error("anchors (`&name`) are not read in a policy: remove it, and share caps through `groups`"));
        }
        if event.tag().is_some() {
            return Err(at.error("tags (`!name`) are not read in a policy: remove it"));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            _ => return Err(at.error("this is not YAML: a value is missing here")),
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, PolicyError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Pair>, PolicyError> {
        let mut pairs: Vec<Pair> = Vec::new();
        // By key, once there are many: a file may name thousands of agents.
        let mut places: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(pairs);
            }
            let key = match self.node(event, at.clone(), depth + 1)?.value {
                Value::Text(key) => key,
                Value::Null => "null".into(),
                _ => return Err(at.error("a key must be plain text")),
            };
            if key == "<<" {
                return Err(at.error("merge keys (`<<`) are not read in a policy: write the keys out, or share caps through `groups`"));
            }
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            let twice = if places.is_empty() { pairs.iter().find(|p| p.key == key) } else { places.get(&key).and_then(|i| pairs.get(*i)) };
            match twice {
                Some(first) => {
                    let message = format!("`{key}` stands twice in the same mapping, first at line {}: keep one", first.at.line);
                    self.errors.push(at.error(message));
                }
                None => {
                    if pairs.len() == SMALL {
                        places = pairs.iter().enumerate().map(|(i, pair)| (pair.key.clone(), i)).collect();
                    }
                    if pairs.len() >= SMALL {
                        places.insert(key.clone(), pairs.len());
                    }
                    pairs.push(Pair { key, at, value });
                }
            }
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let plain = matches!(style, ScalarStyle::Plain);
    if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") { Value::Null } else { Value::Text(text.to_owned()) }
}
