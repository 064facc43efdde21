//! The load-time checker: every node gets a type, every name is known, every amount is written as money. What passes cannot fail
//! for a type while a payment waits.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op};

use super::field::{FIELDS, Field, Type, context_field};
use super::{Compare, Decimal, MAX_CHARS, Node, TextTest, money_text};
use crate::policy::context::ContextKeys;
use crate::policy::read::shown;
use crate::spelling::nearest;

/// Deepest nesting of brackets and operators.
const MAX_DEPTH: usize = 32;

/// Types `text`, or says what is wrong with it.
pub(super) fn condition(text: &str, keys: &ContextKeys) -> Result<Node, String> {
    if text.chars().count() > MAX_CHARS {
        return Err(format!("the condition is longer than {MAX_CHARS} characters: split it into several rules"));
    }
    if nesting(text) > MAX_DEPTH {
        return Err(format!("the condition is nested deeper than {MAX_DEPTH}: split it into several rules"));
    }
    if has_long_number(text) {
        return Err(format!("a number has more than {MAX_DIGITS} digits, which would be rounded: write fewer"));
    }
    let parsed = cel::parser::Parser::new().max_recursion_depth(200).parse(text).map_err(|errors| {
        let at = errors.errors.first().map_or(String::new(), |e| format!(" near character {}", e.pos.1));
        format!("this is not CEL{at}: write an expression such as price.usd > usd(\"0.10\")")
    })?;
    let mut checker = Checker { keys, has: Vec::new() };
    collect_has(&parsed, &mut checker.has);
    match checker.node(&parsed, 0)? {
        (node, Type::Flag) => Ok(node),
        (_, other) => Err(format!("the condition is {}, not true or false: compare it with something", other.as_str())),
    }
}

/// Digits that survive the parser, which reads numbers with a point as floats.
const MAX_DIGITS: usize = 15;

/// Whether a number with a point, outside of quotes, has more digits than that.
fn has_long_number(text: &str) -> bool {
    let mut quote = None;
    let (mut digits, mut point) = (0, false);
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_ascii_digit() => digits += 1,
            None if c == '.' => point = true,
            None => (digits, point) = (0, false),
        }
        if point && digits > MAX_DIGITS {
            return true;
        }
    }
    false
}

/// How deep brackets, and signs in front of something, are nested: the parser recurses that deep.
fn nesting(text: &str) -> usize {
    let (mut open, mut deepest, mut signs) = (0_usize, 0, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        signs = if matches!(c, '!' | '-') { signs + 1 } else { 0 };
        deepest = deepest.max(open + signs);
    }
    deepest
}

struct Checker<'a> {
    keys: &'a ContextKeys,
    /// Names that stand in a `has()`.
    has: Vec<String>,
}

type Typed = (Node, Type);

impl Checker<'_> {
    fn node(&self, expr: &IdedExpr, depth: usize) -> Result<Typed, String> {
        if depth > 4 * MAX_DEPTH {
            return Err(format!("the condition is nested deeper than {MAX_DEPTH}: split it into several rules"));
        }
        match &expr.expr {
            Expr::Literal(literal) => Self::literal(literal),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::List(_) => Err("a list stands only behind `in`: write request.method in [\"GET\", \"POST\"]".into()),
            Expr::Comprehension(_) => Err("`all`, `exists`, `map` and `filter` are not read in conditions: write the cases out".into()),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err("maps and structures are not read in conditions".into()),
        }
    }

    fn literal(literal: &LiteralValue) -> Result<Typed, String> {
        Ok(match literal {
            LiteralValue::Boolean(b) => (Node::Flag(*b.inner()), Type::Flag),
            LiteralValue::Int(n) => (Node::Count(*n.inner()), Type::Count),
            LiteralValue::Double(d) => {
                // The shortest text that reads back as the same number: what was written, up to fifteen digits.
                let text = d.inner().to_string();
                let decimal = Decimal::parse(&text)
                    .ok_or_else(|| format!("{text} has too many digits: write at most 18 on either side of the point"))?;
                (Node::Score(decimal), Type::Score)
            }
            LiteralValue::String(t) => (Node::Text(t.inner().to_owned()), Type::Text),
            LiteralValue::UInt(_) => return Err("write whole numbers without `u`".into()),
            LiteralValue::Bytes(_) | LiteralValue::Null => {
                return Err("bytes and null are not read in conditions; has(x) tells whether x is there".into());
            }
        })
    }

    fn ident(&self, name: &str) -> Result<Typed, String> {
        match name {
            "agent" => Ok((Node::Field(Field::Agent), Type::Text)),
            "now" => Ok((Node::Field(Field::Now), Type::Count)),
            _ if roots().contains(&name) => Err(format!("`{name}` alone is no value: write one of its fields, such as {}", example(name))),
            _ => Err(unknown("name", name, &[&roots()[..], &["agent", "now"]].concat())),
        }
    }

    fn select(&self, select: &SelectExpr) -> Result<Typed, String> {
        let (root, name) = path(select)?;
        let (field, kind, optional) = self.field(root, name)?;
        if select.test {
            return if optional {
                Ok((Node::Has(field), Type::Flag))
            } else {
                Err(format!("{root}.{name} is always there: remove the has()"))
            };
        }
        // `history.count >= 3 && …` guards a median as well as has() does: without history it is an error when evaluated (M3.7)
        if optional && root != "history" && !self.has.contains(&format!("{root}.{name}")) {
            return Err(format!(
                "{root}.{name} may be absent, which would deny: write has({root}.{name}) && … or !has({root}.{name}) || …"
            ));
        }
        Ok((Node::Field(field), kind))
    }

    /// The field, its type, and whether it may be absent.
    fn field(&self, root: &str, name: &str) -> Result<(Field, Type, bool), String> {
        match root {
            "ctx" => {
                let known: Vec<&str> = self.keys.names().collect();
                let missing = || {
                    let hint = nearest(name, &known).map_or(String::new(), |k| format!(" (did you mean ctx.{k}?)"));
                    format!(
                        "ctx.{} is not declared: write `context: {{ {}: decimal }}` at the top of the file{hint}",
                        shown(name),
                        shown(name)
                    )
                };
                context_field(name, self.keys).map(|(field, kind)| (field, kind, true)).ok_or_else(missing)
            }
            "challenge" => Ok((Field::Challenge(name.into()), Type::Score, true)),
            _ if roots().contains(&root) => {
                let found = FIELDS.iter().find(|(r, n, ..)| *r == root && *n == name);
                let known: Vec<&str> = FIELDS.iter().filter(|(r, ..)| *r == root).map(|(_, n, ..)| *n).collect();
                found
                    .map(|(_, _, field, kind, optional)| (field.clone(), *kind, *optional))
                    .ok_or_else(|| unknown(&format!("field of {root}"), name, &known))
            }
            _ => Err(unknown("name", root, &[&roots()[..], &["agent", "now"]].concat())),
        }
    }

    fn call(&self, call: &CallExpr, depth: usize) -> Result<Typed, String> {
        if let Some(target) = &call.target {
            return self.text_test(&call.func_name, target, &call.args, depth);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [first, rest @ ..]) => self.logical(&call.func_name, first, rest, depth),
            (op::LOGICAL_NOT, [inner]) => Ok((Node::Not(Box::new(self.flag(inner, "!", depth)?)), Type::Flag)),
            (op::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.flag(condition, "?", depth)?;
                let ((yes, a), (no, b)) = (self.node(yes, depth)?, self.node(no, depth)?);
                if a != b {
                    return Err(format!("`? :` gives {} or {}: both must be the same", a.as_str(), b.as_str()));
                }
                Ok((Node::If(Box::new([condition, yes, no])), a))
            }
            (op::ADD | op::SUBSTRACT, [a, b]) => self.sum(call.func_name == op::ADD, a, b, depth),
            (op::NEGATE, [inner]) => match self.node(inner, depth)? {
                (Node::Count(n), _) => {
                    n.checked_neg().map(|n| (Node::Count(n), Type::Count)).ok_or_else(|| "this number is too large".into())
                }
                _ => Err("`-` stands only between amounts of money, or before a whole number".into()),
            },
            (op::IN, [needle, list]) => self.within(needle, list, depth),
            ("usd", [amount]) => match &amount.expr {
                Expr::Literal(LiteralValue::String(t)) => Ok((Node::Money(money_text(t.inner())?), Type::Money)),
                _ => Err("usd() takes the amount as text: write usd(\"0.05\")".into()),
            },
            ("pct", [amount, percent]) => match (self.node(amount, depth)?, &percent.expr) {
                ((amount, Type::Money), Expr::Literal(LiteralValue::Int(n))) if (0..=1_000_000).contains(n.inner()) => {
                    Ok((Node::Percent(Box::new(amount), *n.inner()), Type::Money))
                }
                _ => Err("pct() takes an amount of money and a whole number of per cent: write pct(history.median_usd, 150)".into()),
            },
            (op::MULTIPLY | op::DIVIDE | op::MODULO, _) => {
                Err("`*`, `/` and `%` are not read in conditions: write pct(amount, 150) for one and a half times an amount".into())
            }
            (name, [a, b]) => match comparison(name) {
                Some(how) => self.compare(how, a, b, depth),
                None => Err(unknown_function(name)),
            },
            (name, _) => Err(unknown_function(name)),
        }
    }

    fn logical(&self, operator: &str, first: &IdedExpr, rest: &[IdedExpr], depth: usize) -> Result<Typed, String> {
        let shown = if operator == op::LOGICAL_AND { "&&" } else { "||" };
        let mut all = self.flag(first, shown, depth)?;
        for next in rest {
            let next = Box::new(self.flag(next, shown, depth)?);
            all = if operator == op::LOGICAL_AND { Node::And(Box::new(all), next) } else { Node::Or(Box::new(all), next) };
        }
        Ok((all, Type::Flag))
    }

    fn flag(&self, expr: &IdedExpr, beside: &str, depth: usize) -> Result<Node, String> {
        match self.node(expr, depth)? {
            (node, Type::Flag) => Ok(node),
            (_, other) => Err(format!("beside `{beside}` stands {}, not true or false: compare it with something", other.as_str())),
        }
    }

    fn sum(&self, plus: bool, a: &IdedExpr, b: &IdedExpr, depth: usize) -> Result<Typed, String> {
        match (self.node(a, depth)?, self.node(b, depth)?) {
            ((a, Type::Money), (b, Type::Money)) => {
                let sides = Box::new([a, b]);
                Ok((if plus { Node::Plus(sides) } else { Node::Minus(sides) }, Type::Money))
            }
            ((a, Type::Money), (b, _)) | ((b, _), (a, Type::Money)) => Err(beside_money(&a, &b)),
            _ => Err("`+` and `-` stand only between amounts of money".into()),
        }
    }

    fn compare(&self, how: Compare, a: &IdedExpr, b: &IdedExpr, depth: usize) -> Result<Typed, String> {
        let (mut a, mut b) = (self.node(a, depth)?, self.node(b, depth)?);
        // A whole number beside a score is one, too.
        let (of_a, of_b) = (a.1, b.1);
        for (this, other) in [(&mut a, of_b), (&mut b, of_a)] {
            if let ((Node::Count(n), Type::Count), Type::Score) = (&*this, other) {
                *this = (Node::Score(Decimal::from_integer(*n)), Type::Score);
            }
        }
        let ((a, kind), (b, other)) = (a, b);
        match (kind, other) {
            (Type::Money, Type::Money) => {}
            (Type::Money, _) => return Err(beside_money(&a, &b)),
            (_, Type::Money) => return Err(beside_money(&b, &a)),
            _ if kind != other => return Err(format!("{} is compared with {}: both must be the same", kind.as_str(), other.as_str())),
            (Type::Text | Type::Flag, _) if !matches!(how, Compare::Equal | Compare::NotEqual) => {
                return Err(format!("{} is only equal to another (==, !=), not more or less", kind.as_str()));
            }
            _ => {}
        }
        check_case(&a, &b)?;
        check_case(&b, &a)?;
        Ok((Node::Compare(how, Box::new([a, b])), Type::Flag))
    }

    fn within(&self, needle: &IdedExpr, list: &IdedExpr, depth: usize) -> Result<Typed, String> {
        let (needle, kind) = self.node(needle, depth)?;
        let Expr::List(list) = &list.expr else {
            return Err("behind `in` stands a list: write request.method in [\"GET\", \"POST\"]".into());
        };
        let mut items = Vec::new();
        for item in &list.elements {
            let (item, other) = self.node(item, depth)?;
            if !matches!(item, Node::Text(_) | Node::Count(_) | Node::Money(_)) {
                return Err("the list behind `in` holds texts, whole numbers or usd() amounts written out".into());
            }
            if other != kind {
                return Err(format!("{} is looked for among {}: both must be the same", kind.as_str(), other.as_str()));
            }
            check_case(&needle, &item)?;
            items.push(item);
        }
        if items.is_empty() {
            return Err("the list behind `in` is empty, so nothing is in it".into());
        }
        Ok((Node::In(Box::new(needle), items), Type::Flag))
    }

    fn text_test(&self, name: &str, target: &IdedExpr, args: &[IdedExpr], depth: usize) -> Result<Typed, String> {
        let test = match name {
            "startsWith" => TextTest::StartsWith,
            "endsWith" => TextTest::EndsWith,
            "contains" => TextTest::Contains,
            "matches" => return Err("`matches` is not read in conditions: write startsWith, endsWith or contains".into()),
            _ => return Err(unknown_function(name)),
        };
        match (self.node(target, depth)?, args) {
            ((a, Type::Text), [b]) => match self.node(b, depth)? {
                (b, Type::Text) => {
                    check_case(&a, &b)?;
                    Ok((Node::TextTest(test, Box::new([a, b])), Type::Flag))
                }
                _ => Err(format!("{name}() takes a text: write request.path.{name}(\"/v2/\")")),
            },
            _ => Err(format!("{name}() is asked of a text and takes one: write request.path.{name}(\"/v2/\")")),
        }
    }
}

/// Root and field of `root.field`; deeper paths are no fields.
fn path(select: &SelectExpr) -> Result<(&str, &str), String> {
    match &select.operand.expr {
        Expr::Ident(root) => Ok((root, &select.field)),
        _ => Err(format!("`.{}` is no field: fields are written as one name and one field, such as price.usd", shown(&select.field))),
    }
}

fn collect_has(expr: &IdedExpr, found: &mut Vec<String>) {
    match &expr.expr {
        Expr::Select(select) => {
            if let (true, Ok((root, name))) = (select.test, path(select)) {
                found.push(format!("{root}.{name}"));
            }
        }
        Expr::Call(call) => call.target.iter().map(|t| &**t).chain(&call.args).for_each(|e| collect_has(e, found)),
        _ => {}
    }
}

/// Hosts and payees are lower-case here, so a literal that is not would never be equal, and the rule never speak.
fn check_case(field: &Node, literal: &Node) -> Result<(), String> {
    let name = match field {
        Node::Field(Field::Host) => "request.host",
        Node::Field(Field::Payee) => "offer.payee",
        _ => return Ok(()),
    };
    match literal {
        Node::Text(t) if t.chars().any(|c| c.is_uppercase() || !c.is_ascii()) => {
            Err(format!("{name} is lower-case ASCII: write \"{}\"", shown(&t.to_lowercase())))
        }
        _ => Ok(()),
    }
}

fn beside_money(_: &Node, other: &Node) -> String {
    match other {
        Node::Count(n) => format!("money stands beside a bare number: write usd(\"{n}\")"),
        Node::Score(d) => format!("money stands beside a bare number: write usd(\"{d}\")"),
        Node::Text(t) => format!("money stands beside a text: write usd(\"{}\")", shown(t)),
        _ => "money is only compared with money, such as usd(\"0.05\") or history.median_usd".into(),
    }
}

fn comparison(name: &str) -> Option<Compare> {
    Some(match name {
        op::EQUALS => Compare::Equal,
        op::NOT_EQUALS => Compare::NotEqual,
        op::LESS => Compare::Less,
        op::LESS_EQUALS => Compare::LessEqual,
        op::GREATER => Compare::Greater,
        op::GREATER_EQUALS => Compare::GreaterEqual,
        _ => return None,
    })
}

const fn roots() -> [&'static str; 8] {
    ["request", "offer", "price", "session", "spent", "history", "challenge", "ctx"]
}

fn example(root: &str) -> String {
    FIELDS.iter().find(|(r, ..)| *r == root).map_or_else(|| format!("{root}.confidence"), |(r, n, ..)| format!("{r}.{n}"))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = nearest(name, known).map_or(String::new(), |k| format!(" (did you mean `{k}`?)"));
    format!("unknown {what} `{}`; known are {}{hint}", shown(name), known.join(", "))
}

fn unknown_function(name: &str) -> String {
    format!("unknown function `{}`; known are usd, pct, has, startsWith, endsWith, contains", shown(name))
}
