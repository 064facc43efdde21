//! The conditions of M3.2, evaluated while they are read: no tree, no types beforehand. Both sides of `&&` and `||` are always
//! evaluated and errors are absorbed as CEL does.

use super::money::{ceil_div, micro};

/// Scores are compared exactly, as multiples of 10^-12.
pub(crate) const SCORE: i128 = 1_000_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Money(i128),
    Whole(i128),
    Score(i128),
    Text(String),
    Truth(bool),
}

/// The value of a name such as `price.usd`; `None` when it is not there.
pub(crate) type Names<'a> = &'a dyn Fn(&str) -> Option<Value>;

type Answer = Result<Value, String>;

/// What the expression says; an error is `Err`.
pub(crate) fn truth(text: &str, names: Names<'_>) -> Result<bool, String> {
    let mut reader = Reader { words: words(text), at: 0, names };
    let answer = reader.or();
    assert!(reader.at == reader.words.len(), "rest of {text:?}: {:?}", &reader.words[reader.at..]);
    match answer? {
        Value::Truth(b) => Ok(b),
        other => Err(format!("not a truth: {other:?}")),
    }
}

/// "0.85" as a score.
pub(crate) fn score(text: &str) -> i128 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |t| (-1, t));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    assert!(part.len() <= 12, "too fine: {text}");
    let padded = format!("{part:0<12}");
    sign * (whole.parse::<i128>().expect("digits") * SCORE + padded.parse::<i128>().expect("digits"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Name(String),
    Number(String),
    Text(String),
    Sign(String),
}

fn words(text: &str) -> Vec<Word> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = vec![];
    let mut at = 0;
    let run = |from: usize, keep: &dyn Fn(char) -> bool| -> String { chars[from..].iter().take_while(|c| keep(**c)).collect() };
    while at < chars.len() {
        let c = chars[at];
        let word = if c == ' ' {
            at += 1;
            continue;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let name = run(at, &|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            at += name.len();
            Word::Name(name)
        } else if c.is_ascii_digit() {
            let number = run(at, &|c| c.is_ascii_digit() || c == '.');
            at += number.len();
            Word::Number(number)
        } else if c == '"' || c == '\'' {
            let inner = run(at + 1, &|d| d != c);
            at += inner.chars().count() + 2;
            Word::Text(inner)
        } else {
            let two: String = chars[at..].iter().take(2).collect();
            let sign = if ["&&", "||", "==", "!=", "<=", ">="].contains(&two.as_str()) { two } else { c.to_string() };
            at += sign.len();
            Word::Sign(sign)
        };
        out.push(word);
    }
    out
}

struct Reader<'a> {
    words: Vec<Word>,
    at: usize,
    names: Names<'a>,
}

impl Reader<'_> {
    fn sign(&mut self, signs: &[&str]) -> Option<String> {
        match self.words.get(self.at) {
            Some(Word::Sign(s)) if signs.contains(&s.as_str()) => {
                self.at += 1;
                Some(s.clone())
            }
            _ => None,
        }
    }

    fn must(&mut self, sign: &str) {
        assert!(self.sign(&[sign]).is_some(), "{sign} expected at {:?}", &self.words[self.at..]);
    }

    fn or(&mut self) -> Answer {
        let mut left = self.and();
        while self.sign(&["||"]).is_some() {
            let right = self.and();
            left = absorb(left, right, true);
        }
        left
    }

    fn and(&mut self) -> Answer {
        let mut left = self.comparison();
        while self.sign(&["&&"]).is_some() {
            let right = self.comparison();
            left = absorb(left, right, false);
        }
        left
    }

    fn comparison(&mut self) -> Answer {
        let left = self.sum();
        let Some(sign) = self.sign(&["==", "!=", "<", "<=", ">", ">="]) else { return left };
        let right = self.sum();
        compare(&sign, left?, right?)
    }

    fn sum(&mut self) -> Answer {
        let mut left = self.single();
        while let Some(sign) = self.sign(&["+", "-"]) {
            let right = self.single();
            left = add(&sign, left, right);
        }
        left
    }

    fn single(&mut self) -> Answer {
        if self.sign(&["!"]).is_some() {
            return match self.single()? {
                Value::Truth(b) => Ok(Value::Truth(!b)),
                other => Err(format!("! of {other:?}")),
            };
        }
        if self.sign(&["("]).is_some() {
            let inner = self.or();
            self.must(")");
            return inner;
        }
        if self.sign(&["-"]).is_some() {
            return match self.single()? {
                Value::Whole(n) => Ok(Value::Whole(-n)),
                Value::Score(n) => Ok(Value::Score(-n)),
                other => Err(format!("minus {other:?}")),
            };
        }
        let word = self.words.get(self.at).cloned().expect("a word");
        self.at += 1;
        match word {
            Word::Text(t) => Ok(Value::Text(t)),
            Word::Number(n) if n.contains('.') => Ok(Value::Score(score(&n))),
            Word::Number(n) => Ok(Value::Whole(n.parse().expect("digits"))),
            Word::Name(n) if n == "true" || n == "false" => Ok(Value::Truth(n == "true")),
            Word::Name(n) if ["has", "usd", "pct"].contains(&n.as_str()) => self.call(&n),
            Word::Name(n) => (self.names)(&n).ok_or_else(|| format!("no {n}")),
            Word::Sign(s) => panic!("unexpected {s}"),
        }
    }

    fn call(&mut self, function: &str) -> Answer {
        self.must("(");
        let answer = match function {
            "has" => {
                let Some(Word::Name(name)) = self.words.get(self.at).cloned() else { panic!("has() of a field") };
                self.at += 1;
                Ok(Value::Truth((self.names)(&name).is_some()))
            }
            "usd" => match self.sum()? {
                Value::Text(t) => Ok(Value::Money(micro(&t))),
                other => Err(format!("usd of {other:?}")),
            },
            _ => {
                let money = self.sum();
                self.must(",");
                match (money, self.sum()) {
                    (Ok(Value::Money(m)), Ok(Value::Whole(p))) => Ok(Value::Money(ceil_div(m * p, 100))),
                    other => Err(format!("pct of {other:?}")),
                }
            }
        };
        self.must(")");
        answer
    }
}

/// `true || error` is true, `false && error` is false, from either side.
fn absorb(left: Answer, right: Answer, decisive: bool) -> Answer {
    let decides = |a: &Answer| *a == Ok(Value::Truth(decisive));
    if decides(&left) || decides(&right) {
        return Ok(Value::Truth(decisive));
    }
    match (left?, right?) {
        (Value::Truth(_), Value::Truth(_)) => Ok(Value::Truth(!decisive)),
        other => Err(format!("not truths: {other:?}")),
    }
}

fn add(sign: &str, left: Answer, right: Answer) -> Answer {
    let apply = |a: i128, b: i128| if sign == "+" { a + b } else { a - b };
    match (left?, right?) {
        (Value::Money(a), Value::Money(b)) => Ok(Value::Money(apply(a, b))),
        (Value::Whole(a), Value::Whole(b)) => Ok(Value::Whole(apply(a, b))),
        (Value::Score(a), Value::Score(b)) => Ok(Value::Score(apply(a, b))),
        other => Err(format!("{sign} of {other:?}")),
    }
}

fn compare(sign: &str, left: Value, right: Value) -> Answer {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (&left, &right) {
        (Value::Money(a), Value::Money(b)) | (Value::Whole(a), Value::Whole(b)) | (Value::Score(a), Value::Score(b)) => a.cmp(b),
        (Value::Whole(a), Value::Score(b)) => (a * SCORE).cmp(b),
        (Value::Score(a), Value::Whole(b)) => a.cmp(&(b * SCORE)),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Truth(a), Value::Truth(b)) => a.cmp(b),
        _ => return Err(format!("{left:?} {sign} {right:?}")),
    };
    Ok(Value::Truth(match sign {
        "==" => order == Equal,
        "!=" => order != Equal,
        "<" => order == Less,
        "<=" => order != Greater,
        ">" => order == Greater,
        _ => order != Less,
    }))
}
