//! The part of YAML that policies and cases are written in: block and flow mappings and lists, quotes, comments. A scalar stays
//! the text that stands in the file (M3.1), so `0.10` never becomes a float.

/// A value of the file. What is not there is `Nothing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Nothing,
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

static NOTHING: Node = Node::Nothing;

impl Node {
    pub(crate) fn get(&self, key: &str) -> &Self {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(k, _)| k == key).map_or(&NOTHING, |(_, v)| v),
            _ => &NOTHING,
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        *self != Self::Nothing
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(t) => Some(t),
            _ => None,
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.text() == Some("true")
    }

    /// A list, or one value written without brackets.
    pub(crate) fn items(&self) -> Vec<&Self> {
        match self {
            Self::List(items) => items.iter().collect(),
            Self::Text(_) => vec![self],
            _ => vec![],
        }
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        self.items().into_iter().filter_map(Self::text).collect()
    }

    pub(crate) fn pairs(&self) -> &[(String, Self)] {
        match self {
            Self::Map(pairs) => pairs,
            _ => &[],
        }
    }
}

/// Reads a whole file. Panics on what the tests do not write: this reader is for files we own.
pub(crate) fn read(text: &str) -> Node {
    let mut lines = joined(text);
    lines.reverse();
    let node = block(&mut lines, 0);
    assert!(lines.is_empty(), "not read: {:?}", lines.last());
    node
}

/// Lines without comments and blanks, as (indent, text); a flow value over several lines becomes one line.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = vec![];
    let mut open = false;
    for raw in text.lines() {
        let line = uncommented(raw);
        if line.trim().is_empty() {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if open {
            let last = out.last_mut().expect("an open line");
            last.1.push(' ');
            last.1.push_str(line.trim());
        } else {
            out.push((indent, line.trim().to_owned()));
        }
        open = depth(&out.last().expect("a line").1) > 0;
    }
    out
}

fn uncommented(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(q) if c == q && before != '\\' => quote = None,
            Some(_) => {}
            None if (c == '"' || c == '\'') && " {[,".contains(before) => quote = Some(c),
            None if c == '#' && before == ' ' => return line[..at].trim_end(),
            None => {}
        }
        before = c;
    }
    line.trim_end()
}

fn depth(line: &str) -> i32 {
    let (mut depth, mut quote, mut before) = (0, None, ' ');
    for c in line.chars() {
        match quote {
            Some(q) if c == q && before != '\\' => quote = None,
            Some(_) => {}
            None if (c == '"' || c == '\'') && " {[,".contains(before) => quote = Some(c),
            None if c == '{' || c == '[' => depth += 1,
            None if c == '}' || c == ']' => depth -= 1,
            None => {}
        }
        before = c;
    }
    depth
}

/// A block of lines with at least this indent. `lines` is reversed: the next line is the last.
fn block(lines: &mut Vec<(usize, String)>, least: usize) -> Node {
    let Some((indent, first)) = lines.last().cloned() else { return Node::Nothing };
    if indent < least {
        return Node::Nothing;
    }
    if first == "-" || first.starts_with("- ") { list(lines, indent) } else { map(lines, indent) }
}

fn list(lines: &mut Vec<(usize, String)>, indent: usize) -> Node {
    let mut items = vec![];
    while let Some((i, line)) = lines.last().cloned() {
        if i != indent || !(line == "-" || line.starts_with("- ")) {
            break;
        }
        lines.pop();
        let rest = line[1..].trim_start();
        if rest.is_empty() {
            items.push(block(lines, indent + 1));
        } else if rest.starts_with(['{', '[', '"', '\'']) || key_of(rest).is_none() {
            items.push(scalar_or_flow(rest));
        } else {
            // "- key: value" is a mapping that begins where its first key stands
            lines.push((indent + line.len() - rest.len(), rest.to_owned()));
            items.push(block(lines, indent + 1));
        }
    }
    Node::List(items)
}

fn map(lines: &mut Vec<(usize, String)>, indent: usize) -> Node {
    let mut pairs = vec![];
    while let Some((i, line)) = lines.last().cloned() {
        if i != indent || line.starts_with("- ") {
            break;
        }
        lines.pop();
        let (key, rest) = key_of(&line).unwrap_or_else(|| panic!("no key in {line:?}"));
        let value = if rest.is_empty() {
            // a list may stand at the indent of its key
            let list_here = lines.last().is_some_and(|(i, l)| *i == indent && l.starts_with("- "));
            block(lines, if list_here { indent } else { indent + 1 })
        } else {
            scalar_or_flow(rest)
        };
        pairs.push((key, value));
    }
    Node::Map(pairs)
}

/// The key of `key: rest` or `key:`, and the rest.
fn key_of(line: &str) -> Option<(String, &str)> {
    if let Some(quoted) = line.strip_prefix('"') {
        let end = quoted.find('"')?;
        let rest = quoted[end + 1..].strip_prefix(':')?;
        return Some((quoted[..end].to_owned(), rest.trim()));
    }
    if let Some(at) = line.find(": ") {
        return Some((line[..at].to_owned(), line[at + 2..].trim()));
    }
    line.strip_suffix(':').map(|key| (key.to_owned(), ""))
}

fn scalar_or_flow(text: &str) -> Node {
    if !text.starts_with(['{', '[', '"', '\'']) {
        return Node::Text(text.to_owned());
    }
    let mut flow = Flow { chars: text.chars().collect(), at: 0 };
    let node = flow.value();
    flow.blanks();
    assert!(flow.at == flow.chars.len(), "after the value in {text:?}");
    node
}

struct Flow {
    chars: Vec<char>,
    at: usize,
}

impl Flow {
    fn peek(&self) -> char {
        *self.chars.get(self.at).unwrap_or_else(|| panic!("ends too early: {}", self.chars.iter().collect::<String>()))
    }

    fn blanks(&mut self) {
        while self.chars.get(self.at) == Some(&' ') {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Node {
        self.blanks();
        match self.peek() {
            '{' => self.mapping(),
            '[' => self.sequence(),
            '"' | '\'' => Node::Text(self.quoted()),
            _ => Node::Text(self.plain(false)),
        }
    }

    fn sequence(&mut self) -> Node {
        self.at += 1;
        let mut items = vec![];
        loop {
            self.blanks();
            match self.peek() {
                ']' => break,
                ',' => self.at += 1,
                _ => items.push(self.value()),
            }
        }
        self.at += 1;
        Node::List(items)
    }

    fn mapping(&mut self) -> Node {
        self.at += 1;
        let mut pairs = vec![];
        loop {
            self.blanks();
            match self.peek() {
                '}' => break,
                ',' => self.at += 1,
                c => {
                    let key = if c == '"' || c == '\'' { self.quoted() } else { self.plain(true) };
                    self.blanks();
                    assert!(self.peek() == ':', "no colon after {key}");
                    self.at += 1;
                    pairs.push((key, self.value()));
                }
            }
        }
        self.at += 1;
        Node::Map(pairs)
    }

    fn quoted(&mut self) -> String {
        let quote = self.peek();
        let mut out = String::new();
        self.at += 1;
        loop {
            let c = self.peek();
            self.at += 1;
            if c == quote {
                // '' inside single quotes is one quote
                if quote == '\'' && self.chars.get(self.at) == Some(&'\'') {
                    self.at += 1;
                    out.push('\'');
                    continue;
                }
                return out;
            }
            if c == '\\' && quote == '"' {
                out.push(self.peek());
                self.at += 1;
            } else {
                out.push(c);
            }
        }
    }

    fn plain(&mut self, key: bool) -> String {
        let mut out = String::new();
        while let Some(&c) = self.chars.get(self.at) {
            if ",]}".contains(c) || (key && c == ':') {
                break;
            }
            out.push(c);
            self.at += 1;
        }
        out.trim().to_owned()
    }
}
