//! Who may use the API over TCP: a file of names, roles and token hashes (hot, as the agents' file is).
//!
//! ```yaml
//! operators:
//!   ci:  { roles: [read], tokens: ["sha256:…"] }
//!   ann: { roles: [approve], tokens: ["sha256:…"], totp: "BASE32…" }     # a secret: others must not read the file
//! ```

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::api::{Role, Roles};
use super::totp::Totp;
use crate::config::Problem;
use crate::config::tree::{Key, Keys, Node, Problems, Section, Value, parse};

type Hash = [u8; 32];

/// Tokens that one operator may have at once: the old one and its successor.
const LIVE: usize = 2;
const TOP: Keys = Keys { known: &["operators"], later: &[] };
const OPERATOR: Keys = Keys { known: &["roles", "tokens", "totp"], later: &[] };
const FORM: &str = "write `operators: { NAME: { roles: [read], tokens: [\"sha256:…\"] } }`; `tollpass operator NAME --role read` makes one";

/// The operators with a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorTokens(Vec<Operator>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Operator {
    name: Arc<str>,
    roles: Roles,
    hashes: Vec<Hash>,
    totp: Option<Totp>,
}

/// Everything wrong with an operators' file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct OperatorTokensError(pub Vec<Problem>);

impl OperatorTokens {
    /// Reads `text`, the content of `file`.
    ///
    /// # Errors
    /// Every mistake found, with its place; the content is never quoted.
    pub fn parse(file: &str, text: &str) -> Result<Self, OperatorTokensError> {
        let mut problems = Problems::new(file);
        let mut all = Vec::new();
        if let Some(tree) = parse(text, &mut problems) {
            let top = Section::open(&tree, "", TOP, &mut problems);
            match top.get("operators").map(|n| (n.at, &n.value)) {
                Some((_, Value::Map(entries))) => all.extend(entries.iter().filter_map(|(k, n)| operator(k, n, &mut problems))),
                Some((at, _)) => problems.at(at, FORM),
                None => problems.at(top.at, format!("`operators` is missing: {FORM}")),
            }
        }
        if problems.is_empty() { Ok(Self(all)) } else { Err(OperatorTokensError(problems.into_list())) }
    }

    /// Name and roles of the operator with this token. Every hash is compared, whichever fits.
    pub fn verify(&self, token: &str) -> Option<(Arc<str>, Roles)> {
        let given: Hash = Sha256::digest(token).into();
        let mut found = None;
        for operator in &self.0 {
            let fits = operator.hashes.iter().fold(subtle::Choice::from(0), |fits, hash| fits | hash.ct_eq(&given));
            if bool::from(fits) {
                found = Some((Arc::clone(&operator.name), operator.roles));
            }
        }
        found
    }

    /// The secret of `who`'s second factor, if they have one.
    pub fn totp(&self, who: &str) -> Option<Totp> {
        self.0.iter().find(|operator| *operator.name == *who)?.totp.clone()
    }

    /// Whether there is something in the file that others must not read.
    pub fn has_secrets(&self) -> bool {
        self.0.iter().any(|operator| operator.totp.is_some())
    }
}

fn operator(key: &Key, node: &Node, problems: &mut Problems) -> Option<Operator> {
    let named = !key.text.is_empty() && key.text.len() <= 64 && key.text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
    if !named || key.text == "socket" {
        problems.at(key.at, "not a name: write up to 64 letters, digits, `.`, `_`, `-` or `@`; `socket` is taken");
        return None;
    }
    let s = Section::open(node, "operators.*", OPERATOR, problems);
    let mut roles = Roles::default();
    let mut hashes = Vec::new();
    for item in items(&s, "roles", problems) {
        match Role::ALL.into_iter().find(|r| matches!(&item.value, Value::Text(t) if t == r.as_str())) {
            Some(role) => roles = roles.with(role),
            None => problems.at(item.at, "not a role: write read, operate, approve or raise"),
        }
    }
    for item in items(&s, "tokens", problems) {
        match hash(item) {
            Some(hash) => hashes.push(hash),
            None => problems.at(item.at, "not a token hash: write \"sha256:\" and 64 hex digits"),
        }
    }
    if hashes.len() > LIVE {
        problems
            .at(s.place("tokens"), format!("more than {LIVE} tokens: remove the oldest, so that a leaked one does not stay live unseen"));
    }
    let totp = s.get("totp").and_then(|node| {
        let read = if let Value::Text(text) = &node.value { Totp::parse(text) } else { None };
        if read.is_none() {
            problems
                .at(node.at, "not a secret of one-time codes: write the base32 that `tollpass operator NAME --role approve --totp` prints");
        }
        read
    });
    Some(Operator { name: key.text.as_str().into(), roles, hashes, totp })
}

fn items<'a>(s: &Section<'a>, key: &str, problems: &mut Problems) -> &'a [Node] {
    match s.get(key).map(|n| (n.at, &n.value)) {
        Some((_, Value::List(items))) if !items.is_empty() => items,
        Some((at, _)) => {
            problems.at(at, format!("write a list: {FORM}"));
            &[]
        }
        None => {
            problems.at(s.at, format!("`{key}` is missing: {FORM}"));
            &[]
        }
    }
}

fn hash(node: &Node) -> Option<Hash> {
    let Value::Text(text) = &node.value else { return None };
    let digits = text.strip_prefix("sha256:").filter(|d| d.len() == 64 && !d.starts_with("0x"))?;
    alloy_primitives::hex::decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hashed(token: &str) -> String {
        format!("\"sha256:{}\"", alloy_primitives::hex::encode(Sha256::digest(token)))
    }

    #[test]
    fn a_token_gives_a_name_and_its_roles_and_nothing_else_does() {
        let text = format!(
            "operators:\n  ci: {{ roles: [read], tokens: [{}] }}\n  ann@x.example: {{ roles: [operate, approve], tokens: [{}, {}] }}\n",
            hashed("one"),
            hashed("two"),
            hashed("three"),
        );
        let tokens = OperatorTokens::parse("f", &text).unwrap();
        let (who, roles) = tokens.verify("one").unwrap();
        assert!(&*who == "ci" && roles.has(Role::Read) && !roles.has(Role::Operate));
        for token in ["two", "three"] {
            let (who, roles) = tokens.verify(token).unwrap();
            let may: Vec<bool> = Role::ALL.into_iter().map(|r| roles.has(r)).collect();
            assert_eq!((&*who, &may[..]), ("ann@x.example", &[true, true, true, false][..]));
        }
        for wrong in ["", "four", "One", "ci"] {
            assert_eq!(tokens.verify(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_have_a_place_and_never_quote_the_content() {
        let h = hashed("x");
        for (text, says) in [
            ("operators: { a: { roles: [read], tokens: [secret-token] } }".to_owned(), "f:1:43: not a token hash"),
            (format!("operators: {{ a: {{ roles: [root], tokens: [{h}] }} }}"), "f:1:27: not a role"),
            (format!("operators: {{ a: {{ roles: [], tokens: [{h}] }} }}"), "f:1:26: write a list"),
            ("operators: { a: { roles: [read] } }".into(), "`tokens` is missing"),
            (format!("operators: {{ socket: {{ roles: [read], tokens: [{h}] }} }}"), "f:1:14: not a name"),
            (format!("operators: {{ \"a b\": {{ roles: [read], tokens: [{h}] }} }}"), "not a name"),
            (format!("operators: {{ a: {{ roles: [read], tokens: [{h}, {h}, {h}] }} }}"), "more than 2 tokens"),
            (format!("operators: {{ a: {{ roles: [read], tokens: [{h}], totp: secret-token }} }}"), "not a secret of one-time codes"),
            ("operators: [a]".into(), "f:1:12: write `operators:"),
            ("operator: {}".into(), "did you mean `operators`?"),
        ] {
            let found = OperatorTokens::parse("f", &text).expect_err(&text).to_string();
            assert!(found.contains(says) && !found.contains("secret-token"), "{text}\n{found}");
        }
    }
}
