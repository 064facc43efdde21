//! Which session names there are, pure (M2.4): a name is opened once, ends at a fixed time, and never comes back.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::payment::{AgentId, MicroUsd, Reason, SessionName, Timestamp};
use crate::policy;

/// SHA-256 of a session's token.
pub(super) type Hash = [u8; 32];

/// Names that one agent may use up in all; they are remembered for ever, because none may come back.
const NAMES: usize = 100_000;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The token's hash, if an operator opened it; its agent chose the name otherwise.
    pub(super) token: Option<Hash>,
    /// When it was opened, or first paid for something.
    pub opened_at: Timestamp,
    /// From then on it pays nothing.
    pub expires_at: Timestamp,
    /// Its own limit, beside the policy's.
    pub max: Option<MicroUsd>,
    /// When an operator closed it.
    pub closed_at: Option<Timestamp>,
}

impl Session {
    /// True if an operator opened it.
    pub const fn is_issued(&self) -> bool {
        self.token.is_some()
    }

    /// True while it may pay.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.closed_at.is_none() && now < self.expires_at
    }
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// A name is taken. Times in milliseconds, money in micro-USD.
    Open { agent: String, name: String, token: Option<String>, at: i64, expires_at: i64, max: Option<i64> },
    /// It pays nothing more.
    Close { agent: String, name: String, at: i64 },
}

/// What a payment in a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Pay, up to the session's own limit.
    Known(Option<MicroUsd>),
    /// The name is new: it has to be written down first, with this end.
    New { expires_at: Timestamp },
    /// The agent has no rules for sessions and the name was not issued: nothing is remembered of it.
    Free,
}

/// All names, also those that ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    agents: HashMap<AgentId, HashMap<SessionName, Session>>,
}

impl Register {
    /// Follows a line of the journal. A name that is taken stays as it was: the first line wins.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub(super) fn apply(&mut self, line: &Line) -> Result<(), String> {
        let names = |agent: &str, name: &str| {
            let both = agent.parse::<AgentId>().and_then(|agent| Ok((agent, name.parse::<SessionName>()?)));
            both.map_err(|e| e.to_string())
        };
        match line {
            Line::Open { agent, name, token, at, expires_at, max } => {
                let (agent, name) = names(agent, name)?;
                let token = token.as_deref().map(hash).transpose()?;
                let session = Session {
                    token,
                    opened_at: Timestamp::from_millis(*at),
                    expires_at: Timestamp::from_millis(*expires_at),
                    max: max.map(MicroUsd::new),
                    closed_at: None,
                };
                self.agents.entry(agent).or_default().entry(name).or_insert(session);
            }
            Line::Close { agent, name, at } => {
                let (agent, name) = names(agent, name)?;
                let session = self.agents.get_mut(&agent).and_then(|all| all.get_mut(&name));
                let session = session.ok_or_else(|| format!("session {name} of {agent} ends before it begins"))?;
                session.closed_at.get_or_insert(Timestamp::from_millis(*at));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, agent: &AgentId, name: &SessionName) -> Option<&Session> {
        self.agents.get(agent)?.get(name)
    }

    /// Every session, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&AgentId, &SessionName, &Session)> {
        self.agents.iter().flat_map(|(agent, all)| all.iter().map(move |(name, session)| (agent, name, session)))
    }

    /// What `agent` may do under `name` (M2.4).
    ///
    /// # Errors
    /// `session_required`, `session_unknown`, `session_limit`.
    pub(super) fn enter(
        &self,
        agent: &AgentId,
        name: Option<&SessionName>,
        rules: Option<&policy::Sessions>,
        now: Timestamp,
    ) -> Result<Entry, Reason> {
        let required = rules.is_some_and(|r| r.required);
        let Some(name) = name else { return if required { Err(Reason::SessionRequired) } else { Ok(Entry::Free) } };
        match (self.get(agent, name), rules) {
            (Some(session), _) if !session.is_live(now) || (required && !session.is_issued()) => Err(Reason::SessionUnknown),
            (Some(session), _) => Ok(Entry::Known(session.max)),
            (None, None) => Ok(Entry::Free),
            (None, Some(_)) if required => Err(Reason::SessionUnknown),
            (None, Some(rules)) => {
                self.room(agent, Some(rules), now)?;
                let length = i64::try_from(rules.expires.as_millis()).unwrap_or(i64::MAX);
                Ok(Entry::New { expires_at: Timestamp::from_millis(now.millis().saturating_add(length)) })
            }
        }
    }

    /// Whether one more name may be opened.
    ///
    /// # Errors
    /// `session_limit`.
    pub(super) fn room(&self, agent: &AgentId, rules: Option<&policy::Sessions>, now: Timestamp) -> Result<(), Reason> {
        let Some(all) = self.agents.get(agent) else { return Ok(()) };
        let live = all.values().filter(|s| s.is_live(now)).count();
        let open = rules.map_or(usize::MAX, |r| usize::try_from(r.open).unwrap_or(usize::MAX));
        if live >= open || all.len() >= NAMES { Err(Reason::SessionLimit) } else { Ok(()) }
    }

    /// Whether `given` is the token that this session was opened with: `None` if no operator opened one of this name. A closed one
    /// admits nobody; one that ended still says who calls, and pays nothing.
    pub(super) fn admits(&self, agent: &AgentId, name: &SessionName, given: &Hash) -> Option<bool> {
        let session = self.get(agent, name)?;
        let token = session.token.as_ref()?;
        Some(bool::from(token.ct_eq(given)) && session.closed_at.is_none())
    }
}

fn hash(text: &str) -> Result<Hash, String> {
    let bytes = alloy_primitives::hex::decode(text).ok().and_then(|b| b.try_into().ok());
    bytes.ok_or_else(|| "a token's hash is not 64 hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn rules(required: bool, open: u32) -> policy::Sessions {
        policy::Sessions { required, max: None, expires: Duration::from_secs(60), open }
    }

    fn open(name: &str, issued: bool, at: i64, expires_at: i64) -> Line {
        let token = issued.then(|| alloy_primitives::hex::encode([7; 32]));
        Line::Open { agent: "bot".into(), name: name.into(), token, at, expires_at, max: Some(5) }
    }

    fn register(lines: &[Line]) -> Register {
        let mut register = Register::default();
        lines.iter().for_each(|line| register.apply(line).unwrap());
        register
    }

    #[test]
    fn m2_4_who_may_pay_under_which_name() {
        let close = Line::Close { agent: "bot".into(), name: "shut".into(), at: 5 };
        let register = register(&[open("mine", false, 0, 100), open("given", true, 0, 100), open("shut", true, 0, 100), close]);
        let known = Ok(Entry::Known(Some(MicroUsd::new(5))));
        let new = Ok(Entry::New { expires_at: Timestamp::from_millis(60_050) });
        let (free, loose, strict) = (None, Some(rules(false, 20)), Some(rules(true, 20)));
        for (name, rules, now, expected) in [
            (None, &free, 50, Ok(Entry::Free)),
            (None, &loose, 50, Ok(Entry::Free)),
            (None, &strict, 50, Err(Reason::SessionRequired)),
            (Some("new"), &free, 50, Ok(Entry::Free)),
            (Some("new"), &loose, 50, new),
            (Some("new"), &strict, 50, Err(Reason::SessionUnknown)),
            (Some("mine"), &loose, 50, known),
            (Some("mine"), &loose, 99, known),
            (Some("mine"), &loose, 100, Err(Reason::SessionUnknown)),
            (Some("mine"), &free, 100, Err(Reason::SessionUnknown)),
            (Some("mine"), &strict, 50, Err(Reason::SessionUnknown)),
            (Some("given"), &strict, 50, known),
            (Some("given"), &strict, 100, Err(Reason::SessionUnknown)),
            (Some("shut"), &free, 50, Err(Reason::SessionUnknown)),
            (Some("shut"), &strict, 50, Err(Reason::SessionUnknown)),
        ] {
            let name: Option<SessionName> = name.map(|n| n.parse().unwrap());
            let got = register.enter(&"bot".parse().unwrap(), name.as_ref(), rules.as_ref(), Timestamp::from_millis(now));
            assert_eq!(got, expected, "{name:?} {rules:?} {now}");
        }
    }

    #[test]
    fn m2_4_open_bounds_live_sessions_and_an_end_makes_room() {
        let register = register(&[open("a", false, 0, 100), open("b", true, 0, 200)]);
        let (bot, name) = ("bot".parse().unwrap(), "c".parse().unwrap());
        let at = |now, limit| register.enter(&bot, Some(&name), Some(&rules(false, limit)), Timestamp::from_millis(now));
        assert_eq!(at(50, 2), Err(Reason::SessionLimit));
        assert!(matches!(at(50, 3), Ok(Entry::New { .. })));
        assert!(matches!(at(100, 2), Ok(Entry::New { .. })), "`a` ended");
        assert!(matches!(
            register.enter(&"other".parse().unwrap(), Some(&name), Some(&rules(false, 1)), Timestamp::from_millis(50)),
            Ok(Entry::New { .. })
        ));
    }

    #[test]
    fn m2_4_a_name_that_ended_does_not_come_back_by_a_second_line() {
        let register = register(&[open("a", false, 0, 100), open("a", true, 150, 900)]);
        let session = register.get(&"bot".parse().unwrap(), &"a".parse().unwrap()).unwrap();
        assert!(!session.is_live(Timestamp::from_millis(200)) && !session.is_issued());
    }

    #[test]
    fn only_the_token_of_a_session_that_is_not_closed_admits() {
        let close = Line::Close { agent: "bot".into(), name: "shut".into(), at: 5 };
        let register = register(&[open("given", true, 0, 100), open("mine", false, 0, 100), open("shut", true, 0, 100), close]);
        for (name, token, expected) in [
            ("given", [7; 32], Some(true)),
            ("given", [8; 32], Some(false)),
            ("mine", [7; 32], None),
            ("none", [7; 32], None),
            ("shut", [7; 32], Some(false)),
        ] {
            assert_eq!(register.admits(&"bot".parse().unwrap(), &name.parse().unwrap(), &token), expected, "{name}");
        }
    }

    #[test]
    fn lines_survive_the_journal_and_nonsense_stops_the_start() {
        for line in [open("a", true, 1, 2), open("b", false, 1, 2), Line::Close { agent: "bot".into(), name: "a".into(), at: 3 }] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        }
        let mut register = Register::default();
        for bad in [
            Line::Close { agent: "bot".into(), name: "a".into(), at: 3 },
            Line::Close { agent: "b t".into(), name: "a".into(), at: 3 },
            Line::Open { agent: "bot".into(), name: "a".into(), token: Some("xyz".into()), at: 0, expires_at: 1, max: None },
        ] {
            register.apply(&bad).unwrap_err();
        }
    }
}
