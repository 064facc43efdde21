//! A policy file as text, and the mistakes in it.

use std::fmt;

/// One policy file's text.
#[derive(Clone, Debug)]
pub struct Source {
    /// Name shown in messages.
    pub name: String,
    /// Content.
    pub text: String,
}

impl Source {
    /// The name of the file without its folder.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// A mistake at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// File name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// All mistakes of a load; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyErrors(pub Vec<PolicyError>);
