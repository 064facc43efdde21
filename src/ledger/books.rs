//! Counters and purchases in memory: arithmetic only.

/// The books.
#[derive(Debug, Default)]
pub struct Books {}
