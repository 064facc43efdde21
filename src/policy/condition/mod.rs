//! Conditions of rules: CEL expressions over a closed list of fields, typed when the policy loads (M3.2).
//!
//! The crate `cel` parses; our checker ([`check`]) types every node and builds the tree that is evaluated here. The library's own
//! interpreter is not used: it has no types, mixes integers and floats, and knows no bound on work. What is left of CEL's semantics
//! is short: `has`, `!`, comparisons, `in`, `?:`, and `&&`, `||`, which absorb an error on one side if the other decides (M3.7).
//! Money is integers of micro-USD, scores are exact decimals; nothing here is a float, loops or recurses deeper than it was written.

mod check;
mod decimal;
mod field;
mod scores;
#[cfg(test)]
mod tests;

pub use decimal::Decimal;
pub(super) use field::Facts;
pub(super) use scores::bare;

use field::Field;

use super::context::ContextKeys;
use crate::payment::MicroUsd;

/// Longest condition, characters.
const MAX_CHARS: usize = 512;

/// A condition that was checked. Two are equal if they were written alike.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition {
    root: Node,
    reads_books: bool,
}

/// Why a text is no condition: what is wrong and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
}

/// A condition that has no answer for these facts: a field that is not there, or a sum beyond what money can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// A value while a condition is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value<'a> {
    /// Micro-USD.
    Money(i64),
    /// Whole numbers, seconds among them.
    Count(i64),
    Score(Decimal),
    Text(std::borrow::Cow<'a, str>),
    Flag(bool),
}

/// A node whose operands have the types it needs; [`check`] makes no others.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Money(i64),
    Count(i64),
    Score(Decimal),
    Text(String),
    Flag(bool),
    Field(Field),
    Has(Field),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    If(Box<[Self; 3]>),
    Compare(Compare, Box<[Self; 2]>),
    Plus(Box<[Self; 2]>),
    Minus(Box<[Self; 2]>),
    /// So many per cent of an amount, rounded up.
    Percent(Box<Self>, i64),
    In(Box<Self>, Vec<Self>),
    TextTest(TextTest, Box<[Self; 2]>),
}

impl Condition {
    /// Parses and types `text`.
    pub(super) fn parse(text: &str, keys: &ContextKeys) -> Result<Self, Mistake> {
        let typed = |root: Node| Self { reads_books: root.reads_books(), root };
        check::condition(text, keys).map(typed).map_err(|message| Mistake { message })
    }

    /// True if the answer depends on counters or history: then it is asked for again when the amount is held (M2.5).
    pub(super) const fn reads_books(&self) -> bool {
        self.reads_books
    }

    /// Whether the condition holds for these facts.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> Result<bool, Fault> {
        self.root.flag(facts)
    }
}

impl Node {
    fn reads_books(&self) -> bool {
        match self {
            Self::Money(_) | Self::Count(_) | Self::Score(_) | Self::Text(_) | Self::Flag(_) => false,
            Self::Field(field) | Self::Has(field) => field.reads_books(),
            Self::Not(inner) | Self::Percent(inner, _) => inner.reads_books(),
            Self::And(a, b) | Self::Or(a, b) => a.reads_books() || b.reads_books(),
            Self::If(parts) => parts.iter().any(Self::reads_books),
            Self::Compare(_, sides) | Self::Plus(sides) | Self::Minus(sides) | Self::TextTest(_, sides) => {
                sides.iter().any(Self::reads_books)
            }
            Self::In(needle, list) => needle.reads_books() || list.iter().any(Self::reads_books),
        }
    }

    fn flag(&self, facts: &Facts<'_>) -> Result<bool, Fault> {
        match self.value(facts)? {
            Value::Flag(flag) => Ok(flag),
            _ => Err(Fault),
        }
    }

    fn money(&self, facts: &Facts<'_>) -> Result<i64, Fault> {
        match self.value(facts)? {
            Value::Money(micro) => Ok(micro),
            _ => Err(Fault),
        }
    }

    fn value<'a>(&'a self, facts: &'a Facts<'_>) -> Result<Value<'a>, Fault> {
        Ok(match self {
            Self::Money(micro) => Value::Money(*micro),
            Self::Count(n) => Value::Count(*n),
            Self::Score(d) => Value::Score(*d),
            Self::Text(t) => Value::Text(t.as_str().into()),
            Self::Flag(f) => Value::Flag(*f),
            Self::Field(field) => field.value(facts).ok_or(Fault)?,
            Self::Has(field) => Value::Flag(field.value(facts).is_some()),
            Self::Not(inner) => Value::Flag(!inner.flag(facts)?),
            Self::And(a, b) => Value::Flag(!either(a.flag(facts).map(|f| !f), || b.flag(facts).map(|f| !f))?),
            Self::Or(a, b) => Value::Flag(either(a.flag(facts), || b.flag(facts))?),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                return if condition.flag(facts)? { yes.value(facts) } else { no.value(facts) };
            }
            Self::Compare(how, sides) => Value::Flag(how.holds(&sides[0].value(facts)?, &sides[1].value(facts)?)),
            Self::Plus(sides) => Value::Money(sides[0].money(facts)?.checked_add(sides[1].money(facts)?).ok_or(Fault)?),
            Self::Minus(sides) => Value::Money(sides[0].money(facts)?.checked_sub(sides[1].money(facts)?).ok_or(Fault)?),
            Self::Percent(amount, percent) => Value::Money(self::percent(amount.money(facts)?, *percent).ok_or(Fault)?),
            Self::In(needle, list) => {
                let needle = needle.value(facts)?;
                Value::Flag(list.iter().any(|item| item.value(facts).is_ok_and(|v| v == needle)))
            }
            Self::TextTest(test, sides) => match (sides[0].value(facts)?, sides[1].value(facts)?) {
                (Value::Text(a), Value::Text(b)) => Value::Flag(test.holds(&a, &b)),
                _ => return Err(Fault),
            },
        })
    }
}

/// True if one side is, whatever became of the other; an error only if it decides.
fn either(first: Result<bool, Fault>, second: impl FnOnce() -> Result<bool, Fault>) -> Result<bool, Fault> {
    match first {
        Ok(true) => Ok(true),
        Ok(false) => second(),
        Err(fault) => {
            if second()? {
                Ok(true)
            } else {
                Err(fault)
            }
        }
    }
}

/// So many per cent, rounded up: for a limit that is read as "more than".
fn percent(micro: i64, percent: i64) -> Option<i64> {
    let product = i128::from(micro).checked_mul(i128::from(percent))?;
    i64::try_from(product.div_euclid(100) + i128::from(product.rem_euclid(100) > 0)).ok()
}

impl Compare {
    fn holds(self, a: &Value<'_>, b: &Value<'_>) -> bool {
        use std::cmp::Ordering;
        let order = match (a, b) {
            (Value::Money(a), Value::Money(b)) | (Value::Count(a), Value::Count(b)) => a.cmp(b),
            (Value::Score(a), Value::Score(b)) => a.cmp(b),
            _ if a == b => Ordering::Equal,
            // Text and flags are only ever compared for equality.
            _ => Ordering::Less,
        };
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterEqual => order.is_ge(),
        }
    }
}

impl TextTest {
    fn holds(self, a: &str, b: &str) -> bool {
        match self {
            Self::StartsWith => a.starts_with(b),
            Self::EndsWith => a.ends_with(b),
            Self::Contains => a.contains(b),
        }
    }
}

/// [`MicroUsd`] of money text in a condition.
fn money_text(text: &str) -> Result<i64, String> {
    MicroUsd::parse(text).map(MicroUsd::micro).map_err(|e| format!("usd(\"{}\") is {e}", super::read::shown(text)))
}
