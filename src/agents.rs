//! Who is calling: the token file (hot) and proxy credentials.
//!
//! The file holds hashes only, at most two per agent so that a token can be replaced without a gap. A caller sends
//! `Proxy-Authorization: Basic` with user `agent` or `agent+session` (a slash breaks proxy URLs in common clients).
//! Checking does the same work whether or not the agent exists.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::Problem;
use crate::config::tree::{Key, Keys, Node, Problems, Section, Value, parse};
use crate::payment::{AgentId, SessionName};

/// SHA-256 of a token.
type Hash = [u8; 32];

/// Tokens that may be live at once: the old one and its successor.
pub const LIVE: usize = 2;

const TOP: Keys = Keys { known: &["agents"], later: &[] };

/// The live tokens of every agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    agents: BTreeMap<AgentId, Vec<Hash>>,
}

/// Everything wrong with a token file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct TokensError(pub Vec<Problem>);

impl Tokens {
    /// Reads `text`, the content of `file`.
    ///
    /// # Errors
    /// Every mistake found, with its place; the content is never quoted.
    pub fn parse(file: &str, text: &str) -> Result<Self, TokensError> {
        let mut problems = Problems::new(file);
        let mut tokens = Self::default();
        if let Some(tree) = parse(text, &mut problems) {
            let top = Section::open(&tree, "", TOP, &mut problems);
            match top.get("agents").map(|n| (n.at, &n.value)) {
                Some((_, Value::Map(agents))) => agents.iter().for_each(|(k, n)| tokens.read_agent(k, n, &mut problems)),
                Some((_, Value::Null)) => {}
                Some((at, _)) => problems.at(at, "`agents` must be a section of names, each with a list of tokens"),
                None => problems
                    .at(top.at, "`agents` is missing: write `agents: { NAME: [\"sha256:…\"] }`; `tollpass agent token NAME` makes one"),
            }
        }
        if problems.is_empty() { Ok(tokens) } else { Err(TokensError(problems.into_list())) }
    }

    fn read_agent(&mut self, key: &Key, node: &Node, problems: &mut Problems) {
        let name = key.text.parse::<AgentId>();
        if let Err(e) = &name {
            problems.at(key.at, e.to_string());
        }
        let Value::List(items) = &node.value else {
            problems.at(node.at, "write a list such as [\"sha256:…\"]");
            return;
        };
        if items.len() > LIVE {
            problems.at(node.at, format!("more than {LIVE} tokens: remove the oldest, so that a leaked one does not stay live unseen"));
        }
        let mut hashes = Vec::new();
        for item in items {
            match hash_text(item) {
                Some(hash) => hashes.push(hash),
                None => {
                    problems.at(item.at, "not a token hash: write \"sha256:\" and 64 hex digits; `tollpass agent token NAME` makes one")
                }
            }
        }
        if let Ok(name) = name {
            self.agents.insert(name, hashes);
        }
    }

    /// The caller with this user name and password, or `None`.
    pub fn verify(&self, user: &str, password: &str) -> Option<(AgentId, Option<SessionName>)> {
        let (name, session) = match user.split_once('+') {
            Some((name, session)) => (name, Some(session)),
            None => (user, None),
        };
        let given: Hash = Sha256::digest(password).into();
        let name = name.parse::<AgentId>().ok();
        let entry = name.as_ref().and_then(|n| self.agents.get_key_value(n));
        let known = entry.map_or(&[][..], |(_, hashes)| hashes);
        let mut fits = Choice::from(0);
        for slot in 0..LIVE {
            let (hash, live) = known.get(slot).map_or((&[0; 32], 0), |h| (h, 1));
            fits |= hash.ct_eq(&given) & Choice::from(live);
        }
        let session = session.map(str::parse::<SessionName>).transpose();
        match (entry, bool::from(fits), session) {
            (Some((agent, _)), true, Ok(session)) => Some((agent.clone(), session)),
            _ => None,
        }
    }

    /// The agents in name order, with the number of live tokens.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, usize)> {
        self.agents.iter().map(|(agent, hashes)| (agent, hashes.len()))
    }

    /// Makes `token` live for `agent`; the oldest goes if there are too many. Returns how many went.
    pub fn add(&mut self, agent: AgentId, token: &str) -> usize {
        let hashes = self.agents.entry(agent).or_default();
        hashes.push(Sha256::digest(token).into());
        let gone = hashes.len().saturating_sub(LIVE);
        hashes.drain(..gone);
        gone
    }

    /// The file form, oldest token first.
    pub fn to_yaml(&self) -> String {
        let mut out = String::from("agents:\n");
        for (agent, hashes) in &self.agents {
            let list: Vec<String> = hashes.iter().map(|h| format!("\"sha256:{}\"", alloy_primitives::hex::encode(h))).collect();
            // Quoted: a name such as `007` or `true` is text.
            out.push_str(&format!("  \"{agent}\": [{}]\n", list.join(", ")));
        }
        out
    }
}

fn hash_text(node: &Node) -> Option<Hash> {
    let Value::Text(text) = &node.value else { return None };
    let digits = text.strip_prefix("sha256:")?;
    if digits.starts_with("0x") {
        return None;
    }
    alloy_primitives::hex::decode(digits).ok()?.try_into().ok()
}

/// The text form of 32 fresh random bytes: what the agent uses as its password.
pub fn token_text(random: &[u8; 32]) -> String {
    format!("tp_{}", BASE64_URL_SAFE_NO_PAD.encode(random))
}

/// Reads `Basic` credentials (RFC 7617, UTF-8): user and password.
pub fn parse_basic(header: &http::HeaderValue) -> Option<(String, String)> {
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
    let (scheme, rest) = header.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(LENIENT.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    if text.chars().any(char::is_control) {
        return None;
    }
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn tokens() -> Tokens {
        let mut t = Tokens::default();
        t.add("research-bot".parse().unwrap(), "old");
        t.add("research-bot".parse().unwrap(), "new");
        t.add("other".parse().unwrap(), "third");
        Tokens::parse("agents.yaml", &t.to_yaml()).unwrap()
    }

    #[test]
    fn user_is_agent_or_agent_plus_session_and_both_tokens_work() {
        let t = tokens();
        let who = |user: &str, password: &str| t.verify(user, password).map(|(a, s)| (a.to_string(), s.map(|s| s.to_string())));
        assert_eq!(who("research-bot", "old"), Some(("research-bot".into(), None)));
        assert_eq!(who("research-bot+run-7", "new"), Some(("research-bot".into(), Some("run-7".into()))));
        for (user, password) in [
            ("research-bot", "third"),
            ("research-bot", ""),
            ("research-bot+", "old"),
            ("research-bot+a/b", "old"),
            ("research-bot+a+b", "old"),
            ("nobody", "old"),
            ("", "old"),
            ("Research-bot", "old"),
            ("other", "new"),
        ] {
            assert_eq!(who(user, password), None, "{user} {password}");
        }
    }

    #[test]
    fn a_third_token_pushes_out_the_oldest() {
        let mut t = tokens();
        assert_eq!(t.add("research-bot".parse().unwrap(), "newest"), 1);
        assert!(t.verify("research-bot", "old").is_none());
        assert!(t.verify("research-bot", "new").is_some() && t.verify("research-bot", "newest").is_some());
    }

    #[test]
    fn an_agent_without_tokens_cannot_call() {
        let t = Tokens::parse("f", "agents: { a: [] }").unwrap();
        assert_eq!(t.verify("a", ""), None);
        assert_eq!(t.agents().map(|(a, n)| (a.to_string(), n)).collect::<Vec<_>>(), [("a".into(), 0)]);
    }

    #[test]
    fn mistakes_have_a_place_and_never_quote_the_content() {
        let h = format!("\"sha256:{}\"", "a".repeat(64));
        let table = [
            (format!("agents: {{ a: [{h}, {h}, {h}] }}"), "f:1:14: more than 2 tokens"),
            ("agents: { a: [secret-token] }".into(), "f:1:15: not a token hash"),
            (format!("agents: {{ a: [\"sha256:0x{}\"] }}", "a".repeat(64)), "f:1:15: not a token hash"),
            ("agents: { a: secret-token }".into(), "f:1:14: write a list"),
            (format!("agents: {{ \"a b\": [{h}] }}"), "f:1:11: not a name"),
            ("agent: {}".into(), "f:1:1: unknown key `agent`: did you mean `agents`?"),
            ("agents: [a]".into(), "f:1:9: `agents` must be a section"),
            (format!("agents: {{ a: [{h}], a: [] }}"), "f:1:"),
            ("{}".into(), "f:1:1: `agents` is missing"),
        ];
        for (text, expected) in table {
            let found = Tokens::parse("f", &text).expect_err(&text).to_string();
            assert!(found.contains(expected) && !found.contains("secret-token"), "{text}\n{found}");
        }
        assert!(Tokens::parse("f", "agents:\n").unwrap().agents().next().is_none());
    }

    #[test]
    fn basic_credentials_by_rfc_7617() {
        let read = |text: &str| parse_basic(&HeaderValue::from_str(text).unwrap());
        let pair = |u: &str, p: &str| Some((u.to_owned(), p.to_owned()));
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(read("bAsIc  QWxhZGRpbjpvcGVuIHNlc2FtZQ"), pair("Aladdin", "open sesame"));
        assert_eq!(read("Basic dGVzdDoxMjPCow=="), pair("test", "123£"));
        assert_eq!(read("Basic YTpiOmM="), pair("a", "b:c"));
        for bad in ["Basic", "Basic ", "Bearer YTpi", "Basic YQ==", "Basic !!!!", "Basic /w==", "Basic YToKYg=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_safe_in_a_proxy_url() {
        let t = token_text(&[0xfb; 32]);
        assert_eq!(t.len(), 46);
        assert!(t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }
}
