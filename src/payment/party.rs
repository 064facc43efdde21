//! Who pays, who is paid, and for whom: newtypes so that `from` and `to` cannot be swapped.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

/// The account that is debited (`from`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payer(pub Address);

/// The account that is credited (`to`, `payTo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Payee(pub Address);

/// A configured agent: the one whose budget is spent, and a bounded metric label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(Arc<str>);

/// The session part of a proxy user name (`agent+session`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(Arc<str>);

/// A name outside `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name: write 1 to 63 of A-Z a-z 0-9 . _ - and start with a letter or digit")]
pub struct NameError;

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first && rest && text.len() <= 63 { Ok(text.into()) } else { Err(NameError) }
}

impl AgentId {
    /// The name as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SessionName {
    /// The name as the agent chose it or the operator issued it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        checked(s).map(Self)
    }
}

impl FromStr for SessionName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        checked(s).map(Self)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
